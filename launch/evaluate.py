"""Measures models on held-out pictures, generated hands, or how far pictures are from others or from their prompts.

`python -m launch.evaluate --suite inpainting --data RECORDS`
`python -m launch.evaluate --suite distance --data PICTURES --reference PICTURES`
`python -m launch.evaluate --suite hands --data PICTURES --reference PICTURES_OF_THE_SAME_NAMES`
`python -m launch.evaluate --suite clip --data PICTURES --clip-model FOLDER`
`python -m launch.evaluate --suite recovery --data RECORDS`
`python -m launch.evaluate --suite submission --data freihand:FOLDER --model DIR --hand-model FILE --out DIR`
`python -m launch.evaluate --suite vq_mano`
`python -m launch.evaluate --suite text_to_mesh --model DIR --data RECORDS`
`python -m launch.evaluate --suite downstream --train RECORDS --generated RECORDS --data RECORDS --workdir DIR`
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import ml_collections
from tqdm import tqdm

from data_pipelines.features import open_records
from data_pipelines.loader import make_loader
from handjax.diffusion.model import StableDiffusion
from handjax.errors import ConfigError, InputError
from handjax.files import write_json
from handjax.images import write_image
from handjax.inference.evaluate import evaluate_inpainting
from handjax.tasks.pictures import hand_spec, picture_spec
from launch import command
from launch.evaluate_clip import add_clip_arguments, evaluate_clip
from launch.evaluate_distance import add_distance_arguments, evaluate_distance
from launch.evaluate_downstream import add_downstream_arguments, evaluate_downstream
from launch.evaluate_hands import add_hands_arguments, evaluate_hands
from launch.evaluate_recovery import add_recovery_arguments, evaluate_recovery
from launch.evaluate_submission import add_submission_arguments, evaluate_submission
from launch.evaluate_text_to_mesh import add_text_to_mesh_arguments, evaluate_text_to_mesh
from launch.evaluate_vq_mano import add_vq_mano_arguments, evaluate_vq_mano
from launch.refine import add_model_arguments, load_refiner, repair_settings

BATCH = 8
LIMIT = 200


def main() -> int:
    """Runs a suite, prints its figures and writes them with what they were measured with."""
    # a suite takes its own flags only, so it is looked for first
    chooser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--suite", choices=sorted(SUITES), help="what is measured; with --help, its flags")
    suite = chooser.parse_known_args()[0].suite
    parser = argparse.ArgumentParser(
        prog="launch.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[chooser],
        allow_abbrev=False,
    )
    if suite is None:
        parser.parse_known_args()  # which answers --help
        parser.error(f"--suite is missing; give {' or '.join(sorted(SUITES))}")
    SUITES[suite][0](parser)
    arguments = parser.parse_args()
    if arguments.limit is not None and arguments.limit < 1:
        raise ConfigError(f"--limit is {arguments.limit}; it must be at least 1")
    report = command.Report("evaluate", arguments.json)
    SUITES[suite][1](arguments, report)
    return report.finish()


def add_repair_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `evaluate_repair` reads."""
    parser.add_argument("--data", required=True, help="prepared records, of which the held-out split is used")
    parser.add_argument("--limit", type=int, default=LIMIT, help="number of pictures")
    parser.add_argument("--out", type=command.output_folder, help="folder for figures.json and sheet.png")
    add_model_arguments(parser)


def evaluate_repair(arguments: argparse.Namespace, report: command.Report) -> None:
    """Repairs held-out pictures, and looks whether their hands are found and posed as wanted."""
    refiner = load_refiner(arguments, repair_settings(arguments, candidates=1))
    batches = held_out_batches(arguments.data, refiner.model, arguments.limit)
    with tqdm(total=arguments.limit, unit="picture") as bar:
        done = functools.partial(lambda bar, n: bar.update(n - bar.n), bar)
        figures, sheet = evaluate_inpainting(refiner, batches, arguments.limit, arguments.seed, done)
    if arguments.out:
        document = {
            "suite": arguments.suite,
            "figures": figures,
            "settings": settings_of(arguments),
            **command.environment(),
        }
        write_json(arguments.out / "figures.json", document)
        write_image(arguments.out / "sheet.png", sheet)
    for name, values in figures.items():
        report.item({"name": name, **values}, describe(name, values))


def held_out_batches(
    path: str,
    model: StableDiffusion,
    limit: int,
    others: dict[str, jax.ShapeDtypeStruct] | None = None,
    captions: str = "",
) -> Any:
    """The "eval" split in fixed order, no record twice.

    Args:
      path: prepared records.
      model: decides the size of the pictures.
      limit: how many records there must be.
      others: fields beside picture, mask and hand, as `make_loader` takes them.
      captions: JSON file of captions by record id in place of the records' own.

    Raises:
      InputError: there are fewer records than asked for.
    """
    source = open_records(path, "eval")
    if source is None or len(source) < limit:
        count = 0 if source is None else len(source)
        raise InputError(f"{path}: {count} held-out records, fewer than --limit {limit}; prepare more or ask for fewer")
    tokenizer, size = model.tokenizer, model.unet.config.sample_size * model.vae.config.factor
    text = {"tokenizer": tokenizer.folder, "max_length": tokenizer.length, "captions": captions}
    config = ml_collections.ConfigDict({"path": path, "image_size": size, "shuffle": False, **text})
    spec = picture_spec(model, size, encoded=False) | hand_spec(model, size) | (others or {})
    return make_loader(config, spec, BATCH, seed=0, split="eval")


def describe(name: str, values: dict[str, Any]) -> str:
    """One line of figures."""
    low, high = values["detection_rate_95"]
    found = f"{values['detection_rate']:.1%} [{low:.1%}, {high:.1%}] of {values['pictures']}"
    line = f"{name:12} hand found in {found}, posed as wanted in {values['pose_rate']:.1%}"
    if values["keypoint_error"] is None:
        return line
    low, high = values["keypoint_error_95"]
    return f"{line}, keypoints off by {values['keypoint_error']:.1%} [{low:.1%}, {high:.1%}] of the box"


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What decides the figures."""
    names = ("limit", "model", "method", "condition", "control_scale", "backend", "steps", "guidance_scale", "seed")
    return {"data": Path(arguments.data).name} | {name: getattr(arguments, name) for name in names}


# What adds a suite's flags, and what runs it.
SUITES = {
    "clip": (add_clip_arguments, evaluate_clip),
    "distance": (add_distance_arguments, evaluate_distance),
    "downstream": (add_downstream_arguments, evaluate_downstream),
    "hands": (add_hands_arguments, evaluate_hands),
    "inpainting": (add_repair_arguments, evaluate_repair),
    "recovery": (add_recovery_arguments, evaluate_recovery),
    "submission": (add_submission_arguments, evaluate_submission),
    "text_to_mesh": (add_text_to_mesh_arguments, evaluate_text_to_mesh),
    "vq_mano": (add_vq_mano_arguments, evaluate_vq_mano),
}


if __name__ == "__main__":
    command.run(main)
