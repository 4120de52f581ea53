"""Draws the picture of tracking: frames of a clip of moving hands, made from a carried photograph.

python -m launch.assets.tracking_picture docs/images/tracking.jpg
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

import handjax
from handjax.images import write_image
from handjax.perception.overlay import draw_hands
from handjax.perception.tracking import HandTracker
from launch import command

PHOTO = Path(handjax.__file__).parent / "assets" / "photos" / "nocurl.jpg"
HAND = (295.0, 333.0)  # middle of the photograph's hand, pixels
HALF, WALL = (360, 480), (205, 195, 185)
FRAMES, SHOWN, COLUMNS, ZOOM, SCALE = 24, 3, 4, 0.55, 0.55

Frame = UInt8[np.ndarray, "height width 3"]


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(prog="launch.assets.tracking_picture", description=__doc__)
    parser.add_argument("out", type=Path, help="the picture to write")
    arguments = parser.parse_args()
    with Image.open(PHOTO) as photo:
        frames = [clip_frame(photo.convert("RGB"), number / FRAMES) for number in range(FRAMES)]
    cells = []
    for number, (frame, hands) in enumerate(HandTracker.load().track(frames)):
        if number % SHOWN == 0:
            cells.append(_cell(draw_hands(frame, list(hands.values()), [f"#{identity}" for identity in hands]), number))
    rows = [np.concatenate(cells[first : first + COLUMNS], axis=1) for first in range(0, len(cells), COLUMNS)]
    write_image(arguments.out, np.concatenate(rows))


def clip_frame(photo: Image.Image, time: float) -> Frame:
    """A hand and its mirror image that circle and turn; the right one leaves by the lower edge and comes back."""
    turn = 2 * np.pi * time
    left = _moved(photo, 180 + 30 * np.sin(turn), 240 + 40 * np.cos(turn), 20 * np.sin(turn), ZOOM)
    right = _moved(photo, 180, 240 + 560 * max(0.0, np.sin(turn - np.pi / 4)), 20 * np.cos(turn), ZOOM)
    return np.concatenate([left, right[:, ::-1]], axis=1)


def _moved(photo: Image.Image, x: float, y: float, degrees: float, scale: float) -> Frame:
    """The photograph turned and scaled, so that its hand is at (x, y)."""
    angle = np.radians(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    inverse = np.column_stack([matrix, HAND - matrix @ (x, y)]).ravel().tolist()
    return np.asarray(photo.transform(HALF, Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC, fillcolor=WALL))


def _cell(frame: Frame, number: int) -> Frame:
    small = Image.fromarray(frame)
    small = small.resize([round(side * SCALE) for side in small.size], Image.Resampling.LANCZOS)
    ImageDraw.Draw(small).text((6, 6), f"frame {number}", "white", font_size=14, stroke_width=1, stroke_fill="black")
    return np.asarray(small)


if __name__ == "__main__":
    command.run(main)
