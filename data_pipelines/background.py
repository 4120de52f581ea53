"""Procedural backgrounds: walls, wood, rooms out of focus. No photograph is needed or used."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

SHAPES = 8
_WOOD_SHARE = 0.15
_OCTAVES = (4, 8, 16, 32)


def draw_background(key: Key[Array, ""], size: int) -> Float[Array, "size size 3"]:
    """Draws one background.

    Args:
      key: source of randomness.
      size: side in pixels.

    Returns:
      sRGB in [0, 1].
    """
    gradient_key, shapes_key, wood_key, kind_key, blur_key, noise_key, amount_key = jax.random.split(key, 7)
    canvas = _shapes(shapes_key, _gradient(gradient_key, size))
    canvas = blur(canvas, size * 10 ** jax.random.uniform(blur_key, minval=-2.5, maxval=-0.9))
    is_wood = jax.random.bernoulli(kind_key, _WOOD_SHARE)
    canvas = jnp.where(is_wood, _wood(wood_key, size), canvas)
    amount = 0.12 * jax.random.uniform(amount_key) ** 2
    return jnp.clip(canvas + amount * fractal_noise(noise_key, size)[..., None], 0.0, 1.0)


def blur(image: Float[Array, "size size channels"], sigma: Float[Array, ""]) -> Float[Array, "size size channels"]:
    """Blurs with a Gaussian of `sigma` pixels; as two matrix products, since its width is known only at run time."""
    place = jnp.arange(image.shape[0], dtype=jnp.float32)
    kernel = jnp.exp(-0.5 * ((place[:, None] - place) / sigma) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return jnp.einsum("yr,xc,rck->yxk", kernel, kernel, image)


def fractal_noise(key: Key[Array, ""], size: int) -> Float[Array, "size size"]:
    """Smooth noise of several scales, about [-1, 1]."""
    total = jnp.zeros((size, size))
    for octave, cells in enumerate(_OCTAVES):
        grid = jax.random.uniform(jax.random.fold_in(key, octave), (cells, cells), minval=-1.0, maxval=1.0)
        total += jax.image.resize(grid, (size, size), "cubic") / 1.6**octave
    return total


def draw_color(key: Key[Array, ""], shape: tuple[int, ...] = ()) -> Float[Array, "*shape 3"]:
    """Draws muted sRGB colours: most things in a room are hardly saturated."""
    value_key, hue_key, saturation_key = jax.random.split(key, 3)
    value = jax.random.uniform(value_key, (*shape, 1), minval=0.08, maxval=1.0)
    hue = jax.random.uniform(hue_key, (*shape, 3))
    saturation = 0.6 * jax.random.uniform(saturation_key, (*shape, 1)) ** 2
    return value * (1.0 - saturation * hue)


def _grid(size: int) -> tuple[Float[Array, "1 size"], Float[Array, "size 1"]]:
    """x and y of the pixel centres, -1 to 1."""
    line = (jnp.arange(size) + 0.5) / size * 2.0 - 1.0
    return line[None, :], line[:, None]


def _gradient(key: Key[Array, ""], size: int) -> Float[Array, "size size 3"]:
    color_key, change_key, angle_key = jax.random.split(key, 3)
    x, y = _grid(size)
    angle = jax.random.uniform(angle_key, maxval=2 * jnp.pi)
    ramp = (x * jnp.cos(angle) + y * jnp.sin(angle))[..., None]
    return draw_color(color_key) + 0.12 * ramp * jax.random.uniform(change_key, (3,), minval=0.6, maxval=1.0)


def _shapes(key: Key[Array, ""], canvas: Float[Array, "size size 3"]) -> Float[Array, "size size 3"]:
    """Paints none to many turned ellipses and rectangles, large first: furniture, doors, people far away."""
    count_key, *keys = jax.random.split(key, 6)
    count = jnp.floor(jax.random.uniform(count_key) ** 1.5 * (SHAPES + 1))
    center = jax.random.uniform(keys[0], (SHAPES, 2), minval=-1.1, maxval=1.1)
    radius = jax.random.uniform(keys[1], (SHAPES, 2), minval=0.15, maxval=1.0) * jnp.linspace(1.2, 0.4, SHAPES)[:, None]
    angle = jax.random.normal(keys[2], (SHAPES,)) * 0.3
    power = jnp.where(jax.random.bernoulli(keys[3], 0.5, (SHAPES,)), 2.0, 10.0)
    colors = draw_color(keys[4], (SHAPES,))
    x, y = _grid(canvas.shape[0])

    def paint(canvas, shape):
        number, center, radius, angle, power, color = shape
        dx, dy = x - center[0], y - center[1]
        along = jnp.abs(dx * jnp.cos(angle) + dy * jnp.sin(angle)) / radius[0]
        across = jnp.abs(dy * jnp.cos(angle) - dx * jnp.sin(angle)) / radius[1]
        inside = (along**power + across**power < 1.0) & (number < count)
        return jnp.where(inside[..., None], color, canvas), None

    return jax.lax.scan(paint, canvas, (jnp.arange(SHAPES), center, radius, angle, power, colors))[0]


def _wood(key: Key[Array, ""], size: int) -> Float[Array, "size size 3"]:
    color_key, grain_key, warp_key, plank_key = jax.random.split(key, 4)
    x, y = _grid(size)
    planks = jnp.floor((y + 1.0) * jax.random.uniform(plank_key, minval=1.0, maxval=4.0))
    shade_of_plank = 0.06 * jnp.sin(planks * 12.9898)
    warp = 0.12 * jax.image.resize(fractal_noise(warp_key, size)[:, : size // 8], (size, size), "linear")
    rings = jnp.sin((y + 0.15 * x + warp + planks) * jax.random.uniform(grain_key, minval=20.0, maxval=60.0))
    brightness = jax.random.uniform(color_key, minval=0.3, maxval=0.9)
    tone = brightness + shade_of_plank + 0.05 * rings
    return tone[..., None] * jnp.array([1.0, 0.78, 0.56])
