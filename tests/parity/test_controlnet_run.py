"""A trained ControlNet goes from the run's folder into diffusers' pipeline."""

import sys

import grain
import jax
import jax.numpy as jnp
import numpy as np

from handjax.adapters.files import load_controlnet
from handjax.diffusion.model import save_stable_diffusion
from handjax.tasks import make_task
from handjax.training.config import load_config
from handjax.training.loop import train
from launch import export
from tests.diffusion.sd_tiny import tiny_model
from tests.parity.sd_models import assert_equal_outputs, normal, to_nchw, to_nhwc, torch

SIZE = 16
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


def test_a_trained_run_is_exported_and_diffusers_gives_the_same_residuals(tmp_path, monkeypatch):
    from diffusers import ControlNetModel, StableDiffusionControlNetInpaintPipeline, StableDiffusionInpaintPipeline

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
    scale = 200.0  # three steps away from zero convolutions
    ours = jax.jit(network.apply)({"params": params}, *inputs, picture, scale)
    with torch.no_grad():
        sample, timesteps, context = (torch.from_numpy(np.array(value)) for value in inputs)
        _, mid = peer(to_nchw(inputs[0]), timesteps, context, to_nchw(picture), scale, return_dict=False)
    assert_equal_outputs(ours["mid_residual"], to_nhwc(mid), 1e-3)

    pipeline = StableDiffusionInpaintPipeline.from_pretrained(tmp_path / "model")
    options = {"controlnet": peer, "requires_safety_checker": False}
    controlled = StableDiffusionControlNetInpaintPipeline(**pipeline.components, **options)
    made = controlled(
        "a hand",
        image=to_nchw(picture),
        mask_image=torch.ones(1, 1, SIZE, SIZE),
        control_image=to_nchw(picture),
        height=SIZE,
        width=SIZE,
        num_inference_steps=2,
        output_type="np",
    ).images
    assert made.shape == (1, SIZE, SIZE, 3) and np.isfinite(made).all()
