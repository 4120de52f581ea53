"""Z-buffer rasteriser in plain JAX: no OpenGL, any triangle size, memory bounded by the picture."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from handjax.hand.camera import PinholeCamera, project
from handjax.hand.z_buffer import nearest_faces

NEAR = 1e-3


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


@partial(jax.jit, static_argnames=("height", "width"))
def depth_map(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    camera: PinholeCamera,
    height: int,
    width: int,
) -> Float[Array, "height width"]:
    """The depth of `rasterize` without the work for the rest.

    Args:
        vertices: camera space, metres.
        faces: vertex indices.
        camera: pinhole camera in pixels of the picture.
        height: picture height in pixels.
        width: picture width in pixels.

    Returns:
        z at the pixel centres, metres; 0 on the background. For the given coverage it is differentiable in the
        vertices.
    """
    return _render(vertices, faces, camera, height, width).depth


@partial(jax.jit, static_argnames=("height", "width"))
def rasterize(
    vertices: Float[Array, "vertices 3"],
    faces: Int[Array, "faces 3"],
    camera: PinholeCamera,
    height: int,
    width: int,
) -> Raster:
    """Renders a mesh; batch it with `jax.vmap`.

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
    """
    return _render(vertices, faces, camera, height, width)


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
        NEAR and is finite. Corners that are nearer have depth 1; faces that cannot be drawn lie at pixel 0.
    """
    depth = vertices[:, 2]
    safe_depth = jnp.where(depth > NEAR, depth, 1.0)
    pixels = project(camera, jnp.concatenate([vertices[:, :2], safe_depth[:, None]], axis=1))[faces]
    drawn = (depth > NEAR)[faces].all(axis=1) & jnp.isfinite(pixels).all(axis=(1, 2))
    return jnp.where(drawn[:, None, None], pixels, 0.0), safe_depth[faces], drawn


def _render(vertices, faces, camera, height, width) -> Raster:
    corners, depths, drawn = project_faces(vertices, faces, camera)
    face_index = nearest_faces(corners, depths, drawn, height, width)
    return _interpolate(corners, 1.0 / depths, vertex_normals(vertices, faces)[faces], face_index)


def _interpolate(corners, inverse_depths, corner_normals, face_index) -> Raster:
    height, width = face_index.shape
    covered = face_index >= 0
    face = jnp.maximum(face_index, 0)
    # Columns are gathered one at a time: XLA's CPU gather of whole rows is many times slower.
    x = [corners[:, i, 0][face] - (jnp.arange(width) + 0.5)[None, :] for i in range(3)]
    y = [corners[:, i, 1][face] - (jnp.arange(height) + 0.5)[:, None] for i in range(3)]
    areas = [x[i] * y[k] - x[k] * y[i] for i, k in ((1, 2), (2, 0), (0, 1))]  # twice those opposite to the corners
    whole = sum(areas)
    proper = covered & (whole != 0)
    on_screen = [jnp.where(proper, jnp.clip(a / jnp.where(proper, whole, 1.0), 0.0, 1.0), 1 / 3) for a in areas]
    in_space = [weight * inverse_depths[:, i][face] for i, weight in enumerate(on_screen)]
    scale = covered / sum(in_space)  # 0 on the background
    barycentric = [weight * scale for weight in in_space]
    normal = [sum(barycentric[i] * corner_normals[:, i, axis][face] for i in range(3)) for axis in range(3)]
    shrink = covered * jax.lax.rsqrt(sum(component**2 for component in normal) + 1e-24)
    return Raster(
        depth=sum(on_screen) * scale,
        mask=covered.astype(jnp.float32),
        normals=jnp.stack([component * shrink for component in normal], axis=-1),
        face_index=face_index,
        barycentric=jnp.stack(barycentric, axis=-1),
    )
