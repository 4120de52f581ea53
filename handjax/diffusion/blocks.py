"""The UNet's levels: residual blocks, transformers where the level attends to the text, resampling."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.diffusion.configs import UNetConfig
from handjax.diffusion.layers import Downsample2D, ResnetBlock2D, TimestepEmbedding, Upsample2D, timestep_sinusoids
from handjax.diffusion.transformer import PLAIN, Attending, Transformer2DModel


def _resnet(config: UNetConfig, features: int, dtype: DTypeLike, name: str) -> ResnetBlock2D:
    return ResnetBlock2D(features, config.norm_num_groups, config.norm_eps, dtype, name=name)


def _transformer(config: UNetConfig, level: int, dtype: DTypeLike, name: str) -> Transformer2DModel:
    return Transformer2DModel(
        heads=config.heads(level),
        layers=config.transformer_layers_per_block,
        num_groups=config.norm_num_groups,
        linear_projection=config.use_linear_projection,
        dtype=dtype,
        name=name,
    )


class DownBlock(nn.Module):
    """One level on the way down; `level` 0 is the finest."""

    config: UNetConfig
    level: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width cin"],
        time: Float[Array, "batch time"],
        context: Float[Array, "batch words embed"],
        attending: Attending = PLAIN,
    ) -> tuple[Float[Array, "batch h w cout"], tuple[Float[Array, "batch _h _w cout"], ...]]:
        """Returns the level's output and all feature maps that skip connections carry to the way up."""
        config, skips = self.config, []
        for i in range(config.layers_per_block):
            x = _resnet(config, config.block_out_channels[self.level], self.dtype, f"resnets_{i}")(x, time)
            if config.down_block_types[self.level] == "CrossAttnDownBlock2D":
                x = _transformer(config, self.level, self.dtype, f"attentions_{i}")(x, context, attending)
            skips.append(x)
        if self.level + 1 < len(config.block_out_channels):
            x = Downsample2D((1, 1), self.dtype, name="downsamplers_0")(x)
            skips.append(x)
        return x, tuple(skips)


class MidBlock(nn.Module):
    """The coarsest features: residual block, transformer, residual block."""

    config: UNetConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width channels"],
        time: Float[Array, "batch time"],
        context: Float[Array, "batch words embed"],
        attending: Attending = PLAIN,
    ) -> Float[Array, "batch height width channels"]:
        deepest = len(self.config.block_out_channels) - 1
        x = _resnet(self.config, x.shape[-1], self.dtype, "resnets_0")(x, time)
        x = _transformer(self.config, deepest, self.dtype, "attentions_0")(x, context, attending)
        return _resnet(self.config, x.shape[-1], self.dtype, "resnets_1")(x, time)


class UpBlock(nn.Module):
    """One level on the way up, the counterpart of the DownBlock of the same `level`."""

    config: UNetConfig
    level: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch height width cin"],
        time: Float[Array, "batch time"],
        context: Float[Array, "batch words embed"],
        skips: tuple[Float[Array, "batch height width _c"], ...],
        size: tuple[int, int] | None,
        attending: Attending = PLAIN,
    ) -> Float[Array, "batch h w cout"]:
        """Concatenates `skips` one a residual block, last first; `size` is that of the next finer level, if any."""
        config = self.config
        block_type = config.up_block_types[len(config.block_out_channels) - 1 - self.level]
        for i, skip in enumerate(reversed(skips)):
            x = jnp.concatenate((x, skip), axis=-1)
            x = _resnet(config, config.block_out_channels[self.level], self.dtype, f"resnets_{i}")(x, time)
            if block_type == "CrossAttnUpBlock2D":
                x = _transformer(config, self.level, self.dtype, f"attentions_{i}")(x, context, attending)
        return x if size is None else Upsample2D(self.dtype, name="upsamplers_0")(x, size)


def embed_time(config: UNetConfig, timesteps: Float[Array, " batch"], dtype: DTypeLike) -> Float[Array, "batch time"]:
    """The time embedding; called in the compact method of a UNet or ControlNet, whose submodule it makes."""
    channels = config.block_out_channels[0]
    sinusoids = timestep_sinusoids(timesteps, channels, config.flip_sin_to_cos, config.freq_shift)
    return TimestepEmbedding(config.time_embed_dim, dtype, name="time_embedding")(sinusoids.astype(dtype))


def way_down(
    config: UNetConfig,
    x: Float[Array, "batch height width channels"],
    time: Float[Array, "batch time"],
    context: Float[Array, "batch words embed"],
    dtype: DTypeLike,
    attending: Attending = PLAIN,
) -> tuple[Float[Array, "batch h w cout"], list[Float[Array, "batch _h _w _c"]]]:
    """All levels on the way down and the mid block; called as `embed_time` is.

    Returns:
        The mid block's output, and the maps for the skip connections, `x` first.
    """
    skips = [x]
    for level in range(len(config.block_out_channels)):
        x, maps = DownBlock(config, level, dtype, name=f"down_blocks_{level}")(x, time, context, attending)
        skips.extend(maps)
    return MidBlock(config, dtype, name="mid_block")(x, time, context, attending), skips
