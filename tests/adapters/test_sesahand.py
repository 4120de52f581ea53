"""What SesaHand adds to a ControlNet and its UNet, against plain attention that is held whole, in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.controlnet import ControlNet, ControlNetConfig
from handjax.adapters.files import load_controlnet, save_controlnet
from handjax.diffusion.configs import UNetConfig
from handjax.diffusion.transformer import Attending, Attention
from handjax.diffusion.unet import UNet
from handjax.errors import ConfigError
from tests.adapters.dense_fusion import dense_refined

UNET = UNetConfig(
    sample_size=8,
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    block_out_channels=(8, 8),
    layers_per_block=1,
    attention_head_dim=2,
    cross_attention_dim=6,
    norm_num_groups=4,
)
CONTROL = ControlNetConfig(UNET, (4, 4))
RNG = np.random.default_rng(0)
SAMPLE, CONTEXT = (jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((2, 8, 8, 4), (2, 5, 6)))
PICTURE, TIMES = jnp.asarray(RNG.uniform(size=(2, 16, 16, 3)), jnp.float32), jnp.full(2, 300.0)


def redraw(params, seed):
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    return tree.unflatten([np.asarray(x + 0.2 * rng.standard_normal(x.shape), np.float32) for x in leaves])


@pytest.fixture(scope="module")
def params():
    """Of a ControlNet in which nothing is zero; its last convolution gives what it is given."""
    drawn = jax.jit(ControlNet(CONTROL).init)(jax.random.key(0), SAMPLE, TIMES, CONTEXT, PICTURE)["params"]
    drawn = redraw(drawn, 1)
    drawn["controlnet_mid_block"] = {"kernel": np.eye(8, dtype=np.float32)[None, None], "bias": np.zeros(8, np.float32)}
    return drawn


def residuals(params, form="none", context=CONTEXT, bias=None):
    network = ControlNet(dataclasses.replace(CONTROL, structural_fusion=form))
    return network.apply({"params": params}, SAMPLE, TIMES, context, PICTURE, word_bias=bias)


@pytest.mark.parametrize("tokens", [9, 2048], ids=["whole", "in blocks"])
def test_cross_attention_with_a_bias_is_the_papers(tokens):
    module, bias = Attention(heads=4), np.array([[0, 2, 0, 2.5, 0], [1, 0, 0, 0, 0]], np.float32)
    x, context = (jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in ((2, tokens, 8), (2, 5, 6)))
    params = redraw(module.init(jax.random.key(0), x, context)["params"], 2)
    got = jax.jit(lambda bias: module.apply({"params": params}, x, context, Attending(bias)))(bias)

    exact = jax.tree.map(np.float64, params)
    q, k, v = (np.float64(s) @ exact[name]["kernel"] for s, name in ((x, "to_q"), (context, "to_k"), (context, "to_v")))
    heads = []
    for head in np.split(np.arange(8), 4):
        scores = q[..., head] @ k[..., head].swapaxes(1, 2) / np.sqrt(2) + bias[:, None]
        weights = np.exp(scores)
        heads.append(weights / weights.sum(-1, keepdims=True) @ v[..., head])
    expected = np.concatenate(heads, -1) @ exact["to_out_0"]["kernel"] + exact["to_out_0"]["bias"]
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["unet", "controlnet"])
def test_a_bias_moves_all_cross_attention_and_zero_changes_nothing(network, params):
    """With a large bias on one word the others no longer matter."""
    if network == "unet":
        unet = UNet(UNET)
        drawn = redraw(jax.jit(unet.init)(jax.random.key(0), SAMPLE, TIMES, CONTEXT)["params"], 3)
        run = jax.jit(lambda context, bias: unet.apply({"params": drawn}, SAMPLE, TIMES, context, word_bias=bias))
    else:
        run = jax.jit(lambda context, bias: residuals(params, "mid", context, bias)["mid_residual"])
    none, one = np.zeros((2, 5), np.float32), np.tile(60 * np.eye(5, dtype=np.float32)[2], (2, 1))
    others = CONTEXT + np.array([1, 1, 0, 1, 1], np.float32)[:, None]
    np.testing.assert_allclose(run(CONTEXT, one), run(others, one), atol=1e-4)
    assert np.abs(run(CONTEXT, none) - run(others, none)).max() > 1e-2
    np.testing.assert_allclose(run(CONTEXT, none), run(CONTEXT, None), atol=1e-6)
    assert np.abs(run(CONTEXT, none) - run(CONTEXT, one)).max() > 1e-2


def test_the_mid_blocks_output_is_refined_by_the_networks_own_self_attention(params):
    """Queries and keys are what the network's projections give; the maps of 8x8 and 4x4 are held whole."""
    plain, seen = ControlNet(CONTROL).apply(
        {"params": params},
        *(SAMPLE, TIMES, CONTEXT, PICTURE),
        capture_intermediates=lambda module, _: module.name in ("to_q", "to_k"),
        mutable=["intermediates"],
    )
    layers = [
        tuple(np.asarray(block["attn1"][name]["__call__"][0]) for name in ("to_q", "to_k"))
        for level in ("down_blocks_0", "down_blocks_1", "mid_block")
        for block in [seen["intermediates"][level]["attentions_0"]["transformer_blocks_0"]]
    ]
    layers = [tuple(a.reshape(*a.shape[:2], 2, 4) for a in pair) for pair in layers]
    assert [q.shape[1] for q, _ in layers] == [64, 16, 16]
    fused = jax.jit(lambda params: residuals(params, "mid"))(params)
    expected = dense_refined(np.float64(plain["mid_residual"]), layers)
    np.testing.assert_allclose(fused["mid_residual"], expected, atol=1e-5)
    assert np.abs(expected - plain["mid_residual"]).max() > 0.1
    for ours, unfused in zip(fused["down_residuals"], plain["down_residuals"], strict=True):
        np.testing.assert_allclose(ours, unfused, atol=1e-5)


@pytest.mark.slow
def test_gradients_flow_through_the_fusion_to_the_attention(params):
    """The mid block's own queries matter to its output, but for the fusion, only through the attended values."""
    weight = RNG.normal(size=(2, 4, 4, 8)).astype(np.float32)

    def slopes(form):
        loss = jax.jit(jax.value_and_grad(lambda params: (residuals(params, form)["mid_residual"] * weight).sum()))
        return loss, loss(params)[1]["mid_block"]["attentions_0"]["transformer_blocks_0"]["attn1"]["to_q"]["kernel"]

    loss, through = slopes("mid")
    assert np.abs(through - slopes("none")[1]).max() > 1e-2
    direction = RNG.normal(size=through.shape).astype(np.float32)

    def moved(step):
        changed = jax.tree.map(np.array, params)
        changed["mid_block"]["attentions_0"]["transformer_blocks_0"]["attn1"]["to_q"]["kernel"] += step * direction
        return float(loss(changed)[0])

    np.testing.assert_allclose((through * direction).sum(), (moved(1e-2) - moved(-1e-2)) / 2e-2, rtol=2e-2)


def test_what_it_was_trained_with_is_written_and_read(params, tmp_path):
    config = dataclasses.replace(CONTROL, structural_fusion="per_level", hand_alpha=2.0)
    save_controlnet(ControlNet(config), params, tmp_path / "sesahand", np.float32)
    read = load_controlnet(tmp_path / "sesahand")[0].config
    assert (read.structural_fusion, read.hand_alpha) == ("per_level", 2.0)
    plain = CONTROL.to_diffusers()  # which diffusers warns of nothing in
    assert not {"structural_fusion", "hand_alpha"} & plain.keys()


def test_values_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="'top' is unknown; use one of"):
        ControlNetConfig(UNET, structural_fusion="top")
    with pytest.raises(ConfigError, match="hand_alpha=-1.0 is negative"):
        ControlNetConfig(UNET, hand_alpha=-1.0)
