"""The camera of a crop: a fixed focal length and three numbers (MMHMR B.2, as HaMeR has it)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.recovery.vit import CUT, IMAGE_SIZE

FOCAL = 5000.0
"""Pixels of the 256 pixel crop."""
MEAN_CAMERA = (5.5, 0.0, 0.0)
"""A hand of 0.18 m in the middle, which fills half of the crop."""
_TINY = 1e-9


def crop_translation(camera: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """Where the hand's origin lies in camera space, metres, given scale (crops per 2 m) and shift x, y (metres)."""
    depth = 2 * FOCAL / (IMAGE_SIZE * camera[..., :1] + _TINY)
    return jnp.concatenate([camera[..., 1:], depth], axis=-1)


def project_to_crop(points: Float[Array, "*batch P 3"], camera: Float[Array, "*batch 3"]) -> Float[Array, "*batch P 2"]:
    """Places of points in the crop, x and y from -0.5 at its left and upper edge to 0.5.

    Args:
        points: in the hand's space, metres.
        camera: scale and shift.
    """
    seen = points + crop_translation(camera)[..., None, :]
    return FOCAL / IMAGE_SIZE * seen[..., :2] / seen[..., 2:]


def reference_points(places: Float[Array, "*batch 2"]) -> Float[Array, "*batch 2"]:
    """Places of the crop as those of the feature maps, which lack columns on either side, in [0, 1] (DECISIONS F7)."""
    share = CUT / IMAGE_SIZE
    return jnp.stack([(places[..., 0] + 0.5 - share) / (1 - 2 * share), places[..., 1] + 0.5], axis=-1)
