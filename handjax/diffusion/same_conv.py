"""A stride-1 convolution that is fast on CPUs, forwards and backwards.

XLA's CPU backend runs direct convolutions of large pictures at the speed of the machine. Where channels are many and
pixels few enough to stay in cache, Winograd's algorithm needs fewer operations. Small pictures with wide kernels, the
lower half of a UNet, it runs at a quarter of the machine's speed: there the windows of all pixels are written next to
each other, which costs little where pixels are few, and the convolution is one matrix product.

It runs the weight gradient of a large picture at a fifth: it becomes a convolution with a picture-sized window. Here
it is one matrix product a kernel tap. Rows of the padded, flattened picture that lie `i·(W+p)+j` apart meet in
tap (i, j), so that each product reads a contiguous slice and nothing is gathered.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.diffusion.winograd import winograd_conv

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# Channels from which on another algorithm than XLA's is worth the time that its many operations take to compile.
WIDE = 256
# Above it Winograd's intermediate values no longer stay in cache.
WINOGRAD_PIXELS = 2**15


def conv(
    x: Float[Array, "batch height width cin"], kernel: Float[Array, "kh kw cin cout"]
) -> Float[Array, "batch height width cout"]:
    """Convolution with stride 1 and zero padding to the same size (odd kernels)."""
    return jax.lax.platform_dependent(x, kernel, cpu=fastest_on_cpu(x, kernel), default=library_conv)


def fastest_on_cpu(x: Any, kernel: Any) -> Callable[[Array, Array], Array]:
    """What computes `conv` fastest on CPUs, by shapes and dtype; bounds measured on two cores, at even sizes."""
    batch, height, width, cin = x.shape
    pixels, cout = batch * height * width, kernel.shape[-1]
    if min(cin, cout) < WIDE:
        return library_conv
    if pixels <= cout:
        return conv_by_windows
    even = height % 2 == width % 2 == 0
    if kernel.shape[:2] == (3, 3) and even and pixels <= WINOGRAD_PIXELS and x.dtype == jnp.float32:
        return winograd_conv
    return library_conv


def library_conv(
    x: Float[Array, "batch height width cin"], kernel: Float[Array, "kh kw cin cout"]
) -> Float[Array, "batch height width cout"]:
    """`conv` as XLA does it."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS)


def conv_by_windows(
    x: Float[Array, "batch height width cin"], kernel: Float[Array, "kh kw cin cout"]
) -> Float[Array, "batch height width cout"]:
    """`conv` as one matrix product of the windows of all pixels, which take no more memory than the kernel."""
    height, width = x.shape[1:3]
    kh, kw, cin, cout = kernel.shape
    padded = jnp.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
    taps = [padded[:, i : i + height, j : j + width] for i in range(kh) for j in range(kw)]
    return jnp.concatenate(taps, axis=-1) @ kernel.reshape(kh * kw * cin, cout)


@jax.custom_vjp
def same_conv(
    x: Float[Array, "batch height width cin"], kernel: Float[Array, "kh kw cin cout"]
) -> Float[Array, "batch height width cout"]:
    """`conv` with the weight gradient, too, chosen by the platform the program is lowered for.

    The products of the CPU's weight gradient follow `jax.default_matmul_precision`: at "bfloat16" its operands are
    rounded to bfloat16 and summed in float32, as TPUs do.
    """
    return conv(x, kernel)


def _forward(x, kernel):
    return conv(x, kernel), (x, kernel)


def _backward(residuals, cotangent):
    x, kernel = residuals
    kernel_gradient = jax.lax.platform_dependent(
        x,
        cotangent,
        cpu=functools.partial(kernel_gradient_by_taps, kernel_size=kernel.shape[:2]),
        default=lambda x, g: jax.vjp(lambda k: library_conv(x, k), kernel)[1](g)[0],
    )
    return conv(cotangent, kernel[::-1, ::-1].swapaxes(2, 3)), kernel_gradient


same_conv.defvjp(_forward, _backward)


def kernel_gradient_by_taps(
    x: Float[Array, "batch height width cin"],
    cotangent: Float[Array, "batch height width cout"],
    kernel_size: tuple[int, int],
) -> Float[Array, "kh kw cin cout"]:
    """Gradient of sum(conv(x, k)·cotangent) with respect to k: `dk[i, j] = Σ_p x[p + (i, j)]ᵀ cotangent[p]`.

    Args:
      x: the convolution's input.
      cotangent: gradient at its output.
      kernel_size: odd height and width of the kernel.

    Returns:
      The kernel's gradient, summed in float32, in the dtype of `x`.
    """
    kh, kw = kernel_size
    cin, cout = x.shape[-1], cotangent.shape[-1]
    rows = jnp.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
    pitch = rows.shape[2]
    rows = rows.reshape(-1, cin)
    used = rows.shape[0] - (kh - 1) * pitch - (kw - 1)
    grad = jnp.pad(cotangent, ((0, 0), (0, kh - 1), (0, kw - 1), (0, 0))).reshape(-1, cout)[:used].T
    if jax.config.jax_default_matmul_precision == "bfloat16":  # type: ignore[attr-defined]
        rows, grad = rows.astype(jnp.bfloat16), grad.astype(jnp.bfloat16)
    # Without the barrier XLA fuses padding and transposition into each of the products' operands.
    rows, grad = jax.lax.optimization_barrier((rows, grad))

    def tap(offset):
        window = jax.lax.dynamic_slice_in_dim(rows, offset, used)
        return jax.lax.dot_general(grad, window, (((1,), (0,)), ((), ())), preferred_element_type=jnp.float32)

    offsets = (jnp.arange(kh)[:, None] * pitch + jnp.arange(kw)).reshape(-1)
    return jax.lax.map(tap, offsets).swapaxes(1, 2).reshape(kh, kw, cin, cout).astype(x.dtype)
