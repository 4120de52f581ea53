"""The convolution of every network here: one place to choose how it is computed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from handjax.diffusion.same_conv import DIMENSIONS, same_conv

# PyTorch's default initialisation: uniform in ±1/√fan_in.
KERNEL_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv(nn.Module):
    """A 2-D convolution, NHWC, with parameters `kernel` (HWIO) and `bias`.

    Args:
        features: output channels.
        kernel_size: odd height and width of the kernel.
        stride: of both axes.
        padding: zeros (before, after) on both axes; None keeps the size at stride 1.
        kernel_init: of the kernel.
        use_bias: whether there is a bias.
        dtype: of the computation; parameters are float32.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: tuple[int, int] | None = None
    dtype: DTypeLike = jnp.float32
    kernel_init: nn.initializers.Initializer = KERNEL_INIT
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch height width cin"]) -> Float[Array, "batch h w cout"]:
        size = self.kernel_size
        kernel = self.param("kernel", self.kernel_init, (size, size, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else jnp.zeros(())
        x, kernel, bias = (jnp.asarray(a, self.dtype) for a in (x, kernel, bias))
        if size == 1 and self.stride == 1:
            return x @ kernel[0, 0] + bias
        if self.stride == 1 and self.padding is None:
            return same_conv(x, kernel) + bias
        padding = self.padding or (size // 2, size // 2)
        strides = (self.stride, self.stride)
        return jax.lax.conv_general_dilated(x, kernel, strides, (padding, padding), dimension_numbers=DIMENSIONS) + bias
