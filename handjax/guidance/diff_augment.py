"""Differentiable augmentation: colour, place and holes, drawn for each picture from its own key."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

SHIFT, HOLE = 1 / 8, 1 / 2
"""Largest shift and side of the hole, in sides of the picture."""

Image = Float[Array, "height width 3"]


def diff_augment(
    images: Float[Array, "batch size size 3"], rng: Key[Array, " batch"]
) -> Float[Array, "batch size size 3"]:
    """Augments pictures in [-1, 1]; results may leave that range.

    Args:
        images: square.
        rng: one key a picture.

    Source:
        Zhao et al. 2020 (DiffAugment), section 3 and appendix: colour, translation, cutout.
    """

    def one(image, key):
        color_key, shift_key, hole_key = jax.random.split(key, 3)
        colors, shift = draw_colors(color_key), draw_shift(shift_key, len(image))
        return cut_hole(translate(change_colors(image, colors), shift), draw_hole(hole_key, len(image)))

    return jax.vmap(one)(images, rng)


def draw_colors(rng: Key[Array, ""]) -> Float[Array, "3"]:
    """Brightness to add, from ±0.5; factors of saturation, up to 2, and of contrast, 0.5 to 1.5."""
    return jax.random.uniform(rng, (3,)) * jnp.array([1.0, 2.0, 1.0]) + jnp.array([-0.5, 0.0, 0.5])


def change_colors(image: Image, amounts: Float[Array, "3"]) -> Image:
    """Adds to the brightness, then scales about each pixel's grey, then about the picture's mean."""
    brightness, saturation, contrast = amounts
    image = image + brightness
    grey = image.mean(axis=-1, keepdims=True)
    image = saturation * (image - grey) + grey
    return contrast * (image - image.mean()) + image.mean()


def draw_shift(rng: Key[Array, ""], size: int) -> Array:
    """Rows and columns to shift by."""
    most = round(SHIFT * size)
    return jax.random.randint(rng, (2,), -most, most + 1)


def translate(image: Image, shift: Array) -> Image:
    """Moves the picture; what comes into it is 0."""
    size, most = len(image), round(SHIFT * len(image))
    padded = jnp.pad(image, ((most, most), (most, most), (0, 0)))
    return jax.lax.dynamic_slice(padded, (most - shift[0], most - shift[1], 0), (size, size, 3))


def draw_hole(rng: Key[Array, ""], size: int) -> Array:
    """Row and column of the hole's middle."""
    return jax.random.randint(rng, (2,), 0, size + 1 - round(HOLE * size) % 2)


def cut_hole(image: Image, middle: Array) -> Image:
    """Sets a square about a place to 0; it may reach over the edge."""
    side = round(HOLE * len(image))
    offsets = jnp.arange(len(image)) - middle[:, None] + side // 2
    rows, columns = (offsets >= 0) & (offsets < side)
    return jnp.where((rows[:, None] & columns[None])[..., None], 0, image)
