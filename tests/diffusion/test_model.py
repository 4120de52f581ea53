"""The folder layout of diffusers, without PyTorch."""

import json
from pathlib import Path

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from huggingface_hub import constants

from handjax.diffusion import model as diffusion_model
from handjax.diffusion.configs import TextConfig
from handjax.diffusion.folder import save_part
from handjax.diffusion.model import load_stable_diffusion, save_stable_diffusion
from handjax.diffusion.networks import parameter_shapes
from handjax.diffusion.text_encoder import TextEncoder
from handjax.diffusion.tiling import decode_tiled
from handjax.errors import WeightsError
from tests.diffusion.sd_tiny import tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def folder(model, tmp_path):
    save_stable_diffusion(model, tmp_path / "model", np.float32)
    return tmp_path / "model"


def test_round_trip_is_bit_exact(model, folder):
    (folder / "notes.txt").write_text("stays")
    again = load_stable_diffusion(folder)
    save_stable_diffusion(again, folder, np.float32)
    assert (folder / "notes.txt").exists()
    again = load_stable_diffusion(folder)
    assert (again.unet, again.vae, again.text_encoder) == (model.unet, model.vae, model.text_encoder)
    assert again.schedule == model.schedule
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(again), jax.tree.leaves(model))
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_half_precision_file_and_compute(model, tmp_path):
    save_stable_diffusion(model, tmp_path / "half")
    half = load_stable_diffusion(tmp_path / "half", jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {np.dtype(jnp.bfloat16)}
    arguments = (jax.random.normal(jax.random.key(0), (1, 8, 8, 9)), jnp.array([501.0]), jnp.ones((1, 3, 24)))
    exact = jax.jit(lambda m: m.predict(*arguments))(model)
    rounded = jax.jit(lambda m: m.predict(*arguments))(half)
    assert rounded.dtype == jnp.float32
    error = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 1e-6 < error < 0.05


def test_prompts_and_pictures(model):
    assert model.tokenizer(["a hand", "a fist with a very long prompt" * 20]).shape == (2, 32)
    assert model.embed(["a hand"]).shape == (1, 32, 24)
    images = jnp.zeros((2, 16, 16, 3))
    latents = model.encode(images)
    assert latents.shape == (2, 8, 8, 4)
    assert not np.allclose(latents, model.encode(images, jax.random.key(0)))
    assert model.decode(latents).shape == images.shape


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "model_index.json").unlink(), "no model_index.json"),
        (
            lambda f: edit(f / "model_index.json", _class_name="FluxPipeline", unet=[None, None]),
            "a FluxPipeline without unet; give a Stable Diffusion 1.x or 2.x model",
        ),
        (lambda f: edit(f / "scheduler/scheduler_config.json", num_train_timesteps="x"), "values do not make sense"),
        (lambda f: edit(f / "scheduler/scheduler_config.json", num_train_timesteps=0), "does not grow"),
        (lambda f: edit(f / "scheduler/scheduler_config.json", beta_end=1.5), "does not grow"),
        (lambda f: (f / "vae/config.json").unlink(), "vae/config.json: no such file"),
        (lambda f: (f / "unet/config.json").write_text("{"), "not JSON"),
        (lambda f: (f / "vae/diffusion_pytorch_model.safetensors").unlink(), "no such file"),
        (lambda f: edit(f / "unet/config.json", act_fn="mish"), "act_fn='mish'"),
        (lambda f: edit(f / "unet/config.json", brand_new=1), "brand_new=1"),
        (lambda f: edit(f / "unet/config.json", up_block_types=["UpBlock2D", "AttnUpBlock2D"]), "AttnUpBlock2D"),
        (lambda f: edit(f / "unet/config.json", in_channels=4), "1 of another shape, first conv_in.weight"),
        (lambda f: edit(f / "unet/config.json", cross_attention_dim=32), "of another shape, first"),
        (lambda f: edit(f / "text_encoder/config.json", model_type="t5"), "model_type='t5'"),
        (lambda f: edit(f / "scheduler/scheduler_config.json", prediction_type="sample"), "prediction_type='sample'"),
    ],
)
def test_damaged_folder_is_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(WeightsError) as error:
        load_stable_diffusion(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_parts_of_two_models_are_one_line(folder):
    text = TextEncoder(TextConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=1))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), parameter_shapes(text))
    save_part(folder, "text_encoder", text.config, params)
    with pytest.raises(WeightsError, match="reads 24 text channels, the text encoder gives 16; use the parts of one"):
        load_stable_diffusion(folder)


def test_shards_are_read_like_whole_files(model, folder):
    save_stable_diffusion(model, folder, np.float32, max_shard_bytes=50_000)
    files = sorted(path.name for path in (folder / "unet").iterdir())
    assert "diffusion_pytorch_model.safetensors.index.json" in files and len(files) > 4
    assert "diffusion_pytorch_model.safetensors" not in files
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(load_stable_diffusion(folder)), jax.tree.leaves(model))


def test_half_precision_variant(model, folder):
    save_stable_diffusion(model, folder, np.float16)
    for path in folder.glob("*/*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    read = load_stable_diffusion(folder)
    jax.tree.map(
        lambda given, wanted: np.testing.assert_array_equal(given, wanted.astype(np.float16)),
        jax.tree.leaves(read),
        jax.tree.leaves(model),
    )


def test_values_that_are_no_numbers_are_one_line(model, folder):
    broken = jax.tree.map(np.copy, model.vae_params)
    broken["decoder"]["conv_in"]["bias"][1] = np.nan
    save_part(folder, "vae", model.vae.config, broken)
    with pytest.raises(WeightsError, match=r"vae/diff.*: 1 of 16 values of decoder\.conv_in\.bias are NaN or infinite"):
        load_stable_diffusion(folder)


@pytest.mark.parametrize("name", ["nobody/no-such-model", Path("nobody/no-such-model")])
def test_hub_out_of_reach_is_one_line(name, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        WeightsError, match="`hf download nobody/no-such-model --local-dir nobody/no-such-model`"
    ) as error:
        load_stable_diffusion(name)
    assert "no such folder here" in str(error.value) and "\n" not in str(error.value)


def test_hub_gives_a_folder_of_what_is_read(folder, monkeypatch):
    """The model is read from the folder that the hub's library returns; weights are asked for in one precision."""
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load_stable_diffusion("nobody/model").unet.config.in_channels == 9
    ((name, patterns),) = asked
    assert name == "nobody/model" and "unet/diffusion_pytorch_model.safetensors" in patterns
    assert not any("fp16" in pattern or pattern.endswith(".bin") for pattern in patterns)


def test_missing_tokenizer_is_one_line(folder):
    (folder / "tokenizer/merges.txt").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer: merges\.txt missing"):
        load_stable_diffusion(folder).tokenizer(["a hand"])


def test_large_pictures_go_through_the_autoencoder_by_tiles(model, monkeypatch):
    latents = jax.random.normal(jax.random.key(0), (1, 16, 12, model.vae.config.latent_channels))
    pixels = model.vae.config.factor**2 * 16 * 12
    images = jax.jit(type(model).decode)(model, latents)
    encoded = jax.jit(type(model).encode)(model, images)
    monkeypatch.setattr(diffusion_model, "MOST_PIXELS", pixels - 1)
    by_tiles = jax.jit(lambda m, z: decode_tiled(m.vae, m.vae_params, m.vae.unscale(z)))(model, latents)
    got = jax.jit(lambda m, z: m.decode(z))(model, latents)
    np.testing.assert_array_equal(got, by_tiles)
    assert got.shape == images.shape and np.abs(got - images).max() > 1e-4
    got = jax.jit(lambda m, x: m.encode(x))(model, images)
    assert got.shape == encoded.shape and np.abs(got - encoded).max() > 1e-4
    assert np.corrcoef(got.ravel(), encoded.ravel())[0, 1] > 0.8


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("unet/config.json", "[1]", "holds no settings but a list"),
        ("unet/config.json", '{"block_out_channels": 3}', "its values do not make sense"),
        ("vae/config.json", '{"norm_num_groups": 0}', "its values do not make sense"),
        ("tokenizer/vocab.json", "{", "no tokenizer that can be read"),
    ],
)
def test_damaged_settings_are_one_line(folder, file, text, message):
    (folder / file).write_text(text)
    with pytest.raises(WeightsError, match=message) as error:
        load_stable_diffusion(folder).tokenizer(["a hand"])
    assert "\n" not in str(error.value)
