"""The block of vision transformers whose weights are named as timm's: DINO's, HaMeR's, ViTPose's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.activations import gelu

NORM_EPSILON = 1e-6
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, of pixels in [0, 1]."""


class Attention(nn.Module):
    """Multi-head self-attention with one projection to queries, keys and values; softmax in float32."""

    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens C"]) -> Float[Array, "batch tokens C"]:
        channels = x.shape[-1]
        qkv = nn.Dense(3 * channels, dtype=self.dtype, name="qkv")(x)
        q, k, v = qkv.reshape(*x.shape[:2], 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        scores = jnp.einsum("bhqd,bhkd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
        attended = jnp.einsum("bhqk,bhkd->bhqd", weights.astype(self.dtype), v, preferred_element_type=jnp.float32)
        # divided here, where there are fewer numbers than scores
        attended = (attended / weights.sum(-1, keepdims=True)).astype(self.dtype).swapaxes(1, 2)
        return nn.Dense(channels, dtype=self.dtype, name="proj")(attended.reshape(x.shape))


class MLP(nn.Module):
    """Four times the channels, exact GELU, and back."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens C"]) -> Float[Array, "batch tokens C"]:
        h = gelu(nn.Dense(4 * x.shape[-1], dtype=self.dtype, name="fc1")(x))
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="fc2")(h)


class VisionBlock(nn.Module):
    """Attention and feed-forward, each normalised first and added to its input."""

    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens C"]) -> Float[Array, "batch tokens C"]:
        x += Attention(self.heads, self.dtype, name="attn")(vision_norm("norm1", self.dtype)(x))
        return x + MLP(self.dtype, name="mlp")(vision_norm("norm2", self.dtype)(x))


def vision_norm(name: str, dtype: DTypeLike) -> nn.LayerNorm:
    """The normalisation of these networks."""
    return nn.LayerNorm(epsilon=NORM_EPSILON, dtype=dtype, use_fast_variance=False, name=name)
