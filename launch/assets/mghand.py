"""Makes the discriminator and the slider of the embedded model, in one command that goes on where it was stopped:

    python -m launch.assets.mghand --workdir DIR

`DIR` is the workdir of `launch.assets.tiny_inpainting`, or holds records of photographs and of rendered hands as it
prepares them. The model that is to be guided makes pictures of their captions; the discriminator learns to tell what
they show, finished or half done, from the photographs and rendered hands. The slider needs prompts alone.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.features import open_records
from handjax.errors import InputError
from handjax.files import atomic_write
from handjax.tasks.slider import FILES
from launch import command, stages
from launch.guidance import EMBEDDED

SOURCES = {"photos": 2, "rendered": 1}
"""Weights by which there are about as many of either, as there are among the captions of generated pictures."""
GENERATED = "generated_records"
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
    arguments = parser.parse_args()
    work = arguments.workdir
    slider_steps = f"--config.steps={arguments.slider_steps}"
    stages.train_and_export("mghand_lora.py:tiny", work, "lora", EMBEDDED, slider_steps)
    (EMBEDDED / FILES["kohya"]).unlink()  # the same adapter in other words
    generate(work, arguments.pictures)
    stages.train_and_export(
        "mghand_discriminator.py:tiny",
        work,
        "handjax",
        EMBEDDED,
        f"--config.steps={arguments.discriminator_steps}",
        f"--config.data.path={','.join(f'{work / name}@{weight}' for name, weight in SOURCES.items())}",
        f"--config.data.generated={work / GENERATED}",
    )


def generate(work: Path, count: int) -> None:
    """Makes pictures and their records, which are not there yet; pictures without a hand give none."""
    pictures, captions = work / "generated", work / "captions.txt"
    if not captions.exists():
        with atomic_write(captions) as temporary:
            temporary.write_text("\n".join(draw_captions([work / name for name in SOURCES], count)))
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
