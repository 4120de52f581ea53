"""Makes the embedded tiny model from photographs, in one command that goes on where it was stopped:

    python -m launch.assets.tiny_inpainting --photos DIR --workdir DIR

`DIR` holds a folder of photographs for each digit (Sign Language Digits Dataset, Apache-2.0). The stages are the
commands a user has: precompute, train (autoencoder, inpainting, SGM), export, evaluate. With --malformed N the model
also learns from rendered hands most of which are malformed, and from captions that say in what way. With --go-on it is
the carried model that learns, for a while. The carried weights come from a run without both, then
`--malformed 1600 --go-on`.
"""

import argparse
import shutil
from pathlib import Path

import handjax
from handjax.adapters.files import PYTORCH_MODULE
from handjax.diffusion.model import INDEX
from handjax.files import atomic_write
from launch import command, stages

ASSET = Path(handjax.__file__).parent / "assets" / "tiny_inpainting"
CAPTION = "a photo of {hand}, sign for {folder}"
HELD_OUT = "0.17"
PHOTO_WEIGHT, MALFORMED_WEIGHT = 3, 2
"""How often a record is seen, beside one of a rendered hand."""
EXAMPLES = 24_000
"""Encoded once: about seven windows and masks for each record."""
SGM_OVERRIDES = ("--config.steps=3000", "--config.batch_size=16")
"""The variant itself is as short as the demo."""
UNET_GO_ON = ("--config.steps=1000", "--config.batch_size=16", "--config.optim.lr=3e-4")
SGM_GO_ON = ("--config.steps=600", "--config.batch_size=16", "--config.optim.lr=3e-4")
GO_ON_EXAMPLES = 16_000
"""The UNet sees each of them once."""


def main() -> None:
    """Runs the stages that have not left their result yet."""
    parser = argparse.ArgumentParser(prog="launch.assets.tiny_inpainting", description=__doc__)
    parser.add_argument("--photos", type=Path, required=True, metavar="DIR", help="photographs, a folder a digit")
    parser.add_argument("--workdir", type=Path, required=True, metavar="DIR", help="records and training runs")
    parser.add_argument("--rendered", type=int, default=2400, help="rendered hands beside the photographs")
    parser.add_argument("--malformed", type=int, default=0, help="malformed and normal hands, to learn both poles from")
    carried = parser.add_mutually_exclusive_group()
    carried.add_argument("--keep-vae", action="store_true", help="train on the autoencoder that is in the assets")
    carried.add_argument(
        "--go-on", action="store_true", help="keep it, and let the UNet and SGM of the assets learn on"
    )
    arguments = parser.parse_args()
    work = arguments.workdir
    records = f"--config.data.path={prepare(work, arguments.photos, arguments.rendered, arguments.malformed)}"
    if not (arguments.keep_vae or arguments.go_on):
        (ASSET / INDEX).unlink(missing_ok=True)  # no whole model until the UNet fits the new autoencoder
        stages.train_and_export("tiny_vae.py", work, "diffusers", ASSET, records)
    encoded = work / "encoded"
    if not encoded.exists():
        recipe = ("--config", "tiny_inpainting.py", records)
        examples = GO_ON_EXAMPLES if arguments.go_on else EXAMPLES
        stages.run("encode", *recipe, "--examples", examples, "--output", encoded)
    unet, sgm = overrides(work, arguments.go_on)
    latents = (f"--config.data.path={encoded}", "--config.data.encoded=True")
    stages.train_and_export("tiny_inpainting.py", work, "diffusers", ASSET, *latents, *unet)
    shutil.rmtree(ASSET / "sgm", ignore_errors=True)  # it belongs to the UNet before
    stages.train_and_export("sgm.py:tiny", work, "torch", ASSET / "sgm", *latents, *sgm)
    (ASSET / "sgm" / PYTORCH_MODULE.name).unlink()  # the package has it already
    stages.run("evaluate", "--suite", "inpainting", "--data", work / "photos", "--out", work / "evaluation")


def prepare(work: Path, digits: Path, rendered: int, malformed: int) -> str:
    """Prepares the records that are not there yet, and returns what the recipes' `data.path` is."""
    photos, rendered_hands, malformed_hands = work / "photos", work / "rendered", work / "malformed"
    if not photos.exists():
        split = ("--eval-fraction", HELD_OUT)
        source = ("--input", digits, "--caption", CAPTION, "--licence", "Apache-2.0")
        # some photographs show no hand: status 2, but the rest is prepared
        stages.run("precompute", *source, "--output", photos, *split, tolerated=command.USER_ERROR_STATUS)
    if not rendered_hands.exists():
        stages.run("precompute", "--input", f"rendered:{rendered}", "--output", rendered_hands)
    path = f"{photos}@{PHOTO_WEIGHT},{rendered_hands}"
    if not malformed:
        return path
    if not malformed_hands.exists():
        stages.run("precompute", f"malformed:{malformed}", "--splits", "train", "--output", malformed_hands)
    return f"{path},{malformed_hands}@{MALFORMED_WEIGHT}"


def overrides(work: Path, go_on: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What differs from the recipes of UNet and SGM; both go on from a copy, as exports replace the assets."""
    if not go_on:
        return (), SGM_OVERRIDES
    start = work / "start"
    if not start.exists():
        with atomic_write(start) as temporary:
            shutil.copytree(ASSET, temporary)
    return (*UNET_GO_ON, f"--config.start={start}"), (*SGM_GO_ON, f"--config.start={start / 'sgm'}")


if __name__ == "__main__":
    command.run(main)
