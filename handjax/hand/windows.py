"""The pixels near each face as one list of 8×8 windows, worked off in chunks: memory bounded at any triangle size."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

WINDOW = 8
WINDOWS_PER_CHUNK = 2048


@struct.dataclass
class Windows:
    """Pixel boxes of faces, cut to the picture and tiled by windows.

    Args:
        first: column and row of each box's first pixel.
        last: of its last pixel.
        grid: windows across and down; 0 for a face that is not drawn.
    """

    first: Int[Array, "faces 2"]
    last: Int[Array, "faces 2"]
    grid: Int[Array, "faces 2"]

    @property
    def counts(self) -> Int[Array, " faces"]:
        """Windows of each face."""
        return self.grid[:, 0] * self.grid[:, 1]


@struct.dataclass
class Chunk:
    """The pixels of WINDOWS_PER_CHUNK windows.

    Args:
        face: each window's face.
        dx: columns from the face's first pixel.
        dy: rows from the face's first pixel.
        inside: whether a pixel belongs to the face's box.
    """

    face: Int[Array, " n"]
    dx: Int[Array, "n 8"]
    dy: Int[Array, "n 8"]
    inside: Bool[Array, "n 8 8"]


def cover_faces(
    corners: Float[Array, "faces 3 2"],
    drawn: Bool[Array, " faces"],
    margin: float | Float[Array, ""],
    height: int,
    width: int,
) -> Windows:
    """Lays windows over the faces' boxes.

    Args:
        corners: pixel coordinates (x, y) of each face's vertices.
        drawn: faces that get windows.
        margin: pixels by which a box is larger than its face on every side.
        height: picture height in pixels.
        width: picture width in pixels.

    Returns:
        The windows; a pixel belongs to a box if its centre does.
    """
    size = jnp.array([width, height])
    first = jnp.ceil(jnp.clip(corners.min(axis=1) - 0.5 - margin, 0, size)).astype(jnp.int32)
    last = jnp.floor(jnp.clip(corners.max(axis=1) - 0.5 + margin, -1, size - 1)).astype(jnp.int32)
    return Windows(first, last, jnp.maximum((last - first) // WINDOW + 1, 0) * drawn[:, None])


def take_chunk(windows: Windows, begin: Int[Array, ""]) -> Chunk:
    """The windows from number `begin` on in the list of all windows of all faces; past its end nothing is inside."""
    counts = windows.counts
    ends = jnp.cumsum(counts)
    number = begin + jnp.arange(WINDOWS_PER_CHUNK)
    face = jnp.minimum(jnp.searchsorted(ends, number, side="right"), len(ends) - 1).astype(jnp.int32)
    window, columns = number - (ends - counts)[face], jnp.maximum(windows.grid[face, 0], 1)
    dx = ((window % columns) * WINDOW)[:, None] + jnp.arange(WINDOW)
    dy = ((window // columns) * WINDOW)[:, None] + jnp.arange(WINDOW)
    span = windows.last[face] - windows.first[face]
    in_x, in_y = dx <= span[:, :1], (dy <= span[:, 1:]) & (number < ends[-1])[:, None]
    return Chunk(face, dx, dy, in_y[:, :, None] & in_x[:, None, :])


def flat_pixels(windows: Windows, chunk: Chunk, height: int, width: int) -> Int[Array, "n 8 8"]:
    """Index of each pixel in the flattened picture; height × width, out of range, for those not inside."""
    x, y = windows.first[chunk.face, :1] + chunk.dx, windows.first[chunk.face, 1:] + chunk.dy
    return jnp.where(chunk.inside, y[:, :, None] * width + x[:, None, :], height * width)
