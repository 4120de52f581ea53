"""Makes pictures from prompts: `python -m launch.generate PROMPT… --out DIR`.

Writes DIR/PROMPT-SEED.png; each file carries, as PNG text "handjax", the prompt, the seed and all settings.
A prompt may weigh its words: (more), (much more:1.4), [less]; BREAK starts another chunk.
"""

import argparse
import dataclasses
import hashlib
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from handjax.adapters.controlnet import ControlNet
from handjax.adapters.files import load_controlnet
from handjax.adapters.lora import merge, to_lora
from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.diffusion.samplers import SAMPLERS, Sampler
from handjax.diffusion.schedules import NoiseSchedule
from handjax.errors import ConfigError, InputError, WeightsError
from handjax.images import read_image, resize, write_image
from handjax.inference.generate import Control, Generator, Wish
from handjax.perception import HandDetector
from handjax.perception.hand_json import hand_item
from handjax.training.checkpoints import content_hash
from handjax.weights.lora import read_lora
from handjax.weights.names import module_names
from launch import command

SEEDS = 2**32
RGB = 3
LONGEST_NAME = 50


def main() -> int:
    """Makes every picture; prints where each is."""
    arguments = _parse_arguments()
    wishes = read_wishes(arguments)
    report = command.Report("generate", arguments.json)
    generator, provenance = load_generator(arguments)
    detector = HandDetector.load()
    with tqdm(total=len(wishes), desc="generate", unit="picture", disable=None) as bar:
        for wish, image in generator(wishes):
            made = dataclasses.asdict(wish) | {"provenance": provenance}
            output = arguments.out / file_name(wish)
            write_image(output, image, text={"handjax": json.dumps(made)})
            hands = [hand_item(hand) for hand in detector.detect(image)]
            with bar.external_write_mode(file=sys.stdout):
                report.item(made | {"output": str(output), "hands": hands, "guidance": None}, str(output))
            bar.update()
    return report.finish()


def read_wishes(arguments: argparse.Namespace) -> list[Wish]:
    """Lists the pictures to make; seeds count up from --seed.

    Raises:
      InputError: the file of prompts cannot be read, or holds none.
      ConfigError: there is no prompt, or a number is out of its range.
    """
    for name in ("count", "batch"):
        if getattr(arguments, name) < 1:
            raise ConfigError(f"--{name} is {getattr(arguments, name)}; it must be at least 1")
    prompts = [*arguments.prompts, *arguments.prompt]
    if arguments.file:
        prompts += read_prompts(arguments.file)
    if not prompts:
        raise ConfigError("there is no prompt; give one, or a file of them with --prompts")
    repeated = [prompt for prompt in prompts for _ in range(arguments.count)]
    if not 0 <= arguments.seed <= SEEDS - len(repeated):
        raise ConfigError(f"--seed is {arguments.seed}; it must be from 0 to {SEEDS - len(repeated)}")
    return [Wish(prompt, arguments.negative, arguments.seed + number) for number, prompt in enumerate(repeated)]


def read_prompts(path: Path) -> list[str]:
    """Reads a file of prompts, one a line; empty lines are passed over."""
    try:
        prompts = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a text file that can be read; give one prompt a line, in UTF-8") from error
    if not prompts:
        raise InputError(f"{path}: holds no prompt; give one a line")
    return prompts


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
    loras = [split_scale(text) for text in arguments.lora]
    steering = pair_controls(arguments)
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
    for folder, image, scale in steering:
        network, params = load_controlnet(folder, dtype, arguments.allow_pickle)
        check_controlnet(network, model, folder)
        picture = resize(read_image(image), size) / np.float32(255)
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
        for (folder, image, scale), control in zip(steering, controls, strict=True)
    ]
    model, controls = jax.device_put((model, tuple(controls)))  # once, not for every batch
    return Generator(model, sampler, size, arguments.guidance_scale, arguments.batch, controls), provenance


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


def check_controlnet(network: ControlNet, model: StableDiffusion, folder: Path) -> None:
    """Raises WeightsError where a ControlNet does not fit the model's UNet and autoencoder, or is not for RGB."""
    unet, copy = model.unet.config, network.config.unet
    stride = 2 ** (len(network.config.conditioning_embedding_out_channels) - 1)
    needed = (
        (copy.block_out_channels, unet.block_out_channels),
        (copy.layers_per_block, unet.layers_per_block),
        (copy.cross_attention_dim, unet.cross_attention_dim),
        (copy.in_channels, model.vae.config.latent_channels),
        (network.config.conditioning_channels, RGB),
        (stride, model.vae.config.factor),
    )
    if any(has != wants for has, wants in needed):
        raise WeightsError(f"{folder}: a ControlNet of another model than this one; name that one with --model")


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
    factors = read_lora(path, {part: module_names(tree) for part, tree in params.items()})
    for part, found in factors.items():
        params[part] = merge(params[part], [to_lora(found, scale)])
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


def file_name(wish: Wish) -> str:
    """Names a picture after its prompt and seed."""
    words = re.sub(r"\W+", "-", wish.prompt.lower()).strip("-")[:LONGEST_NAME].strip("-")
    return f"{words or 'picture'}-{wish.seed}.png"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.generate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("prompts", nargs="*", metavar="PROMPT", help="what the pictures show")
    add("--prompt", action="append", default=[], metavar="PROMPT", help="the same as an option; may be repeated")
    add("--prompts", dest="file", type=Path, metavar="FILE", help="text file, one prompt a line")
    add("--negative", default="", metavar="PROMPT", help="what the pictures should not show")
    add("--out", type=Path, required=True, metavar="DIR", help="where the pictures go")
    add("--model", default="tiny_inpainting", help="Stable Diffusion 1.x or 2.x, a folder in the diffusers layout")
    add("--vae", metavar="MODEL", help="whose autoencoder takes the place of the model's; a tiny one (TAESD) is fast")
    add("--allow-pickle", action="store_true", help="read pickled weights where there are no others")
    add("--lora", action="append", default=[], metavar="FILE[:SCALE]", help="a LoRA of the model; may be repeated")
    add("--controlnet", action="append", default=[], type=Path, metavar="PATH", help="a ControlNet; may be repeated")
    add("--control-image", action="append", default=[], type=Path, metavar="FILE", help="the picture it follows")
    add("--control-scale", action="append", default=[], type=float, metavar="SCALE", help="how much (default: 1)")
    add("--guess", action="store_true", help="ControlNets decide where the prompt does not (ControlNet's guess mode)")
    add("--seed", type=int, default=0, help="of the first picture's noise; every further one has the next")
    add("--count", type=int, default=1, help="pictures a prompt")
    add("--batch", type=int, default=1, help="pictures made at once")
    add("--size", metavar="N|WxH", help="in pixels (default: the model's)")
    add("--sampler", choices=SAMPLERS, default="dpm", help="how noise is taken out (default: dpm)")
    add("--steps", type=int, help="of the sampler (default: the sampler's)")
    add("--eta", type=float, help="noise of the ddim sampler, 0 (none, the default) to 1")
    add("--karras", action="store_true", default=None, help="space the dpm sampler's noise levels as Karras et al. do")
    add("--guidance-scale", type=float, default=Generator.guidance_scale, help="of the prompt; 1 is none")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="of weights and computation")
    add("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
