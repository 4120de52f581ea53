"""Shapes and reach of VQ-MANO's networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.hand.rotations import axis_angle_to_matrix
from handjax.recovery.vq_mano import TOKEN_COUNTS, VQMano


@pytest.fixture(scope="module")
def rotations():
    return axis_angle_to_matrix(jax.random.normal(jax.random.key(0), (2, 16, 3)))


@pytest.mark.parametrize("tokens", TOKEN_COUNTS)
def test_each_number_of_tokens_gives_rotations_again(tokens, rotations):
    network = VQMano(tokens=tokens, width=8, blocks=1, dim=4)
    params = network.init(jax.random.key(1), rotations)
    latents = network.apply(params, rotations, method="encode")
    assert latents.shape == (2, tokens, 4)
    decoded = network.apply(params, latents, method="decode")
    np.testing.assert_allclose(decoded @ decoded.mT, np.broadcast_to(np.eye(3), (2, 16, 3, 3)), atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.det(decoded), 1, atol=1e-5)


@pytest.mark.parametrize("tokens", [16, 64])
def test_tokens_stand_in_the_order_of_the_joints(tokens, rotations):
    """With positive kernels, what a joint moves lies about its own tokens."""
    network = VQMano(tokens=tokens, width=4, blocks=0, dim=4)
    params = jax.tree.map(lambda x: jnp.abs(x) + 0.1 if x.ndim > 1 else x, network.init(jax.random.key(1), rotations))

    def latents(turns):
        return network.apply(params, turns, method="encode").sum((0, 2))

    reach = np.abs(jax.jacobian(latents)(rotations)).sum((1, 3, 4))
    share = tokens // 16
    centers = (reach * (np.arange(tokens)[:, None] + 0.5)).sum(0) / reach.sum(0)
    inner = slice(5, 11)
    np.testing.assert_allclose(centers[inner], (np.arange(16)[inner] + 0.5) * share, atol=share / 2)
