import jax.numpy as jnp
import numpy as np

from handjax.diffusion.inpainting import hide, inpainting_input, latent_mask


def test_latent_mask_keeps_a_single_pixel():
    mask = np.zeros((1, 16, 16, 1), np.float32)
    mask[0, 9, 3] = 1
    expected = np.zeros((4, 4))
    expected[2, 0] = 1
    np.testing.assert_array_equal(latent_mask(jnp.asarray(mask), 4)[0, :, :, 0], expected)


def test_masks_are_binarised_at_one_half():
    mask = jnp.array([0.49, 0.5]).reshape(1, 1, 2, 1)
    np.testing.assert_array_equal(latent_mask(mask, 1).ravel(), [0, 1])
    np.testing.assert_array_equal(hide(jnp.full((1, 1, 2, 3), -0.7), mask)[0, 0], np.float32([[-0.7] * 3, [0] * 3]))


def test_input_order_is_noisy_mask_hidden():
    stacked = inpainting_input(*(jnp.full((1, 2, 2, c), v) for c, v in ((4, 1.0), (1, 2.0), (4, 3.0))))
    np.testing.assert_array_equal(stacked[0, 0, 0], [1] * 4 + [2] + [3] * 4)
