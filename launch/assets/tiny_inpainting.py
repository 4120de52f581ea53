"""Makes the embedded tiny model from photographs, in one command that goes on where it was stopped:

    python -m launch.assets.tiny_inpainting --photos DIR --workdir DIR

`DIR` holds a folder of photographs for each digit (Sign Language Digits Dataset, Apache-2.0). The stages are the
commands a user has: precompute, train (autoencoder, inpainting, SGM), export, evaluate. With --malformed N the model
also learns from rendered hands most of which are malformed, and from captions that say in what way; the carried weights
were made without.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import handjax
from handjax.adapters.files import PYTORCH_MODULE
from handjax.diffusion.model import INDEX
from handjax.errors import UserError
from launch import command

ASSET = Path(handjax.__file__).parent / "assets" / "tiny_inpainting"
CAPTION = "a photo of {hand}, sign for {folder}"
HELD_OUT = "0.17"
PHOTO_WEIGHT = 3
EXAMPLES = 24_000
"""Encoded once: about seven windows and masks for each record."""
SGM_OVERRIDES = ("--config.steps=3000", "--config.batch_size=16")
"""The variant itself is as short as the demo."""


class StageError(UserError):
    """A stage that ended without a result; its own message stands above."""


def main() -> None:
    """Runs the stages that have not left their result yet."""
    parser = argparse.ArgumentParser(prog="launch.assets.tiny_inpainting", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="photographs, a folder a digit")
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="records and training runs")
    parser.add_argument("--rendered", type=int, default=2400, help="rendered hands beside the photographs")
    parser.add_argument("--malformed", type=int, default=0, help="malformed and normal hands, to learn both poles from")
    parser.add_argument("--keep-vae", action="store_true", help="train on the autoencoder that is in the assets")
    arguments = parser.parse_args()
    work = arguments.workdir
    photos, rendered, encoded = work / "photos", work / "rendered", work / "encoded"
    malformed = (work / "malformed",) if arguments.malformed else ()
    records = f"--config.data.path={data_path(photos, rendered, *malformed)}"

    if not photos.exists():
        split = ("--eval-fraction", HELD_OUT)
        source = ("--input", arguments.photos, "--caption", CAPTION, "--licence", "Apache-2.0")
        # some photographs show no hand: status 2, but the rest is prepared
        stage("precompute", *source, "--output", photos, *split, tolerated=command.USER_ERROR_STATUS)
    if not rendered.exists():
        stage("precompute", "--input", f"rendered:{arguments.rendered}", "--output", rendered)
    for folder in malformed:
        if not folder.exists():
            stage("precompute", f"malformed:{arguments.malformed}", "--splits", "train", "--output", folder)
    if not arguments.keep_vae:
        (ASSET / INDEX).unlink(missing_ok=True)  # no whole model until the UNet fits the new autoencoder
        train_and_export("tiny_vae.py", work, "diffusers", ASSET, records)
    if not encoded.exists():
        recipe = ("--config", "tiny_inpainting.py", records)
        stage("encode", *recipe, "--examples", EXAMPLES, "--output", encoded)
    latents = (f"--config.data.path={encoded}", "--config.data.encoded=True")
    train_and_export("tiny_inpainting.py", work, "diffusers", ASSET, *latents)
    shutil.rmtree(ASSET / "sgm", ignore_errors=True)  # it belongs to the UNet before
    train_and_export("sgm.py:tiny", work, "torch", ASSET / "sgm", *latents, *SGM_OVERRIDES)
    (ASSET / "sgm" / PYTORCH_MODULE.name).unlink()  # the package has it already
    stage("evaluate", "--suite", "inpainting", "--data", photos, "--out", work / "evaluation")


def data_path(photos: Path, *others: Path) -> str:
    """What the recipes' `data.path` is: photographs weigh more than what is rendered."""
    return ",".join([f"{photos}@{PHOTO_WEIGHT}", *map(str, others)])


def train_and_export(recipe: str, work: Path, layout: str, out: Path, *overrides: str) -> None:
    """Trains a recipe in its own folder of `work`, and writes its weights into the assets."""
    run = work / recipe.partition(".")[0]
    stage("train", "--config", recipe, "--workdir", run, *overrides)
    stage("export", "--run", run, "--to", layout, "--out", out, "--dtype", "float16")


def stage(name: str, *arguments: object, tolerated: int = 0) -> None:
    """Runs `python -m launch.NAME`; two CPU devices keep two cores busier than one device with two threads.

    Raises:
      StageError: the command failed.
    """
    words = [f"launch.{name}", *map(str, arguments)]
    print(f"\n$ python -m {shlex.join(words)}", flush=True)
    environment = os.environ | {"JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"}
    environment.setdefault("JAX_NUM_CPU_DEVICES", "2")
    status = subprocess.run([sys.executable, "-m", *words], env=environment, check=False).returncode
    if status not in (0, tolerated):
        raise StageError(f"launch.{name} ended with status {status}; mend what it says and run this command again")


if __name__ == "__main__":
    command.run(main)
