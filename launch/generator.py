"""Loads what makes pictures: model, adapters, sampler, guidance. Shared by the commands that generate."""

import argparse
import dataclasses
import hashlib
import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from handjax.adapters.controlnet import ControlNet
from handjax.adapters.files import load_controlnet, load_lora
from handjax.adapters.lora import merge
from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.diffusion.samplers import SAMPLERS, Sampler
from handjax.diffusion.schedules import NoiseSchedule
from handjax.errors import ConfigError, InputError, WeightsError
from handjax.images import read_image, resize
from handjax.inference.generate import Control, Generator
from handjax.training.checkpoints import content_hash
from launch import command
from launch.guidance import add_guidance_arguments, describe_guidance, load_guide, read_guidance


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `load_generator` reads, and --seed."""
    add = parser.add_argument
    add("--model", default="tiny_inpainting", help="Stable Diffusion 1.x or 2.x, a folder in the diffusers layout")
    add("--vae", metavar="MODEL", help="whose autoencoder takes the place of the model's; a tiny one (TAESD) is fast")
    add("--allow-pickle", action="store_true", help="read pickled weights where there are no others")
    add("--lora", action="append", default=[], metavar="FILE[:SCALE]", help="a LoRA of the model; may be repeated")
    add("--controlnet", action="append", default=[], type=Path, metavar="PATH", help="a ControlNet; may be repeated")
    add("--control-image", action="append", default=[], type=Path, metavar="FILE", help="the picture it follows")
    add("--control-scale", action="append", default=[], type=float, metavar="SCALE", help="how much (default: 1)")
    add("--guess", action="store_true", help="ControlNets decide where the prompt does not (ControlNet's guess mode)")
    add("--seed", type=int, default=0, help="of the first picture's noise; every further one has the next")
    add("--batch", type=int, default=1, help="pictures made at once")
    add("--size", metavar="N|WxH", help="in pixels (default: the model's)")
    add("--sampler", choices=SAMPLERS, default="dpm", help="how noise is taken out (default: dpm)")
    add("--steps", type=int, help="of the sampler (default: the sampler's)")
    add("--eta", type=float, help="noise of the ddim sampler, 0 (none, the default) to 1")
    add("--karras", action="store_true", default=None, help="space the dpm sampler's noise levels as Karras et al. do")
    add("--guidance-scale", type=float, default=Generator.guidance_scale, help="of the prompt; 1 is none")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="of weights and computation")
    add_guidance_arguments(parser)


def load_asked(*words: str) -> Generator:
    """Loads what a command line of these words would."""
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    return load_generator(parser.parse_args(words))[0]


def load_generator(arguments: argparse.Namespace) -> tuple[Generator, dict[str, Any]]:
    """Loads everything before the first picture, so that a wrong flag costs no work.

    Returns:
      The generator, and what its pictures are made with, for their provenance.

    Raises:
      ConfigError: a number is out of its range.
      WeightsError: a file is missing, damaged, or of another kind of model.
    """
    if not 0 <= arguments.guidance_scale < math.inf:
        raise ConfigError(f"--guidance-scale is {arguments.guidance_scale}; it must be 0 or more")
    guidance = read_guidance(arguments)
    loras = [split_scale(text) for text in arguments.lora]
    controlled = pair_controls(arguments)
    dtype = jnp.dtype(arguments.dtype)
    model = load_stable_diffusion(arguments.model, dtype, arguments.vae, arguments.allow_pickle)
    sampler, size = make_sampler(arguments, model.schedule), read_size(arguments.size, model)
    provenance = {
        "model": arguments.model,
        "weights": content_hash(model),
        "dtype": arguments.dtype,
        "loras": [{"file": str(path), "hash": file_hash(path), "scale": scale} for path, scale in loras],
        "size": [size[1], size[0]],
        "sampler": {"name": arguments.sampler, **dataclasses.asdict(sampler)},
        "guidance_scale": arguments.guidance_scale,
        "versions": command.environment()["versions"],
    }
    for path, scale in loras:
        model = add_lora(model, path, scale)
    controls = []
    for folder, image, scale in controlled:
        network, params = load_controlnet(folder, dtype, arguments.allow_pickle)
        check_controlnet(network, model, folder)
        check_fusion(network, size, folder)
        picture = read_control(image, size)
        controls.append(Control(network, params, picture, scale, arguments.guess))
    provenance["controlnets"] = [
        {
            "folder": str(folder),
            "weights": content_hash(control.params),
            "image": str(image),
            "image_hash": file_hash(image),
            "scale": scale,
            "guess": arguments.guess,
        }
        for (folder, image, scale), control in zip(controlled, controls, strict=True)
    ]
    steering = load_guide(guidance, model, sampler)
    provenance["guidance"] = describe_guidance(guidance, steering)
    # once, not for every batch
    model, controls, steering = jax.device_put((model, tuple(controls), steering))
    generator = Generator(model, sampler, size, arguments.guidance_scale, arguments.batch, controls, steering)
    return generator, provenance


def pair_controls(arguments: argparse.Namespace) -> list[tuple[Path, Path, float]]:
    """Pairs ControlNets with their pictures and scales, in the order they are given."""
    folders, images = arguments.controlnet, arguments.control_image
    scales = arguments.control_scale or [1.0] * len(folders)
    if not len(folders) == len(images) == len(scales):
        raise ConfigError(
            f"{len(folders)} --controlnet, {len(images)} --control-image and {len(scales)} --control-scale; give each "
            "ControlNet its picture and, if any has one, its scale"
        )
    if not all(map(math.isfinite, scales)):
        raise ConfigError(f"--control-scale is {scales}; give finite numbers")
    return list(zip(folders, images, scales, strict=True))


def read_control(path: Path, size: tuple[int, int]) -> Float[np.ndarray, "height width 3"]:
    """Reads the picture that a ControlNet is to follow, in [0, 1] at the size of what is made.

    Raises:
      ConfigError: it has another shape, so that it would be stretched.
    """
    picture = read_image(path)
    (height, width), (wanted_height, wanted_width) = picture.shape[:2], size
    rounding = max(height, width, *size)  # a pixel of either picture
    if abs(width * wanted_height - height * wanted_width) > rounding:
        raise ConfigError(
            f"{path}: {width}x{height} pixels would be stretched to {wanted_width}x{wanted_height}; crop it to that "
            "shape, or give --size in its own"
        )
    return resize(picture, size) / np.float32(255)


def check_controlnet(network: ControlNet, model: StableDiffusion, folder: Path) -> None:
    """Raises WeightsError where a ControlNet does not fit the model's UNet and autoencoder, or is not for RGB."""
    if not network.config.fits(model.unet.config, model.vae.config):
        raise WeightsError(f"{folder}: a ControlNet of another model than this one; name that one with --model")


def check_fusion(network: ControlNet, size: tuple[int, int], folder: Path) -> None:
    """Raises ConfigError where maps of a ControlNet with structural fusion would not divide evenly."""
    config = network.config
    unit = 2 ** (len(config.conditioning_embedding_out_channels) + len(config.unet.block_out_channels) - 2)
    if config.structural_fusion != "none" and any(side % unit for side in size):
        raise ConfigError(f"--size {size[1]}x{size[0]}: the fusion of {folder} needs multiples of {unit}")


def make_sampler(arguments: argparse.Namespace, schedule: NoiseSchedule) -> Sampler:
    """Makes the sampler that is asked for; what is not asked for is as the sampler has it."""
    kind = SAMPLERS[arguments.sampler]
    asked = {
        name: getattr(arguments, name) for name in ("steps", "eta", "karras") if getattr(arguments, name) is not None
    }
    for name, has_it in (("eta", "ddim"), ("karras", "dpm")):
        if name in asked and name not in (field.name for field in dataclasses.fields(kind)):
            raise ConfigError(
                f"--{name} is of no use to --sampler {arguments.sampler}; leave it out or use --sampler {has_it}"
            )
    if not 0 <= asked.get("eta", 0) <= 1:
        raise ConfigError(f"--eta is {arguments.eta}; it must be from 0 to 1")
    if not 1 <= asked.get("steps", 1) <= schedule.num_train_timesteps:
        raise ConfigError(f"--steps is {arguments.steps}; it must be from 1 to {schedule.num_train_timesteps}")
    sampler = kind(schedule, **asked)
    timesteps = sampler.trajectory().timesteps
    if len(set(timesteps.tolist())) < len(timesteps) or timesteps.max() >= schedule.num_train_timesteps:
        raise ConfigError(f"--steps is {sampler.steps}, more than --sampler {arguments.sampler} has; take fewer")
    return sampler


def add_lora(model: StableDiffusion, path: Path, scale: float) -> StableDiffusion:
    """Merges the LoRA of a file, `scale` times, into the networks it is for."""
    params = {"unet": model.unet_params, "text_encoder": model.text_params}
    for part, lora in load_lora(path, params, scale).items():
        params[part] = merge(params[part], [lora])
    return dataclasses.replace(model, unet_params=params["unet"], text_params=params["text_encoder"])


def split_scale(text: str) -> tuple[Path, float]:
    """Reads FILE or FILE:SCALE."""
    path, _, scale = text.rpartition(":")
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", scale):
        return Path(text), 1.0
    return Path(path), float(scale)


def file_hash(path: Path) -> str:
    """Returns a hash of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give the path of a file") from error


def read_size(text: str | None, model: StableDiffusion) -> tuple[int, int]:
    """Reads N or WIDTHxHEIGHT; what the model was trained on when there is none. Returns (height, width)."""
    factor = model.vae.config.factor
    if text is None:
        return (model.unet.config.sample_size * factor,) * 2
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not width or not height or width % factor or height % factor:
        raise ConfigError(f"--size is {text}; give N or WIDTHxHEIGHT in pixels, multiples of {factor}")
    return height, width
