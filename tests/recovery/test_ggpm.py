"""A block of graph-guided pose modelling against the paper's two equations in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.hand.topology import KEYPOINT_NAMES, MANO_JOINT_NAMES
from handjax.recovery.ggpm import GGPMBlock, keypoint_of_tokens, kinematic_links

TOKENS, HEADS, CHANNELS = 16, 2, 8


@pytest.mark.parametrize("tokens", [16, 64])
def test_tokens_belong_to_their_joints(tokens):
    names = [KEYPOINT_NAMES[k] for k in keypoint_of_tokens(tokens)]
    assert names == [name for name in MANO_JOINT_NAMES for _ in range(tokens // 16)]


def test_links_follow_the_bones():
    links = kinematic_links(64)
    assert links.shape == (85, 85) and (links == links.T).all() and links.diagonal().all()
    joint = {name: 4 * j for j, name in enumerate(MANO_JOINT_NAMES)}
    assert links[joint["index_mcp"], joint["index_mcp"] + 3]  # another token of the same joint
    assert links[joint["index_mcp"], joint["index_pip"]] and links[joint["wrist"], joint["thumb_cmc"]]
    assert not links[joint["index_mcp"], joint["index_dip"]]
    assert not links[joint["index_mcp"], joint["middle_mcp"]]
    tip = 64 + KEYPOINT_NAMES.index("index_tip")
    assert links[joint["index_dip"], tip] and not links[joint["index_pip"], tip]


def test_a_block_equals_equations_1_and_2():
    block = GGPMBlock(HEADS)
    nodes = jax.random.normal(jax.random.key(0), (1, TOKENS + 21, CHANNELS))
    params = block.init(jax.random.key(1), nodes)
    noise = np.random.default_rng(2)
    params = jax.tree.map(lambda x: x + 0.1 * jnp.asarray(noise.normal(size=x.shape), jnp.float32), params)
    p = jax.tree.map(np.float64, params["params"])
    q = np.float64(nodes[0])

    def norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p[name]["scale"] + p[name]["bias"]

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    def dense(tree, x):
        return x @ tree["kernel"] + tree["bias"]

    q_c = softmax(p["graph"]["adjacency"]) @ q @ p["graph"]["weight"]["kernel"]
    x = norm("norm1", q_c)
    query, key, value = np.moveaxis(dense(p["attention"]["qkv"], x).reshape(len(x), 3, HEADS, -1), 1, 0)
    heads = [softmax(query[:, h] @ key[:, h].T / math.sqrt(CHANNELS / HEADS)) @ value[:, h] for h in range(HEADS)]
    mha = dense(p["attention"]["proj"], np.concatenate(heads, axis=-1))
    q_prime = mha + dense(p["conv"], x) + q_c
    y = norm("norm2", q_prime)
    squeezed = np.maximum(dense(p["se"]["squeeze"], y.mean(0)), 0)
    expected = y / (1 + np.exp(-dense(p["se"]["excite"], squeezed)))
    np.testing.assert_allclose(block.apply(params, nodes)[0], expected, rtol=2e-4, atol=2e-5)


def test_the_graph_begins_with_the_kinematic_tree():
    nodes = jnp.zeros((1, TOKENS + 21, CHANNELS))
    logits = GGPMBlock(HEADS).init(jax.random.key(0), nodes)["params"]["graph"]["adjacency"]
    links = kinematic_links(TOKENS)
    np.testing.assert_array_equal(logits, np.where(np.eye(37, dtype=bool), 5.0, 3.0 * links))
