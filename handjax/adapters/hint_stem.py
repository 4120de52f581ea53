"""The small convolutional network that brings a condition picture to latent resolution."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

SAME_AS_TORCH = ((1, 1), (1, 1))
"""Padding 1 on every side; Flax's "SAME" pads strided convolutions on one side only."""


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
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, picture: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch latent_height latent_width out_channels"]:
        """Returns features at 1 / 2^(stages - 1) of the picture's size."""
        hidden = nn.silu(self._conv(self.channels[0], "conv_in")(picture))
        for stage, (narrow, wide) in enumerate(zip(self.channels, self.channels[1:], strict=False)):
            hidden = nn.silu(self._conv(narrow, f"blocks_{2 * stage}")(hidden))
            hidden = nn.silu(self._conv(wide, f"blocks_{2 * stage + 1}", stride=2)(hidden))
        kernel_init = nn.initializers.zeros if self.zero_output else nn.linear.default_kernel_init
        return self._conv(self.out_channels, "conv_out", kernel_init=kernel_init)(hidden)

    def _conv(self, features: int, name: str, stride: int = 1, kernel_init=nn.linear.default_kernel_init) -> nn.Conv:
        return nn.Conv(
            features,
            (3, 3),
            strides=(stride, stride),
            padding=SAME_AS_TORCH,
            kernel_init=kernel_init,
            dtype=self.dtype,
            name=name,
        )
