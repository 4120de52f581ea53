"""The small convolutional network that brings a condition picture to latent resolution."""

import itertools

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.diffusion.conv import KERNEL_INIT, Conv


class HintStem(nn.Module):
    """Reads a condition picture: one 3x3 convolution, then a plain and a stride-2 convolution a stage, then the output.

    Args:
        channels: channels of the stages; each stage after the first halves the size.
        out_channels: channels at latent resolution.
        zero_output: starts the output convolution at zero, as ControlNet does.
        dtype: dtype of the computation.

    Source:
        ControlNet (Zhang et al. 2023), the tiny network of section 3.3.
    """

    channels: tuple[int, ...]
    out_channels: int
    zero_output: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, picture: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch latent_height latent_width out_channels"]:
        """Returns features at 1 / 2^(stages - 1) of the picture's size."""
        hidden = nn.silu(Conv(self.channels[0], dtype=self.dtype, name="conv_in")(picture))
        for stage, (narrow, wide) in enumerate(itertools.pairwise(self.channels)):
            hidden = nn.silu(Conv(narrow, dtype=self.dtype, name=f"blocks_{2 * stage}")(hidden))
            hidden = nn.silu(Conv(wide, stride=2, dtype=self.dtype, name=f"blocks_{2 * stage + 1}")(hidden))
        kernel_init = nn.initializers.zeros if self.zero_output else KERNEL_INIT
        return Conv(self.out_channels, dtype=self.dtype, kernel_init=kernel_init, name="conv_out")(hidden)
