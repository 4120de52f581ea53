"""Detected hands drawn over their picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from handjax.hand.draw import BONE_COLORS
from handjax.hand.topology import KEYPOINT_BONES
from handjax.perception.hands import DetectedHand


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
        points = [(float(x), float(y)) for x, y in hand.keypoints[:, :2]]
        for (start, end), color in zip(KEYPOINT_BONES, BONE_COLORS, strict=True):
            pen.line((points[start], points[end]), fill=tuple(int(255 * c) for c in color), width=2 * width)
        for point in points:
            pen.circle(point, 1.5 * width, fill="blue")
    return np.asarray(canvas)
