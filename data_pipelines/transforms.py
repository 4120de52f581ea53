"""From a record to a training example: one window into its square, through which every field is seen alike.

A window is smaller than the record's square and never leaves it, so no pixel has to be made up.
"""

import dataclasses
import io

import numpy as np
from jaxtyping import Float
from PIL import Image

from handjax.conditions.crops import MODEL_CROP_SCALE, RECORD_CROP_SCALE


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far training windows differ from the one used for repair; the defaults are that window itself.

    Attributes:
      crop_scale: smallest and largest side of the window in longer sides of the hand's tight box.
      max_shift: largest move of its centre along x and y in the same unit.
      max_rotation: degrees.
      flip_prob: how often the window is mirrored, which turns a left hand into a right one.
    """

    crop_scale: tuple[float, float] = (MODEL_CROP_SCALE, MODEL_CROP_SCALE)
    max_shift: float = 0.0
    max_rotation: float = 0.0
    flip_prob: float = 0.0


@dataclasses.dataclass(frozen=True)
class Window:
    """A square, perhaps turned or mirrored, in the square of a record.

    Attributes:
      size: of the window in pixels.
      record_side: side of the record's picture in pixels.
      matrix: takes (x, y, 1) in the window to the record's picture, pixels.
    """

    size: int
    record_side: int
    matrix: Float[np.ndarray, "2 3"]

    @property
    def mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)

    @property
    def turn(self) -> Float[np.ndarray, "3 3"]:
        """Takes directions of a camera that looks at the window's middle to the window's, which is turned about its
        z axis and then perhaps mirrored."""
        linear = np.linalg.inv(self.matrix[:, :2])
        turn = np.eye(3)
        turn[:2, :2] = linear / np.sqrt(abs(np.linalg.det(linear)))
        return turn

    @property
    def hand_side(self) -> float:
        """Longer side of the hand's tight box in pixels of the window."""
        return self.record_side / RECORD_CROP_SCALE / self._pixels_per_pixel(self.record_side)

    def points(self, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Takes pixels of the record's picture to the window."""
        return np.linalg.solve(self.matrix[:, :2], (points - self.matrix[:, 2]).T).T.astype(np.float32)

    def photo(self, encoded: bytes) -> Float[np.ndarray, "size size 3"]:
        """Looks at the record's picture, antialiased; RGB in [-1, 1]."""
        file = Image.open(io.BytesIO(encoded))
        needed = int(self.record_side / self._pixels_per_pixel(self.record_side))
        file.draft("RGB", (needed, needed))  # a large JPEG is decoded at a half, a quarter or an eighth
        image = file.convert("RGB")
        drafted = round(self.record_side / image.width)
        factor = max(int(self._pixels_per_pixel(image.width)), 1)
        image = image.reduce(factor) if factor > 1 else image
        # twice the resolution, then halved: less than 2 pixels fall into one and none is skipped; both reductions
        # round the width up, so the scale is theirs and not the ratio of the widths
        seen = self._look(image, 2 * self.size, Image.Resampling.BILINEAR, 1 / (drafted * factor)).reduce(2)
        return np.asarray(seen, np.float32) / 127.5 - 1.0

    def map(self, encoded: bytes) -> Float[np.ndarray, "size size"]:
        """Looks at a grey picture of the hand's mesh, in [0, 1], each pixel as the rasteriser samples it."""
        image = Image.open(io.BytesIO(encoded)).convert("L")
        return (
            np.asarray(
                self._look(image, self.size, Image.Resampling.NEAREST, image.width / self.record_side), np.float32
            )
            / 255.0
        )

    def _pixels_per_pixel(self, side: int) -> float:
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2])))) * side / self.record_side

    def _look(self, image: Image.Image, size: int, filter_: Image.Resampling, scale: float) -> Image.Image:
        """Samples the window from a picture that has `scale` pixels for each of the record's."""
        to_window = np.array([self.size / size, self.size / size, 1.0])
        matrix = self.matrix * to_window * scale
        return image.transform((size, size), Image.Transform.AFFINE, matrix.ravel().tolist(), filter_)


def draw_window(record_side: int, size: int, augmentation: Augmentation, rng: np.random.Generator) -> Window:
    """Draws a window at random.

    Args:
      record_side: side of the record's picture in pixels; the hand's tight box is half of it.
      size: of the window in pixels.
      augmentation: the range to draw from.
      rng: source of randomness.
    """
    box_side = record_side / RECORD_CROP_SCALE
    angle = np.radians(rng.uniform(-1, 1) * augmentation.max_rotation)
    reach = abs(np.cos(angle)) + abs(np.sin(angle))
    side = min(rng.uniform(*augmentation.crop_scale) * box_side, record_side / reach)
    shift = min(augmentation.max_shift * box_side, (record_side - side * reach) / 2)
    center = record_side / 2 + rng.uniform(-1, 1, 2) * shift
    scale = side / size
    mirror = -1.0 if rng.random() < augmentation.flip_prob else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale * [mirror, 1.0]
    return Window(size, record_side, np.column_stack([turn, center - turn @ [size / 2, size / 2]]))
