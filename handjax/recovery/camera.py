"""The camera of a crop: a fixed focal length and three numbers (MMHMR B.2, as HaMeR has it)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.recovery.vit import CUT_SHARE

FOCAL = 5000.0 / 256
"""Sides of the crop: 5000 of HaMeR's 256 pixels."""
MEAN_CAMERA = (9.0, 0.0, 0.06)
"""Of rendered hands and photographs, whose wrists are below the middle of crops of 1.5 to 2 boxes."""
_TINY = 1e-9


def crop_translation(camera: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    """Where the hand's origin lies in camera space, metres, given scale (crops per 2 m) and shift x, y (metres)."""
    depth = 2 * FOCAL / (camera[..., :1] + _TINY)
    return jnp.concatenate([camera[..., 1:], depth], axis=-1)


def project_to_crop(points: Float[Array, "*batch P 3"], camera: Float[Array, "*batch 3"]) -> Float[Array, "*batch P 2"]:
    """Places of points in the crop, x and y from -0.5 at its left and upper edge to 0.5.

    Args:
        points: in the hand's space, metres.
        camera: scale and shift.
    """
    seen = points + crop_translation(camera)[..., None, :]
    return FOCAL * seen[..., :2] / seen[..., 2:]


def reference_points(places: Float[Array, "*batch 2"]) -> Float[Array, "*batch 2"]:
    """Places of the crop as those of the feature maps, which lack columns on either side, in [0, 1] (DECISIONS F7)."""
    x = (places[..., 0] + 0.5 - CUT_SHARE) / (1 - 2 * CUT_SHARE)
    return jnp.stack([x, places[..., 1] + 0.5], axis=-1)


def crop_places(references: Float[Array, "*batch 2"]) -> Float[Array, "*batch 2"]:
    """The inverse of `reference_points`."""
    x = references[..., 0] * (1 - 2 * CUT_SHARE) + CUT_SHARE - 0.5
    return jnp.stack([x, references[..., 1] - 0.5], axis=-1)
