import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import norm

from handjax.activations import gelu

X = np.linspace(-9, 9, 20001)


def test_it_is_the_product_with_the_normal_distribution():
    np.testing.assert_allclose(gelu(jnp.asarray(X, jnp.float32)), X * norm.cdf(X), atol=2e-6)


def test_its_derivative_is_that_of_the_product():
    derivative = jax.vmap(jax.grad(gelu))(jnp.asarray(X, jnp.float32))
    np.testing.assert_allclose(derivative, norm.cdf(X) + X * norm.pdf(X), atol=2e-6)


def test_half_precision_is_only_that_of_what_it_gives():
    x = jnp.asarray(X, jnp.bfloat16)
    exact = np.asarray(x, np.float64) * norm.cdf(np.asarray(x, np.float64))
    assert gelu(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(gelu(x), np.float64), exact, rtol=2**-8, atol=2e-6)
