"""Parts of the mesh recovery against PyTorch: the encoder in HaMeR's names, and sampling as `grid_sample` does it."""

import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.hand.model import load_open_hand
from handjax.recovery.deformable import sample_maps
from handjax.recovery.files import PYTORCH_MODULE, RecoveryModel, save_recovery
from handjax.recovery.network import RecoveryConfig, RecoveryNetwork, Upsampler, example_inputs
from handjax.recovery.reading import Fixed, MeshReader
from handjax.recovery.text_network import TextMeshConfig, TextMeshNetwork
from handjax.recovery.tokenizer import save_tokenizer
from handjax.recovery.vit import ViT, ViTConfig, load_vit
from handjax.tasks import make_task
from handjax.training.config import load_config
from handjax.weights.names import to_torch
from handjax.weights.safetensors import write_tensors
from tests.recovery.tiny_models import CODES, ENCODER, NETWORK, random_tokenizer
from tests.recovery.tiny_texts import drawn_params

torch = pytest.importorskip("torch")
F = torch.nn.functional
CONFIG = ViTConfig(width=12, depth=2, heads=3)


@pytest.fixture(scope="module")
def tensors():
    """A random checkpoint in HaMeR's names and PyTorch's layouts, with a head that is not the encoder's."""
    shapes = {"patch_embed.proj.weight": (12, 3, 16, 16), "patch_embed.proj.bias": (12,), "pos_embed": (1, 193, 12)}
    for block in ("blocks.0.", "blocks.1."):
        for name, out, into in (("attn.qkv", 36, 12), ("attn.proj", 12, 12), ("mlp.fc1", 48, 12), ("mlp.fc2", 12, 48)):
            shapes |= {f"{block}{name}.weight": (out, into), f"{block}{name}.bias": (out,)}
        for name in ("norm1", "norm2"):
            shapes |= {f"{block}{name}.weight": (12,), f"{block}{name}.bias": (12,)}
    shapes |= {"last_norm.weight": (12,), "last_norm.bias": (12,)}
    rng = np.random.default_rng(0)
    made = {f"backbone.{name}": 0.2 * rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return made | {"mano_head.deccam.weight": np.zeros((3, 4), np.float32)}


def _forward(state, image):
    """HaMeR's encoder, from its published description: pixels normalised as ImageNet's, columns 32 to 224."""
    state = {name.removeprefix("backbone."): torch.from_numpy(value) for name, value in state.items()}
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = ((image + 1) / 2 - mean) / deviation
    pixels = pixels.permute(0, 3, 1, 2)[..., 32:-32]
    x = F.conv2d(pixels, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16, padding=2)
    assert x.shape[-2:] == (16, 12)
    x = x.flatten(2).transpose(1, 2)
    x = x + state["pos_embed"][:, 1:] + state["pos_embed"][:, :1]

    def layer(name, value):
        return F.linear(value, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, value):
        return F.layer_norm(value, (12,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    for block in ("blocks.0", "blocks.1"):
        qkv = layer(f"{block}.attn.qkv", norm(f"{block}.norm1", x)).reshape(len(x), 192, 3, 3, 4)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + layer(f"{block}.attn.proj", attended)
        x = x + layer(f"{block}.mlp.fc2", F.gelu(layer(f"{block}.mlp.fc1", norm(f"{block}.norm2", x))))
    return norm("last_norm", x).reshape(len(x), 16, 12, 12)


def test_the_encoder_reads_hamers_checkpoint(tensors, tmp_path):
    path = tmp_path / "hamer.safetensors"
    write_tensors(path, tensors)
    params = load_vit(path, CONFIG)
    image = np.random.default_rng(1).uniform(-1, 1, (2, 256, 256, 3)).astype(np.float32)
    ours = jax.jit(ViT(CONFIG).apply)({"params": params}, image)
    np.testing.assert_allclose(ours, _forward(tensors, torch.from_numpy(image)).numpy(), rtol=1e-4, atol=1e-4)
    again = {f"backbone.{name}": value for name, value in to_torch(params).items()}
    assert again.keys() == tensors.keys() - {"mano_head.deccam.weight"}
    assert all(np.array_equal(value, tensors[name]) for name, value in again.items())


def test_a_run_starts_from_a_pickled_checkpoint_where_that_is_allowed(tensors, tmp_path):
    path = tmp_path / "hamer.ckpt"
    torch.save({"state_dict": {name: torch.from_numpy(value) for name, value in tensors.items()}}, path)
    save_tokenizer(random_tokenizer(), tmp_path)
    fields = {f"encoder.{name}": value for name, value in dataclasses.asdict(CONFIG).items() if name != "stem"}
    fields |= {f"network.{name}": value for name, value in NETWORK.items()}
    fields |= {"tokenizer": tmp_path, "encoder_weights": path}
    words = [f"--config.{name}={value}" for name, value in fields.items()]
    with pytest.raises(WeightsError, match="allow_pickle"):
        make_task(load_config("mmhmr.py:tiny", words)).init(jax.random.key(0))
    params, _ = make_task(load_config("mmhmr.py:tiny", [*words, "--config.allow_pickle=True"])).init(jax.random.key(0))
    weight = params["backbone"]["blocks_1"]["mlp"]["fc1"]["kernel"]
    np.testing.assert_array_equal(weight, tensors["backbone.blocks.1.mlp.fc1.weight"].T)


def test_an_encoder_of_another_size_is_refused(tensors, tmp_path):
    path = tmp_path / "hamer.safetensors"
    write_tensors(path, tensors)
    with pytest.raises(WeightsError, match="1[0-9] missing|of another shape"):
        load_vit(path, ViTConfig(width=12, depth=3, heads=3))


def test_the_exported_upsampler_is_pytorchs():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    maps = jax.random.normal(jax.random.key(3), (2, 3, 5, 12))
    network = Upsampler(features=4, scale=4)
    params = network.init(jax.random.key(0), maps)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
    state = {name: torch.tensor(value.tolist()) for name, value in to_torch(params).items()}

    def normalised(x, name):
        x = functional.layer_norm(
            x.permute(0, 2, 3, 1), x.shape[1:2], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6
        )
        return x.permute(0, 3, 1, 2)

    x = functional.conv_transpose2d(
        torch.tensor(maps.tolist()).permute(0, 3, 1, 2), state["up.0.weight"], state["up.0.bias"], 2
    )
    x = functional.gelu(normalised(x, "up_norm.1"))
    x = functional.conv_transpose2d(x, state["up.1.weight"], state["up.1.bias"], 2).permute(0, 2, 3, 1)
    x = normalised(functional.linear(x, state["project.weight"], state["project.bias"]).permute(0, 3, 1, 2), "norm")
    expected = x.permute(0, 2, 3, 1).numpy()
    assert expected.shape == (2, 12, 20, 4) and expected.std() > 0.1
    np.testing.assert_allclose(network.apply({"params": params}, maps), expected, atol=1e-5)


def test_samples_are_those_of_grid_sample():
    rng = np.random.default_rng(2)
    values = rng.standard_normal((2, 5, 7, 3, 4)).astype(np.float32)  # batch, height, width, heads, dim
    places = rng.uniform(-0.2, 1.2, (2, 6, 3, 1, 8, 2)).astype(np.float32)
    ours = sample_maps([jnp.asarray(values)], jnp.asarray(places))[:, :, :, 0]
    for head in range(3):
        image = torch.from_numpy(values[:, :, :, head]).permute(0, 3, 1, 2)
        grid = torch.from_numpy(2 * places[:, :, head, 0] - 1)
        theirs = F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        np.testing.assert_allclose(ours[:, :, head], theirs.permute(0, 2, 3, 1), atol=1e-5)


@pytest.fixture(scope="module")
def exported():
    """The module that reads exported weights."""
    spec = importlib.util.spec_from_file_location("exported_mmhmr", PYTORCH_MODULE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_words_reach_tokens_as_in_pytorch(exported):
    sizes = TextMeshConfig(tokens=32, codes=CODES, text=6, features=16, heads=2, graph_blocks=2, layers=2)
    network = TextMeshNetwork(sizes)
    params = drawn_params(network)
    rng = np.random.default_rng(0)
    tokens, text = rng.integers(0, CODES + 1, (2, 32)), rng.standard_normal((2, 5, 6), np.float32)
    state = {name: torch.tensor(value) for name, value in to_torch(params).items()}

    def part(module, name):
        own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        module.load_state_dict(own)
        return module

    def linear(name, value):
        return F.linear(value, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def norm(name, value):
        return F.layer_norm(value, (16,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    with torch.no_grad():
        x = state["token_embedding.weight"][tokens] + state["token_places"]
        x = torch.cat([x, state["cue_places"].expand(2, -1, -1)], dim=1)
        for number in range(2):
            x = part(exported.GraphBlock(32 + 21, 16, 2), f"graph.{number}")(x)
        x = x[:, :32]
        for layer in ("layers.0", "layers.1"):
            x = x + part(exported.SelfAttention(16, 2), f"{layer}.self_attention")(norm(f"{layer}.norm1", x))
            cross, words = f"{layer}.cross_attention", torch.from_numpy(text)
            sources = norm(f"{layer}.norm2", x), words, words
            q, k, v = (
                linear(f"{cross}.{name}", source).unflatten(-1, (2, 8)).transpose(1, 2)
                for name, source in zip(("to_q", "to_k", "to_v"), sources, strict=True)
            )
            attended = torch.softmax(q @ k.transpose(2, 3) / 8**0.5, dim=-1) @ v
            x = x + linear(f"{cross}.to_out.0", attended.transpose(1, 2).flatten(2))
            x = x + linear(f"{layer}.narrow", F.gelu(linear(f"{layer}.wide", norm(f"{layer}.norm3", x))))
        expected = linear("logits", norm("norm", x)).numpy()
    ours = jax.jit(network.apply)({"params": params}, tokens, text)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


WITHOUT = {"scales": (1,), "head_layers": 0, "graph_blocks": 0, "use_cue": False}


@pytest.mark.parametrize(
    ("stem", "switches"),
    [
        ("patches", {}),
        pytest.param("efficientnet", {}, marks=pytest.mark.slow),
        pytest.param("patches", WITHOUT, marks=pytest.mark.slow),
    ],
    ids=["patches", "efficientnet", "without"],
)
def test_the_exported_module_recovers_the_same_hands(exported, stem, switches, tmp_path):
    sizes = NETWORK | {"scales": (1, 4), "layers": 2, "head_layers": 2} | switches
    tokenizer = random_tokenizer(tokens=32)
    encoder = ViTConfig(**ENCODER, stem=stem)
    network = RecoveryNetwork(RecoveryConfig(tokens=32, codes=CODES, encoder=encoder, **sizes))
    params = jax.jit(network.init)(jax.random.key(2), *example_inputs(network))["params"]
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(3), len(leaves))
    pairs = zip(leaves, keys, strict=True)
    params = jax.tree.unflatten(tree, [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in pairs])
    save_recovery(RecoveryModel(network, params, tokenizer), tmp_path)
    peer = exported.MMHMR.from_folder(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (2, encoder.image_size, encoder.image_size, 3)).astype(np.float32)
    cue = rng.uniform(-0.4, 0.4, (2, 21, 3)).astype(np.float32)  # half of the confidences are below zero: not given
    tokens = rng.integers(0, CODES + 1, (2, 32))
    logits, context = jax.jit(network.apply)({"params": params}, images, tokens, cue)
    pictures = torch.from_numpy(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
        theirs = peer(pictures, torch.from_numpy(tokens), torch.from_numpy(cue))
    for ours, their in zip((logits, context.betas, context.camera), theirs, strict=True):
        np.testing.assert_allclose(ours, their.numpy(), rtol=1e-4, atol=1e-4 * np.abs(ours).max())
    reader = MeshReader(network, tokenizer.network)
    fixed = Fixed(tokenizer.arrays, load_open_hand())
    read = jax.jit(reader.recover, static_argnames="mean_codes")
    rotations = {}
    for mean_codes in (True, False):
        made, decoded = read(params, fixed, images, cue, jax.random.key(0), mean_codes=mean_codes)
        found = peer.recover(pictures, torch.from_numpy(cue), mean_codes=mean_codes)
        np.testing.assert_allclose(found.confidence.numpy(), decoded.confidence, atol=1e-3)
        np.testing.assert_allclose(found.rotations.numpy(), made.rotations, atol=1e-3)
        rotations[mean_codes] = made.rotations
    assert np.abs(rotations[True] - rotations[False]).max() > 0.1
