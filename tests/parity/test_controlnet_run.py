"""A trained ControlNet goes from the run's folder into diffusers' pipeline."""

import sys

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.files import load_controlnet
from handjax.diffusion.inpainting import Painter
from handjax.diffusion.model import save_stable_diffusion
from handjax.diffusion.samplers import DDIM
from handjax.tasks import make_task
from handjax.training.config import load_config
from handjax.training.loop import train
from launch import export
from tests.diffusion.sd_tiny import tiny_model
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


@pytest.mark.slow
def test_a_trained_run_is_exported_and_diffusers_pipeline_gives_the_same_picture(tmp_path, monkeypatch):
    from diffusers import (
        ControlNetModel,
        DDIMScheduler,
        StableDiffusionControlNetInpaintPipeline,
        StableDiffusionInpaintPipeline,
    )
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    save_stable_diffusion(tiny_model(), tmp_path / "model", np.float32)
    words = [f"--config.{word}" for word in (*OVERRIDES, f"model={tmp_path / 'model'}")]
    config = load_config("controlnet_mesh.py:tiny", words)
    task = make_task(config)
    train(config, task, loader(task.batch_spec()), tmp_path / "run")
    flags = ["--run", tmp_path / "run", "--to", "diffusers", "--out", tmp_path / "control"]
    monkeypatch.setattr(sys, "argv", ["launch.export", *map(str, flags)])
    export.main()

    network, params = load_controlnet(tmp_path / "control")
    peer = ControlNetModel.from_pretrained(tmp_path / "control").eval()
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
