"""Prepares data for training: hands found in photos, of published data sets, rendered or painted, with all conditions.

python -m launch.precompute photos/
python -m launch.precompute rendered:2000 --output data/rendered
python -m launch.precompute malformed:20000 --output data/malformed
python -m launch.precompute malformed-photos:photos/ --output data/malformed_photos
python -m launch.precompute painted:2000 --controlnet mesh=FOLDER --output data/painted
python -m launch.precompute painted:data/rhd --controlnet mesh=FOLDER --output data/rhd_painted
python -m launch.precompute rhd:RHD_published_v2/ --output data/rhd
python -m launch.precompute relabelled:data/rhd --recovery exported --output data/rhd_read

An Apache Beam pipeline, on all cores unless another runner is named. Run again after an interruption it goes on where
it was, and run again after a change of the input it makes again what the change concerns.
"""

import argparse
import logging
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handjax.errors import ConfigError, InputError
from handjax.files import replace_folder, write_json
from launch import command

if TYPE_CHECKING:
    from data_pipelines.painted_poses import Poses
    from data_pipelines.shards import Job, Shard

RENDERED = "rendered:"
MALFORMED = "malformed:"
MALFORMED_PHOTOS = "malformed-photos:"
PAINTED = "painted:"
_DRAWN = re.compile(r"(rendered|malformed):.*|painted:(\d+(:\d*)?)?")
"""Inputs that are a number of hands; what else is painted is a folder of records."""
RELABELLED = "relabelled:"
MANIFEST = "manifest.json"
DEFAULT_FOLDER = Path("data")
INPUT_HELP = (
    "folder of photos, rendered:COUNT[:SEED], malformed:COUNT[:SEED], malformed-photos:FOLDER, painted:COUNT[:SEED], "
    "painted:RECORDS, relabelled:RECORDS, or NAME:FOLDER of a published data set, such as rhd:FOLDER"
)
INPUTS_PER_WORKER = 64
"""Fewer are done sooner than one more worker has started."""
_NO_SETTINGS = ("beam", "input", "json", "output", "runner", "workers")


def main() -> int:
    """Prepares one data set and prints what became of the input."""
    arguments = _parse_arguments()
    _check(arguments)
    report = command.Report("precompute", arguments.json)
    manifest = _prepare(arguments)
    for failure in manifest["failures"]["items"]:
        report.error(failure["input"], InputError(failure["error"]))
    made = [f"{count} {split} records" for split, count in manifest["records"].items()]
    missed = [f"{count} {reason}" for reason, count in manifest["failures"]["counts"].items()]
    report.item({"output": str(arguments.output), **manifest}, f"{arguments.output}  {', '.join(made + missed)}")
    return report.finish()


def _prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Makes what is not there yet in a folder beside the output, which takes the output's place when it is whole."""
    from data_pipelines import shards as sharding

    start = time.monotonic()
    output = arguments.output.resolve()
    work = output.with_name(f"{output.name}.partial")
    job = _job(arguments)
    shards = sharding.plan_shards(job)
    todo = sharding.keep_finished(shards, work, output)
    if todo:
        _run(arguments, job, todo, work, done=sum(len(s.names) for s in shards) - sum(len(s.names) for s in todo))
    results = sharding.finish(job, shards, work)
    if not results["records"].get(_needed_split(shards)):
        shutil.rmtree(work)
        raise InputError(
            f"{arguments.input}: none of {results['pictures']} pictures gave a hand to train on "
            f"({results['failures']['counts']}); {_remedy(arguments.input)}"
        )
    manifest = {
        "input": arguments.input,
        **results,
        "kept_shards": len(shards) - len(todo),
        "settings": {name: value for name, value in vars(arguments).items() if name not in _NO_SETTINGS},
        "versions": sharding.versions(),
        "seconds": round(time.monotonic() - start, 3),
    }
    write_json(work / MANIFEST, manifest)
    replace_folder(work, output)
    return manifest


def _remedy(source: str) -> str:
    """What to do where no picture is of use."""
    if source.startswith(PAINTED):
        return "give more hands, or a ControlNet that was trained longer"
    return "give photos that show whole hands"


def _needed_split(shards: list["Shard"]) -> str:
    """The split without which a result is of no use: an evaluation set alone has nothing to train on."""
    splits = [shard.split for shard in shards]
    return "train" if "train" in splits or not splits else splits[0]


def _run(arguments: argparse.Namespace, job: "Job", todo: list["Shard"], work: Path, done: int) -> None:
    logging.getLogger().addHandler(logging.NullHandler())  # or Beam's import tells what it lacks
    from data_pipelines.pipeline import run_pipeline

    most = -(-sum(len(shard.names) for shard in todo) // INPUTS_PER_WORKER)
    run_pipeline(
        job,
        todo,
        work,
        done=done,
        runner=arguments.runner,
        workers=max(1, min(arguments.workers or _default_workers(), most)),
        options=[f"--{option}" for option in arguments.beam],
    )


def _default_workers() -> int:
    import jax

    return (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1


def _job(arguments: argparse.Namespace) -> "Job":
    from data_pipelines.datasets.job import DatasetJob
    from data_pipelines.malformed.photos import MalformedPhotoJob
    from data_pipelines.malformed.rendered import MalformedJob
    from data_pipelines.painted import PaintedJob
    from data_pipelines.photos import PhotoJob
    from data_pipelines.prepared import PreparedRecords
    from data_pipelines.relabelled import RelabelledJob
    from data_pipelines.rendered import RenderedJob
    from handjax.recovery.files import ASSET

    dataset, folder = _dataset(arguments.input)
    splits = tuple(filter(None, arguments.splits.split(",")))
    captions = Path(arguments.captions) if arguments.captions else None
    if dataset:
        return DatasetJob(dataset, folder, splits, arguments.limit, arguments.paper_eval, arguments.mano, captions)
    if arguments.input.startswith(RENDERED):
        count, seed = _rendered_numbers(arguments.input)
        return RenderedJob(min(count, arguments.limit or count), seed, eval_fraction=arguments.eval_fraction)
    if arguments.input.startswith(MALFORMED):
        count, seed = _rendered_numbers(arguments.input)
        return MalformedJob(min(count, arguments.limit or count), seed, only=splits)
    if arguments.input.startswith(MALFORMED_PHOTOS):
        photos = Path(arguments.input.removeprefix(MALFORMED_PHOTOS))
        return MalformedPhotoJob(photos, arguments.limit, licence=arguments.licence or None)
    if arguments.input.startswith(RELABELLED):
        records = PreparedRecords(Path(arguments.input.removeprefix(RELABELLED)), arguments.limit)
        return RelabelledJob(records, Path(arguments.recovery or ASSET), arguments.hand_model)
    if arguments.input.startswith(PAINTED):
        names = ("model", "steps", "guidance_scale", "control_scale")
        settings = {name: getattr(arguments, name) for name in names} | {"licence": arguments.licence or None}
        return PaintedJob(_poses(arguments), _controlnets(arguments.controlnet), **settings)
    return PhotoJob(
        folder=Path(arguments.input),
        limit=arguments.limit,
        caption=arguments.caption,
        licence=arguments.licence or None,
        max_hands=arguments.max_hands,
        eval_fraction=arguments.eval_fraction,
        captions=captions,
    )


def _poses(arguments: argparse.Namespace) -> "Poses":
    from data_pipelines.painted_poses import RandomPoses, RecordPoses
    from data_pipelines.prepared import PreparedRecords

    if not _DRAWN.fullmatch(arguments.input):
        if arguments.hands > 1:
            raise ConfigError(f"--hands {arguments.hands}: is for random poses, COUNT[:SEED], not for those of records")
        return RecordPoses(PreparedRecords(Path(arguments.input.removeprefix(PAINTED)), arguments.limit))
    count, seed = _rendered_numbers(arguments.input)
    return RandomPoses(min(count, arguments.limit or count), seed, arguments.eval_fraction, arguments.hands)


def _controlnets(texts: list[str]) -> dict[str, Path]:
    """Reads CONDITION=FOLDER."""
    pairs = [text.partition("=") for text in texts]
    for text, (_, _, folder) in zip(texts, pairs, strict=True):
        if not folder:
            raise ConfigError(f"--controlnet {text}: write CONDITION=FOLDER, such as mesh=exported")
    found = {condition: Path(folder) for condition, _, folder in pairs}
    if len(found) < len(pairs):
        raise ConfigError(f"--controlnet {' '.join(texts)}: names a condition twice; give each one ControlNet")
    return found


def _rendered_numbers(text: str) -> tuple[int, int]:
    name, _, numbers = text.partition(":")
    count, _, seed = numbers.partition(":")
    if not count.isdigit() or int(count) < 1 or not (seed or "0").isdigit():
        raise InputError(f"--input {text}: write {name}:COUNT or {name}:COUNT:SEED, such as {name}:2000")
    return int(count), int(seed or 0)


def _dataset(text: str) -> tuple[str, str]:
    """Name and folder of `NAME:FOLDER`; the name is "" where the input is a folder of photos or rendered hands."""
    from data_pipelines.datasets.registry import DATASETS

    name, _, folder = text.partition(":")
    return (name, folder) if name in DATASETS else ("", text)


def _check(arguments: argparse.Namespace) -> None:
    """Only an earlier result of this command may be replaced, and never a folder that holds the photos."""
    output, source = arguments.output, arguments.input
    if arguments.captions and not (_dataset(source)[0] or Path(source).is_dir()):
        raise ConfigError(
            f"--captions {arguments.captions}: is for photos and published data sets, which {source} is not"
        )
    if not 0 <= arguments.eval_fraction < 1:
        raise InputError(f"--eval-fraction {arguments.eval_fraction}: must be at least 0 and below 1")
    if arguments.workers < 0:
        raise ConfigError(f"--workers {arguments.workers}: must be at least 1, or 0 for one a core")
    if _DRAWN.fullmatch(source):
        _rendered_numbers(source)
    else:
        source = _dataset(source)[1].removeprefix(MALFORMED_PHOTOS).removeprefix(RELABELLED).removeprefix(PAINTED)
        if not Path(source).exists():
            raise InputError(
                f"--input {source}: no such folder; give a folder of pictures or records, or rendered:COUNT"
            )
        if not Path(source).is_dir():
            raise InputError(f"--input {source}: not a folder; give the folder that holds the pictures")
        if Path(source).resolve().is_relative_to(output.resolve()):
            raise InputError(f"--output {output}: holds the input; choose another folder")
    if output.is_mount():
        raise InputError(f"--output {output}: is a mount point, which cannot be replaced; name a folder in it")
    if output.exists() and not (output / MANIFEST).is_file() and not (output.is_dir() and not any(output.iterdir())):
        raise InputError(f"--output {output}: exists and was not made by this command; choose another folder")


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.precompute", description=__doc__.splitlines()[0])
    parser.add_argument("place", nargs="?", metavar="INPUT", help=INPUT_HELP)
    parser.add_argument("--input", help="the same, as an option")
    parser.add_argument(
        "--output", type=Path, help="folder to write; an earlier result there is replaced (default: data/NAME)"
    )
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="take at most N pictures")
    parser.add_argument(
        "--caption",
        default="",
        metavar="TEXT",
        help="template with {hand}, {side}, {folder}, {caption}; without it captions come from captions.json, "
        "captions.csv or a .txt beside each photo, or from the hand's pose",
    )
    parser.add_argument(
        "--captions",
        default="",
        metavar="FILE.jsonl",
        help="of photos and published data sets: what launch.caption wrote, before all others",
    )
    parser.add_argument("--licence", default="", help="licence of the photos, kept in every record")
    parser.add_argument("--max-hands", type=int, default=2, metavar="N", help="hands to look for in each photo")
    parser.add_argument("--eval-fraction", type=float, default=0.1, metavar="SHARE", help="share held out")
    parser.add_argument(
        "--splits",
        default="",
        metavar="NAMES",
        help="of malformed hands and published data sets: which to make, as train,eval; all by default",
    )
    published = parser.add_argument_group("published data sets")
    published.add_argument(
        "--paper-eval", type=int, metavar="SEED", help="make the papers' evaluation set, drawn by seed"
    )
    published.add_argument("--mano", default="", metavar="DIR", help="your MANO files; else the open hand is fitted")
    painted = parser.add_argument_group("painted hands")
    painted.add_argument(
        "--hands", type=int, choices=[1, 2], default=1, help="in a picture of random poses; 2: both hands of a body"
    )
    painted.add_argument("--model", default="tiny_inpainting", help="text-to-image or inpainting")
    painted.add_argument(
        "--controlnet", action="append", default=[], metavar="CONDITION=FOLDER", help="of depth, skeleton or mesh"
    )
    painted.add_argument("--steps", type=int, default=30, help="of the sampler")
    painted.add_argument("--guidance-scale", type=float, default=4.0, help="of the prompt")
    painted.add_argument("--control-scale", type=float, default=1.0, help="of the ControlNets")
    relabelled = parser.add_argument_group("relabelled records")
    relabelled.add_argument("--recovery", default="", metavar="DIR", help="exported weights of mmhmr.py; else our own")
    relabelled.add_argument("--hand-model", default="", metavar="FILE", help="MANO file of weights that know MANO")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes (default: one a core; one on an accelerator)"
    )
    parser.add_argument(
        "--runner", default="DirectRunner", help="a Beam runner; its workers must see input and output by these paths"
    )
    parser.add_argument(
        "--beam", action="append", default=[], metavar="NAME=VALUE", help="option of Beam, such as region=europe-west4"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    if (arguments.place is None) == (arguments.input is None):
        parser.error(f"give one input: {INPUT_HELP}")
    arguments.input = arguments.input or arguments.__dict__.pop("place")
    arguments.output = arguments.output or DEFAULT_FOLDER / _short_name(arguments.input)
    return arguments


def _short_name(source: str) -> str:
    for prefix in (RENDERED, MALFORMED, MALFORMED_PHOTOS, PAINTED, RELABELLED):
        if source.startswith(prefix):
            return prefix[:-1]
    return _dataset(source)[0] or Path(source).resolve().name


if __name__ == "__main__":
    os.environ["NPROC"] = "1"  # for JAX, which reads it when it starts: as every other worker has it
    command.run(main)
