"""From prompt to picture beside PyTorch diffusers' pipeline, from the same noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.model import save_stable_diffusion
from handjax.diffusion.networks import initial_params
from handjax.diffusion.samplers import DDIM, DPMSolver
from handjax.diffusion.unet import UNet
from handjax.inference.generate import paint_from_text
from tests.diffusion.sd_tiny import UNET, redraw, tiny_model
from tests.parity.sd_models import normal, to_nchw

PROMPT, NEGATIVE, SCALE = "a photo of a left hand", "six fingers", 5.0


@pytest.fixture(scope="module")
def model():
    unet = UNet(dataclasses.replace(UNET, in_channels=4))
    params = redraw(jax.jit(initial_params, static_argnums=0)(unet, jax.random.key(3)), 3)
    return tiny_model().replace(unet=unet, unet_params=params)


@pytest.fixture(scope="module")
def pipeline(model, tmp_path_factory):
    from diffusers import StableDiffusionPipeline

    folder = tmp_path_factory.mktemp("model")
    save_stable_diffusion(model, folder, np.float32)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(("sampler", "peer"), [(DDIM, "DDIMScheduler"), (DPMSolver, "DPMSolverMultistepScheduler")])
def test_text_to_image(model, pipeline, sampler, peer):
    import diffusers

    noise = normal((1, 8, 12, 4), 0)
    sampler = sampler(model.schedule, 6)

    @jax.jit
    def paint(model, ids):
        negative, context = jnp.split(model.embed_ids(ids), 2)
        return paint_from_text(model, sampler, SCALE, context, negative, noise, jax.random.key(0))

    ours = paint(model, model.tokenizer([NEGATIVE, PROMPT]))
    pipeline.scheduler = getattr(diffusers, peer).from_config(pipeline.scheduler.config)
    theirs = pipeline(
        PROMPT,
        height=16,
        width=24,
        num_inference_steps=6,
        guidance_scale=SCALE,
        negative_prompt=NEGATIVE,
        latents=to_nchw(noise),
        output_type="np",
    ).images
    assert theirs.std() > 0.05
    np.testing.assert_allclose(np.clip(ours / 2 + 0.5, 0, 1), theirs, atol=1e-3)
