"""A trained ControlNet goes from the run's folder into diffusers' pipelines, of inpainting and of text to image."""

import dataclasses
import logging
import sys

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.controlnet import NOT_IN_DIFFUSERS, ControlNet
from handjax.adapters.files import load_controlnet
from handjax.diffusion.inpainting import Painter
from handjax.diffusion.model import save_stable_diffusion
from handjax.diffusion.networks import initial_params
from handjax.diffusion.samplers import DDIM
from handjax.diffusion.unet import UNet
from handjax.inference.generate import Control, paint_from_text
from handjax.tasks import make_task
from handjax.training.config import load_config
from handjax.training.loop import train
from launch import export
from tests.diffusion.sd_tiny import UNET, redraw, tiny_model
from tests.parity.sd_models import assert_equal_outputs, normal, to_nchw, to_nhwc, torch

SIZE = 16
SCALE = 200.0
"""Three steps of training lead but a little away from zero convolutions."""
OVERRIDES = (
    *(f"data.image_size={SIZE}", "stem_channels=(4,4)", "batch_size=2", "steps=3", "eval_every=0", "preview_every=0"),
    *("optim.lr=0.01", "optim.warmup_steps=0"),
)


def loader(spec):
    rng = np.random.default_rng(0)
    rows = [
        {
            name: (rng.integers(0, 9, field.shape) if field.dtype == np.int32 else rng.random(field.shape)).astype(
                field.dtype
            )
            for name, field in spec.items()
        }
        for _ in range(4)
    ]
    return lambda split: grain.MapDataset.source(rows).repeat().batch(2).to_iter_dataset()


def train_and_export(recipe, model, folder, monkeypatch):
    """Trains a recipe for a few steps on a model, and exports it to `folder`/control."""
    save_stable_diffusion(model, folder / "model", np.float32)
    config = load_config(recipe, [f"--config.{word}" for word in (*OVERRIDES, f"model={folder / 'model'}")])
    task = make_task(config)
    train(config, task, loader(task.batch_spec()), folder / "run")
    flags = ["--run", folder / "run", "--to", "diffusers", "--out", folder / "control"]
    monkeypatch.setattr(sys, "argv", ["launch.export", *map(str, flags)])
    export.main()
    return folder / "control"


@pytest.mark.slow
def test_a_trained_run_is_exported_and_diffusers_pipeline_gives_the_same_picture(tmp_path, monkeypatch):
    from diffusers import (
        ControlNetModel,
        DDIMScheduler,
        StableDiffusionControlNetInpaintPipeline,
        StableDiffusionInpaintPipeline,
    )
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    folder = train_and_export("controlnet_mesh.py:tiny", tiny_model(), tmp_path, monkeypatch)
    network, params = load_controlnet(folder, condition="mesh")
    peer = ControlNetModel.from_pretrained(folder).eval()
    latents = network.config.unet.in_channels
    inputs = (
        normal((1, 8, 8, latents), 0),
        jnp.array([500.0]),
        normal((1, 5, network.config.unet.cross_attention_dim), 1),
    )
    picture = np.random.default_rng(1).random((1, SIZE, SIZE, 3), np.float32)
    ours = jax.jit(network.apply)({"params": params}, *inputs, picture, SCALE)
    with torch.no_grad():
        sample, timesteps, context = (torch.from_numpy(np.array(value)) for value in inputs)
        _, mid = peer(to_nchw(inputs[0]), timesteps, context, to_nchw(picture), SCALE, return_dict=False)
    assert_equal_outputs(ours["mid_residual"], to_nhwc(mid), 1e-3)

    pipeline = StableDiffusionInpaintPipeline.from_pretrained(tmp_path / "model")
    components = pipeline.components | {"scheduler": DDIMScheduler.from_config(pipeline.scheduler.config)}
    controlled = StableDiffusionControlNetInpaintPipeline(**components, controlnet=peer, requires_safety_checker=False)
    controlled.set_progress_bar_config(disable=True)
    # the pipeline hides with a draw of the autoencoder's posterior, ours with its mean
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda posterior, generator=None: posterior.mode())
    noise, mask = normal((1, 8, 8, latents), 2), np.zeros((1, SIZE, SIZE, 1), np.float32)
    mask[:, 4:, :12] = 1
    theirs = controlled(
        "a hand",
        image=to_nchw(picture),
        mask_image=to_nchw(mask),
        control_image=to_nchw(picture),
        controlnet_conditioning_scale=SCALE,
        latents=to_nchw(noise),
        height=SIZE,
        width=SIZE,
        num_inference_steps=3,
        guidance_scale=4.0,
        output_type="np",
    ).images

    @jax.jit
    def paint(model, scale):
        def control(z, timesteps, context, condition, word_bias):
            return network.apply({"params": params}, z, timesteps, context, condition, scale)

        painter, words = Painter(DDIM(model.schedule, 3), 4.0, hold=False), model.embed(["a hand", ""])
        given = (*map(jnp.asarray, (2 * picture - 1, mask)), words[:1], words[1:], noise, jax.random.key(0))
        return jnp.clip(painter(model, *given, control=control, condition=picture) / 2 + 0.5, 0, 1)

    np.testing.assert_allclose(paint(tiny_model(), SCALE), theirs, atol=1e-3)
    assert np.abs(paint(tiny_model(), 0.0) - theirs).max() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["controlnet_mesh.py:tiny", "sesahand.py:tiny"])
def test_a_run_on_a_text_to_image_model_paints_in_diffusers_pipeline(recipe, tmp_path, monkeypatch, caplog):
    """SesaHand's as a plain ControlNet, of which diffusers warns."""
    from diffusers import (
        ControlNetModel,
        DDIMScheduler,
        StableDiffusionControlNetPipeline,
        StableDiffusionPipeline,
    )

    unet = UNet(dataclasses.replace(UNET, in_channels=4))
    unet_params = redraw(jax.jit(initial_params, static_argnums=0)(unet, jax.random.key(3)), 3)
    model = tiny_model().replace(unet=unet, unet_params=unet_params)
    folder = train_and_export(recipe, model, tmp_path, monkeypatch)
    network, params = load_controlnet(folder, condition="mesh")
    caplog.clear()
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    peer = ControlNetModel.from_pretrained(folder).eval()
    own = {"structural_fusion", "hand_alpha"} if "sesahand" in recipe else set()
    assert {name for name in NOT_IN_DIFFUSERS if name in caplog.text} == own

    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "model")
    components = pipeline.components | {"scheduler": DDIMScheduler.from_config(pipeline.scheduler.config)}
    controlled = StableDiffusionControlNetPipeline(**components, controlnet=peer, requires_safety_checker=False)
    controlled.set_progress_bar_config(disable=True)
    picture, noise = np.random.default_rng(1).random((SIZE, SIZE, 3), np.float32), normal((1, 8, 8, 4), 2)
    theirs = controlled(
        "a hand",
        image=to_nchw(picture[None]),
        controlnet_conditioning_scale=SCALE,
        latents=to_nchw(noise),
        height=SIZE,
        width=SIZE,
        num_inference_steps=3,
        guidance_scale=4.0,
        output_type="np",
    ).images

    @jax.jit
    def paint(model, controls):
        words = model.embed(["a hand", ""])
        painted = paint_from_text(
            model, DDIM(model.schedule, 3), 4.0, words[:1], words[1:], noise, jax.random.key(0), controls
        )
        return jnp.clip(painted[0] / 2 + 0.5, 0, 1)

    plain = ControlNet(dataclasses.replace(network.config, **NOT_IN_DIFFUSERS))
    ours = paint(model, (Control(plain, params, picture, SCALE),))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert np.abs(paint(model, ()) - theirs).max() > 0.05
    if own:  # what diffusers leaves out changes the picture
        assert np.abs(paint(model, (Control(network, params, picture, SCALE),)) - ours).max() > 0.01
