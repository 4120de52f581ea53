"""From prompt to picture beside PyTorch diffusers' pipeline, from the same noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.controlnet import ControlNet, ControlNetConfig
from handjax.adapters.files import save_controlnet
from handjax.diffusion.model import ASSETS, load_stable_diffusion, save_stable_diffusion
from handjax.diffusion.networks import initial_params
from handjax.diffusion.samplers import DDIM, DPMSolver
from handjax.diffusion.unet import UNet
from handjax.inference.generate import Control, paint_from_text
from launch.generator import add_lora
from tests.diffusion.sd_tiny import UNET, redraw, tiny_model
from tests.parity.sd_models import normal, to_nchw, torch

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


def paint(model, sampler, noise, controls=()):
    """Our picture in [0, 1]."""

    @jax.jit
    def run(model, ids, controls):
        negative, context = jnp.split(model.embed_ids(ids), 2)
        return paint_from_text(model, sampler, SCALE, context, negative, noise, jax.random.key(0), controls)[0]

    return np.clip(run(model, model.tokenizer([NEGATIVE, PROMPT]), controls) / 2 + 0.5, 0, 1)


def peer_picture(pipeline, noise, **options):
    """The pipeline's picture of the same prompts from the same noise."""
    return pipeline(
        PROMPT,
        num_inference_steps=6,
        guidance_scale=SCALE,
        negative_prompt=NEGATIVE,
        latents=to_nchw(noise),
        output_type="np",
        **{"height": 16, "width": 24} | options,
    ).images


@pytest.mark.parametrize(("sampler", "peer"), [(DDIM, "DDIMScheduler"), (DPMSolver, "DPMSolverMultistepScheduler")])
def test_text_to_image(model, pipeline, sampler, peer):
    import diffusers

    noise = normal((1, 8, 12, 4), 0)
    pipeline.scheduler = getattr(diffusers, peer).from_config(pipeline.scheduler.config)
    theirs = peer_picture(pipeline, noise)
    assert theirs.std() > 0.05
    np.testing.assert_allclose(paint(model, sampler(model.schedule, 6), noise), theirs, atol=1e-3)


@pytest.mark.slow
def test_the_carried_adapter_changes_the_picture_as_here():
    """MGHanD's, which was trained here, on the embedded model; the whole picture is hidden."""
    pytest.importorskip("peft")
    from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline

    model, noise = load_stable_diffusion("tiny_inpainting"), normal((1, 24, 24, 4), 6)
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(ASSETS / "tiny_inpainting", torch_dtype=torch.float32)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    size, everywhere = {"height": 96, "width": 96}, torch.ones(1, 1, 96, 96)
    hidden = {"image": 0 * everywhere.repeat(1, 3, 1, 1), "mask_image": everywhere, "strength": 1.0}
    hidden["masked_image_latents"] = to_nchw(np.asarray(model.encode(jnp.zeros((1, 96, 96, 3)))))
    plain = peer_picture(pipeline, noise, **hidden, **size)
    pipeline.load_lora_weights(ASSETS / "mghand", weight_name="pytorch_lora_weights.safetensors")
    change = peer_picture(pipeline, noise, **hidden, **size) - plain
    adapted = add_lora(model, ASSETS / "mghand" / "pytorch_lora_weights.safetensors", 1.0)
    ours = [paint(each, DDIM(model.schedule, 6), noise) for each in (model, adapted)]
    assert np.abs(change).max() > 0.05
    np.testing.assert_allclose(ours[1] - ours[0], change, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("guess", [False, True])
def test_controlnet(model, pipeline, guess, tmp_path):
    from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline

    network, noise = ControlNet(ControlNetConfig(model.unet.config, (8, 8))), normal((1, 8, 12, 4), 1)
    picture = np.random.default_rng(2).random((16, 24, 3), np.float32)
    arguments = (noise, np.zeros(1), np.zeros((1, 1, 24)), picture[None])
    params = redraw(jax.jit(network.init)(jax.random.key(0), *arguments)["params"], 4)
    save_controlnet(network, params, tmp_path, np.float32)

    peer = StableDiffusionControlNetPipeline(
        **{name: part for name, part in pipeline.components.items() if name != "scheduler"},
        scheduler=DDIMScheduler.from_config(pipeline.scheduler.config),
        controlnet=ControlNetModel.from_pretrained(tmp_path),
        requires_safety_checker=False,
    )
    peer.set_progress_bar_config(disable=True)
    options = {"image": to_nchw(picture[None]), "guess_mode": guess, "controlnet_conditioning_scale": 0.8}
    theirs = peer_picture(peer, noise, **options)
    control = Control(network, params, picture, 0.8, guess)
    np.testing.assert_allclose(paint(model, DDIM(model.schedule, 6), noise, (control,)), theirs, atol=1e-3)
    unsteered = paint(model, DDIM(model.schedule, 6), noise)
    assert np.abs(theirs - unsteered).max() > 0.05


def test_a_tiny_autoencoder_decodes(model, pipeline, tmp_path):
    from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline

    levels = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    tiny = AutoencoderTiny(**levels, num_encoder_blocks=(1, 2), num_decoder_blocks=(2, 1))
    tiny.save_pretrained(tmp_path / "taesd")
    save_stable_diffusion(model, tmp_path / "model", np.float32)
    ours, noise = load_stable_diffusion(tmp_path / "model", vae=tmp_path / "taesd"), normal((1, 8, 12, 4), 5)
    save_stable_diffusion(ours, tmp_path / "both", np.float32)
    peer = StableDiffusionPipeline.from_pretrained(tmp_path / "both")
    assert isinstance(peer.vae, AutoencoderTiny)
    peer.scheduler = DDIMScheduler.from_config(peer.scheduler.config)
    peer.set_progress_bar_config(disable=True)
    theirs = peer_picture(peer, noise)
    assert theirs.std() > 0.005
    np.testing.assert_allclose(paint(ours, DDIM(ours.schedule, 6), noise), theirs, atol=1e-3)
