"""Squares of a large picture in which the palm detector sees small hands."""

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.perception.palm import Palms
from handjax.perception.regions import Region, to_picture

SMALLEST_TILE = 128  # pixels; the detector finds hands from about 0.19 of its input's side, here 24 pixels
_GROWTH = 2


@flax.struct.dataclass
class Tiles:
    """Overlapping squares of a picture, and the part of it for whose palms each answers.

    Attributes:
      regions: the squares, pixels.
      cores: x0, y0, x1, y1, pixels; the cores of one size of squares part the picture among them, so that a hand on the
        border of one square is found once, in the square that has it whole.
    """

    regions: Region
    cores: Float[Array, "tiles 4"]


def lay_tiles(height: int, width: int) -> Tiles:
    """Lays squares of `SMALLEST_TILE` over a picture, each half over the next, then of twice the side and so on."""
    levels, side = [], SMALLEST_TILE
    while side < max(height, width):
        levels.append(_level(height, width, side))
        side *= _GROWTH
    levels.append(_level(height, width, max(height, width)))
    centers, sides, cores = (jnp.asarray(np.concatenate(parts), jnp.float32) for parts in zip(*levels, strict=True))
    return Tiles(regions=Region(center=centers, side=sides, rotation=jnp.zeros_like(sides)), cores=cores)


def _level(height: int, width: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, left, right = _centers(width, side)
    y, top, bottom = _centers(height, side)
    column, row = (index.ravel() for index in np.meshgrid(np.arange(len(x)), np.arange(len(y))))
    cores = np.stack([left[column], top[row], right[column], bottom[row]], axis=-1)
    return np.stack([x[column], y[row]], axis=-1), np.full(len(column), side), cores


def _centers(length: int, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres of squares along one edge of the picture, and where each one's core begins and ends."""
    if length <= side:
        centers = np.array([length / 2])
    else:
        centers = np.linspace(side / 2, length - side / 2, 1 + -(-2 * (length - side) // side))
    borders = np.concatenate([[-np.inf], (centers[1:] + centers[:-1]) / 2, [np.inf]])
    return centers, borders[:-1], borders[1:]


def in_picture(palms: Palms, region: Region, core: Float[Array, "4"]) -> Palms:
    """Carries a square's palms into pixels of the picture; those whose middle is not in its core are not `valid`."""
    boxes = to_picture(palms.boxes.reshape(-1, 2, 2), region)
    middle = boxes.mean(axis=1)
    inside = (middle >= core[:2]).all(axis=-1) & (middle < core[2:]).all(axis=-1)
    return Palms(
        boxes=boxes.reshape(-1, 4),
        keypoints=to_picture(palms.keypoints, region),
        scores=palms.scores,
        valid=palms.valid & inside,
    )
