import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.configs import VAEConfig
from handjax.diffusion.vae import VAE
from handjax.tasks import make_task
from handjax.tasks.autoencoder import AutoencoderTask, gradient_l1
from handjax.training.config import load_config
from handjax.training.optimizer import make_optimizer
from handjax.training.state import create_state
from handjax.training.step import make_train_step


@pytest.fixture(scope="module")
def task():
    return AutoencoderTask(VAE(VAEConfig(block_out_channels=(4, 8), norm_num_groups=4)), 16, 1.0, 1e-6)


@pytest.fixture(scope="module")
def batch():
    y, x = np.mgrid[:16, :16] / 15
    picture = np.stack([2 * x - 1, 2 * y - 1, np.sin(6 * x)], axis=-1)
    return {"image": np.stack([picture, picture[::-1]]).astype(np.float32)}


@pytest.fixture(scope="module")
def params(task):
    return task.init(jax.random.key(0))[0]


@pytest.fixture(scope="module")
def encoded(task, params, batch):
    return jax.jit(lambda p, x: task.vae.apply({"params": p}, x, method="encode"))(params, batch["image"])


KEYS = jax.random.split(jax.random.key(0), 2)
STATE = {"latent_power": jnp.ones(())}


def test_gradient_l1_sees_edges_but_not_brightness():
    difference = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)
    rows = np.abs(difference[:, 1:] - difference[:, :-1]).mean(axis=(1, 2, 3))
    columns = np.abs(difference[:, :, 1:] - difference[:, :, :-1]).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(gradient_l1(jnp.asarray(difference)), rows + columns, rtol=1e-5)
    np.testing.assert_array_equal(gradient_l1(jnp.full((1, 4, 4, 3), 0.7)), 0)


def test_terms_equal_their_definitions(task, params, batch, encoded):
    terms = jax.jit(task.evaluate)(params, {}, STATE, batch, KEYS)
    decoded = jax.jit(lambda p, z: task.vae.apply({"params": p}, z, method="decode"))(params, encoded[0])
    decoded = np.clip(decoded, -1, 1)
    mean, log_variance = map(np.float64, encoded)
    # KL of N(m, v) from N(0, 1) is the expected log ratio: (m^2 + v - 1 - log v) / 2
    divergence = ((mean**2 + np.exp(log_variance) - 1 - log_variance) / 2).sum() / 2
    np.testing.assert_allclose(terms["kl"][0] / terms["kl"][1], divergence, rtol=1e-4)
    np.testing.assert_allclose(terms["l1"][0] / 2, np.abs(decoded - batch["image"]).mean(), rtol=1e-4)
    error = np.square(decoded - batch["image"]).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(terms["psnr_db"][0] / 2, (10 * np.log10(4 / error)).mean(), rtol=1e-4)


@pytest.mark.slow
def test_training_lowers_the_error_and_follows_the_latents(task, batch, encoded):
    words = ["--config.optim.lr=1e-2", "--config.optim.schedule=constant", "--config.optim.warmup_steps=0"]
    tx, schedule = make_optimizer(load_config("tiny_vae.py", words).optim, 60)
    state = create_state(task, tx, 0, with_ema=False)
    step = jax.jit(make_train_step(task, tx, schedule))
    first, metrics = step(state.replace(params=task.init(jax.random.key(0))[0]), {}, batch)
    expected = 0.99 + 0.01 * np.square(np.float64(encoded[0])).mean()
    np.testing.assert_allclose(first.model_state["latent_power"], expected, rtol=1e-5)
    state, start = first, float(metrics["l1"])
    for _ in range(60):
        state, metrics = step(state, {}, batch)
    assert metrics["l1"] < 0.6 * start


def test_export_gives_latents_of_unit_power(task, params, tmp_path):
    task.exports["diffusers"](params, {"latent_power": jnp.float32(16.0)}, tmp_path, np.dtype(np.float16))
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    assert config["scaling_factor"] == 0.25


def test_preview_has_the_picture_beside_its_reconstruction(task, params, batch):
    picture = jax.jit(task.preview)(params, {}, STATE, batch, KEYS)["reconstruction"]
    assert picture.shape == (32, 32, 3)
    np.testing.assert_allclose(picture[:16, :16] / 127.5 - 1, batch["image"][0], atol=0.01)


def test_the_recipe_makes_a_factor_of_four():
    task = make_task(load_config("tiny_vae.py"))
    assert task.vae.config.factor == 4 and task.batch_spec()["image"].shape == (96, 96, 3)
