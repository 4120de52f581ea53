"""The transformer inside the UNet: self-attention, cross-attention to the text, gated feed-forward."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.activations import gelu
from handjax.diffusion.attention import attention
from handjax.diffusion.conv import Conv
from handjax.diffusion.layers import BLOCK, Dense, GroupNorm

# PyTorch's values, which the configs do not carry.
LAYER_NORM_EPSILON = 1e-5
GROUP_NORM_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class Attending:
    """What the attention of a network is given, and tells, besides its inputs.

    Args:
        word_bias: added to the scores of each word in all cross-attention, in all heads and for all tokens.
        watch: called with queries and keys of each self-attention, as `attention` takes them, while the network is
            traced.
    """

    word_bias: Float[Array, "batch words"] | None = None
    watch: Callable[[Array, Array], None] | None = None


PLAIN = Attending()


class Attention(nn.Module):
    """Multi-head attention from the tokens to `context`, or to themselves."""

    heads: int
    use_bias: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens channels"],
        context: Float[Array, "batch words embed"] | None = None,
        attending: Attending = PLAIN,
    ) -> Float[Array, "batch tokens channels"]:
        channels = x.shape[-1]
        to_words = context is not None
        context = context if to_words else x

        def project(source, name):
            projected = Dense(channels, use_bias=self.use_bias, dtype=self.dtype, name=name)(source)
            return projected.reshape(*source.shape[:2], self.heads, channels // self.heads)

        q, k, v = project(x, "to_q"), project(context, "to_k"), project(context, "to_v")
        if attending.watch is not None and not to_words:
            attending.watch(q, k)
        bias = attending.word_bias if to_words else None
        attended = attention(q, k, v, None if bias is None else bias[:, None, None].astype(jnp.float32))
        return Dense(channels, dtype=self.dtype, name="to_out_0")(attended.reshape(x.shape))


class GEGLU(nn.Module):
    """A linear layer gated by another through the exact (erf) GELU."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens channels"]) -> Float[Array, "batch tokens features"]:
        value, gate = jnp.split(Dense(2 * self.features, dtype=self.dtype, name="proj")(x), 2, axis=-1)
        return value * gelu(gate)


class FeedForward(nn.Module):
    """GEGLU with four times the channels, and back."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch tokens channels"]) -> Float[Array, "batch tokens channels"]:
        h = GEGLU(4 * x.shape[-1], dtype=self.dtype, name="net_0")(x)
        return Dense(x.shape[-1], dtype=self.dtype, name="net_2")(h)


class BasicTransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each normalised first and added to its input."""

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens channels"],
        context: Float[Array, "batch words embed"],
        attending: Attending = PLAIN,
    ) -> Float[Array, "batch tokens channels"]:
        def norm(name):
            return nn.LayerNorm(epsilon=LAYER_NORM_EPSILON, dtype=self.dtype, use_fast_variance=False, name=name)

        x += Attention(self.heads, dtype=self.dtype, name="attn1")(norm("norm1")(x), None, attending)
        x += Attention(self.heads, dtype=self.dtype, name="attn2")(norm("norm2")(x), context, attending)
        return checkpoint_name(x + FeedForward(dtype=self.dtype, name="ff")(norm("norm3")(x)), BLOCK)


class Transformer2DModel(nn.Module):
    """Transformer blocks over the pixels of a feature map, added to it."""

    heads: int
    layers: int
    num_groups: int
    linear_projection: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        context: Float[Array, "batch words embed"],
        attending: Attending = PLAIN,
    ) -> Float[Array, "batch height width channels"]:
        batch, height, width, channels = x.shape

        def project(tokens, name):
            if self.linear_projection:
                return Dense(channels, dtype=self.dtype, name=name)(tokens)
            maps = tokens.reshape(batch, height, width, channels)
            return Conv(channels, kernel_size=1, dtype=self.dtype, name=name)(maps).reshape(tokens.shape)

        h = GroupNorm(self.num_groups, GROUP_NORM_EPSILON, self.dtype, name="norm")(x)
        h = project(h.reshape(batch, height * width, channels), "proj_in")
        for i in range(self.layers):
            block = BasicTransformerBlock(self.heads, dtype=self.dtype, name=f"transformer_blocks_{i}")
            h = block(h, context, attending)
        return x + project(h, "proj_out").reshape(x.shape)
