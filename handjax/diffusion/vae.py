"""The autoencoder between pictures and latents (AutoencoderKL)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from handjax.diffusion.configs import VAEConfig
from handjax.diffusion.conv import Conv
from handjax.diffusion.layers import Downsample2D, GroupNorm, ResnetBlock2D, Upsample2D
from handjax.diffusion.transformer import Attention

# PyTorch's values, which the config does not carry.
NORM_EPSILON = 1e-6
LOG_VARIANCE_RANGE = (-30.0, 20.0)


class PixelAttention(nn.Module):
    """One-head self-attention over the pixels of a feature map, added to it."""

    num_groups: int
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.group_norm = GroupNorm(self.num_groups, NORM_EPSILON, self.dtype)
        self.attention = Attention(1, use_bias=True, dtype=self.dtype)
        # diffusers has norm and projections side by side, without a level for the attention.
        nn.share_scope(self, self.attention)

    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        tokens = self.group_norm(x).reshape(x.shape[0], -1, x.shape[-1])
        return x + self.attention(tokens).reshape(x.shape)


class ResnetStack(nn.Module):
    """One level of the encoder or decoder: residual blocks, then resampling in the `direction` "down", "up" or None."""

    config: VAEConfig
    features: int
    layers: int
    direction: str | None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width cin"]) -> Float[Array, "batch h w cout"]:
        for i in range(self.layers):
            x = ResnetBlock2D(
                self.features, self.config.norm_num_groups, NORM_EPSILON, self.dtype, name=f"resnets_{i}"
            )(x)
        if self.direction == "down":
            return Downsample2D((0, 1), self.dtype, name="downsamplers_0")(x)
        if self.direction == "up":
            return Upsample2D(self.dtype, name="upsamplers_0")(x, (2 * x.shape[1], 2 * x.shape[2]))
        return x


class MidBlock(nn.Module):
    """The coarsest features: residual block, attention over pixels, residual block."""

    config: VAEConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
        groups = self.config.norm_num_groups
        x = ResnetBlock2D(x.shape[-1], groups, NORM_EPSILON, self.dtype, name="resnets_0")(x)
        x = PixelAttention(groups, self.dtype, name="attentions_0")(x)
        return ResnetBlock2D(x.shape[-1], groups, NORM_EPSILON, self.dtype, name="resnets_1")(x)


class Encoder(nn.Module):
    """Picture to the posterior's mean and log-variance, before the 1×1 quantisation convolution."""

    config: VAEConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width cin"]) -> Float[Array, "batch h w moments"]:
        config, dtype = self.config, self.dtype
        x = Conv(config.block_out_channels[0], dtype=dtype, name="conv_in")(x)
        for level, features in enumerate(config.block_out_channels):
            direction = "down" if level + 1 < len(config.block_out_channels) else None
            name = f"down_blocks_{level}"
            x = ResnetStack(config, features, config.layers_per_block, direction, dtype, name=name)(x)
        x = MidBlock(config, dtype, name="mid_block")(x)
        x = nn.silu(GroupNorm(config.norm_num_groups, NORM_EPSILON, dtype, name="conv_norm_out")(x))
        return Conv(2 * config.latent_channels, dtype=dtype, name="conv_out")(x)


class Decoder(nn.Module):
    """Latents to picture, after the 1×1 quantisation convolution."""

    config: VAEConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w latent"]) -> Float[Array, "batch height width cout"]:
        config, dtype = self.config, self.dtype
        x = Conv(config.block_out_channels[-1], dtype=dtype, name="conv_in")(x)
        x = MidBlock(config, dtype, name="mid_block")(x)
        for i, features in enumerate(reversed(config.block_out_channels)):
            direction = "up" if i + 1 < len(config.block_out_channels) else None
            x = ResnetStack(config, features, config.layers_per_block + 1, direction, dtype, name=f"up_blocks_{i}")(x)
        x = nn.silu(GroupNorm(config.norm_num_groups, NORM_EPSILON, dtype, name="conv_norm_out")(x))
        return Conv(config.out_channels, dtype=dtype, name="conv_out")(x)


class VAE(nn.Module):
    """The autoencoder; parameter names are those of diffusers' AutoencoderKL.

    Latents here are unscaled: `scale` and `unscale` go to and from what the UNet sees.

    Args:
        config: sizes.
        dtype: of the computation; parameters, softmax and normalisation statistics are float32.
    """

    config: VAEConfig
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.encoder = Encoder(self.config, self.dtype)
        self.decoder = Decoder(self.config, self.dtype)
        self.quant_conv = Conv(2 * self.config.latent_channels, kernel_size=1, dtype=self.dtype)
        self.post_quant_conv = Conv(self.config.latent_channels, kernel_size=1, dtype=self.dtype)

    def __call__(
        self, images: Float[Array, "batch height width cin"], rng: PRNGKeyArray
    ) -> tuple[
        Float[Array, "batch height width cout"], Float[Array, "batch h w latent"], Float[Array, "batch h w latent"]
    ]:
        """Reconstructs pictures in [-1, 1] through a posterior sample; also returns its mean and log-variance."""
        mean, log_variance = self.encode(images)
        noise = jax.random.normal(rng, mean.shape)
        return self.decode(mean + jnp.exp(0.5 * log_variance) * noise), mean, log_variance

    def encode(
        self, images: Float[Array, "batch height width cin"]
    ) -> tuple[Float[Array, "batch h w latent"], Float[Array, "batch h w latent"]]:
        """Gives mean and log-variance, float32, of the latents of pictures in [-1, 1]."""
        moments = self.quant_conv(self.encoder(images)).astype(jnp.float32)
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(log_variance, *LOG_VARIANCE_RANGE)

    def decode(self, latents: Float[Array, "batch h w latent"]) -> Float[Array, "batch height width cout"]:
        """Gives pictures, float32 and nominally in [-1, 1], of unscaled latents."""
        return self.decoder(self.post_quant_conv(latents)).astype(jnp.float32)

    def scale(self, latents: Float[Array, "batch h w latent"]) -> Float[Array, "batch h w latent"]:
        """Latents as the UNet sees them, of about unit variance."""
        return latents * self.config.scaling_factor

    def unscale(self, latents: Float[Array, "batch h w latent"]) -> Float[Array, "batch h w latent"]:
        """The inverse of `scale`."""
        return latents / self.config.scaling_factor
