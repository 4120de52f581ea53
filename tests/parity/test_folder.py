"""The folder we write, opened by PyTorch's libraries as a user would."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.model import load_stable_diffusion, save_stable_diffusion
from tests.diffusion.sd_tiny import tiny_model
from tests.parity.sd_models import assert_equal_outputs, normal, to_nchw, to_nhwc, torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_stable_diffusion(tiny_model(), path)
    return path


@pytest.fixture(scope="module")
def pipeline(folder):
    from diffusers import StableDiffusionInpaintPipeline

    return StableDiffusionInpaintPipeline.from_pretrained(folder, torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def model(folder):
    return load_stable_diffusion(folder)


def test_text(pipeline, model):
    prompts = ["a hand showing three fingers", "A FIST!"]
    padding = {"padding": "max_length", "max_length": model.tokenizer.length, "truncation": True}
    ids = pipeline.tokenizer(prompts, return_tensors="pt", **padding).input_ids
    np.testing.assert_array_equal(model.tokenizer(prompts), ids.numpy())
    with torch.no_grad():
        assert_equal_outputs(model.embed(prompts), pipeline.text_encoder(ids).last_hidden_state.numpy())


def test_vae(pipeline, model):
    images = normal((1, 16, 16, 3), 0)
    with torch.no_grad():
        mean = pipeline.vae.encode(to_nchw(images)).latent_dist.mean
        decoded = to_nhwc(pipeline.vae.decode(mean).sample)
    latents = jax.jit(lambda m: m.encode(images))(model)
    assert_equal_outputs(latents / pipeline.vae.config.scaling_factor, to_nhwc(mean))
    assert_equal_outputs(jax.jit(lambda m: m.decode(latents))(model), decoded)


def test_unet_and_schedule(pipeline, model):
    sample, context = normal((1, 8, 8, 9), 0), normal((1, 32, 24), 1)
    got = jax.jit(lambda m: m.predict(sample, jnp.array([321.0]), context))(model)
    with torch.no_grad():
        expected = pipeline.unet(to_nchw(sample), 321, torch.from_numpy(np.array(context))).sample
    assert_equal_outputs(got, to_nhwc(expected))
    pipeline.scheduler.set_timesteps(20)
    np.testing.assert_array_equal(model.schedule.sampling_timesteps(20), pipeline.scheduler.timesteps.numpy())


def test_pipeline_runs(pipeline):
    from PIL import Image

    picture = Image.fromarray(np.full((16, 16, 3), 128, np.uint8))
    result = pipeline("a hand", image=picture, mask_image=picture, height=16, width=16, num_inference_steps=2)
    assert result.images[0].size == (16, 16)
