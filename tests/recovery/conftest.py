import jax
import pytest


@pytest.fixture(scope="package", autouse=True)
def quick_compilation():
    """These networks are tiny: compiling them well takes many times as long as running them."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
