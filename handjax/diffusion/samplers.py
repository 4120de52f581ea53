"""From noise to latents: DDIM, classifier-free guidance, and the hook where guides steer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from handjax.diffusion.schedules import NoiseSchedule

Latents = Float[Array, "batch height width channels"]
Timestep = Float[Array, ""]
# denoise(z, t) -> eps: differentiable, includes guidance scale and adapters.
Denoise = Callable[[Latents, Timestep], Latents]
# guide(carry, z_t, t, eps, denoise) -> (carry, eps), called once a step after classifier-free guidance.
Guide = Callable[[Any, Latents, Timestep, Latents, Denoise], tuple[Any, Latents]]


@dataclasses.dataclass(frozen=True)
class DDIM:
    """Denoising diffusion implicit models.

    Args:
        schedule: the noise that the network was trained on.
        steps: network evaluations.
        eta: 0 is deterministic, 1 as noisy as DDPM.

    Source:
        Song et al. 2021, Eq. 12 and 16.
    """

    schedule: NoiseSchedule
    steps: int = 50
    eta: float = 0.0

    def step(self, z: Latents, t: Timestep, epsilon: Latents, noise: Latents) -> Latents:
        """Goes from timestep `t` to the next one of the trajectory.

        Args:
            z: latents at `t`.
            t: the timestep.
            epsilon: the noise that is in `z`.
            noise: fresh noise; unused when eta is 0.

        Returns:
            The latents at the next, smaller timestep.
        """
        previous = t - self.schedule.num_train_timesteps // self.steps
        alpha, alpha_next = self.schedule.alpha_cumprod_at(t), self.schedule.alpha_cumprod_at(previous)
        variance = (1 - alpha_next) / (1 - alpha) * (1 - alpha / alpha_next)
        sigma = self.eta * jnp.sqrt(variance)
        x0 = self.schedule.to_x0(epsilon, z, t)
        return jnp.sqrt(alpha_next) * x0 + jnp.sqrt(1 - alpha_next - sigma**2) * epsilon + sigma * noise


def sample(
    sampler: DDIM,
    denoise: Denoise,
    latents: Latents,
    rng: PRNGKeyArray,
    guide: Guide | None = None,
    carry: PyTree = None,
) -> tuple[Latents, PyTree]:
    """Runs all steps of a sampler under `lax.scan`.

    Args:
        sampler: the sampler.
        denoise: predicts the noise, see `guided_denoise`.
        latents: standard normal noise to start from.
        rng: key of the fresh noise of stochastic samplers.
        guide: called once a step with its carry, the latents, the timestep, the predicted noise and `denoise`; returns
            its next carry and the noise to take out.
        carry: the guide's first carry.

    Returns:
        Clean latents and the guide's last carry.
    """
    timesteps = jnp.asarray(sampler.schedule.sampling_timesteps(sampler.steps))

    def body(state, inputs):
        z, carry = state
        t, key = inputs
        epsilon = denoise(z, t)
        if guide is not None:
            carry, epsilon = guide(carry, z, t, epsilon, denoise)
        noise = jax.random.normal(key, z.shape)
        return (sampler.step(z, t, epsilon, noise), carry), None

    keys = jax.vmap(lambda i: jax.random.fold_in(rng, i))(jnp.arange(len(timesteps)))
    return jax.lax.scan(body, (latents, carry), (timesteps, keys))[0]


def guided_denoise(
    predict: Callable[[Latents, Float[Array, "batch"], PyTree], Latents],
    schedule: NoiseSchedule,
    conditional: PyTree,
    unconditional: PyTree,
    scale: float,
) -> Denoise:
    """Makes a sampler's `denoise` by classifier-free guidance, both branches in one batch.

    Args:
        predict: the network with its adapters, `predict(z, timesteps, inputs)`.
        schedule: tells whether `predict` gives noise or velocity.
        conditional: inputs of the branch with the prompt; every leaf has the batch first.
        unconditional: inputs of the branch without, of the same structure.
        scale: 1 evaluates the conditional branch alone.

    Returns:
        `denoise(z, t)`: ε(unconditional) + scale·(ε(conditional) - ε(unconditional)).

    Source:
        Ho and Salimans 2022, Eq. 6, in Stable Diffusion's parametrisation of the scale.
    """
    branches = [conditional] if scale == 1 else [unconditional, conditional]
    inputs = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *branches)

    def denoise(z: Latents, t: Timestep) -> Latents:
        tiled = jnp.concatenate([z] * len(branches))
        predictions = jnp.split(predict(tiled, jnp.full(len(tiled), t), inputs), len(branches))
        base, target = predictions[0], predictions[-1]
        return schedule.to_epsilon(base + scale * (target - base), z, t)

    return denoise


def compose_guides(*guides: Guide) -> Guide:
    """Makes one guide that applies `guides` in order; its carry is the tuple of theirs."""

    def guide(carry, z, t, epsilon, denoise):
        carries = []
        for one, own in zip(guides, carry, strict=True):
            own, epsilon = one(own, z, t, epsilon, denoise)
            carries.append(own)
        return tuple(carries), epsilon

    return guide
