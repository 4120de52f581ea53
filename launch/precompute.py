"""Prepares data for training: hands found in photos, of published data sets, or rendered.

python -m launch.precompute --input photos/ --output data/photos
python -m launch.precompute --input rendered:2000 --output data/rendered
python -m launch.precompute --input rhd:RHD_published_v2/ --output data/rhd
"""

import argparse
import contextlib
import io
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import handjax
from handjax.errors import InputError
from handjax.files import atomic_write, write_json
from launch import command

RENDERED = "rendered:"
MANIFEST = "manifest.json"


def main() -> int:
    """Prepares one data set and prints what became of the input."""
    arguments = _parse_arguments()
    output = Path(arguments.output)
    _check_eval_fraction(arguments.eval_fraction)
    _check_output(output, arguments.input)
    report = command.Report("precompute", arguments.json)
    start = time.monotonic()
    with atomic_write(output) as temporary:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS tells of the temporary folder
            builder = _builder(arguments, temporary)
            builder.download_and_prepare()
        shutil.rmtree(temporary / "downloads", ignore_errors=True)
        manifest = _manifest(arguments, builder, time.monotonic() - start)
        write_json(temporary / MANIFEST, manifest)
    for failure in manifest["failures"]["items"]:
        report.error(failure["input"], InputError(failure["error"]))
    made = [f"{count} {split} records" for split, count in manifest["records"].items()]
    missed = [f"{count} {reason}" for reason, count in manifest["failures"]["counts"].items()]
    report.item({"output": str(output), **manifest}, f"{output}  {', '.join(made + missed)}")
    return report.finish()


def _builder(arguments: argparse.Namespace, folder: Path) -> Any:
    import tensorflow_datasets as tfds
    from absl import logging

    from data_pipelines.photos import HandPhotos, PhotosConfig
    from data_pipelines.rendered import RenderedConfig, RenderedHands

    tfds.disable_progress_bar()
    logging.set_verbosity(logging.ERROR)
    place = {"data_dir": str(folder), "file_format": "array_record"}
    if arguments.input.startswith(RENDERED):
        count, seed = _rendered_numbers(arguments.input)
        config = RenderedConfig(
            count=min(count, arguments.limit or count), seed=seed, eval_fraction=arguments.eval_fraction
        )
        return RenderedHands(config=config, **place)
    if _dataset(arguments.input)[0]:
        return _dataset_builder(arguments, place)
    config = PhotosConfig(
        folder=arguments.input,
        limit=arguments.limit,
        caption=arguments.caption,
        licence=arguments.licence,
        max_hands=arguments.max_hands,
        eval_fraction=arguments.eval_fraction,
    )
    return HandPhotos(config=config, **place)


def _dataset_builder(arguments: argparse.Namespace, place: dict[str, str]) -> Any:
    from data_pipelines.datasets.builder import DatasetConfig
    from data_pipelines.datasets.registry import DATASETS

    name, folder = _dataset(arguments.input)
    config = DatasetConfig(
        folder=folder,
        splits=tuple(filter(None, arguments.splits.split(","))),
        limit=arguments.limit,
        paper_eval=arguments.paper_eval,
        mano=arguments.mano,
    )
    return DATASETS[name](config=config, **place)


def _rendered_numbers(text: str) -> tuple[int, int]:
    count, _, seed = text.removeprefix(RENDERED).partition(":")
    if not count.isdigit() or int(count) < 1 or not (seed or "0").isdigit():
        raise InputError(f"--input {text}: write rendered:COUNT or rendered:COUNT:SEED, such as rendered:2000")
    return int(count), int(seed or 0)


def _dataset(text: str) -> tuple[str, str]:
    """Name and folder of `NAME:FOLDER`; the name is "" where the input is a folder of photos or rendered hands."""
    from data_pipelines.datasets.registry import DATASETS

    name, _, folder = text.partition(":")
    return (name, folder) if name in DATASETS else ("", text)


def _check_eval_fraction(share: float) -> None:
    if not 0 <= share < 1:
        raise InputError(f"--eval-fraction {share}: must be at least 0 and below 1")


def _check_output(output: Path, source: str) -> None:
    """Only an earlier result of this command may be replaced, and never a folder that holds the photos."""
    if not source.startswith(RENDERED):
        source = _dataset(source)[1]
        if not Path(source).exists():
            raise InputError(f"--input {source}: no such folder; give a folder of pictures or rendered:COUNT")
        if not Path(source).is_dir():
            raise InputError(f"--input {source}: not a folder; give the folder that holds the pictures")
        if Path(source).resolve().is_relative_to(output.resolve()):
            raise InputError(f"--output {output}: holds the input; choose another folder")
    if output.exists() and not (output / MANIFEST).is_file() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError(f"--output {output}: exists and was not made by this command; choose another folder")


def _manifest(arguments: argparse.Namespace, builder: Any, seconds: float) -> dict[str, Any]:
    failures = getattr(builder, "failures", None)
    return {
        "input": arguments.input,
        "pictures": getattr(builder, "photo_count", 0),
        "records": {split: info.num_examples for split, info in builder.info.splits.items()},
        "failures": {"counts": failures.counts() if failures else {}, "items": failures.items if failures else []},
        "settings": {name: value for name, value in vars(arguments).items() if name not in ("json", "output", "input")},
        "versions": {
            "handjax": handjax.__version__,
            **{package: version(package) for package in ("jax", "tensorflow-datasets", "array-record")},
        },
        "seconds": round(seconds, 3),
    }


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.precompute", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--input",
        required=True,
        help="folder of photos, rendered:COUNT[:SEED], or NAME:FOLDER of a published data set, such as rhd:FOLDER",
    )
    parser.add_argument("--output", required=True, help="folder to write; an earlier result there is replaced")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="take at most N pictures")
    parser.add_argument(
        "--caption",
        default="",
        metavar="TEXT",
        help="template with {hand}, {folder}, {caption}; without it captions come from captions.json, captions.csv "
        "or a .txt beside each photo, or from the hand's pose",
    )
    parser.add_argument("--licence", default="", help="licence of the photos, kept in every record")
    parser.add_argument("--max-hands", type=int, default=2, metavar="N", help="hands to look for in each photo")
    parser.add_argument("--eval-fraction", type=float, default=0.1, metavar="SHARE", help="share held out")
    published = parser.add_argument_group("published data sets")
    published.add_argument("--splits", default="", metavar="NAMES", help="which to make, as train,eval; all by default")
    published.add_argument(
        "--paper-eval", type=int, metavar="SEED", help="make the papers' evaluation set, drawn by seed"
    )
    published.add_argument("--mano", default="", metavar="DIR", help="your MANO files; else the open hand is fitted")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
