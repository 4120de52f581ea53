"""Draws the picture of the anatomy guide.

python -m launch.assets.guide_picture docs/images/anatomy_guide.jpg

The embedded model's hands from the same noise, left without guidance and right with the anatomy guide. The frame is
what keypoints and outline say of the hand that MediaPipe's own runtime finds: green is plausible, red implausible, grey
no hand or unknown. The learned head is not asked. Seeds in order, none left out; the colours are counted.
"""

import argparse
import dataclasses
from collections import Counter

import numpy as np
from jaxtyping import UInt8

from handjax.diffusion.model import load_stable_diffusion
from handjax.diffusion.samplers import DPMSolver
from handjax.guidance.anatomy import AnatomyGuide
from handjax.images import write_image
from handjax.inference.generate import Generator, Wish
from handjax.inference.score import score_hand
from handjax.perception import HandDetector
from handjax.perception.detector import TASK_FILE
from handjax.perception.flax_backend import load_weights
from handjax.perception.margin import add_margin
from launch import command

PROMPTS = ("a photo of a left hand", "a photo of a right hand")
FIRST_SEED, PAIRS, ACROSS, SIDE, FRAME = 5000, 24, 6, 96, 4
COLORS = {"plausible": (40, 160, 70), "implausible": (205, 45, 40)}
GREY = (150, 150, 150)

Tile = UInt8[np.ndarray, "height width 3"]


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(
        prog="launch.assets.guide_picture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=command.output_file, help="the picture to write")
    arguments = parser.parse_args()
    model = load_stable_diffusion("tiny_inpainting")
    plain = Generator(model, DPMSolver(model.schedule), (SIDE, SIDE), 4.0, batch=8)
    guided = dataclasses.replace(plain, steering=AnatomyGuide(load_weights(TASK_FILE)))
    wishes = [Wish(PROMPTS[number % len(PROMPTS)], seed=FIRST_SEED + number) for number in range(PAIRS)]
    detector = HandDetector.load("mediapipe", max_hands=1)
    columns = []
    for name, generator in (("without", plain), ("with", guided)):
        made = dict(generator(wishes))
        verdicts = [judge(made[wish], detector) for wish in wishes]
        print(f"{name} the guide: {dict(Counter(verdicts))}")
        columns.append([framed(made[wish], verdict) for wish, verdict in zip(wishes, verdicts, strict=True)])
    tiles = [np.concatenate(pair, axis=1) for pair in zip(*columns, strict=True)]
    rows = [np.concatenate(tiles[start : start + ACROSS], axis=1) for start in range(0, PAIRS, ACROSS)]
    write_image(arguments.out, np.concatenate(rows))


def judge(image: Tile, detector: HandDetector) -> str:
    """The verdict on the picture's hand, which is judged with a margin; "no hand" where none is found."""
    wide = add_margin(image)
    hands = detector.detect(wide)
    return score_hand(wide, hands[0]).anatomy.verdict if hands else "no hand"


def framed(image: Tile, verdict: str) -> Tile:
    """The picture in the colour of its verdict."""
    tile = np.empty((SIDE + 2 * FRAME, SIDE + 2 * FRAME, 3), np.uint8)
    tile[:] = COLORS.get(verdict, GREY)
    tile[FRAME:-FRAME, FRAME:-FRAME] = image
    return tile


if __name__ == "__main__":
    command.run(main)
