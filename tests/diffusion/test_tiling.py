"""Tiles cover the picture with weights that add up to one; memory is that of a tile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.configs import VAEConfig
from handjax.diffusion.networks import initial_params
from handjax.diffusion.tiling import axis_tiles, decode_tiled, encode_tiled
from handjax.diffusion.vae import VAE
from handjax.errors import ConfigError

TINY = VAE(VAEConfig(block_out_channels=(4, 8), norm_num_groups=2, sample_size=16))
PARAMS = jax.jit(lambda rng: initial_params(TINY, rng))(jax.random.key(0))


@pytest.mark.parametrize("length", [8, 9, 14, 20, 37])
@pytest.mark.parametrize(("overlap", "scale"), [(1, 1), (2, 2), (4, 8)])
def test_weights_add_up_to_one(length, overlap, scale):
    starts, weights = axis_tiles(length, 8, overlap, scale)
    total = np.zeros(length * scale)
    for start, row in zip(starts * scale, weights, strict=True):
        total[start : start + len(row)] += row
    assert weights.min() >= 0
    assert starts[0] == 0 and starts[-1] == length - 8 and np.diff(starts).max(initial=0) <= 8 - overlap
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_one_tile_is_the_whole_picture():
    latents, images = jax.random.normal(jax.random.key(1), (2, 6, 8, 4)), jnp.ones((1, 16, 12, 3))
    whole = jax.jit(lambda p, z: TINY.apply({"params": p}, z, method="decode"))(PARAMS, latents)
    np.testing.assert_allclose(jax.jit(lambda p, z: decode_tiled(TINY, p, z))(PARAMS, latents), whole, atol=1e-5)
    whole = TINY.apply({"params": PARAMS}, images, method="encode")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), encode_tiled(TINY, PARAMS, images), whole)


def test_memory_does_not_grow_with_the_number_of_tiles():
    def temporary(side):
        latents = jax.ShapeDtypeStruct((1, side, side, 4), jnp.float32)
        program = jax.jit(lambda p, z: decode_tiled(TINY, p, z)).lower(PARAMS, latents).compile()
        result = (2 * side) ** 2 * 3 * 4
        return program.memory_analysis().temp_size_in_bytes - result

    assert temporary(64) < 1.2 * temporary(16)


def test_overlap_beyond_half_a_tile_is_refused():
    with pytest.raises(ConfigError, match="tiles of 8 latents cannot overlap by 5; give 1 to 4"):
        decode_tiled(TINY, PARAMS, jnp.zeros((1, 16, 16, 4)), overlap=5)
