"""Several guides at once, each on what the one before it has moved."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from handjax.diffusion.samplers import Latents
from handjax.diffusion.sampling import Decode, Guide, Repeats, Steering, compose_guides


@flax.struct.dataclass
class Together:
    """Follows several guides in order; a pytree of them.

    Args:
        guides: the first moves first.
    """

    guides: Sequence[Steering]

    def start(self, latents: Latents) -> tuple[PyTree, ...]:
        """The carries before the first step."""
        return tuple(guide.start(latents) for guide in self.guides)

    @property
    def repeats(self) -> Repeats | None:
        """A cell's step is taken as often as the guide wants that wants it most often."""
        wanted = [(number, guide.repeats) for number, guide in enumerate(self.guides) if guide.repeats is not None]
        if not wanted:
            return None
        return lambda level, carry: functools.reduce(
            jnp.maximum, [repeats(level, carry[number]) for number, repeats in wanted]
        )

    def steer(self, decode: Decode, context: Float[Array, "batch words embed"]) -> Guide:
        """Makes one guide of all."""
        return compose_guides(*(guide.steer(decode, context) for guide in self.guides))

    def tell(self, carry: tuple[PyTree, ...]) -> list[dict[str, Any]]:
        """What all guides say of each picture, in one object."""
        told = [guide.tell(own) for guide, own in zip(self.guides, carry, strict=True)]
        return [{name: value for one in said for name, value in one.items()} for said in zip(*told, strict=True)]
