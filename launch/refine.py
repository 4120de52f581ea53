"""Repairs the hands in pictures: `python -m launch.refine IMAGE… --out DIR`.

Writes DIR/NAME.png, and DIR/NAME_mask.png that is white where the picture may differ from the input; every other
pixel is the input's.
"""

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from handjax.adapters.controlnet import ControlNet
from handjax.adapters.files import load_controlnet, load_sgm
from handjax.anatomy.head import HandHead
from handjax.diffusion.model import INPAINTING_CHANNELS, StableDiffusion, find_model, load_stable_diffusion
from handjax.diffusion.tokenizer import Tokenizer
from handjax.errors import ConfigError, InputError, UserError, WeightsError
from handjax.images import color_profile, find_images, read_image, write_image
from handjax.inference.best import anatomy_rank
from handjax.inference.controlled import PLAIN_SETTINGS, ControlNetRefiner
from handjax.inference.handrefiner import PAPER_SETTINGS, HandRefiner
from handjax.inference.refine import HandRepair, Refinement, Refiner, RepairSettings
from handjax.inference.score import HeadCounter
from handjax.perception import HandDetector
from handjax.tasks import make_task
from handjax.tasks.controlnet import ControlNetTask
from handjax.tasks.sgm import SGMTask
from handjax.training.checkpoints import restore_params
from handjax.training.config import read_config
from launch import command
from launch.generator import check_controlnet

METHODS = {"sgm": RepairSettings(), "handrefiner": PAPER_SETTINGS, "controlnet": PLAIN_SETTINGS}
NOT_FOUND = "no hand was found; crop closer to the hand, or name pictures that show one"


def main() -> int:
    """Repairs every picture; one that fails is reported and the rest goes on."""
    parser = argparse.ArgumentParser(prog="launch.refine", description=__doc__)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="pictures or folders of pictures")
    parser.add_argument("--out", type=command.output_folder, required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--prompt", help="describes the picture (default: each hand as it is seen)")
    parser.add_argument("--candidates", type=int, help="painted for each hand (default: sgm 8, others 1)")
    parser.add_argument(
        "--best-of",
        type=int,
        metavar="K",
        help="paint K candidates, keep the one of the best anatomy, or the input where none improves on it",
    )
    add_model_arguments(parser)
    arguments = parser.parse_args()
    if arguments.best_of is not None and arguments.best_of < 1:
        raise ConfigError(f"--best-of is {arguments.best_of}; it must be at least 1")
    settings = repair_settings(arguments, arguments.best_of or arguments.candidates)

    report = command.Report("refine", arguments.json)
    refiner = load_refiner(arguments, settings)
    if arguments.best_of is not None:
        refiner = dataclasses.replace(refiner, rank=anatomy_rank(refiner.detector, HeadCounter(HandHead.load())))
    if arguments.prompt:
        warn_of_length(arguments.prompt, refiner.model.tokenizer)
    images: list[Path] = []
    for source in arguments.images:
        try:
            images += find_images([source])
        except InputError as error:
            report.error(source, error)
    for path, name in zip(images, unique_names(images), strict=True):
        try:
            image = read_image(path)
            if path.resolve() in (file.resolve() for file in outputs(arguments.out, name)):
                raise InputError(f"{path}: its result would replace it; give another --out")
            refinement = refiner(image, arguments.prompt, arguments.seed)
            report.item(*describe(path, arguments.out, name, refinement))
            if not refinement.hands:
                raise InputError(f"{path}: {NOT_FOUND}")
        except UserError as error:
            report.error(str(path), error)
    return report.finish()


def warn_of_length(prompt: str, tokenizer: Tokenizer) -> None:
    """Says how much of a prompt the text encoder does not read."""
    if lost := tokenizer.excess(prompt):
        print(
            f"warning: --prompt: its last {lost} tokens are lost, {tokenizer.room} are read; shorten it",
            file=sys.stderr,
        )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `load_refiner` reads, and --seed and --json."""
    parser.add_argument(
        "--model", default="tiny_inpainting", help="inpainting model: diffusers' folder, checkpoint file or hub id"
    )
    parser.add_argument("--vae", help="another model, or an autoencoder alone, whose autoencoder is used instead")
    parser.add_argument(
        "--allow-pickle", action="store_true", help="read .bin and .ckpt weights, if you trust who made them"
    )
    parser.add_argument("--adapter", type=Path, help="exported adapter or training run (default for sgm: MODEL/sgm)")
    parser.add_argument("--method", choices=sorted(METHODS), default="sgm", help="how the repair is steered")
    parser.add_argument("--condition", choices=["depth", "skeleton"], help="that --method controlnet is to follow")
    parser.add_argument("--control-scale", type=float, help="of a ControlNet (default: 1; handrefiner: adaptive)")
    parser.add_argument("--backend", choices=["flax", "mediapipe"], default="flax", help="hand detector")
    parser.add_argument("--max-hands", type=int, default=2, help="hands to find in a picture at most")
    parser.add_argument("--steps", type=int, help="of the sampler (default: 30; handrefiner: 50)")
    parser.add_argument("--guidance-scale", type=float, help="of the prompt (default: 4; handrefiner: 9)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def repair_settings(arguments: argparse.Namespace, candidates: int | None = None) -> RepairSettings:
    """The method's settings, but for what the command line says; writes the steps and scale taken to `arguments`."""
    settings = METHODS[arguments.method]
    given = {"steps": arguments.steps, "guidance_scale": arguments.guidance_scale, "candidates": candidates}
    settings = dataclasses.replace(settings, **{name: value for name, value in given.items() if value is not None})
    arguments.steps, arguments.guidance_scale = settings.steps, settings.guidance_scale
    return settings


def load_refiner(arguments: argparse.Namespace, settings: RepairSettings) -> Refiner:
    """Loads everything before the first picture, so that a wrong flag costs no work.

    Raises:
      ConfigError: a number out of its range, or a flag that the method lacks or needs.
      WeightsError: the model is none for inpainting, or the adapter is of another model or condition.
    """
    if (arguments.condition is None) == (arguments.method == "controlnet"):
        raise ConfigError("--method controlnet needs --condition depth or skeleton, which no other method takes")
    if arguments.control_scale is not None and arguments.method == "sgm":
        raise ConfigError("--control-scale is of no use to --method sgm; leave it out or use --method controlnet")
    for name in ("steps", "candidates"):
        if getattr(settings, name) < 1:
            raise ConfigError(f"--{name} is {getattr(settings, name)}; it must be at least 1")
    detector = HandDetector.load(arguments.backend, arguments.max_hands)
    folder = find_model(arguments.model)
    model = load_stable_diffusion(folder, vae=arguments.vae, allow_pickle=arguments.allow_pickle)
    channels = model.unet.config.in_channels
    if channels != INPAINTING_CHANNELS:
        raise WeightsError(f"{folder}: its UNet takes {channels} channels; give an inpainting model, whose takes 9")
    if arguments.method != "sgm":
        condition: Literal["depth", "skeleton"] = arguments.condition or "depth"
        scale = arguments.control_scale
        network, params = load_control(arguments.adapter, arguments.method, condition, model)
        model, params = jax.device_put((model, params))
        if arguments.method == "handrefiner":
            return HandRefiner(model, network, params, detector, settings, scale=scale)
        scale = 1.0 if scale is None else scale
        return ControlNetRefiner(model, network, params, detector, settings, condition=condition, scale=scale)
    adapter = arguments.adapter or folder / "sgm"
    sgm, params = load_adapter(adapter)
    unet = model.unet.config
    trained = (sgm.config.unet_channels, sgm.config.layers_per_block, 2 ** (len(sgm.config.stem_channels) - 1))
    if trained != (unet.block_out_channels, unet.layers_per_block, model.vae.config.factor):
        raise WeightsError(f"{adapter}: trained on another model than {folder}; name that one with --model")
    model, params = jax.device_put((model, params))  # once, not for every hand
    return Refiner(model, sgm, params, detector, settings)


def load_control(folder: Path | None, method: str, condition: str, model: StableDiffusion) -> tuple[ControlNet, Any]:
    """Loads a ControlNet of a condition from a folder or file, or from the newest checkpoint of a training run.

    Raises:
      ConfigError: no --adapter is given.
      WeightsError: there is none, or it is of another model or condition.
    """
    if folder is None:
        raise ConfigError(f"--method {method} needs --adapter: a ControlNet of {condition}, exported or a training run")
    if (folder / "checkpoints").is_dir():
        task = make_task(read_config(folder))
        if not isinstance(task, ControlNetTask) or task.conditions != (condition,):
            raise WeightsError(
                f"{folder}: a training run, but not of a ControlNet of {condition} alone; give one of it"
            )
        shapes = jax.eval_shape(lambda: task.init(jax.random.key(0))[0])
        network, params = task.control, restore_params(folder, shapes)[1][condition]
    else:
        network, params = load_controlnet(folder, condition=condition)
    check_controlnet(network, model, folder)
    if network.config.hand_alpha:
        raise WeightsError(f"{folder}: trained with a bias on words on hands, which {method} lacks; give another")
    return network, params


def load_adapter(folder: Path) -> tuple[Any, Any]:
    """Loads an SGM from an exported folder, or from the newest checkpoint of a training run."""
    if not (folder / "checkpoints").is_dir():
        return load_sgm(folder)
    task = make_task(read_config(folder))
    if not isinstance(task, SGMTask):
        raise WeightsError(f"{folder}: a training run, but not of SGM; give one of sgm.py")
    shapes = jax.eval_shape(lambda: task.init(jax.random.key(0))[0])
    return task.sgm, restore_params(folder, shapes)[1]


def unique_names(paths: Iterable[Path]) -> list[str]:
    """Gives each picture its stem, numbered where that or its mask's name is taken by an earlier picture."""
    taken: set[str] = set()
    names = []
    for path in paths:
        numbered = itertools.chain([path.stem], (f"{path.stem}-{number}" for number in itertools.count(2)))
        names.append(next(name for name in numbered if not taken & {name, f"{name}_mask"}))
        taken |= {names[-1], f"{names[-1]}_mask"}
    return names


def outputs(out: Path, name: str) -> tuple[Path, Path]:
    """The files of one result: picture and mask."""
    return out / f"{name}.png", out / f"{name}_mask.png"


def describe(path: Path, out: Path, name: str, refinement: Refinement) -> tuple[dict[str, Any], str]:
    """Writes the result of a picture with hands; returns its item of the JSON contract and its line."""
    if not refinement.hands:
        hand = {"status": "not_found", "reason": NOT_FOUND, "box": None, "score_before": None, "score_after": None}
        return {"input": str(path), "output": None, "mask": None, "hands": [hand]}, f"{path}: no hand found"
    output, mask = outputs(out, name)
    write_image(output, refinement.image, color_profile(path))
    write_image(mask, refinement.changed.astype(np.uint8) * 255)
    item = {
        "input": str(path),
        "output": str(output),
        "mask": str(mask),
        "hands": list(map(hand_item, refinement.hands)),
    }
    return item, f"{path} -> {output}: " + "; ".join(f"{h.status} ({h.reason})" for h in refinement.hands)


def hand_item(hand: HandRepair) -> dict[str, Any]:
    """One hand of the JSON contract."""
    return {
        "status": hand.status,
        "reason": hand.reason,
        "box": [round(edge, 1) for edge in hand.box],
        "score_before": hand.score_before,
        "score_after": hand.score_after,
        "keypoint_error": hand.keypoint_error,
        "best_of": {"before": hand.ranks[0], "scores": list(hand.ranks[1:])} if hand.ranks else None,
    }


if __name__ == "__main__":
    command.run(main)
