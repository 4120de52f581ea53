import jax.numpy as jnp
import numpy as np

from handjax.adapters.losses import keypoint_aware_loss, keypoint_mask, masked_mse

RNG = np.random.default_rng(0)


def test_masked_mse_divides_by_the_samples_own_mask():
    predicted, noise = RNG.normal(size=(2, 2, 4, 4, 3)).astype(np.float32)
    mask = np.zeros((2, 4, 4, 1), np.float32)
    mask[0, :2] = 1
    mask[1, 3, 3] = 1
    first = np.mean((predicted[0, :2] - noise[0, :2]) ** 2)
    second = np.mean((predicted[1, 3, 3] - noise[1, 3, 3]) ** 2)
    total, weight = masked_mse(jnp.asarray(predicted), jnp.asarray(noise), jnp.asarray(mask))
    np.testing.assert_allclose(total / weight, (first + second) / 2, rtol=1e-6)


def test_masked_mse_of_an_empty_mask_is_zero():
    total, weight = masked_mse(jnp.ones((3, 4, 4, 2)), jnp.zeros((3, 4, 4, 2)), jnp.zeros((3, 4, 4, 1)))
    assert (total, weight) == (0, 3)


def test_keypoint_mask_is_discs_of_three_percent_of_the_box():
    keypoints = np.full((1, 21, 2), 64.0, np.float32)
    keypoints[0, 1] = [20.0, 100.0]
    mask = np.asarray(keypoint_mask(jnp.asarray(keypoints), jnp.array([200.0]), 128, 128))[0]
    y, x = np.mgrid[:128, :128] + 0.5
    expected = (np.hypot(x - 64, y - 64) <= 6) | (np.hypot(x - 20, y - 100) <= 6)
    np.testing.assert_array_equal(mask, expected)


def test_keypoint_mask_never_loses_a_point_on_a_coarse_map():
    keypoints = RNG.uniform(0, 96, size=(1, 21, 2)).astype(np.float32)
    mask = np.asarray(keypoint_mask(jnp.asarray(keypoints), jnp.array([10.0]), 96, 12))[0]
    for x, y in keypoints[0]:
        assert mask[int(y // 8), int(x // 8)] == 1
    assert mask.sum() <= 4 * 21


def test_keypoint_mask_ignores_points_outside_the_picture():
    assert not keypoint_mask(jnp.full((1, 21, 2), -40.0), jnp.array([60.0]), 96, 12).any()


def test_keypoint_aware_loss_skips_samples_without_keypoints():
    attention, mask = RNG.uniform(size=(2, 3, 4, 4)).astype(np.float32)
    valid = jnp.array([True, False, True])
    expected = np.square(attention - mask)[[0, 2]].sum(axis=(1, 2))
    total, weight = keypoint_aware_loss(jnp.asarray(attention), jnp.asarray(mask), valid)
    np.testing.assert_allclose([total, weight], [expected.sum() / 16, 2], rtol=1e-6)
    total, weight = keypoint_aware_loss(jnp.asarray(attention), jnp.asarray(mask), valid, "sum")
    np.testing.assert_allclose([total, weight], [expected.sum(), 2], rtol=1e-6)
