"""Regions of interest: rotated squares of a picture, and the pictures cut out of them.

Pixels follow MediaPipe here, whose warp puts the centre of a picture's first pixel at 0: landmarks agree with it
only so.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

_SUBPIXELS = 32


@flax.struct.dataclass
class Region:
    """A rotated square of a picture: centre x and y and side in pixels, rotation in radians, clockwise."""

    center: Float[Array, "*batch 2"]
    side: Float[Array, "*batch"]
    rotation: Float[Array, "*batch"]


@flax.struct.dataclass
class Picture:
    """A picture as a list of pixels, padded to any length: programs are compiled per length, not per picture size."""

    pixels: UInt8[Array, "length 3"] | Float[Array, "length 3"]
    size: Int[Array, "2"]


def pad_picture(image: UInt8[np.ndarray, "height width 3"]) -> Picture:
    """Pads a picture's list of pixels to the next power of two."""
    height, width = image.shape[:2]
    pixels = np.zeros((1 << (height * width - 1).bit_length(), 3), np.uint8)
    pixels[: height * width] = image.reshape(-1, 3)
    return Picture(pixels=jnp.asarray(pixels), size=jnp.array([height, width], jnp.int32))


def letterbox_region(size: Int[Array, "2"]) -> Region:
    """The square about a picture of `size` = (height, width) that touches its long sides."""
    size = size.astype(jnp.float32)
    return Region(center=size[::-1] / 2, side=size.max(), rotation=jnp.zeros(()))


def to_picture(points: Float[Array, "*points 2"], region: Region) -> Float[Array, "*points 2"]:
    """Maps points of a region, where its square is [0, 1]^2, to pixels of the picture."""
    return region.center + region.side * rotate(points - 0.5, region.rotation)


def rotate(points: Float[Array, "*points 2"], angle: Float[Array, ""]) -> Float[Array, "*points 2"]:
    """Turns points about the origin, clockwise as seen in a picture (y down)."""
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return jnp.stack([cosine * x - sine * y, sine * x + cosine * y], axis=-1)


def cut_out(picture: Picture, region: Region, size: int, *, black_outside: bool) -> Float[Array, "size size 3"]:
    """Cuts a region out of a picture, resampled as MediaPipe does with OpenCV's `warpPerspective`.

    OpenCV samples bilinearly at places rounded to 1/32 pixel and rounds the result to 8 bits. The rounding lets
    gradients through unchanged, so that the crop is differentiable in the picture.

    Args:
      picture: the picture, values 0 to 255.
      region: the square to cut out.
      size: side of the result, pixels.
      black_outside: what lies outside the picture is black; otherwise the picture's edge is repeated.

    Returns:
      RGB in [0, 1].
    """
    steps = jnp.arange(size, dtype=jnp.float32) / size
    grid = jnp.stack(jnp.meshgrid(steps, steps), axis=-1)
    places = jnp.round(to_picture(grid, region) * _SUBPIXELS) / _SUBPIXELS
    corner = jnp.floor(places)
    right, down = jnp.moveaxis(places - corner, -1, 0)
    column, row = jnp.moveaxis(corner.astype(jnp.int32), -1, 0)
    height, width = picture.size

    def sample(row, column, weight):
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        if black_outside:
            weight = jnp.where(inside, weight, 0.0)
        index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
        return weight[..., None] * picture.pixels[index].astype(jnp.float32)

    value = (
        sample(row, column, (1 - down) * (1 - right))
        + sample(row, column + 1, (1 - down) * right)
        + sample(row + 1, column, down * (1 - right))
        + sample(row + 1, column + 1, down * right)
    )
    value += jax.lax.stop_gradient(jnp.floor(value + 0.5) - value)
    return value / 255.0
