"""Detected hands drawn over their picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from handjax.hand.draw import BONE_COLORS
from handjax.hand.topology import KEYPOINT_BONES
from handjax.perception.hands import DetectedHand

_ROOM = 1.5  # side of a thumbnail in longer sides of the hand's box


def draw_hands(
    image: UInt8[np.ndarray, "height width 3"], hands: Sequence[DetectedHand], names: Sequence[str] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws each hand's box, name, side and skeleton over a copy of the picture, lines in proportion to the hand."""
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    for hand, name in zip(hands, names or [""] * len(hands), strict=True):
        x0, y0, x1, y1 = (float(edge) for edge in hand.box)
        width = max(1, round(max(x1 - x0, y1 - y0) / 80))
        pen.rectangle((x0, y0, x1, y1), outline="white", width=width)
        label = f"{name} {hand.side} {hand.score:.2f}".strip()
        pen.text((x0, y0), label, "white", anchor="lb", font_size=10 + 2 * width, stroke_width=1, stroke_fill="black")
        _draw_skeleton(pen, hand.keypoints[:, :2], width)
    return np.asarray(canvas)


def draw_thumbnail(
    image: UInt8[np.ndarray, "height width 3"], hand: DetectedHand, side: int
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Cuts a hand out of its picture, with room around it, and draws its skeleton; `side` is the longer one, pixels."""
    middle, reach = (hand.box[:2] + hand.box[2:]) / 2, _ROOM * (hand.box[2:] - hand.box[:2]).max() / 2
    limits = np.array(image.shape[1::-1])
    low = np.clip(middle - reach, 0, limits - 1)
    high = np.clip(middle + reach, low + 1, limits)
    scale = side / float((high - low).max())
    size = np.maximum(np.round((high - low) * scale), 1).astype(int)
    canvas = Image.fromarray(image).resize(tuple(size.tolist()), box=(*low.tolist(), *high.tolist()))
    _draw_skeleton(ImageDraw.Draw(canvas), (hand.keypoints[:, :2] - low) * scale, 1)
    return np.asarray(canvas)


def _draw_skeleton(pen: ImageDraw.ImageDraw, keypoints: Float[np.ndarray, "21 2"], width: int) -> None:
    points = [(float(x), float(y)) for x, y in keypoints]
    for (start, end), color in zip(KEYPOINT_BONES, BONE_COLORS, strict=True):
        pen.line((points[start], points[end]), fill=tuple(int(255 * c) for c in color), width=2 * width)
    for point in points:
        pen.circle(point, 1.5 * width, fill="blue")
