"""Sampling trajectories against PyTorch diffusers for the same noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.samplers import DDIM, sample
from handjax.diffusion.schedules import NoiseSchedule
from tests.parity.sd_models import assert_equal_outputs, normal, to_nchw, to_nhwc, torch

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD1 = {**BETAS, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
SD2 = {**SD1, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
PLAIN = {**SD1, "beta_schedule": "linear", "set_alpha_to_one": True, "steps_offset": 0}


def network(z, t, xp):
    """A nonlinear stand-in for the UNet, the same in both frameworks."""
    return xp.tanh(1.3 * z + 0.001 * t) + 0.1 * z


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("document", [SD1, SD2, PLAIN], ids=["sd1", "sd2", "plain"])
def test_ddim_trajectory(document, eta):
    from diffusers import DDIMScheduler

    peer = DDIMScheduler(**document)
    peer.set_timesteps(20)
    schedule = NoiseSchedule.from_diffusers(dict(peer.config))
    sampler = DDIM(schedule, steps=20, eta=eta)
    np.testing.assert_array_equal(schedule.sampling_timesteps(20), peer.timesteps.numpy())

    start, rng = normal((2, 4, 6, 4), 0), jax.random.key(1)

    def denoise(z, t):
        return schedule.to_epsilon(network(z, t, jnp), z, t)

    got, _ = jax.jit(functools.partial(sample, sampler, denoise))(start, rng)
    z = to_nchw(start)
    for i, t in enumerate(peer.timesteps):
        noise = to_nchw(jax.random.normal(jax.random.fold_in(rng, i), start.shape))
        z = peer.step(network(z, t, torch), t, z, eta=eta, variance_noise=noise if eta else None).prev_sample
    assert_equal_outputs(got, to_nhwc(z))


@pytest.mark.parametrize("document", [SD1, SD2], ids=["sd1", "sd2"])
def test_training_noise(document):
    from diffusers import DDPMScheduler

    peer = DDPMScheduler(**{key: value for key, value in document.items() if key not in ("set_alpha_to_one",)})
    schedule = NoiseSchedule.from_diffusers(document)
    x0, noise, timesteps = normal((3, 2, 2, 4), 0), normal((3, 2, 2, 4), 1), np.array([0, 499, 999])
    arrays = (to_nchw(x0), to_nchw(noise), torch.from_numpy(timesteps))
    floats = jnp.asarray(timesteps, jnp.float32)
    assert_equal_outputs(schedule.add_noise(x0, noise, floats), to_nhwc(peer.add_noise(*arrays)), 1e-5)
    velocity = schedule.training_target(x0, noise, floats)
    expected = peer.get_velocity(*arrays) if document is SD2 else arrays[1]
    assert_equal_outputs(velocity, to_nhwc(expected), 1e-5)
