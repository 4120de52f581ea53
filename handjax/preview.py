"""Preview pictures: arrays side by side, for people to look at. Pure JAX, so that tasks draw inside a jitted step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

# Black, red, yellow, white: brightness grows throughout, as black-body colours do.
HEAT_COLORS = ((0.0, 0.0, 0.0), (0.9, 0.1, 0.0), (1.0, 0.85, 0.0), (1.0, 1.0, 1.0))


def from_model_range(images: Float[Array, "... height width 3"]) -> Float[Array, "... height width 3"]:
    """Brings pictures from [-1, 1] to [0, 1]."""
    return jnp.clip(images / 2 + 0.5, 0, 1)


def heat_map(
    values: Float[Array, "batch height width"], size: tuple[int, int]
) -> Float[Array, "batch out_height out_width 3"]:
    """Colours values in [0, 1] and enlarges them without smoothing.

    Args:
        values: one map an example.
        size: height and width of the result in pixels.
    """
    stops = jnp.linspace(0.0, 1.0, len(HEAT_COLORS))
    colors = [jnp.interp(values, stops, jnp.asarray(channel)) for channel in zip(*HEAT_COLORS, strict=True)]
    return jax.image.resize(jnp.stack(colors, axis=-1), (len(values), *size, 3), method="nearest")


def sheet(*columns: Float[Array, "batch height width _"]) -> UInt8[Array, "sheet_height sheet_width 3"]:
    """Puts pictures in [0, 1] into one: a row an example, a column an argument; grey ones become RGB."""
    colored = [jnp.broadcast_to(column, (*column.shape[:-1], 3)) for column in columns]
    rows = jnp.concatenate(colored, axis=2)
    return jnp.round(jnp.clip(rows, 0, 1) * 255).astype(jnp.uint8).reshape(-1, rows.shape[2], 3)
