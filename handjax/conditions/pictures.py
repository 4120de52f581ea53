"""The pictures of a posed hand that models are conditioned on: depth, mask, mesh; and the mask to repaint."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from handjax.conditions.crops import box_side
from handjax.hand.camera import PinholeCamera
from handjax.hand.draw import REFERENCE_SIZE
from handjax.hand.rasterize import rasterize
from handjax.hand.shading import Lighting, even_environment, shade

FARTHEST_DEPTH = 0.2
MASK_PADDING_SHARE = 0.15
MASK_PADDING_PX = 30
MESH_AMBIENT = 0.25


class HandPictures(NamedTuple):
    """What the camera sees of one hand's mesh, in [0, 1]: silhouette, depth condition, mesh lit from the camera."""

    mask: Float[Array, "height width"]
    depth: Float[Array, "height width"]
    mesh: Float[Array, "height width 3"]


def normalize_depth(
    depth: Float[Array, "height width"], mask: Float[Array, "height width"]
) -> Float[Array, "height width"]:
    """Scales a hand's depth to the condition: nearest 1, farthest 0.2, background 0.

    Args:
      depth: metres.
      mask: 1 on the hand.

    Source: DECISIONS B3.
    """
    nearest = jnp.min(depth, where=mask > 0, initial=jnp.inf)
    farthest = jnp.max(depth, where=mask > 0, initial=-jnp.inf)
    span = jnp.maximum(farthest - nearest, 1e-6)
    return jnp.where(mask > 0, 1.0 - (1.0 - FARTHEST_DEPTH) * (depth - nearest) / span, 0.0)


@partial(jax.jit, static_argnames="size")
def hand_pictures(
    vertices: Float[Array, "vertices 3"], faces: Int[Array, "faces 3"], camera: PinholeCamera, size: int
) -> HandPictures:
    """Draws one hand's mesh in a square picture; batch with `jax.vmap`.

    Args:
      vertices: camera space, metres.
      faces: vertex indices.
      camera: of the square picture.
      size: its side in pixels.
    """
    raster = rasterize(vertices, faces, camera, size, size)
    light = Lighting(jnp.array([0.0, 0.0, -1.0]), jnp.full(3, 1.0 - MESH_AMBIENT), even_environment(MESH_AMBIENT))
    mesh = shade(raster, jnp.ones((size, size, 3)), light)
    return HandPictures(raster.mask, normalize_depth(raster.depth, raster.mask), mesh)


def inpaint_mask(
    depth: Float[np.ndarray, "size size"],
    keypoints: Num[np.ndarray, "points _"],
    padding_scale: Float[np.ndarray, "4"] | float = 1.0,
) -> Float[np.ndarray, "size size"]:
    """Gives the rectangle to repaint: around depth and keypoints, padded by max(15 % of the box, 30 px at 512).

    Args:
      depth: the depth condition, 0 on the background.
      keypoints: pixels; or any points that span the hand.
      padding_scale: factor of the padding on the left, top, right and bottom; training varies it.

    Returns:
      {0, 1}, cut off at the picture's edges.

    Source: DECISIONS B4.
    """
    size = len(depth)
    rows, columns = (np.flatnonzero(depth.any(axis=axis)) for axis in (1, 0))
    ends = [(columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)] if len(rows) else np.empty((0, 2))
    points = np.concatenate([keypoints[:, :2], ends])
    low, high = points.min(axis=0), points.max(axis=0)
    least = max(MASK_PADDING_SHARE * box_side(keypoints), MASK_PADDING_PX * size / REFERENCE_SIZE)
    padding = np.broadcast_to(padding_scale, 4) * least
    x0, y0 = np.clip(np.floor(low - padding[:2]), 0, size).astype(int)
    x1, y1 = np.clip(np.ceil(high + padding[2:]), 0, size).astype(int)
    mask = np.zeros((size, size), np.float32)
    mask[y0:y1, x0:x1] = 1.0
    return mask
