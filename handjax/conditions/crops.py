"""Squares around hands, cut out of pictures.

A box is x0, y0, x1, y1 in pixels. Crops are cut at whole pixels, so that they can go back without resampling.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int, Num, UInt8

from handjax.images import resize
from handjax.perception.hands import DetectedHand

MODEL_CROP_SCALE = 1.6
RECORD_CROP_SCALE = 2.0


def tight_box(keypoints: Num[np.ndarray, "points _"]) -> Num[np.ndarray, "4"]:
    """Returns the smallest box around the keypoints' x and y."""
    places = keypoints[:, :2]
    return np.concatenate([places.min(axis=0), places.max(axis=0)])


def box_side(keypoints: Num[np.ndarray, "points _"]) -> float:
    """Returns the longer side of the tight box, to which every "% of the box" refers (DECISIONS B4)."""
    x0, y0, x1, y1 = tight_box(keypoints)
    return float(max(x1 - x0, y1 - y0))


def hand_box(keypoints: Float[np.ndarray, "points _"], scale: float = MODEL_CROP_SCALE) -> Int[np.ndarray, "4"]:
    """Gives the square around a hand.

    Args:
      keypoints: pixels; those of the 21 whose place is known.
      scale: side of the square in longer sides of the tight box.

    Returns:
      Whole pixels; the square shares its centre with the tight box and may leave the picture.

    Source: DECISIONS B4.
    """
    x0, y0, x1, y1 = tight_box(keypoints)
    side = max(int(np.ceil(scale * box_side(keypoints))), 1)
    corner = np.round([(x0 + x1 - side) / 2, (y0 + y1 - side) / 2]).astype(int)
    return np.concatenate([corner, corner + side])


def crop_image(
    image: UInt8[np.ndarray, "height width channels"], box: Int[np.ndarray, "4"], size: int | None = None
) -> UInt8[np.ndarray, "_ _ channels"]:
    """Cuts a box out of a picture; where it leaves the picture the edge is repeated.

    Args:
      image: the picture.
      box: whole pixels.
      size: side of the square the crop is resized to; None keeps the box's own pixels.

    Source: DECISIONS B6.
    """
    x0, y0, x1, y1 = (int(edge) for edge in box)
    rows = np.clip(np.arange(y0, y1), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(x0, x1), 0, image.shape[1] - 1)
    crop = image[rows[:, None], columns]
    return crop if size is None else resize(crop, (size, size))


def hand_in_crop(hand: DetectedHand, box: Int[np.ndarray, "4"], size: int | None = None) -> DetectedHand:
    """Moves a hand to the pixels of a square crop.

    Args:
      hand: in pixels of the picture.
      box: the crop's square in the picture.
      size: side of the resized crop; None where it keeps the box's own pixels.
    """
    scale = 1.0 if size is None else size / (box[2] - box[0])
    corner = np.array([box[0], box[1], 0.0])
    keypoints = ((hand.keypoints - corner) * scale).astype(np.float32)
    return dataclasses.replace(hand, keypoints=keypoints, box=tight_box(keypoints))
