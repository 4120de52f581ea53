"""The codebook against averages written out one token after the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.recovery.quantizer import Quantizer, nearest_codes, perplexity, straight_through

BATCH, LENGTH = 8, 6
QUANTIZER = Quantizer(codes=5, dim=3, decay=0.9, dead_below=0.1)
KEYS = jax.random.split(jax.random.key(1), BATCH)


def _latents(seed=0):
    return jax.random.normal(jax.random.key(seed), (BATCH, LENGTH, 3))


def _step(codes, latents, keys=KEYS):
    codebook, _ = QUANTIZER.revived(codes)
    return QUANTIZER.updated(codes, latents, nearest_codes(latents, codebook), keys)


def test_the_nearest_code_is_chosen():
    rng = np.random.default_rng(0)
    latents, codebook = rng.normal(size=(4, 7, 3)).astype(np.float32), rng.normal(size=(9, 3)).astype(np.float32)
    far = np.linalg.norm(latents[:, :, None] - codebook, axis=-1)
    np.testing.assert_array_equal(nearest_codes(jnp.asarray(latents), jnp.asarray(codebook)), far.argmin(-1))


def test_the_gradient_passes_straight_through():
    latents, codes = _latents(), _latents(1)
    value, pull_back = jax.vjp(lambda z: straight_through(z, codes), latents)
    np.testing.assert_allclose(value, codes, atol=1e-6)
    np.testing.assert_array_equal(pull_back(codes)[0], codes)


def test_codes_are_moving_averages_of_what_chose_them():
    """The rule of van den Oord et al.: N ← γN + (1-γ)n, m ← γm + (1-γ)Σz, code = m/N, with sums over tokens."""
    codes = QUANTIZER.init(jax.random.key(0)) | {"counts": jnp.ones(5), "sums": _latents(3)[0, :5]}
    counts = np.full(5, BATCH * LENGTH / 5)
    sums = np.float64(codes["sums"]) * counts[:, None]
    for seed in range(3):
        latents = np.float64(_latents(seed))
        chosen = np.linalg.norm(latents[:, :, None] - sums / counts[:, None], axis=-1).argmin(-1)
        new_counts, new_sums = np.zeros(5), np.zeros((5, 3))
        for z, k in zip(latents.reshape(-1, 3), chosen.ravel(), strict=True):
            new_counts[k] += 1
            new_sums[k] += z
        counts, sums = 0.9 * counts + 0.1 * new_counts, 0.9 * sums + 0.1 * new_sums
        codes = _step(codes, _latents(seed))
    np.testing.assert_allclose(QUANTIZER.revived(codes)[0], sums / counts[:, None], rtol=1e-5)
    np.testing.assert_allclose(codes["counts"] * BATCH * LENGTH / 5, counts, rtol=1e-5)


def test_dead_codes_become_latents_of_the_last_batch():
    codes = QUANTIZER.init(jax.random.key(0))
    codes = _step(codes | {"counts": jnp.array([1, 1, 0.05, 0.05, 1])}, _latents(2))
    codes |= {"counts": jnp.array([1, 1, 0.05, 0.05, 1])}
    codebook, counts = QUANTIZER.revived(codes)
    np.testing.assert_allclose(counts, [1, 1, 0.2, 0.2, 1])
    np.testing.assert_allclose(codebook[:2], codes["sums"][:2], rtol=1e-6)
    flat = _latents(2).reshape(-1, 3)
    spares = codes["spare_sums"] / codes["spare_counts"][:, None]
    np.testing.assert_allclose(codebook[2:4], spares[2:4], rtol=1e-6)
    nearest = jnp.linalg.norm(flat[:, None] - spares, axis=-1)
    # each is one latent, or between the two likeliest of its place
    assert float(jnp.median(nearest.min(0))) < 0.1
    assert len(set(np.asarray(nearest.argmin(0)))) == 5


def test_without_a_spare_a_dead_code_stays():
    codes = QUANTIZER.init(jax.random.key(0)) | {"counts": jnp.full(5, 0.01)}
    np.testing.assert_allclose(QUANTIZER.revived(codes)[0], codes["sums"] / 0.01, rtol=1e-6)


@pytest.mark.parametrize("parts", [2, 8])
def test_the_mean_of_the_parts_of_a_batch_is_the_batch(parts):
    """What the train step does with micro-batches and devices, also when codes die."""
    whole = cut = QUANTIZER.init(jax.random.key(0))
    for seed in range(4):
        latents = _latents(seed)
        states = [_step(cut, latents[part::parts], KEYS[part::parts]) for part in range(parts)]
        cut = jax.tree.map(lambda *leaves: sum(leaves) / parts, *states)
        whole = _step(whole, latents)
    for name in whole:
        np.testing.assert_allclose(cut[name], whole[name], rtol=2e-5, atol=1e-30, err_msg=name)


def test_all_codes_are_used_after_some_steps():
    quantizer = Quantizer(codes=32, dim=3)
    codes = quantizer.init(jax.random.key(0))
    codes |= {"sums": codes["sums"] * 0.01 + 0.5}  # all in one place, far from most latents

    @jax.jit
    def step(codes, number):
        latents = jax.random.normal(jax.random.fold_in(jax.random.key(5), number), (16, 16, 3))
        codebook, _ = quantizer.revived(codes)
        indices = nearest_codes(latents, codebook)
        keys = jax.random.split(jax.random.key(number), 16)
        error = jnp.square(latents - codebook[indices]).mean()
        return quantizer.updated(codes, latents, indices, keys), error

    codes, first = step(codes, 0)
    for number in range(1, 150):
        codes, last = step(codes, number)
    assert int((codes["counts"] > quantizer.dead_below).sum()) >= 30
    assert last < 0.25 * first


def test_perplexity_is_the_number_of_equal_codes():
    assert float(perplexity(jnp.array([2.0, 2, 2, 0]))) == pytest.approx(3, rel=1e-6)
    assert float(perplexity(jnp.array([1.0, 3]))) == pytest.approx(4 / 27**0.25, rel=1e-6)
