import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from handjax.diffusion.same_conv import conv, kernel_gradient_by_taps, same_conv


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
    for ours, plain in zip(objective(same_conv), objective(conv), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-3)


def test_bfloat16_precision_rounds_only_the_kernel_gradient():
    x, kernel = draw(0, 2, 8, 6, 5), draw(1, 3, 3, 5, 4)
    gradients = jax.grad(lambda x, k: jnp.sum(same_conv(x, k) ** 2), argnums=(0, 1))
    exact = gradients(x, kernel)
    with jax.default_matmul_precision("bfloat16"):
        rounded = gradients(x, kernel)
    scale = jnp.abs(exact[1]).max()
    assert 1e-5 < jnp.abs(rounded[1] - exact[1]).max() / scale < 1e-2
