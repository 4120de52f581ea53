"""The block of vision transformers whose weights are named as timm's: DINO's, HaMeR's, ViTPose's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

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
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, self.heads, -1), 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
        attended = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores).astype(self.dtype), v)
        return nn.Dense(channels, dtype=self.dtype, name="proj")(attended.reshape(x.shape))


class MLP(nn.Module):
    """Four times the channels, exact GELU, and back."""

    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens C"]) -> Float[Array, "batch tokens C"]:
        h = nn.gelu(nn.Dense(4 * x.shape[-1], dtype=self.dtype, name="fc1")(x), approximate=False)
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
