"""Sampling trajectories against PyTorch diffusers for the same noise."""

import functools
import inspect

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.samplers import DDIM, DDPM, LCM, DPMSolver, Euler, EulerAncestral
from handjax.diffusion.sampling import sample
from handjax.diffusion.schedules import NoiseSchedule
from handjax.errors import WeightsError
from tests.parity.sd_models import assert_equal_outputs, normal, to_nchw, to_nhwc, torch

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SD1 = {**BETAS, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
SD2 = {**SD1, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
ZERO_SNR = {**SD2, "rescale_betas_zero_snr": True}
PLAIN = {**SD1, "beta_schedule": "linear", "set_alpha_to_one": True, "steps_offset": 0}


def network(z, t, xp):
    """A nonlinear stand-in for the UNet, the same in both frameworks."""
    return xp.tanh(1.3 * z + 0.001 * t) + 0.1 * z


def ours(sampler, start, rng):
    def denoise(z, level):
        return sampler.schedule.to_x0(network(z, level.timestep, jnp), z, level)

    return jax.jit(functools.partial(sample, sampler, denoise))(start, rng)[0]


class Peer:
    """One of diffusers' schedulers, with our fresh noise in place of its own."""

    def __init__(self, name, document, steps, start, rng, **step):
        accepted = set(inspect.signature(getattr(diffusers, name)).parameters)
        self.scheduler = getattr(diffusers, name)(**{k: v for k, v in document.items() if k in accepted})
        self.scheduler.set_timesteps(steps)
        self.start, self.rng, self.step = start, rng, step

    def run(self, monkeypatch):
        """Returns the last latents."""
        z = to_nchw(self.start) * float(self.scheduler.init_noise_sigma)
        for number, t in enumerate(self.scheduler.timesteps):
            noise = to_nchw(jax.random.normal(jax.random.fold_in(self.rng, number), self.start.shape))
            monkeypatch.setattr(inspect.getmodule(type(self.scheduler)), "randn_tensor", lambda *a, n=noise, **k: n)
            prediction = network(self.scheduler.scale_model_input(z, t), t, torch)
            z = self.scheduler.step(prediction, t, z, return_dict=False, **self.step)[0]
        return to_nhwc(z)


START, RNG = normal((2, 4, 6, 4), 0), jax.random.key(1)
SPACINGS = ("leading", "trailing", "linspace")


def check(
    sampler_type, peer_name, document, monkeypatch, steps=20, peer_document=(), peer_step=(), atol=1e-4, **options
):
    peer = Peer(peer_name, {**document, **dict(peer_document)}, steps, START, RNG, **dict(peer_step))
    sampler = sampler_type(NoiseSchedule.from_diffusers({**dict(peer.scheduler.config), **document}), steps, **options)
    np.testing.assert_allclose(sampler.trajectory().timesteps, peer.scheduler.timesteps.numpy(), atol=1e-4)
    assert_equal_outputs(ours(sampler, START, RNG), peer.run(monkeypatch), atol)


@pytest.mark.parametrize("eta", [0.0, 0.7])
@pytest.mark.parametrize("document", [SD1, SD2, PLAIN], ids=["sd1", "sd2", "plain"])
def test_ddim_trajectory(document, eta, monkeypatch):
    check(DDIM, "DDIMScheduler", document, monkeypatch, peer_step={"eta": eta}, eta=eta)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize(
    ("sampler", "peer"),
    [(DDIM, "DDIMScheduler"), (Euler, "EulerDiscreteScheduler"), (DPMSolver, "DPMSolverMultistepScheduler")],
)
def test_zero_terminal_snr(sampler, peer, spacing, monkeypatch):
    document = {**ZERO_SNR, "timestep_spacing": spacing}
    check(sampler, peer, document, monkeypatch)
    first = sampler(NoiseSchedule.from_diffusers(document), 20).trajectory().sigmas[0]
    assert (first > 4000) == (spacing == "trailing") and np.isinf(first) == (spacing == "trailing" and sampler is DDIM)


@pytest.mark.parametrize("document", [SD1, SD2, PLAIN], ids=["sd1", "sd2", "plain"])
def test_ddpm_trajectory(document, monkeypatch):
    check(DDPM, "DDPMScheduler", document, monkeypatch)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("document", [SD1, SD2], ids=["sd1", "sd2"])
@pytest.mark.parametrize(
    ("sampler", "peer"),
    [
        (Euler, "EulerDiscreteScheduler"),
        (EulerAncestral, "EulerAncestralDiscreteScheduler"),
        (DPMSolver, "DPMSolverMultistepScheduler"),
    ],
)
def test_trajectories_of_sigma_samplers(sampler, peer, document, spacing, monkeypatch):
    check(sampler, peer, {**document, "timestep_spacing": spacing}, monkeypatch)


@pytest.mark.parametrize("steps", [5, 20])
@pytest.mark.parametrize("document", [SD1, SD2], ids=["sd1", "sd2"])
def test_dpm_solver_with_karras_levels(document, steps, monkeypatch):
    karras = {"use_karras_sigmas": True}
    check(DPMSolver, "DPMSolverMultistepScheduler", document, monkeypatch, steps, peer_document=karras, karras=True)


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_lcm_trajectory(steps, monkeypatch):
    check(LCM, "LCMScheduler", {**SD1, "set_alpha_to_one": True}, monkeypatch, steps)


@pytest.mark.parametrize("document", [SD1, ZERO_SNR], ids=["epsilon", "velocity"])
def test_min_snr_weights(document):
    from diffusers.training_utils import compute_snr

    schedule = NoiseSchedule.from_diffusers({**document, "rescale_betas_zero_snr": False})
    timesteps = np.array([0, 10, 300, 999])
    peer = diffusers.DDPMScheduler(**BETAS)
    snr = compute_snr(peer, torch.from_numpy(timesteps)).numpy()
    expected = np.minimum(snr, 5) / (snr if document is SD1 else snr + 1)
    np.testing.assert_allclose(schedule.min_snr_weight(jnp.asarray(timesteps, jnp.float32)), expected, rtol=1e-4)


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


def test_noise_cannot_be_predicted_without_signal():
    with pytest.raises(WeightsError, match="rescale_betas_zero_snr needs prediction_type 'v_prediction'"):
        NoiseSchedule.from_diffusers({**SD1, "rescale_betas_zero_snr": True})
