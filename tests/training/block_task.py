"""A task of the networks' real layers, which the rules of tensor parallelism name: attention and MLP."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from handjax.diffusion.transformer import Attention, FeedForward

CHANNELS, TOKENS = 32, 3


class Block(nn.Module):
    """Attention and MLP beside each other, few operations to compile."""

    @nn.compact
    def __call__(self, x):
        return x + Attention(heads=2, name="attn")(x) + FeedForward(name="ff")(x)


@dataclasses.dataclass(frozen=True)
class BlockTask:
    loss_weights: Mapping[str, float]
    exports: ClassVar[Mapping[str, Any]] = {}

    def init(self, rng):
        return jax.jit(Block().init)(rng, jnp.zeros((1, TOKENS, CHANNELS)))["params"], {}

    def frozen(self):
        target = np.random.default_rng(7).standard_normal((CHANNELS, CHANNELS), np.float32)
        return {"target": target / np.float32(CHANNELS**0.5)}

    def batch_spec(self):
        return {
            "x": jax.ShapeDtypeStruct((TOKENS, CHANNELS), jnp.float32),
            "mask": jax.ShapeDtypeStruct((TOKENS,), jnp.float32),
        }

    def loss(self, trainable, frozen, state, batch, rng):
        noise = jax.vmap(lambda key: jax.random.normal(key, (TOKENS, CHANNELS)))(rng)
        x = batch["x"] + 0.1 * noise
        error = jnp.square(Block().apply({"params": trainable}, x) - x @ frozen["target"]).mean(-1)
        return {"masked": (jnp.sum(batch["mask"] * error), jnp.sum(batch["mask"]))}, state, {}

    def evaluate(self, trainable, frozen, state, batch, rng):
        return self.loss(trainable, frozen, state, batch, rng)[0]

    def preview(self, trainable, frozen, state, batch, rng):
        return {}


def make(config: Any) -> BlockTask:
    return BlockTask({"masked": 1.0})


def batch(seed: int, size: int = 16) -> dict[str, np.ndarray]:
    """Random tokens; the first examples have few that count, so that a mean of means would be wrong."""
    rng = np.random.default_rng(seed)
    spec = make(None).batch_spec()
    arrays = {name: rng.standard_normal((size, *array.shape), np.float32) for name, array in spec.items()}
    return arrays | {"mask": (rng.random((size, TOKENS)) < np.linspace(0.1, 1, size)[:, None]).astype(np.float32)}
