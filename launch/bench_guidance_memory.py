"""What the gradient of decoding takes at the size of Stable Diffusion 1.5: `launch.bench guidance_memory`.

By the compiler's account, weights aside, which needs neither weights nor a machine of that size.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from handjax.diffusion.model import StableDiffusion, load_stable_diffusion
from handjax.training import ahead
from handjax.training.remat import remat_policy
from handjax.training.roofline import GIB
from launch.bench_mghand_cost import MODEL, SIDE

CROP = 32
"""Latents about a hand that are decoded in place of all (`--anatomy-cells`)."""
REMATS = ("none", "blocks")


class Account(NamedTuple):
    """Of a compiled function: GiB of what it makes on its way, weights aside, and 10¹² operations."""

    gib: float
    tflop: float


def bench_guidance_memory(_runs: int, model: str = MODEL, side: int = SIDE) -> Iterator[dict[str, Any]]:
    """The gradient of decoding one picture, by what is kept for it, beside decoding alone.

    Args:
      model: whose sizes, as `load_stable_diffusion` takes it.
      side: of the picture in pixels.
    """
    shapes = load_stable_diffusion(model)
    for cells in (side // shapes.vae.config.factor, CROP):
        plain = account(shapes, cells, None)
        for remat in REMATS:
            gradient = account(shapes, cells, remat)
            yield {
                "name": f"gradient of decoding {cells}² latents, remat {remat}",
                "ours": gradient.gib,
                "peer": plain.gib,
                "peer_name": "without gradient",
                "ratio": gradient.gib / plain.gib,
                "unit": "GiB",
                "tflop": gradient.tflop,
                "peer_tflop": plain.tflop,
            }


def account(model: StableDiffusion, cells: int, remat: str | None) -> Account:
    """Compiles decoding, or its gradient where `remat` says what is kept for it."""
    latents = jax.ShapeDtypeStruct((1, cells, cells, model.vae.config.latent_channels), jnp.float32)

    def decode(model, latents):
        if remat is None:
            return model.decode(latents)
        policy = remat_policy(remat)
        function = jax.checkpoint(model.decode, policy=policy) if policy else model.decode
        image, pull = jax.vjp(function, latents)
        return pull(jnp.ones_like(image))

    compiled = jax.jit(decode).lower(model, latents).compile()
    operations: Any = compiled.cost_analysis()
    return Account(ahead.memory_of(compiled).temporaries / GIB, operations["flops"] / 1e12)
