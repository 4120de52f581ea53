"""Z-buffer rasteriser in plain JAX: no OpenGL, any triangle size, memory bounded by the picture.

Every face is covered by 8×8 pixel windows of its bounding box. The windows of all faces form one list that is worked
off in chunks of fixed size: each chunk tests its pixels and scatters the inverse depth with a maximum.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from handjax.hand.camera import PinholeCamera, project
from handjax.hand.windows import WINDOWS_PER_CHUNK, Chunk, Windows, cover_faces, flat_pixels, take_chunk

NEAR = 1e-3
# Pixel centres this close to an edge belong to both faces: rounding must not open cracks between neighbours.
EDGE_TOLERANCE_PX = 1e-4


@struct.dataclass
class Raster:
    """What a camera sees of a mesh; the fields are 0 on the background except where stated.

    Args:
        depth: z at the pixel centre, metres.
        mask: 1 where a face covers the pixel centre.
        normals: unit normals in camera space, interpolated from the vertices, on the outside by face winding.
        face_index: index of the nearest face, -1 on the background.
        barycentric: perspective-correct weights of the face's three vertices.
    """

    depth: Float[Array, "*batch height width"]
    mask: Float[Array, "*batch height width"]
    normals: Float[Array, "*batch height width 3"]
    face_index: Int[Array, "*batch height width"]
    barycentric: Float[Array, "*batch height width 3"]


class JoinedMeshes(NamedTuple):
    """Several meshes as one, so that they hide each other in one z-buffer, and the mesh that each face is of."""

    vertices: Float[Array, "vertices 3"]
    faces: Int[Array, "faces 3"]
    mesh_of_face: Int[Array, " faces"]


@struct.dataclass
class _Triangles:
    """Faces set up for the screen; barycentric weights are affine in pixels counted from their windows' first."""

    weights: Float[Array, "faces 3 3"]
    inverse_depth: Float[Array, "faces 3"]
    tolerance: Float[Array, "faces 3"]
    windows: Windows


@partial(jax.jit, static_argnames=("height", "width"))
def rasterize(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    camera: PinholeCamera,
    height: int,
    width: int,
) -> Raster:
    """Renders a mesh; batch it with `jax.vmap`, or with `jax.lax.map`, which is twice as fast on CPU.

    Both sides of a face are visible. A face with a vertex nearer than NEAR or behind the camera is left out. For the
    given coverage, depth, normals and barycentric weights are differentiable in the vertices.

    Args:
        vertices: camera space, metres.
        faces: vertex indices.
        camera: pinhole camera in pixels of the picture.
        height: picture height in pixels.
        width: picture width in pixels.

    Returns:
        The raster of height × width; pixel centres are at (0.5, 0.5).

    Source:
        J. Pineda, A Parallel Algorithm for Polygon Rasterization, 1988 (edge functions).
    """
    triangles = _set_up(vertices, faces, camera, height, width)
    face_index = _nearest_faces(jax.lax.stop_gradient(triangles), height, width)
    return _interpolate(triangles, face_index, vertex_normals(vertices, faces), faces, height, width)


def join_meshes(vertices: Sequence[Float[Array, "_ 3"]], faces: Sequence[Int[Array, "_ 3"]]) -> JoinedMeshes:
    """Puts meshes, such as all hands of a picture, one behind the other.

    Args:
        vertices: of each mesh, metres.
        faces: of each mesh, indices into its own vertices.

    Returns:
        What `rasterize` and the soft pictures take; vertices and faces are in the order of the meshes.
    """
    starts = np.cumsum([0, *(len(v) for v in vertices[:-1])])
    return JoinedMeshes(
        vertices=jnp.concatenate(vertices),
        faces=jnp.concatenate([f + start for f, start in zip(faces, starts.tolist(), strict=True)]),
        mesh_of_face=jnp.repeat(jnp.arange(len(faces)), np.array([len(f) for f in faces])),
    )


def mesh_index(raster: Raster, joined: JoinedMeshes) -> Int[Array, "*batch height width"]:
    """Number of the mesh seen at each pixel of a raster of joined meshes, -1 on the background."""
    return jnp.where(raster.face_index >= 0, joined.mesh_of_face[jnp.maximum(raster.face_index, 0)], -1)


def vertex_normals(vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"]) -> Float[Array, "vertices 3"]:
    """Averages the normals of the faces around each vertex, weighted by their area.

    Args:
        vertices: positions.
        faces: vertex indices, counter-clockwise as seen from outside in a right-handed frame.

    Returns:
        Unit normals; 0 for vertices of no face.
    """
    corner = vertices[faces]
    face_normals = jnp.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    total = jnp.zeros_like(vertices).at[faces].add(face_normals[:, None, :])
    return _normalize(total)


def _normalize(vectors: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    return vectors * jax.lax.rsqrt(jnp.sum(vectors**2, axis=-1, keepdims=True) + 1e-24)


def project_faces(
    vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"], camera: PinholeCamera
) -> tuple[Float[Array, "faces 3 2"], Float[Array, "faces 3"], Bool[Array, " faces"]]:
    """Brings faces to the screen.

    Args:
        vertices: camera space, metres.
        faces: vertex indices.
        camera: pinhole camera.

    Returns:
        Pixel coordinates and depth in metres of the corners, and whether a face can be drawn: all of it lies beyond
        NEAR and is finite. Corners that are nearer have depth 1.
    """
    depth = vertices[:, 2]
    safe_depth = jnp.where(depth > NEAR, depth, 1.0)
    pixels = project(camera, jnp.concatenate([vertices[:, :2], safe_depth[:, None]], axis=1))[faces]
    drawn = (depth > NEAR)[faces].all(axis=1) & jnp.isfinite(pixels).all(axis=(1, 2))
    return pixels, safe_depth[faces], drawn


def _set_up(vertices, faces, camera, height, width) -> _Triangles:
    pixels, depth, drawn = project_faces(vertices, faces, camera)
    windows = cover_faces(pixels, drawn, EDGE_TOLERANCE_PX, height, width)
    # Relative to the first pixel coordinates are small, so that float32 keeps 1e-4 px anywhere in the picture.
    corner = pixels - (windows.first[:, None, :] + 0.5)
    start, edge = jnp.roll(corner, -1, axis=1), jnp.roll(corner, -2, axis=1) - jnp.roll(corner, -1, axis=1)
    area = edge[:, 2, 0] * edge[:, 0, 1] - edge[:, 2, 1] * edge[:, 0, 0]
    drawn &= jnp.abs(area) > 1e-9
    safe_area = jnp.where(drawn, area, 1.0)[:, None]
    offset = edge[..., 1] * start[..., 0] - edge[..., 0] * start[..., 1]
    weights = jnp.stack([-edge[..., 1], edge[..., 0], offset], axis=-1) / safe_area[..., None]
    weights = jnp.where(drawn[:, None, None], weights, 0.0)
    return _Triangles(
        weights=weights,
        inverse_depth=1.0 / depth,
        tolerance=EDGE_TOLERANCE_PX * jnp.linalg.norm(edge, axis=-1) / jnp.abs(safe_area),
        windows=Windows(windows.first, windows.last, windows.grid * drawn[:, None]),
    )


def _nearest_faces(triangles: _Triangles, height: int, width: int) -> Int[Array, "height width"]:
    windows = triangles.windows
    total = windows.counts.sum()

    def work(carry):
        begin, nearest, face_index = carry
        chunk = take_chunk(windows, begin)
        key = _depth_keys(triangles, chunk)
        outside = height * width
        pixel = jnp.where(key > 0, flat_pixels(windows, chunk, height, width), outside)  # out of range: dropped
        updated = nearest.at[pixel].max(key, mode="drop")
        # Ties go to the highest face index, so that the result depends neither on order nor on chunks.
        won = jnp.where(updated.at[pixel].get(mode="fill", fill_value=-1) == key, pixel, outside)
        face_index = jnp.where(updated > nearest, -1, face_index)
        face_index = face_index.at[won].max(jnp.broadcast_to(chunk.face[:, None, None], won.shape), mode="drop")
        return begin + WINDOWS_PER_CHUNK, updated, face_index

    start = jnp.int32(0), jnp.zeros(height * width, jnp.int32), jnp.full(height * width, -1, jnp.int32)
    _, _, face_index = jax.lax.while_loop(lambda carry: carry[0] < total, work, start)
    return face_index.reshape(height, width)


def _depth_keys(triangles: _Triangles, chunk: Chunk) -> Int[Array, "n 8 8"]:
    """Sort keys: greater is nearer, 0 is outside the face."""
    face, inside = chunk.face, chunk.inside
    inverse_depth = jnp.zeros(inside.shape)
    for i in range(3):
        slope_x, slope_y, offset = (triangles.weights[face, i, k][:, None, None] for k in range(3))
        weight = slope_x * chunk.dx[:, None, :] + slope_y * chunk.dy[:, :, None] + offset
        inside &= weight >= -triangles.tolerance[face, i][:, None, None]
        inverse_depth += weight * triangles.inverse_depth[face, i][:, None, None]
    bounds = triangles.inverse_depth[face]
    inverse_depth = jnp.clip(inverse_depth, bounds.min(1)[:, None, None], bounds.max(1)[:, None, None])
    # The bits of positive floats sort as integers, and integer scatters are exact and fast everywhere.
    return jnp.where(inside, jax.lax.bitcast_convert_type(inverse_depth, jnp.int32), 0)


def _interpolate(triangles, face_index, normals, faces, height, width) -> Raster:
    covered = face_index >= 0
    face = jnp.maximum(face_index, 0)
    # Columns are gathered one at a time: XLA's CPU gather of whole rows is many times slower.
    dx = jnp.arange(width)[None, :] - triangles.windows.first[:, 0][face]
    dy = jnp.arange(height)[:, None] - triangles.windows.first[:, 1][face]
    on_screen, in_space = [], []
    for i in range(3):
        slope_x, slope_y, offset = (triangles.weights[:, i, k][face] for k in range(3))
        on_screen.append(jnp.clip(slope_x * dx + slope_y * dy + offset, 0.0, 1.0))
        in_space.append(on_screen[i] * triangles.inverse_depth[:, i][face])
    scale = covered / jnp.where(covered, sum(in_space), 1.0)  # 0 on the background
    barycentric = [weight * scale for weight in in_space]
    corner = [faces[:, i][face] for i in range(3)]
    normal = [sum(b * normals[:, axis][c] for b, c in zip(barycentric, corner, strict=True)) for axis in range(3)]
    return Raster(
        depth=sum(on_screen) * scale,
        mask=covered.astype(jnp.float32),
        normals=jnp.where(covered[..., None], _normalize(jnp.stack(normal, axis=-1)), 0.0),
        face_index=face_index,
        barycentric=jnp.stack(barycentric, axis=-1),
    )
