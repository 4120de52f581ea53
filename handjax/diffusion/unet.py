"""The denoising UNet of Stable Diffusion 1.x and 2.x."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.diffusion.blocks import UpBlock, embed_time, way_down
from handjax.diffusion.configs import UNetConfig
from handjax.diffusion.conv import Conv
from handjax.diffusion.layers import GroupNorm
from handjax.diffusion.transformer import Attending


class UNet(nn.Module):
    """Predicts the noise (or velocity) in latents; parameter names are those of diffusers' UNet2DConditionModel.

    Args:
        config: sizes.
        dtype: of the computation; parameters, softmax and normalisation statistics are float32.
    """

    config: UNetConfig
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        sample: Float[Array, "batch height width cin"],
        timesteps: Float[Array, " batch"],
        context: Float[Array, "batch words embed"],
        mid_residual: Float[Array, "batch h w channels"] | None = None,
        down_residuals: tuple[Float[Array, "batch _h _w _c"], ...] | None = None,
        word_bias: Float[Array, "batch words"] | None = None,
    ) -> Float[Array, "batch height width cout"]:
        """Denoises once.

        Args:
            sample: noisy latents; for inpainting also the latent mask and the masked picture's latents (DECISIONS B1).
            timesteps: in [0, 1000), float32.
            context: text embedding.
            mid_residual: added to the mid block's output.
            down_residuals: added to the skip connections, from the finest, `conv_in`'s output first.
            word_bias: added to the scores of the words in all cross-attention; None is 0.

        Returns:
            The prediction in float32.
        """
        config, dtype = self.config, self.dtype
        levels = range(len(config.block_out_channels))
        time, context = embed_time(config, timesteps, dtype), context.astype(dtype)
        x = Conv(config.block_out_channels[0], dtype=dtype, name="conv_in")(sample)
        attending = Attending(word_bias)
        x, skips = way_down(config, x, time, context, dtype, attending)
        if mid_residual is not None:
            x += mid_residual.astype(dtype)
        if down_residuals is not None:
            skips = [skip + extra.astype(dtype) for skip, extra in zip(skips, down_residuals, strict=True)]

        for i, level in enumerate(reversed(levels)):
            used = config.layers_per_block + 1
            skips, here = skips[:-used], tuple(skips[-used:])
            size = (skips[-1].shape[1], skips[-1].shape[2]) if skips else None
            x = UpBlock(config, level, dtype, name=f"up_blocks_{i}")(x, time, context, here, size, attending)
        x = nn.silu(GroupNorm(config.norm_num_groups, config.norm_eps, dtype, name="conv_norm_out")(x))
        return Conv(config.out_channels, dtype=dtype, name="conv_out")(x).astype(jnp.float32)
