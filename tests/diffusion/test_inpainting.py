import jax
import jax.numpy as jnp
import numpy as np

from handjax.diffusion.configs import TextConfig, UNetConfig, VAEConfig
from handjax.diffusion.inpainting import (
    Painter,
    add_training_noise,
    drop_captions,
    encode_pair,
    hide,
    inpainting_input,
    latent_mask,
)
from handjax.diffusion.model import StableDiffusion
from handjax.diffusion.samplers import DDIM
from handjax.diffusion.schedules import NoiseSchedule
from handjax.diffusion.text_encoder import TextEncoder
from handjax.diffusion.tokenizer import Tokenizer
from handjax.diffusion.unet import UNet
from handjax.diffusion.vae import VAE

SCHEDULE = NoiseSchedule()


class PixelModel(StableDiffusion):
    """Its latents are every other pixel; its prediction is a tenth of the noisy latents and of the context."""

    def predict(self, sample, timesteps, context, shift=0.0, word_bias=None):
        return 0.1 * (sample[..., :4] + context.mean(axis=(1, 2))[:, None, None, None]) + shift

    def decode(self, latents):
        return jnp.repeat(jnp.repeat(latents[..., :3], 2, axis=1), 2, axis=2)

    def encode(self, images, rng=None):
        return jnp.concatenate([images, images[..., :1]], axis=-1)[:, ::2, ::2]


NETWORKS = UNet(UNetConfig()), VAE(VAEConfig(block_out_channels=(4, 4))), TextEncoder(TextConfig())
MODEL = PixelModel(None, None, None, *NETWORKS, SCHEDULE, Tokenizer(""))


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


def noisy_examples(keys):
    images = jnp.linspace(-1, 1, 3 * 64 * 3).reshape(3, 8, 8, 3)
    mask = jnp.zeros((3, 8, 8, 1)).at[:, 2:4].set(1)
    return images, mask, add_training_noise(MODEL, *encode_pair(MODEL, images, mask), mask, keys)


def test_painter_holds_what_is_away_from_the_mask():
    images = jnp.linspace(-1, 1, 2 * 24 * 24 * 3).reshape(2, 24, 24, 3)
    mask = jnp.zeros((2, 24, 24, 1)).at[:, 9, 9].set(1)
    noise = jax.random.normal(jax.random.key(0), (2, 12, 12, 4))
    context = jnp.ones((2, 3, 5))

    def paint(hold):
        painter = Painter(DDIM(SCHEDULE, 4), 1.0, hold)
        return painter(MODEL, images, mask, context, context, noise, jax.random.key(1))

    known = np.ones((24, 24), bool)
    known[4:14, 4:14] = False  # two cells on every side of cell (4, 4)
    kept = MODEL.decode(MODEL.encode(hide(images, mask)))
    np.testing.assert_allclose(paint(True)[:, known], kept[:, known], atol=1e-6)
    np.testing.assert_array_equal(paint(True)[:, 6:12, 6:12], paint(False)[:, 6:12, 6:12])
    assert np.abs(paint(False) - kept)[:, known].mean() > 0.1


def test_guidance_strengthens_residuals_as_it_does_the_prompt():
    images, mask = jnp.zeros((1, 8, 8, 3)), jnp.ones((1, 8, 8, 1))
    noise, key = jax.random.normal(jax.random.key(0), (1, 4, 4, 4)), jax.random.key(1)
    given = MODEL, images, mask, jnp.ones((1, 3, 5)), jnp.ones((1, 3, 5)), noise, key
    guided = Painter(DDIM(SCHEDULE, 4), 3.0)(*given, residuals={"shift": jnp.full((1, 1, 1, 1), 0.2)})
    plain = Painter(DDIM(SCHEDULE, 4), 1.0)(*given, residuals={"shift": jnp.full((1, 1, 1, 1), 0.6)})
    np.testing.assert_allclose(guided, plain, atol=1e-4)


def test_less_strength_begins_with_the_noised_picture():
    images, mask = jnp.linspace(-1, 1, 8 * 8 * 3).reshape(1, 8, 8, 3), jnp.ones((1, 8, 8, 1))
    noise, context, key = jax.random.normal(jax.random.key(0), (1, 4, 4, 4)), jnp.ones((1, 3, 5)), jax.random.key(1)
    sampler = DDIM(SCHEDULE, 8)
    got = Painter(sampler, 1.0, strength=0.25)(MODEL, images, mask, context, context, noise, key)
    z = SCHEDULE.add_noise(MODEL.encode(images), noise, jnp.asarray(sampler.trajectory().timesteps[6:7]))
    for sigma, after in zip(*(values[6:] for values in sampler.trajectory()[1:]), strict=True):
        epsilon = MODEL.predict(z, None, context)
        x0 = np.sqrt(1 + sigma**2) * z - sigma * epsilon
        z = (x0 + after * epsilon) / np.sqrt(1 + after**2)
    np.testing.assert_allclose(got, MODEL.decode(z), atol=1e-5)


def test_training_noise_is_that_of_the_drawn_timestep():
    images, mask, noisy = noisy_examples(jax.random.split(jax.random.key(0), 3))
    latents = np.float64(MODEL.encode(images))
    alpha = SCHEDULE.alphas_cumprod[np.int32(noisy.timesteps)][:, None, None, None]
    expected = np.sqrt(alpha) * latents + np.sqrt(1 - alpha) * noisy.target
    np.testing.assert_allclose(noisy.sample[..., :4], expected, atol=1e-5)
    np.testing.assert_array_equal(noisy.sample[..., 4:5], noisy.mask)
    np.testing.assert_array_equal(noisy.mask[0, :, 0, 0], [0, 1, 0, 0])
    np.testing.assert_array_equal(noisy.sample[..., 5:], MODEL.encode(images * (1 - mask)))


def test_noise_belongs_to_the_key_of_an_example():
    keys = jax.random.split(jax.random.key(0), 3)
    _, _, noisy = noisy_examples(keys)
    _, _, turned = noisy_examples(keys[::-1])
    np.testing.assert_array_equal(noisy.target, turned.target[::-1])
    np.testing.assert_array_equal(noisy.timesteps, turned.timesteps[::-1])


def test_timesteps_are_uniform_over_the_schedule():
    keys = jax.random.split(jax.random.key(1), 4000)
    latents = jnp.zeros((4000, 1, 1, 4))
    timesteps = np.asarray(add_training_noise(MODEL, latents, latents, jnp.zeros((4000, 2, 2, 1)), keys).timesteps)
    assert timesteps.min() >= 0 and timesteps.max() <= 999
    np.testing.assert_allclose(np.quantile(timesteps, [0.25, 0.5, 0.75]), [250, 500, 750], atol=30)


def test_captions_are_dropped_at_the_given_rate():
    ids = jnp.arange(2, 4002)[:, None] * jnp.ones((1, 3), jnp.int32)
    dropped = drop_captions(ids, jnp.array([0, 1, 1]), 0.1, jax.random.split(jax.random.key(0), 4000))
    is_empty = (dropped == jnp.array([0, 1, 1])).all(axis=1)
    np.testing.assert_array_equal(dropped[~is_empty], ids[~is_empty])
    assert abs(is_empty.mean() - 0.1) < 0.02
