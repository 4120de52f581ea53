"""The folder layout of diffusers, without PyTorch."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.model import load_stable_diffusion, save_stable_diffusion
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
        (lambda f: (f / "vae/config.json").unlink(), "vae/config.json: no such file"),
        (lambda f: (f / "unet/config.json").write_text("{"), "not JSON"),
        (lambda f: (f / "vae/diffusion_pytorch_model.safetensors").unlink(), "no such file"),
        (lambda f: edit(f / "unet/config.json", act_fn="mish"), "act_fn='mish'"),
        (lambda f: edit(f / "unet/config.json", brand_new=1), "brand_new=1"),
        (lambda f: edit(f / "unet/config.json", up_block_types=["UpBlock2D", "AttnUpBlock2D"]), "AttnUpBlock2D"),
        (lambda f: edit(f / "unet/config.json", in_channels=4), "1 of another shape, first conv_in.weight"),
        (lambda f: edit(f / "unet/config.json", cross_attention_dim=32), "24; use the parts of one model"),
        (lambda f: edit(f / "text_encoder/config.json", model_type="t5"), "model_type='t5'"),
        (lambda f: edit(f / "scheduler/scheduler_config.json", prediction_type="sample"), "prediction_type='sample'"),
    ],
)
def test_damaged_folder_is_one_line(folder, damage, message):
    damage(folder)
    with pytest.raises(WeightsError) as error:
        load_stable_diffusion(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_missing_tokenizer_is_one_line(folder):
    (folder / "tokenizer/merges.txt").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer: merges\.txt missing"):
        load_stable_diffusion(folder).tokenizer(["a hand"])
