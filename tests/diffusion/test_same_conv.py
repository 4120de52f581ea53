import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from handjax.diffusion.same_conv import (
    conv,
    conv_by_windows,
    fastest_on_cpu,
    kernel_gradient_by_taps,
    library_conv,
    same_conv,
)
from handjax.diffusion.winograd import winograd_conv


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("kernel_size", [(1, 1), (3, 3), (3, 5)])
def test_kernel_gradient_equals_the_definition(kernel_size):
    x, cotangent = draw(0, 2, 5, 7, 3), draw(1, 2, 5, 7, 4)
    kh, kw = kernel_size
    padded = np.pad(np.float64(x), ((0, 0), (kh // 2,) * 2, (kw // 2,) * 2, (0, 0)))
    expected = np.zeros((kh, kw, 3, 4))
    for b in range(2):
        for i in range(3):
            for o in range(4):
                expected[:, :, i, o] += correlate(padded[b, ..., i], np.float64(cotangent[b, ..., o]), "valid")
    np.testing.assert_allclose(kernel_gradient_by_taps(x, cotangent, kernel_size), expected, atol=1e-4)


def test_gradients_equal_those_of_the_plain_convolution():
    x, kernel = draw(0, 2, 8, 6, 5), draw(1, 3, 3, 5, 4)

    def objective(f):
        return jax.grad(lambda x, k: jnp.sum(f(x, k) ** 2), argnums=(0, 1))(x, kernel)

    np.testing.assert_array_equal(same_conv(x, kernel), conv(x, kernel))
    for ours, plain in zip(objective(same_conv), objective(library_conv), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-3)


def test_bfloat16_precision_rounds_only_the_kernel_gradient():
    x, kernel = draw(0, 2, 8, 6, 5), draw(1, 3, 3, 5, 4)
    gradients = jax.grad(lambda x, k: jnp.sum(same_conv(x, k) ** 2), argnums=(0, 1))
    exact = gradients(x, kernel)
    with jax.default_matmul_precision("bfloat16"):
        rounded = gradients(x, kernel)
    scale = jnp.abs(exact[1]).max()
    assert 1e-5 < jnp.abs(rounded[1] - exact[1]).max() / scale < 1e-2


@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 6), (8, 5), (3, 1)])
def test_winograd_equals_the_definition(height, width):
    x, kernel = draw(0, 2, height, width, 5), draw(1, 3, 3, 5, 4)
    padded = np.pad(np.float64(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    expected = np.einsum("bhwcij,ijco->bhwo", windows, np.float64(kernel))
    np.testing.assert_allclose(winograd_conv(x, kernel), expected, atol=2e-5)


@pytest.mark.parametrize("kernel_size", [(1, 1), (3, 3), (5, 3)])
def test_windows_equal_the_library(kernel_size):
    x, kernel = draw(0, 2, 3, 4, 5), draw(1, *kernel_size, 5, 32)
    np.testing.assert_allclose(conv_by_windows(x, kernel), library_conv(x, kernel), atol=2e-5)


def test_windows_sum_in_float32():
    x, kernel = draw(0, 1, 8, 8, 320), draw(1, 3, 3, 320, 320) / 54
    exact = library_conv(x, kernel)
    half = [f(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)) - exact for f in (conv_by_windows, library_conv)]
    ours, library = (float(jnp.sqrt(jnp.square(error).mean())) for error in half)
    assert 1e-4 < ours < 1.2 * library


@pytest.mark.parametrize(
    ("shape", "kernel", "dtype", "expected"),
    [
        ((1, 64, 64, 320), (3, 3, 320, 320), jnp.float32, winograd_conv),
        ((1, 64, 64, 320), (3, 3, 320, 320), jnp.bfloat16, library_conv),  # its transforms would round too much
        ((1, 65, 64, 320), (3, 3, 320, 320), jnp.float32, library_conv),
        ((1, 64, 64, 320), (5, 5, 320, 320), jnp.float32, library_conv),
        ((1, 64, 64, 320), (3, 3, 320, 4), jnp.float32, library_conv),
        ((1, 512, 512, 128), (3, 3, 128, 128), jnp.float32, library_conv),
        ((1, 24, 24, 64), (3, 3, 64, 64), jnp.float32, library_conv),
        ((1, 16, 16, 1280), (3, 3, 1280, 1280), jnp.float32, conv_by_windows),
    ],
)
def test_the_fastest_is_chosen_by_shape(shape, kernel, dtype, expected):
    chosen = fastest_on_cpu(jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct(kernel, dtype))
    assert chosen is expected


@pytest.mark.parametrize("size", [18, 4])  # by Winograd, by windows
def test_gradients_of_what_is_chosen_equal_the_library(size):
    x, kernel = draw(0, 1, size, size, 256), draw(1, 3, 3, 256, 256) / 48

    def objective(f):
        return jax.grad(lambda x, k: jnp.sum(f(x, k) ** 2), argnums=(0, 1))(x, kernel)

    for ours, library in zip(objective(same_conv), objective(library_conv), strict=True):
        np.testing.assert_allclose(ours, library, atol=1e-4 * float(jnp.abs(library).max()))
