"""A guide that moves nothing: it keeps the pictures that the network sees in every step."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from handjax.diffusion.samplers import Latents
from handjax.diffusion.sampling import Decode, Guide
from handjax.preview import from_model_range

Tape = tuple[Int[Array, ""], UInt8[Array, "steps batch rows columns 3"]]


@flax.struct.dataclass
class Recorder:
    """Records the clean pictures that the network sees.

    Args:
        steps: of the sampler.
        factor: of the autoencoder, pixels a latent cell.
    """

    steps: int = flax.struct.field(pytree_node=False)
    factor: int = flax.struct.field(pytree_node=False)

    repeats = None

    def start(self, latents: Latents) -> Tape:
        """An empty tape."""
        height, width = (side * self.factor for side in latents.shape[1:3])
        return jnp.int32(0), jnp.zeros((self.steps, len(latents), height, width, 3), jnp.uint8)

    def steer(self, decode: Decode, context: Float[Array, "batch words embed"]) -> Guide:
        """Writes each step's picture down and returns its latents as they are."""

        def guide(tape, z, level, x0, denoise):
            step, pictures = tape
            seen = jnp.round(255 * from_model_range(decode(x0))).astype(jnp.uint8)
            return (step + 1, pictures.at[step].set(seen)), x0

        return guide

    def tell(self, carry: Tape) -> list[dict[str, Any]]:
        """{"estimates": pictures, first step first} of each picture."""
        return [{"estimates": pictures} for pictures in np.moveaxis(jax.device_get(carry[1]), 1, 0)]
