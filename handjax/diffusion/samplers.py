"""From noise to latents: which noise levels a sampler visits, and how it goes from one to the next.

All samplers work on variance-preserving latents, z = (x0 + σ·ε) / √(1 + σ²), which are what the network sees; those
that the literature writes in x0 + σ·ε (Euler) are rescaled.
"""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.diffusion.schedules import NoiseLevel, NoiseSchedule, scales

Latents = Float[Array, "batch height width channels"]
Sigma = Float[Array, ""]
KARRAS_RHO = 7.0


class Trajectory(NamedTuple):
    """One entry a step: the timestep the network is told, σ of the latents it sees, σ of the latents it leaves."""

    timesteps: Float[np.ndarray, " steps"]
    sigmas: Float[np.ndarray, " steps"]
    next_sigmas: Float[np.ndarray, " steps"]


@dataclasses.dataclass(frozen=True)
class Sampler(abc.ABC):
    """What all samplers have in common.

    Args:
        schedule: the noise that the network was trained on.
        steps: network evaluations.
    """

    schedule: NoiseSchedule
    steps: int = 50

    @abc.abstractmethod
    def trajectory(self) -> Trajectory:
        """The levels, noisiest first."""

    def start(self, noise: Latents) -> Latents:
        """Scales standard normal noise to the first level."""
        return noise

    def remember(self, z: Latents) -> Any:
        """What the first step is told of the steps before it: an array or a tuple of arrays."""
        return ()

    @abc.abstractmethod
    def step(
        self, memory: Any, z: Latents, level: NoiseLevel, next_sigma: Sigma, x0: Latents, noise: Latents
    ) -> tuple[Any, Latents]:
        """Goes to the next level.

        Args:
            memory: of the steps before.
            z: latents at `level`.
            level: where the step starts.
            next_sigma: where it ends.
            x0: the clean latents that the network sees in `z`.
            noise: fresh standard normal noise; deterministic samplers leave it.

        Returns:
            The memory for the next step, and the latents at `next_sigma`.
        """


def noise_in(z: Latents, x0: Latents, sigma: Sigma) -> Latents:
    """What is left of `z` when the clean latents are taken out, as standard normal noise; σ above 0."""
    signal, noise = scales(sigma)
    return (z - signal * x0) / noise


@dataclasses.dataclass(frozen=True)
class DDIM(Sampler):
    """Denoising diffusion implicit models.

    Args:
        eta: 0 is deterministic, 1 as noisy as DDPM.

    Source:
        Song et al. 2021, Eq. 12 and 16.
    """

    eta: float = 0.0

    def trajectory(self) -> Trajectory:
        timesteps = self.schedule.sampling_timesteps(self.steps)
        previous = timesteps - self.schedule.num_train_timesteps // self.steps
        last = self.schedule.final_sigma
        return Trajectory(
            timesteps,
            self.schedule.exact_sigma_at(timesteps),
            np.where(previous < 0, last, self.schedule.exact_sigma_at(previous)),
        )

    def step(self, memory, z, level, next_sigma, x0, noise):
        signal, next_signal = scales(level.sigma)[0], scales(next_sigma)[0]
        alpha, next_alpha = jnp.square(signal), jnp.square(next_signal)
        variance = jnp.square(self.eta) * (1 - next_alpha) / (1 - alpha) * (1 - alpha / next_alpha)
        direction = jnp.sqrt(jnp.maximum(1 - next_alpha - variance, 0)) * noise_in(z, x0, level.sigma)
        return memory, next_signal * x0 + direction + jnp.sqrt(variance) * noise


@dataclasses.dataclass(frozen=True)
class DDPM(Sampler):
    """Denoising diffusion probabilistic models: ancestral sampling of the posterior.

    Source:
        Ho et al. 2020, Eq. 6 and 7.
    """

    def trajectory(self) -> Trajectory:
        timesteps = self.schedule.sampling_timesteps(self.steps)
        previous = timesteps - self.schedule.num_train_timesteps // self.steps
        next_sigmas = np.where(previous < 0, 0, self.schedule.exact_sigma_at(previous))
        return Trajectory(timesteps, self.schedule.exact_sigma_at(timesteps), next_sigmas)

    def step(self, memory, z, level, next_sigma, x0, noise):
        alpha, next_alpha = (jnp.square(scales(sigma)[0]) for sigma in (level.sigma, next_sigma))
        ratio = alpha / next_alpha
        mean = jnp.sqrt(next_alpha) * (1 - ratio) * x0 + jnp.sqrt(ratio) * (1 - next_alpha) * z
        variance = (1 - next_alpha) / (1 - alpha) * (1 - ratio)
        return memory, mean / (1 - alpha) + jnp.sqrt(variance) * noise


@dataclasses.dataclass(frozen=True)
class Euler(Sampler):
    """Euler's method on the probability flow.

    Source:
        Karras et al. 2022, algorithm 1 without churn; timesteps as in diffusers.
    """

    def trajectory(self) -> Trajectory:
        timesteps = self.schedule.sampling_timesteps(self.steps, rounded=False)
        sigmas = self.schedule.sigma_at(timesteps)
        return Trajectory(timesteps, sigmas, np.append(sigmas[1:], 0))

    def start(self, noise):
        if self.schedule.timestep_spacing == "leading":
            return noise
        return scales(jnp.asarray(self.trajectory().sigmas[0]))[1] * noise

    def step(self, memory, z, level, next_sigma, x0, noise):
        return memory, self._move(z, level, x0, next_sigma, next_sigma)

    def _move(self, z, level, x0, to, next_sigma):
        """Follows the flow to the noise level `to`; the result is scaled for `next_sigma`."""
        return scales(next_sigma)[0] * (x0 + to * noise_in(z, x0, level.sigma))


@dataclasses.dataclass(frozen=True)
class EulerAncestral(Euler):
    """Euler's method with fresh noise in every step.

    Source:
        The variance of Song et al. 2021, Eq. 16 at eta 1, split as in k-diffusion.
    """

    def step(self, memory, z, level, next_sigma, x0, noise):
        up = next_sigma * jnp.sqrt(1 - jnp.square(next_sigma / level.sigma))
        down = jnp.square(next_sigma) / level.sigma
        return memory, self._move(z, level, x0, down, next_sigma) + scales(next_sigma)[0] * up * noise


@dataclasses.dataclass(frozen=True)
class DPMSolver(Sampler):
    """DPM-Solver++ of second order, multistep: few steps, deterministic.

    Args:
        karras: noise levels evenly spaced in σ^(1/7) in place of the schedule's spacing.

    Source:
        Lu et al. 2022 (DPM-Solver++), algorithm 2 in the midpoint form; Karras et al. 2022, Eq. 5.
    """

    steps: int = 20
    karras: bool = False

    def trajectory(self) -> Trajectory:
        table = self.schedule.sigmas
        if self.karras:
            high, low = table[-1] ** (1 / KARRAS_RHO), table[0] ** (1 / KARRAS_RHO)
            sigmas = np.linspace(high, low, self.steps) ** KARRAS_RHO
            timesteps = np.interp(np.log(sigmas), np.log(table), np.arange(len(table))).round().astype(np.float32)
        else:
            timesteps = self.schedule.sampling_timesteps(self.steps, with_end=True)
            sigmas = self.schedule.sigma_at(timesteps)
        return Trajectory(timesteps, sigmas.astype(np.float32), np.append(sigmas[1:], 0).astype(np.float32))

    def remember(self, z):
        """The picture and σ of the step before; infinitely far away for the first step, which is of first order."""
        return jnp.zeros_like(z), jnp.asarray(jnp.inf, z.dtype)

    def step(self, memory, z, level, next_sigma, x0, noise):
        before, sigma_before = memory
        # h = log(σ/σ_next) is infinite in the last step, which is of first order
        last = next_sigma == 0
        ratio = jnp.log(level.sigma / jnp.where(last, level.sigma, next_sigma)) / jnp.log(sigma_before / level.sigma)
        estimate = x0 + 0.5 * ratio * (x0 - before)
        (_, now_noise), (next_signal, next_noise) = scales(level.sigma), scales(next_sigma)
        decay = next_sigma / level.sigma  # exp(-h)
        return (x0, level.sigma), next_noise / now_noise * z + next_signal * (1 - decay) * estimate


@dataclasses.dataclass(frozen=True)
class LCM(Sampler):
    """Sampling of latent consistency models: a few jumps to the picture, noised again in between.

    Args:
        trained_steps: of the solver that the model was distilled from.
        timestep_scaling, sigma_data: of the boundary condition.

    Source:
        Luo et al. 2023, algorithm 3 and appendix A.
    """

    steps: int = 4
    trained_steps: int = 50
    timestep_scaling: float = 10.0
    sigma_data: float = 0.5

    def trajectory(self) -> Trajectory:
        stride = self.schedule.num_train_timesteps // self.trained_steps
        trained = (np.arange(1, self.trained_steps + 1) * stride - 1)[::-1]
        chosen = np.floor(np.linspace(0, len(trained), self.steps, endpoint=False)).astype(int)
        timesteps = trained[chosen].astype(np.float32)
        sigmas = self.schedule.sigma_at(timesteps)
        return Trajectory(timesteps, sigmas, np.append(sigmas[1:], 0).astype(np.float32))

    def step(self, memory, z, level, next_sigma, x0, noise):
        scaled = level.timestep * self.timestep_scaling
        power = jnp.square(scaled) + self.sigma_data**2
        estimate = scaled / jnp.sqrt(power) * x0 + self.sigma_data**2 / power * z
        signal, sigma = scales(next_sigma)
        return memory, signal * estimate + sigma * noise


SAMPLERS: dict[str, type[Sampler]] = {
    "ddim": DDIM,
    "ddpm": DDPM,
    "euler": Euler,
    "euler_ancestral": EulerAncestral,
    "dpm": DPMSolver,
    "lcm": LCM,
}
"""Names for the command line."""
