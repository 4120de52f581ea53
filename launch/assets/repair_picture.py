"""Draws the README's picture of repairs.

python -m launch.assets.repair_picture docs/images/repair.jpg

The carried photographs get hands that the tiny model paints from the prompt alone, which come out as malformed as
generated hands do; `launch.refine`'s own code then repairs them. A column each: generated, the skeleton that is seen,
repaired. Of several drawn hands the first are shown that the detector finds.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8

import handjax
from handjax.conditions.crops import RECORD_CROP_SCALE, crop_image, hand_box, hand_in_crop
from handjax.conditions.photo import conditions_from_hand
from handjax.images import read_image, write_image
from handjax.inference.paste import paste_back
from handjax.inference.refine import Refiner, RepairSettings, to_model_range
from launch import command
from launch.refine import add_model_arguments, load_refiner

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"
PROMPT = "a photo of an open right hand, all fingers extended"
SIDE, EACH, DRAWS = 192, 2, 8
DIMMED = 0.45

Picture = UInt8[np.ndarray, "height width 3"]


def main() -> None:
    """Writes the picture and prints what became of each hand."""
    parser = argparse.ArgumentParser(prog="launch.assets.repair_picture", description=__doc__)
    parser.add_argument("out", type=Path, help="the picture to write")
    add_model_arguments(parser)
    arguments = parser.parse_args()
    refiner = load_refiner(arguments, RepairSettings())
    columns = []
    for path in sorted(PHOTOS.glob("*.jpg")):
        for number, generated in enumerate(generated_hands(refiner, read_image(path))):
            repaired = refiner(generated, seed=arguments.seed)
            print(path.name, number, *(f"{hand.status}: {hand.reason}" for hand in repaired.hands))
            columns.append(column(refiner, generated, repaired.image))
    write_image(arguments.out, np.concatenate(columns, axis=1))


def generated_hands(refiner: Refiner, photo: Picture) -> Iterator[Picture]:
    """The photograph with its hand painted anew from a prompt alone; `EACH` draws in which a hand is found."""
    hand = refiner.detector.detect(photo)[0]
    box = hand_box(hand.keypoints)
    crop = crop_image(photo, box, refiner.size)
    mask = conditions_from_hand(crop, hand_in_crop(hand, box, refiner.size)).inpaint_mask
    pictures = (np.repeat(p.reshape(1, *crop.shape[:2], -1), DRAWS, axis=0) for p in (to_model_range(crop), mask))
    ids = refiner.model.tokenizer([PROMPT] * DRAWS)
    painted = refiner.paint(*pictures, None, None, ids, jax.random.key(0))
    pasted = (paste_back(photo, one, mask, box)[0] for one in painted)
    found = (picture for picture in pasted if refiner.detector.detect(picture))
    yield from (picture for picture, _ in zip(found, range(EACH), strict=False))


def column(refiner: Refiner, generated: Picture, repaired: Picture) -> Picture:
    """One hand: generated, its skeleton, repaired."""
    hand = refiner.detector.detect(generated)[0]
    box = hand_box(hand.keypoints, RECORD_CROP_SCALE)
    before, after = crop_image(generated, box, SIDE), crop_image(repaired, box, SIDE)
    skeleton = conditions_from_hand(before, hand_in_crop(hand, box, SIDE)).skeleton
    drawn = np.where(skeleton.max(axis=-1, keepdims=True) > 0, skeleton * 255, before * DIMMED)
    return np.concatenate([before, drawn, after]).astype(np.uint8)


if __name__ == "__main__":
    command.run(main)
