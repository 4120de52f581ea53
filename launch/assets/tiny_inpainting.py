"""Makes the embedded tiny model from photographs, in one command that goes on where it was stopped:

    python -m launch.assets.tiny_inpainting --photos DIR --workdir DIR

`DIR` holds a folder of photographs for each digit (Sign Language Digits Dataset, Apache-2.0). The stages are the
commands a user has: precompute, train (autoencoder, inpainting, SGM), export, evaluate.
"""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

import handjax
from handjax.adapters.files import PYTORCH_MODULE
from handjax.errors import UserError
from launch import command

ASSET = Path(handjax.__file__).parent / "assets" / "tiny_inpainting"
CAPTION = "a photo of {hand}, sign for {folder}"
HELD_OUT = "0.17"


class StageError(UserError):
    """A stage that ended without a result; its own message stands above."""


def main() -> None:
    """Runs the stages that have not left their result yet."""
    parser = argparse.ArgumentParser(prog="launch.assets.tiny_inpainting", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="photographs, a folder a digit")
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="records and training runs")
    parser.add_argument("--rendered", type=int, default=2400, help="rendered hands beside the photographs")
    arguments = parser.parse_args()
    work = arguments.workdir
    photos, rendered = work / "photos", work / "rendered"
    data = f"--config.data.path={photos}@2,{rendered}"

    if not photos.exists():
        split = ("--eval-fraction", HELD_OUT)
        stage("precompute", "--input", arguments.photos, "--output", photos, "--caption", CAPTION, *split)
    if not rendered.exists():
        stage("precompute", "--input", f"rendered:{arguments.rendered}", "--output", rendered)
    for recipe, layout, out in (
        ("tiny_vae.py", "diffusers", ASSET),
        ("tiny_inpainting.py", "diffusers", ASSET),
        ("sgm.py:tiny", "torch", ASSET / "sgm"),
    ):
        run = work / recipe.partition(".")[0]
        steps = ("--config.steps=4000",) if recipe == "sgm.py:tiny" else ()
        stage("train", "--config", recipe, "--workdir", run, data, *steps)
        stage("export", "--run", run, "--to", layout, "--out", out, "--dtype", "float16")
    (ASSET / "sgm" / PYTORCH_MODULE.name).unlink()  # the package has it already
    stage("evaluate", "--suite", "inpainting", "--data", photos, "--out", work / "evaluation")


def stage(name: str, *arguments: object) -> None:
    """Runs `python -m launch.NAME`; two CPU devices keep two cores busier than one device with two threads.

    Raises:
      StageError: the command failed.
    """
    words = [f"launch.{name}", *map(str, arguments)]
    print(f"\n$ python -m {shlex.join(words)}", flush=True)
    environment = os.environ | {"JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"}
    environment.setdefault("JAX_NUM_CPU_DEVICES", "2")
    status = subprocess.run([sys.executable, "-m", *words], env=environment, check=False).returncode
    if status:
        raise StageError(f"launch.{name} ended with status {status}; mend what it says and run this command again")


if __name__ == "__main__":
    command.run(main)
