"""Makes the discriminator and the slider of the embedded model, in one command that goes on where it was stopped:

    python -m launch.assets.mghand --workdir DIR

`DIR` is the workdir of `launch.assets.tiny_inpainting`, or holds records of photographs and of rendered hands as it
prepares them. The model that is to be guided makes pictures of their captions; the discriminator learns to tell what
they show, finished or half done, from the photographs and rendered hands. The slider needs prompts alone.

    python -m launch.assets.mghand --workdir DIR --only photos
    python -m launch.assets.mghand --workdir DIR --only rendered

make discriminators that know one of the two sets, for `launch.bench mghand_cross`; they stay in `DIR`.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_pipelines.features import open_records
from handjax.errors import InputError
from handjax.files import atomic_write
from handjax.tasks.slider import FILES
from launch import command, stages
from launch.guidance import EMBEDDED

SOURCES = {"photos": 2, "rendered": 1}
"""Weights by which there are about as many of either, as there are among the captions of generated pictures."""
GENERATED, DISCRIMINATOR = "generated_records", "discriminator"
WINDOW, STEPS, SEED = ("150", "650"), "20", "700000"
HELD_OUT = "0.15"


def main() -> None:
    """Runs the stages that have not left their result yet."""
    parser = argparse.ArgumentParser(
        prog="launch.assets.mghand", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="records, pictures and runs")
    parser.add_argument("--pictures", type=int, default=400, help="that the model makes")
    parser.add_argument("--discriminator-steps", type=int, default=1500)
    parser.add_argument("--slider-steps", type=int, default=300)
    parser.add_argument("--only", choices=SOURCES, help="a discriminator of this set alone, and no slider")
    arguments = parser.parse_args()
    work, count, steps = arguments.workdir, arguments.pictures, arguments.discriminator_steps
    if arguments.only:
        own = folder_of(work, arguments.only)
        train_discriminator({work / arguments.only: 1}, own, own / DISCRIMINATOR, count, steps)
        return
    slider_steps = f"--config.steps={arguments.slider_steps}"
    stages.train_and_export("mghand_lora.py:tiny", work, "lora", EMBEDDED, slider_steps)
    (EMBEDDED / FILES["kohya"]).unlink()  # the same adapter in other words
    train_discriminator({work / name: weight for name, weight in SOURCES.items()}, work, EMBEDDED, count, steps)


def folder_of(work: Path, name: str) -> Path:
    """Where all is that belongs to the discriminator of one set."""
    return work / f"only_{name}"


def train_discriminator(real: Mapping[Path, int], work: Path, out: Path, count: int, steps: int) -> None:
    """Trains and exports a discriminator.

    Args:
      real: folders of records of real hands, and how often each record is seen.
      work: folder of pictures of the model that is to be guided, of their records, and of the run.
      out: folder of the weights.
      count: pictures that the model makes.
      steps: of the training.
    """
    generate(list(real), work, count)
    stages.train_and_export(
        "mghand_discriminator.py:tiny",
        work,
        "handjax",
        out,
        f"--config.steps={steps}",
        f"--config.data.path={','.join(f'{folder}@{weight}' for folder, weight in real.items())}",
        f"--config.data.generated={work / GENERATED}",
    )


def generate(real: Sequence[Path], work: Path, count: int) -> None:
    """Makes pictures and their records, which are not there yet; pictures without a hand give none."""
    pictures, captions = work / "generated", work / "captions.txt"
    if not captions.exists():
        work.mkdir(parents=True, exist_ok=True)
        with atomic_write(captions) as temporary:
            temporary.write_text("\n".join(draw_captions(real, count)))
    if (work / GENERATED).exists():
        return
    sampler = ("--sampler", "ddim", "--steps", STEPS, "--guidance-scale", 4, "--batch", 8, "--seed", SEED)
    stages.run("generate", "--prompts", captions, *sampler, "--estimates", *WINDOW, "--out", pictures)
    records = ("--input", pictures, "--output", work / GENERATED, "--eval-fraction", HELD_OUT)
    stages.run("precompute", *records, tolerated=command.USER_ERROR_STATUS)


def draw_captions(folders: Sequence[Path], count: int) -> list[str]:
    """Captions of records to train on, evenly over each folder, the folders in turn.

    Raises:
      InputError: a folder has no records.
    """
    columns = []
    for folder in folders:
        records, share = open_records(folder, "train"), -(-count // len(folders))
        if records is None:
            raise InputError(f"{folder}: no records; make them with launch.assets.tiny_inpainting")
        columns.append([records[number * len(records) // share].caption or "" for number in range(share)])
    return list(itertools.chain.from_iterable(zip(*columns, strict=True)))[:count]


if __name__ == "__main__":
    command.run(main)
