"""What a model paints becomes bytes only where it is numbers: NaN would turn into black pixels without a word."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from handjax.errors import WeightsError
from handjax.preview import from_model_range


def to_bytes(
    painted: Float[Array, "batch height width 3"],
) -> tuple[UInt8[Array, "batch height width 3"], Bool[Array, " batch"]]:
    """Rounds pictures from [-1, 1] to bytes, inside a jitted program; says also which of them are finite."""
    return jnp.round(from_model_range(painted) * 255).astype(jnp.uint8), jnp.isfinite(painted).all(axis=(1, 2, 3))


def finite_pictures(
    images: UInt8[Array, "batch height width 3"], finite: Bool[Array, " batch"]
) -> UInt8[np.ndarray, "batch height width 3"]:
    """Brings the result of `to_bytes` to the host.

    Raises:
        WeightsError: a picture is not finite.
    """
    if not np.all(finite):
        raise WeightsError(
            "the model paints values that are no numbers (NaN): its weights or an adapter's are damaged, or too large; "
            "load them anew, with adapters at smaller scales and in float32"
        )
    return np.asarray(images)
