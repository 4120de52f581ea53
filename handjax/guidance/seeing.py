"""Hands in pictures that are decoded inside the sampler: found, read, cut out, with no call back to the host."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from handjax.diffusion.sampling import Decode
from handjax.perception.flax_backend import HandWeights, find_regions
from handjax.perception.margin import margins
from handjax.perception.regions import Picture, Region, cut_out
from handjax.preview import from_model_range


def as_picture(image: Float[Array, "height width 3"]) -> Picture:
    """A decoded picture as the perception takes it."""
    return Picture(pixels=255 * from_model_range(image).reshape(-1, 3), size=jnp.array(image.shape[:2], jnp.int32))


def find_in_margin(
    weights: HandWeights, image: Float[Array, "height width 3"], hands: int, min_score: float
) -> tuple[Region, Bool[Array, " hands"]]:
    """Looks for palms in a decoded picture that is widened by `margins`.

    Args:
        weights: of the perception.
        image: in [-1, 1].
        hands: most hands.
        min_score: least score of a palm.

    Returns:
        Regions about the hands, in pixels of `image`, and which of them are valid.
    """
    height, width = margins(image.shape)
    framed = jnp.pad(image, ((height, height), (width, width), (0, 0)), mode="edge")
    regions, found = find_regions(weights, as_picture(framed), hands, min_score)
    return dataclasses.replace(regions, center=regions.center - jnp.array([width, height])), found


def cut_square(
    image: Float[Array, "height width 3"], center: Float[Array, "2"], side: Float[Array, ""], size: int, longest: float
) -> Float[Array, "size size 3"]:
    """Cuts a square out of a decoded picture, resampled as the pictures that networks here are trained on.

    Every pixel is the mean of bilinear samples that lie less than a pixel of the picture apart, at least 2 by 2 of
    them (`data_pipelines.transforms.Window.photo`, which blurs a little more where pictures shrink to less than half).
    Outside of what was decoded its edge is repeated.

    Args:
        image: in [-1, 1]; differentiable.
        center: x and y in pixels; the first pixel reaches from 0 to 1.
        side: of the square, pixels.
        size: of the result.
        longest: greatest side that may come, pixels; it decides how many samples are taken.

    Returns:
        In [-1, 1].
    """
    samples = max(2, math.ceil(longest / size))
    middle = side / (samples * size) / 2 - 0.5  # `cut_out` samples at the corners, of pixels that begin at -0.5
    region = Region(center=center + middle, side=side, rotation=jnp.zeros(()))
    fine = cut_out(as_picture(image), region, samples * size, black_outside=False)
    return 2 * fine.reshape(size, samples, size, samples, 3).mean(axis=(1, 3)) - 1


def decode_about(
    decode: Decode, latents: Float[Array, "h w c"], center: Float[Array, "2"], cells: int | None
) -> tuple[Float[Array, "height width 3"], Int[Array, "2"]]:
    """Decodes a picture, or the square of it about a place, which costs less and differentiates in less memory.

    Args:
        decode: pictures of latents.
        latents: of one picture.
        center: x and y in pixels of the whole picture.
        cells: side of the square in latents; None decodes all.

    Returns:
        The pixels in [-1, 1], and x and y of their first in the whole picture.
    """
    if cells is None:
        return decode(latents[None])[0], jnp.zeros(2, jnp.int32)
    cells = min(cells, *latents.shape[:2])
    factor = jax.eval_shape(decode, latents[None]).shape[1] // latents.shape[0]
    extent = jnp.array(latents.shape[1::-1])
    corner = jnp.clip(jnp.round(center / factor - cells / 2).astype(jnp.int32), 0, extent - cells)
    square = jax.lax.dynamic_slice(latents, (corner[1], corner[0], 0), (cells, cells, latents.shape[2]))
    return decode(square[None])[0], factor * corner
