"""Draws the README's picture: photographs with their conditions, and rendered hands.

python -m launch.assets.hands_picture docs/images/hands.jpg
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

import handjax
from data_pipelines.rendered import rendered_records
from handjax.conditions.crops import crop_image, hand_box, hand_in_crop
from handjax.conditions.photo import conditions_from_hand
from handjax.images import decode_image, read_image, write_image
from handjax.perception import HandDetector
from launch import command

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"
SIDE, ROWS, RENDERED = 192, 5, range(3, 18)
SKIN = np.array([235, 205, 185])
DIMMED = 0.45

Picture = UInt8[np.ndarray, "height width 3"]


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(prog="launch.assets.hands_picture", description=__doc__)
    parser.add_argument("out", type=Path, help="the picture to write")
    arguments = parser.parse_args()
    detector = HandDetector.load(max_hands=1)
    photos = [photo_column(detector, read_image(path)) for path in sorted(PHOTOS.glob("*.jpg"))]
    gap = np.full((ROWS * SIDE, SIDE // 16, 3), 255, np.uint8)
    write_image(arguments.out, np.concatenate([*photos, gap, *rendered_columns(RENDERED)], axis=1))


def photo_column(detector: HandDetector, image: Picture) -> Picture:
    """One photograph: itself, skeleton, mask, depth, mesh."""
    hand = detector.detect(image)[0]
    box = hand_box(hand.keypoints)
    crop = crop_image(image, box, SIDE)
    conditions = conditions_from_hand(crop, hand_in_crop(hand, box, SIDE))
    dimmed = crop * DIMMED
    drawn = conditions.skeleton.max(axis=-1, keepdims=True) > 0
    skeleton = np.where(drawn, conditions.skeleton * 255, dimmed)
    hand_only = conditions.mask[..., None] > 0
    mask = np.where(hand_only, crop, dimmed)
    mesh = np.where(hand_only, conditions.mesh * SKIN, dimmed)
    depth = np.repeat(conditions.depth[..., None] * 255, 3, axis=-1)
    return np.concatenate([crop, skeleton, mask, depth, mesh]).astype(np.uint8)


def rendered_columns(numbers: Sequence[int]) -> list[Picture]:
    """Rendered hands, `ROWS` a column."""
    tiles = []
    for record in rendered_records(numbers, seed=1):
        picture, keypoints = decode_image(record.image, record.id), record.keypoints_2d
        assert keypoints is not None  # rendered records have every field
        tiles.append(crop_image(picture, hand_box(keypoints), SIDE))
    return [np.concatenate(tiles[first : first + ROWS]) for first in range(0, len(tiles), ROWS)]


if __name__ == "__main__":
    command.run(main)
