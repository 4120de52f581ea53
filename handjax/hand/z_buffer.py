"""Which face is nearest at each pixel.

Accelerators test many pixels at once: the 8×8 windows of all faces are worked off in chunks of fixed size, and each
chunk scatters its inverse depths with a maximum. A CPU scatters one number at a time; there the rows of each face are
drawn one after the other, which XLA compiles to a single loop over short vectors.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
from flax import struct
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Bool, Float, Int

from handjax.hand.windows import WINDOWS_PER_CHUNK, Windows, cover_faces, flat_pixels, take_chunk

# Pixel centres this close to an edge belong to both faces: rounding must not open cracks between neighbours.
EDGE_TOLERANCE_PX = 1e-4
# Pixels of a row that a CPU draws at once. XLA makes one kernel of a loop only where a turn touches less than 1 kB.
SPAN = 16


@struct.dataclass
class Triangles:
    """Faces set up for the screen; barycentric weights are affine in pixels counted from their windows' first.

    Args:
        weights: of each corner: its slope along x, along y, and its value at the first pixel.
        inverse_depth: of the corners, 1/m.
        tolerance: how far below 0 a weight may be.
        windows: pixel boxes; those of faces that are not drawn have no windows.
    """

    weights: Float[Array, "faces 3 3"]
    inverse_depth: Float[Array, "faces 3"]
    tolerance: Float[Array, "faces 3"]
    windows: Windows


def nearest_faces(
    corners: Float[Array, "faces 3 2"],
    depths: Float[Array, "faces 3"],
    drawn: Bool[Array, " faces"],
    height: int,
    width: int,
) -> Int[Array, "height width"]:
    """Index of the nearest face at each pixel centre, -1 on the background; it has no gradient.

    Of faces at the same depth the one of the highest index is seen, so that the result does not depend on an order of
    execution.

    Args:
        corners: pixel coordinates (x, y) of each face's vertices.
        depths: z of the vertices, above 0.
        drawn: faces that are drawn if they have an area.
        height: picture height in pixels.
        width: picture width in pixels.

    Source:
        J. Pineda, A Parallel Algorithm for Polygon Rasterization, 1988 (edge functions).
    """
    triangles = set_up(*jax.lax.stop_gradient((corners, depths)), drawn, height, width)
    by_rows = partial(nearest_by_rows, height=height, width=width)
    by_chunks = partial(nearest_by_chunks, height=height, width=width)
    return jax.lax.platform_dependent(triangles, cpu=sequential_vmap(by_rows), default=by_chunks)


def set_up(
    corners: Float[Array, "faces 3 2"],
    depths: Float[Array, "faces 3"],
    drawn: Bool[Array, " faces"],
    height: int,
    width: int,
) -> Triangles:
    """Brings the arguments of `nearest_faces` into the form that tests of pixels need."""
    windows = cover_faces(corners, drawn, EDGE_TOLERANCE_PX, height, width)
    # Relative to the first pixel coordinates are small, so that float32 keeps 1e-4 px anywhere in the picture.
    corner = corners - (windows.first[:, None, :] + 0.5)
    start, edge = jnp.roll(corner, -1, axis=1), jnp.roll(corner, -2, axis=1) - jnp.roll(corner, -1, axis=1)
    area = edge[:, 2, 0] * edge[:, 0, 1] - edge[:, 2, 1] * edge[:, 0, 0]
    drawn &= jnp.abs(area) > 1e-9
    safe_area = jnp.where(drawn, area, 1.0)[:, None]
    offset = edge[..., 1] * start[..., 0] - edge[..., 0] * start[..., 1]
    return Triangles(
        weights=jnp.stack([-edge[..., 1], edge[..., 0], offset], axis=-1) / safe_area[..., None],
        inverse_depth=1.0 / depths,
        tolerance=EDGE_TOLERANCE_PX * jnp.linalg.norm(edge, axis=-1) / jnp.abs(safe_area),
        windows=Windows(windows.first, windows.last, windows.grid * drawn[:, None]),
    )


def nearest_by_rows(triangles: Triangles, height: int, width: int) -> Int[Array, "height width"]:
    """`nearest_faces`, one row of a face after the other."""
    windows = triangles.windows
    last = jnp.where((windows.counts > 0)[:, None], windows.last - windows.first, -1)

    def draw(carry):
        face, dx, dy, buffer = carry
        take = partial(jax.lax.dynamic_index_in_dim, index=face, keepdims=False, allow_negative_indices=False)
        first, (last_x, last_y) = take(windows.first), take(last)
        x = dx + jnp.arange(SPAN, dtype=jnp.int32)
        corners = take(triangles.weights), take(triangles.inverse_depth), take(triangles.tolerance)
        covered, inverse_depth = _cover(*corners, x, dy)
        at = (first[1] + dy) * width + first[0] + dx
        seen = jax.lax.dynamic_slice(buffer, (at,), (SPAN,), allow_negative_indices=False)
        drawn = jax.lax.complex(inverse_depth, jnp.full_like(inverse_depth, face))
        nearer = covered & (x <= last_x) & (dy <= last_y) & (inverse_depth >= seen.real)
        seen = jnp.where(nearer, drawn, seen)
        buffer = jax.lax.dynamic_update_slice(buffer, seen, (at,), allow_negative_indices=False)
        row_ends = dx + SPAN > last_x
        face_ends = row_ends & (dy + 1 > last_y)
        return face + face_ends, jnp.where(row_ends, 0, dx + SPAN), jnp.where(face_ends, 0, dy + row_ends), buffer

    # A pixel's inverse depth and face are the parts of one complex number: XLA updates one array in place, not two
    # that depend on each other. Float32 holds indices up to 2**24. The last spans of rows reach beyond the picture.
    buffer = jnp.full(height * width + SPAN, -1j, jnp.complex64)
    start = jnp.int32(0), jnp.int32(0), jnp.int32(0), buffer
    *_, buffer = jax.lax.while_loop(lambda carry: carry[0] < len(last), draw, start)
    return buffer[: height * width].imag.astype(jnp.int32).reshape(height, width)


def nearest_by_chunks(triangles: Triangles, height: int, width: int) -> Int[Array, "height width"]:
    """`nearest_faces`, 2048 windows at once."""
    windows = triangles.windows
    total = windows.counts.sum()
    outside = height * width

    def draw(carry):
        begin, nearest, face_index = carry
        chunk = take_chunk(windows, begin)
        corners = triangles.weights[chunk.face], triangles.inverse_depth[chunk.face], triangles.tolerance[chunk.face]
        corners = (jnp.moveaxis(a, 0, -1)[..., None, None] for a in corners)
        covered, inverse_depth = _cover(*corners, chunk.dx[:, None, :], chunk.dy[:, :, None])
        # The bits of positive floats sort as integers, and integer scatters are exact and fast everywhere.
        key = jnp.where(covered & chunk.inside, jax.lax.bitcast_convert_type(inverse_depth, jnp.int32), 0)
        pixel = jnp.where(key > 0, flat_pixels(windows, chunk, height, width), outside)  # out of range: dropped
        updated = nearest.at[pixel].max(key, mode="drop")
        won = jnp.where(updated.at[pixel].get(mode="fill", fill_value=-1) == key, pixel, outside)
        face_index = jnp.where(updated > nearest, -1, face_index)
        face_index = face_index.at[won].max(jnp.broadcast_to(chunk.face[:, None, None], won.shape), mode="drop")
        return begin + WINDOWS_PER_CHUNK, updated, face_index

    start = jnp.int32(0), jnp.zeros(outside, jnp.int32), jnp.full(outside, -1, jnp.int32)
    _, _, face_index = jax.lax.while_loop(lambda carry: carry[0] < total, draw, start)
    return face_index.reshape(height, width)


def _cover(
    weights: Float[Array, "3 3 ..."],
    inverse_depth: Float[Array, "3 ..."],
    tolerance: Float[Array, "3 ..."],
    x: Int[Array, "*#pixels"],
    y: Int[Array, "*#pixels"],
) -> tuple[Bool[Array, "*pixels"], Float[Array, "*pixels"]]:
    """Whether faces cover pixels counted from their first, and their inverse depth there."""
    values = [along_x * x + along_y * y + offset for along_x, along_y, offset in weights]
    covered = [value >= -least for value, least in zip(values, tolerance, strict=True)]
    mixed = sum(value * corner for value, corner in zip(values, inverse_depth, strict=True))
    bounded = jnp.clip(mixed, reduce(jnp.minimum, inverse_depth), reduce(jnp.maximum, inverse_depth))
    return covered[0] & covered[1] & covered[2], bounded
