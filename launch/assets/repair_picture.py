"""Draws the README's picture of repairs.

python -m launch.assets.repair_picture docs/images/repair.jpg --data RECORDS

Held-out photographs get hands that the tiny model paints without any condition, malformed as generated hands are;
`launch.refine`'s own code then repairs them. A column each: generated, the skeleton that is seen, repaired. Shown are
the first hands that the detector finds, whatever became of them.
"""

import argparse
import itertools
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import UInt8

from data_pipelines.features import open_records
from handjax.conditions.crops import crop_image, hand_box, hand_in_crop
from handjax.conditions.photo import conditions_from_hand
from handjax.errors import InputError
from handjax.images import decode_image, write_image
from handjax.inference.paste import paste_back
from handjax.inference.refine import Refiner, RepairSettings, to_model_range
from launch import command
from launch.refine import add_model_arguments, load_refiner

PROMPT = "a photo of a hand"
SIDE, COLUMNS, EVERY = 192, 6, 16
DIMMED = 0.45

Picture = UInt8[np.ndarray, "height width 3"]


def main() -> None:
    """Writes the picture and prints what became of each hand."""
    parser = argparse.ArgumentParser(prog="launch.assets.repair_picture", description=__doc__)
    parser.add_argument("out", help="the picture to write")
    parser.add_argument("--data", required=True, help="prepared records; their held-out split is used")
    add_model_arguments(parser)
    arguments = parser.parse_args()
    refiner = load_refiner(arguments, RepairSettings())
    columns = []
    for generated in itertools.islice(generated_hands(refiner, arguments.data), COLUMNS):
        repaired = refiner(generated, seed=arguments.seed)
        print(*(f"{hand.status}: {hand.reason}" for hand in repaired.hands), sep="; ")
        columns.append(column(refiner, generated, repaired.image))
    write_image(arguments.out, np.concatenate(columns, axis=1))


def generated_hands(refiner: Refiner, data: str) -> Iterator[Picture]:
    """Photographs with the hand painted anew from a prompt alone, of those in which a hand is found."""
    records = open_records(data, "eval")
    if records is None:
        raise InputError(f"{data}: no held-out records; prepare some with launch.precompute")
    for number in range(0, len(records), EVERY):
        photo = decode_image(records[number].image, records[number].id)
        hands = refiner.detector.detect(photo)
        if not hands:
            continue
        box = hand_box(hands[0].keypoints)
        crop = crop_image(photo, box, refiner.size)
        mask = conditions_from_hand(crop, hand_in_crop(hands[0], box, refiner.size)).inpaint_mask
        ids = refiner.model.tokenizer([PROMPT])
        inputs = to_model_range(crop)[None], mask[None, ..., None]
        (painted,) = refiner.paint(*inputs, None, None, ids, jax.random.key(number))
        generated, _ = paste_back(photo, painted, mask, box)
        if refiner.detector.detect(generated):
            yield generated


def column(refiner: Refiner, generated: Picture, repaired: Picture) -> Picture:
    """One hand: generated, its skeleton, repaired."""
    hand = refiner.detector.detect(generated)[0]
    box = hand_box(hand.keypoints)
    before, after = crop_image(generated, box, SIDE), crop_image(repaired, box, SIDE)
    skeleton = conditions_from_hand(before, hand_in_crop(hand, box, SIDE)).skeleton
    drawn = np.where(skeleton.max(axis=-1, keepdims=True) > 0, skeleton * 255, before * DIMMED)
    return np.concatenate([before, drawn, after]).astype(np.uint8)


if __name__ == "__main__":
    command.run(main)
