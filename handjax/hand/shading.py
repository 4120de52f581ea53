"""Colours for a raster: attributes interpolated over faces, Lambert's law under a lamp and a distant environment."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from handjax.hand.rasterize import Raster


@struct.dataclass
class Lighting:
    """A distant lamp and the light from all around, in camera space.

    Args:
        direction: unit vector towards the lamp.
        color: RGB that a white surface facing the lamp shows.
        environment: radiance from all around as real spherical harmonics of degree 0 to 2, RGB; order (0,0), (1,-1),
            (1,0), (1,1), (2,-2), (2,-1), (2,0), (2,1), (2,2).
    """

    direction: Float[Array, "3"]
    color: Float[Array, "3"]
    environment: Float[Array, "9 3"]


def even_environment(brightness: float) -> Float[Array, "9 3"]:
    """Environment under which a white surface shows `brightness` wherever it faces."""
    # radiance L is L · sqrt(4π) times the constant harmonic
    return jnp.zeros((9, 3)).at[0].set(brightness * np.sqrt(4 * np.pi))


def interpolate(raster: Raster, corners: Float[Array, "faces 3 channels"]) -> Float[Array, "height width channels"]:
    """Spreads values at the corners of faces over the pixels.

    Args:
        raster: one picture.
        corners: values at each face's three vertices; for values of vertices pass `values[faces]`.

    Returns:
        Perspective-correct values, 0 on the background.
    """
    face = jnp.maximum(raster.face_index, 0)
    first, second, third = (raster.barycentric[..., k, None] * corners[:, k][face] for k in range(3))
    return first + second + third


def shade(raster: Raster, albedo: Float[Array, "height width 3"], lighting: Lighting) -> Float[Array, "height width 3"]:
    """Lights a matt surface.

    Args:
        raster: one picture.
        albedo: RGB in [0, 1] of each pixel (`interpolate`).
        lighting: lamp and environment.

    Returns:
        RGB in [0, 1], black background.

    Source: Lambert's law; Ramamoorthi and Hanrahan, "An Efficient Representation for Irradiance Environment Maps",
        2001, Eq. 13.
    """
    lamp = jnp.maximum(raster.normals @ lighting.direction, 0.0)[..., None] * lighting.color
    color = albedo * (lamp + irradiance(raster.normals, lighting.environment) / jnp.pi)
    return jnp.clip(color, 0.0, 1.0) * raster.mask[..., None]


def irradiance(normals: Float[Array, "*pixels 3"], environment: Float[Array, "9 3"]) -> Float[Array, "*pixels 3"]:
    """Light that an environment of low frequency throws on surfaces.

    Args:
        normals: unit vectors.
        environment: as in `Lighting`.

    Returns:
        RGB irradiance.

    Source: Ramamoorthi and Hanrahan, 2001, Eq. 13.
    """
    x, y, z = jnp.moveaxis(normals, -1, 0)
    c1, c2, c3, c4, c5 = 0.429043, 0.511664, 0.743125, 0.886227, 0.247708
    basis = [
        jnp.full_like(x, c4),
        2 * c2 * y,
        2 * c2 * z,
        2 * c2 * x,
        2 * c1 * x * y,
        2 * c1 * y * z,
        c3 * z**2 - c5,
        2 * c1 * x * z,
        c1 * (x**2 - y**2),
    ]
    return jnp.maximum(jnp.stack(basis, axis=-1) @ environment, 0.0)
