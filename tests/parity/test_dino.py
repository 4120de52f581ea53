"""DINO against transformers' ViT, which is the same network under other names, with random weights."""

import jax
import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.perception.dino import DEVIATION, DINO, MEAN, DINOConfig, load_dino
from handjax.weights.safetensors import write_tensors
from tests.parity.sd_models import redraw, torch

CONFIG = DINOConfig(image_size=48, patch=16, width=24, depth=3, heads=2)


@pytest.fixture(scope="module")
def peer():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=CONFIG.width,
        num_hidden_layers=CONFIG.depth,
        num_attention_heads=CONFIG.heads,
        intermediate_size=4 * CONFIG.width,
        image_size=CONFIG.image_size,
        layer_norm_eps=1e-6,
    )
    return redraw(ViTModel(config, add_pooling_layer=False).eval())


def published(peer):
    """The state dict under the names of facebookresearch/dino."""
    state = {name: value.numpy() for name, value in peer.state_dict().items()}
    names = {"norm": "layernorm", "patch_embed.proj": "embeddings.patch_embeddings.projection"}
    for number in range(CONFIG.depth):
        ours, theirs = f"blocks.{number}", _layer(state, number)
        names |= {f"{ours}.{one}": f"{theirs}.{other}" for one, other in _inner(state, theirs).items()}
    renamed = {"cls_token": state["embeddings.cls_token"], "pos_embed": state["embeddings.position_embeddings"]}
    for ours, theirs in names.items():
        renamed |= {f"{ours}.{kind}": state[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    for number in range(CONFIG.depth):
        parts = _attention(state, _layer(state, number))
        for kind in ("weight", "bias"):
            renamed[f"blocks.{number}.attn.qkv.{kind}"] = np.concatenate([state[f"{part}.{kind}"] for part in parts])
    return renamed


def _layer(state, number):
    return next(p for p in (f"encoder.layer.{number}", f"layers.{number}") if any(n.startswith(f"{p}.") for n in state))


def _attention(state, layer):
    for names in (("attention.attention.query", "key", "value"), ("attention.q_proj", "k_proj", "v_proj")):
        first = f"{layer}.{names[0]}"
        if f"{first}.weight" in state:
            base = first.rpartition(".")[0]
            return [first, f"{base}.{names[1]}", f"{base}.{names[2]}"]
    raise AssertionError(sorted(state))


def _inner(state, layer):
    choices = {
        "norm1": ("layernorm_before",),
        "norm2": ("layernorm_after",),
        "attn.proj": ("attention.output.dense", "attention.o_proj"),
        "mlp.fc1": ("intermediate.dense", "mlp.fc1"),
        "mlp.fc2": ("output.dense", "mlp.fc2"),
    }
    return {
        ours: next(name for name in theirs if f"{layer}.{name}.weight" in state) for ours, theirs in choices.items()
    }


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(size=(2, 48, 48, 3)).astype(np.float32)


def test_tokens_on_entry_after_each_block_and_at_the_end(peer, images, tmp_path):
    write_tensors(tmp_path / "dino.safetensors", published(peer))
    params = load_dino(tmp_path / "dino.safetensors", CONFIG)
    last, inside = jax.jit(DINO(CONFIG).apply)({"params": params}, images)
    pixels = torch.from_numpy(((images - MEAN) / DEVIATION).astype(np.float32).transpose(0, 3, 1, 2))
    with torch.no_grad():
        output = peer(pixels, output_hidden_states=True)
    assert len(inside) == len(output.hidden_states) == CONFIG.depth + 1
    assert inside[0].shape == (2, 10, 24)
    for ours, theirs in zip((*inside, last), (*output.hidden_states, output.last_hidden_state), strict=True):
        scale = theirs.abs().max().item()
        np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5 * scale)


def test_the_published_pickled_file_is_read_and_its_head_left(peer, images, tmp_path):
    state = {name: torch.from_numpy(value) for name, value in published(peer).items()}
    torch.save({**state, "head.weight": torch.zeros(5, 24)}, tmp_path / "dino.pth")
    params = load_dino(tmp_path / "dino.pth", CONFIG, allow_pickle=True)
    np.testing.assert_array_equal(params["blocks_1"]["attn"]["qkv"]["kernel"], state["blocks.1.attn.qkv.weight"].T)
    with pytest.raises(WeightsError):
        load_dino(tmp_path / "dino.pth", CONFIG)
    with pytest.raises(WeightsError, match="tensors do not fit"):
        load_dino(tmp_path / "dino.pth", DINOConfig(image_size=64, width=24, depth=3, heads=2), allow_pickle=True)


def test_the_defaults_are_vit_s_16():
    from handjax.perception.dino import dino_shapes

    shapes = dino_shapes(DINOConfig())
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == 21_665_664  # as published: 21 M without a head
    assert shapes["pos_embed"].shape == (1, 197, 384)
