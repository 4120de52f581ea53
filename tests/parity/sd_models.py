"""Small PyTorch models whose weights make every branch count: those of `launch.parity`."""

import jax
import numpy as np
import pytest

from launch import peers

torch = pytest.importorskip("torch")

UNET_1 = {**peers.TINY_UNET_1, "in_channels": 9}
UNET_2 = {**peers.TINY_UNET_2, "in_channels": 4}
VAE = peers.TINY_VAE
TEXT = peers.TINY_TEXT

redraw = peers.redraw
flax_variables = peers.flax_variables
to_nchw = peers.to_nchw
to_nhwc = peers.to_nhwc


def normal(shape, seed):
    return jax.random.normal(jax.random.key(seed), shape)


def assert_equal_outputs(ours, theirs, bound=1e-4):
    """Equal in float32 up to the order of sums, on an output that is not trivially small."""
    assert np.std(theirs) > 0.1
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=bound, rtol=0)
