"""Guidance and the guide hook."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.samplers import DDIM, SAMPLERS, noise_in
from handjax.diffusion.sampling import compose_guides, guided_denoise, hold_outside, sample
from handjax.diffusion.schedules import NoiseLevel, NoiseSchedule

SCHEDULE = NoiseSchedule()
Z = jax.random.normal(jax.random.key(0), (2, 4, 4, 4))


def predict(z, timesteps, inputs):
    return z * inputs["gain"][:, None, None, None] + timesteps[:, None, None, None] / 1000


CONDITIONAL, UNCONDITIONAL = {"gain": jnp.array([0.5, 0.7])}, {"gain": jnp.array([0.2, 0.3])}


@pytest.mark.parametrize("name", sorted(SAMPLERS))
def test_perfect_denoiser_recovers_the_picture(name):
    x0 = jax.random.normal(jax.random.key(1), Z.shape)

    schedule = NoiseSchedule(set_alpha_to_one=True)

    def denoise(z, level):
        noise = (z * jnp.sqrt(1 + level.sigma**2) - x0) / level.sigma
        return schedule.to_x0(noise, z, level)

    sampler = SAMPLERS[name](schedule, steps=10)
    got, _ = jax.jit(lambda z: sample(sampler, denoise, z, jax.random.key(2)))(Z)
    # a consistency model's boundary condition mixes a little of the noisy latents in at timesteps above 0
    np.testing.assert_allclose(got, x0, atol=1e-2 if name == "lcm" else 1e-4)


class Variants(chex.TestCase):
    """A step is pure: whatever runs it, exact clean latents keep their exact noise."""

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_a_step_of_a_deterministic_sampler_follows_the_flow(self):
        x0, noise = jax.random.normal(jax.random.key(1), Z.shape), Z
        level, following = NoiseLevel(jnp.float32(400), jnp.float32(1.5)), jnp.float32(0.8)
        z = (x0 + 1.5 * noise) / np.sqrt(1 + 1.5**2)
        for name in ("ddim", "euler", "dpm"):
            sampler = SAMPLERS[name](SCHEDULE)
            _, got = self.variant(sampler.step)(sampler.remember(z), z, level, following, x0, 0 * noise)
            np.testing.assert_allclose(got, (x0 + 0.8 * noise) / np.sqrt(1 + 0.8**2), atol=1e-5)


def test_classifier_free_guidance():
    level = NoiseLevel(jnp.float32(400), jnp.float32(1.5))
    batch = jnp.full(2, level.timestep)
    conditional, unconditional = predict(Z, batch, CONDITIONAL), predict(Z, batch, UNCONDITIONAL)
    got = guided_denoise(predict, SCHEDULE, CONDITIONAL, UNCONDITIONAL, 7.5)(Z, level)
    noise = unconditional + 7.5 * (conditional - unconditional)
    np.testing.assert_allclose(got, np.sqrt(1 + level.sigma**2) * Z - level.sigma * noise, rtol=1e-5, atol=1e-5)
    plain = guided_denoise(predict, SCHEDULE, CONDITIONAL, UNCONDITIONAL, 1.0)(Z, level)
    np.testing.assert_allclose(plain, np.sqrt(1 + level.sigma**2) * Z - level.sigma * conditional, rtol=1e-5, atol=1e-5)


def test_a_held_picture_stays_outside_the_mask():
    x0 = jax.random.normal(jax.random.key(1), Z.shape)
    mask = jnp.zeros((2, 4, 4, 1)).at[:, :2].set(1)
    denoise = guided_denoise(predict, SCHEDULE, CONDITIONAL, UNCONDITIONAL, 1.0)
    sampler = SAMPLERS["euler"](SCHEDULE, 5)
    free, _ = sample(sampler, denoise, Z, jax.random.key(2))
    held, _ = sample(sampler, denoise, Z, jax.random.key(2), hold=hold_outside(x0, mask))
    np.testing.assert_array_equal(held[:, 2:], x0[:, 2:])
    np.testing.assert_allclose(held[:, :2], free[:, :2], atol=1e-5)  # this network sees each pixel alone


def test_guides_see_every_step_and_compose_in_order():
    denoise = guided_denoise(predict, SCHEDULE, CONDITIONAL, UNCONDITIONAL, 3.0)

    def count(carry, z, level, x0, denoise):
        return carry.at[0].add(1).at[1].set(level.timestep), x0

    def descend(carry, z, level, x0, denoise):
        gradient = jax.grad(lambda z: jnp.square(denoise(z, level)).sum())(z)
        return carry + jnp.abs(gradient).mean(), x0 + 0.1 * gradient

    def double(carry, z, level, x0, denoise):
        return carry, 2 * x0

    sampler = DDIM(SCHEDULE, steps=5)
    plain, nothing = sample(sampler, denoise, Z, jax.random.key(2))
    assert nothing is None
    watched, carry = sample(sampler, denoise, Z, jax.random.key(2), count, jnp.zeros(2))
    np.testing.assert_array_equal(watched, plain)
    np.testing.assert_array_equal(carry, [5, 1])

    both = compose_guides(descend, double)
    got, (strength, _) = sample(sampler, denoise, Z, jax.random.key(2), both, (jnp.zeros(()), None))
    other, _ = sample(sampler, denoise, Z, jax.random.key(2), compose_guides(double, descend), (None, jnp.zeros(())))
    assert strength > 0
    assert np.abs(got - plain).max() > 1e-2 and np.abs(got - other).max() > 1e-2


@pytest.mark.parametrize("name", ["ddim", "ddpm", "euler_ancestral"])
def test_a_step_taken_again_goes_back_to_its_noise_level(name):
    x0 = jnp.full((1, 32, 32, 4), 0.5)
    sampler = SAMPLERS[name](NoiseSchedule(), 8)

    def watch(carry, z, level, seen, denoise):
        count, sizes = carry
        return (count + 1, sizes.at[count].set(noise_in(z, x0, level.sigma).std())), seen

    def times(level, carry):
        return jnp.full((1, 1, 1, 1), jnp.where(level.timestep > 500, 3, 1))

    timesteps = sampler.trajectory().timesteps
    noise = jax.random.normal(jax.random.key(0), x0.shape)
    carry = (jnp.int32(0), jnp.zeros(40))
    z, (count, sizes) = sample(sampler, lambda z, level: x0, noise, jax.random.key(1), watch, carry, repeats=times)
    assert count == 3 * (timesteps > 500).sum() + (timesteps <= 500).sum()
    np.testing.assert_allclose(sizes[: int(count)], 1, atol=0.05)
    np.testing.assert_allclose(z, x0, atol=0.2)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_cells_that_are_not_taken_again_stay(eta):
    first = jnp.zeros((2, 4, 4, 1), jnp.int32).at[0, 1:3].set(1)
    guide = lambda carry, z, level, x0, denoise: (carry + first, x0)  # noqa: E731
    times = lambda level, carry: jnp.where((carry > 0) & (level.timestep > 300), 4, 1)  # noqa: E731
    denoise = lambda z, level: jnp.tanh(z)  # noqa: E731
    sampler, z = DDIM(SCHEDULE, 5, eta), jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    plain, _ = sample(sampler, denoise, z, jax.random.key(1))
    settled, calls = sample(sampler, denoise, z, jax.random.key(1), guide, 0 * first, repeats=times)
    again = np.broadcast_to(first > 0, z.shape)
    # another program rounds the last bits otherwise
    np.testing.assert_allclose(settled[~again], plain[~again], rtol=0, atol=1e-6)
    assert (np.abs(settled - plain)[again] > 0).all()
    late = int((sampler.trajectory().timesteps > 300).sum())
    assert int(calls.max()) == 4 * late + 5 - late


def test_eta_adds_noise_that_the_key_decides():
    denoise = guided_denoise(predict, SCHEDULE, CONDITIONAL, UNCONDITIONAL, 1.0)
    draws = ((0.0, 1), (0.0, 2), (1.0, 1), (1.0, 2))
    runs = [sample(DDIM(SCHEDULE, 5, eta), denoise, Z, jax.random.key(key))[0] for eta, key in draws]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.abs(runs[2] - runs[3]).max() > 0.1
