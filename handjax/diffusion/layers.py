"""Layers that the UNet and the VAE share: group norm, residual block, resampling, time embedding."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.diffusion.conv import KERNEL_INIT, Conv

# Name of what rematerialisation by blocks keeps for the gradient (`parallel.remat`).
BLOCK = "block"
# A linear layer initialised as PyTorch's.
Dense = functools.partial(nn.Dense, kernel_init=KERNEL_INIT)


class GroupNorm(nn.Module):
    """Group normalisation over space and channel groups, statistics in float32.

    Sums run over space first, which is contiguous in NHWC, and over the channels of a group last.
    """

    num_groups: int
    epsilon: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x = x.astype(jnp.float32)

        def group_mean(values):
            per_channel = values.mean((1, 2)).reshape(-1, self.num_groups, channels // self.num_groups)
            per_group = jnp.broadcast_to(per_channel.mean(-1, keepdims=True), per_channel.shape)
            return per_group.reshape(-1, 1, 1, channels)

        centred = x - group_mean(x)
        gain = jax.lax.rsqrt(group_mean(jnp.square(centred)) + self.epsilon) * scale
        return (centred * gain + bias).astype(self.dtype)


class ResnetBlock2D(nn.Module):
    """Two convolutions with group norm and SiLU, the time embedding added between them, and a shortcut."""

    features: int
    num_groups: int
    epsilon: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width cin"], time: Float[Array, "batch embed"] | None = None
    ) -> Float[Array, "batch height width cout"]:
        h = nn.silu(GroupNorm(self.num_groups, self.epsilon, self.dtype, name="norm1")(x))
        h = Conv(self.features, dtype=self.dtype, name="conv1")(h)
        if time is not None:
            h += Dense(self.features, dtype=self.dtype, name="time_emb_proj")(nn.silu(time))[:, None, None]
        h = nn.silu(GroupNorm(self.num_groups, self.epsilon, self.dtype, name="norm2")(h))
        h = Conv(self.features, dtype=self.dtype, name="conv2")(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, kernel_size=1, dtype=self.dtype, name="conv_shortcut")(x)
        return checkpoint_name(x + h, BLOCK)


class Downsample2D(nn.Module):
    """Halves the resolution by a convolution; the UNet pads evenly, the VAE after the picture only."""

    padding: tuple[int, int]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch h w channels"]:
        return Conv(x.shape[-1], stride=2, padding=self.padding, dtype=self.dtype, name="conv")(x)


class Upsample2D(nn.Module):
    """Doubles the resolution by repetition, cut to `size` where a level had odd length, and a convolution."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], size: tuple[int, int]
    ) -> Float[Array, "batch h w channels"]:
        batch, height, width, channels = x.shape
        x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
        x = x.reshape(batch, 2 * height, 2 * width, channels)[:, : size[0], : size[1]]
        return Conv(channels, dtype=self.dtype, name="conv")(x)


class TimestepEmbedding(nn.Module):
    """Two linear layers on the sinusoidal features of the timestep."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch sinusoids"]) -> Float[Array, "batch embed"]:
        x = nn.silu(Dense(self.features, dtype=self.dtype, name="linear_1")(x))
        return Dense(self.features, dtype=self.dtype, name="linear_2")(x)


def timestep_sinusoids(
    timesteps: Float[Array, " batch"], features: int, flip_sin_to_cos: bool = True, freq_shift: int = 0
) -> Float[Array, "batch sinusoids"]:
    """Sinusoidal features of the timesteps at periods from 2π to 2π·10,000.

    Args:
        timesteps: float32, because bfloat16 cannot hold all of 0 to 999.
        features: even number of features.
        flip_sin_to_cos: cosines first.
        freq_shift: taken off the denominator of the frequencies' exponent.

    Returns:
        Features in float32.

    Source:
        Vaswani et al. 2017, section 3.5, as used by Ho et al. 2020.
    """
    half = features // 2
    frequencies = jnp.exp(-math.log(10_000) * jnp.arange(half, dtype=jnp.float32) / (half - freq_shift))
    angles = timesteps.astype(jnp.float32)[:, None] * frequencies
    waves = (jnp.cos(angles), jnp.sin(angles)) if flip_sin_to_cos else (jnp.sin(angles), jnp.cos(angles))
    return jnp.concatenate(waves, axis=-1)
