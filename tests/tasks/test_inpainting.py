import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.inpainting import add_training_noise, encode_pair
from handjax.diffusion.model import find_model, load_stable_diffusion, save_part
from handjax.errors import ConfigError
from handjax.tasks import make_task
from handjax.tasks.inpainting import InpaintingTask
from handjax.training.config import load_config


@jax.jit
def predict(model, noisy, ids):
    return model.predict(noisy.sample, noisy.timesteps, model.embed_ids(ids))


@pytest.fixture(scope="module")
def task(model):
    return InpaintingTask(model.replace(unet_params=None, text_params=None), 32, 0.0)


@pytest.fixture(scope="module")
def params(model):
    return {"unet": model.unet_params, "text_encoder": model.text_params}


def test_noise_loss_is_the_mean_over_all_latents(task, params, model, batch, keys):
    terms = jax.jit(task.evaluate)(params, task.frozen(), {}, batch, keys)
    latents, hidden = jax.jit(encode_pair)(model, batch["image"], batch["mask"])
    noisy = jax.jit(add_training_noise)(model, latents, hidden, batch["mask"], keys)
    predicted = predict(model, noisy, batch["input_ids"])
    expected = np.square(np.float64(predicted) - noisy.target).mean()
    np.testing.assert_allclose(terms["noise_mse"][0] / terms["noise_mse"][1], expected, rtol=1e-4)


def test_encoded_pictures_give_the_loss_of_their_pixels(task, params, model, batch, keys):
    latents, hidden = jax.jit(encode_pair)(model, batch["image"], batch["mask"])
    encoded = {"latents": latents, "hidden_latents": hidden} | {name: batch[name] for name in ("mask", "input_ids")}
    ahead = dataclasses.replace(task, encoded=True)
    assert ahead.batch_spec().keys() == encoded.keys()
    first, second = (
        jax.jit(t.evaluate)(params, task.frozen(), {}, b, keys)["noise_mse"][0]
        for t, b in ((task, batch), (ahead, encoded))
    )
    np.testing.assert_allclose(second, first, rtol=1e-5)


def test_unet_and_text_encoder_learn_and_the_autoencoder_does_not(task, params, model, batch, keys):
    def objective(params):
        return task.loss(params, model, {}, batch, keys)[0]["noise_mse"][0]

    gradients = jax.jit(jax.grad(objective))(params)
    assert set(gradients) == {"unet", "text_encoder"}
    for part in gradients.values():
        assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(part)) > 0
    assert set(task.init(jax.random.key(0))[0]) == {"unet", "text_encoder"}


@pytest.mark.slow
def test_preview_shows_input_hidden_painted_and_generated(task, params, batch, keys):
    picture = jax.jit(task.preview)(params, task.frozen(), {}, batch, keys)["inpainted"]
    assert picture.shape == (3 * 32, 4 * 32, 3)
    np.testing.assert_allclose(picture[32:64, :32] / 127.5 - 1, batch["image"][1], atol=0.01)


def test_export_to_diffusers_is_read_back(task, params, model, tmp_path):
    task.exports["diffusers"](params, {}, tmp_path, np.dtype(np.float32))
    read = load_stable_diffusion(tmp_path)
    assert read.unet.config == model.unet.config
    jax.tree.map(np.testing.assert_array_equal, read.unet_params, params["unet"])
    jax.tree.map(np.testing.assert_array_equal, read.vae_params, model.vae_params)


def test_it_goes_on_from_a_model_of_its_sizes(tmp_path, task, params):
    carried = load_stable_diffusion("tiny_inpainting")
    words = [f"--config.start={find_model('tiny_inpainting')}"]
    started = make_task(load_config("tiny_inpainting.py", words))
    trainable, _ = started.init(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, trainable["unet"], carried.unet_params)
    jax.tree.map(np.testing.assert_array_equal, trainable["text_encoder"], carried.text_params)
    assert started.frozen().unet_params is None
    task.exports["diffusers"](params, {}, tmp_path, np.dtype(np.float32))
    with pytest.raises(ConfigError, match=r"its unet has other sizes than the recipe's"):
        make_task(load_config("tiny_inpainting.py", [f"--config.start={tmp_path}"]))


def test_the_recipe_of_the_tiny_model_fits_the_repository(tmp_path, model):
    save_part(tmp_path, "vae", model.vae.config, model.vae_params)
    task = make_task(load_config("tiny_inpainting.py", [f"--config.vae={tmp_path}"]))
    shapes, _ = jax.eval_shape(task.init, jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert 6e6 < parameters < 7.2e6  # with the autoencoder's 1.7 M: 18 MB in float16
    assert task.batch_spec()["input_ids"].shape == (32,)
