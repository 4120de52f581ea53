"""Runs a sampler on a network: classifier-free guidance, and the hooks where guides steer and masks hold."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from handjax.diffusion.samplers import Latents, Sampler
from handjax.diffusion.schedules import NoiseLevel, NoiseSchedule, scales

# denoise(z, level) -> x0: differentiable, includes guidance scale and adapters. The clean latents and not the noise,
# because they tell what a network sees where there is no signal, and everywhere else either gives the other.
Denoise = Callable[[Latents, NoiseLevel], Latents]
# guide(carry, z, level, x0, denoise) -> (carry, x0), called once a step after classifier-free guidance.
Guide = Callable[[Any, Latents, NoiseLevel, Latents, Denoise], tuple[Any, Latents]]
# decode(x0) -> pictures in [-1, 1], differentiable.
Decode = Callable[[Latents], Float[Array, "batch height width 3"]]
# hold(z, sigma, noise) -> z, called on the latents that a step leaves.
Hold = Callable[[Latents, Float[Array, ""], Latents], Latents]
# repeats(level, carry): how often each latent cell's step at this level is taken, by what the guide has seen so far.
Repeats = Callable[[NoiseLevel, Any], Int[Array, "batch height width 1"]]


@runtime_checkable
class Steering(Protocol):
    """A guide before sampling begins: a pytree of the weights it needs."""

    def start(self, latents: Latents) -> PyTree:
        """The guide's first carry, for latents of this shape."""

    @property
    def repeats(self) -> Repeats | None:
        """How often steps are taken; None is once."""

    def steer(self, decode: Decode, context: Float[Array, "batch words embed"]) -> Guide:
        """The guide of pictures that are decoded so and have these prompts."""

    def tell(self, carry: PyTree) -> list[dict[str, Any]]:
        """What the guide did to each picture, by its last carry."""


def sample(
    sampler: Sampler,
    denoise: Denoise,
    latents: Latents,
    rng: Key[Array, "*images"],
    guide: Guide | None = None,
    carry: PyTree = None,
    hold: Hold | None = None,
    skip: int = 0,
    repeats: Repeats | None = None,
) -> tuple[Latents, PyTree]:
    """Runs all steps of a sampler under `lax.scan`.

    Args:
        sampler: the sampler.
        denoise: predicts the clean latents, see `guided_denoise`.
        latents: standard normal noise to start from.
        rng: key of the fresh noise of stochastic samplers; or one an image, whose noise is then its own in any batch.
        guide: called once a step with its carry, the latents, the noise level, the predicted clean latents and
            `denoise`; returns its next carry and the clean latents to go towards.
        carry: the guide's first carry.
        skip: number of first steps left out; `latents` are then those of the first level that is not (`noised`).
        hold: called on what a step leaves, with its σ and fresh noise (`hold_outside`).
        repeats: how often a step is taken; what it leaves is noised again in between, so that what a guide has moved
            and what the network knows come to terms. Cells that are to be taken once keep their noise: a picture of
            nothing but such cells is the one without repeats. None is once.

    Returns:
        Clean latents and the guide's last carry.

    Source:
        Bansal et al. 2023 (universal guidance), section 3.4, for `repeats`.
    """
    trajectory = jax.tree.map(lambda values: jnp.asarray(values[skip:], jnp.float32), sampler.trajectory())
    z = latents if skip else sampler.start(latents)

    def take(z, memory, carry, place, noises):
        timestep, sigma, next_sigma = place
        level = NoiseLevel(timestep, sigma)
        x0 = denoise(z, level)
        if guide is not None:
            carry, x0 = guide(carry, z, level, x0, denoise)
        memory, z = sampler.step(memory, z, level, next_sigma, x0, noises[0])
        if hold is not None:
            z = hold(z, next_sigma, noises[1])
        return z, memory, carry

    def body(state, inputs):
        z, memory, carry = state
        place, number = inputs
        noises = [_fresh_noise(rng, use * sampler.steps + number, z.shape) for use in range(2)]
        after = take(z, memory, carry, place, noises)
        if repeats is None:
            return after, None

        def draw(turn):
            return [_fresh_noise(rng, (3 * turn + use - 1) * sampler.steps + number, z.shape) for use in range(3)]

        return _settle(take, repeats, draw, z, memory, place, noises, after), None

    inputs = (trajectory, jnp.arange(skip, sampler.steps))
    (z, _, carry), _ = jax.lax.scan(body, (z, sampler.remember(z), carry), inputs)
    if hold is not None:  # DDIM ends a little above σ = 0
        z = hold(z, jnp.zeros(()), jnp.zeros_like(z))
    return z, carry


def _settle(take, repeats, draw, z, memory, place, noises, after):
    """Takes a step that has been taken once as often as is left; cells go back to its noise level before each.

    Args:
        take: the step, of latents, memory, carry, place and noises.
        repeats: as of `sample`.
        draw: fresh noise of a turn: the step's two, and that of going back.
        z: latents before the step.
        memory: of the sampler, before the step.
        place: of the step in the trajectory.
        noises: of the first time.
        after: latents, memory and carry that the first time has left.
    """
    timestep, sigma, next_sigma = place
    level, ratio = NoiseLevel(timestep, sigma), scales(sigma)[0] / scales(next_sigma)[0]

    def unsettled(turn, after):
        return repeats(level, after[2]) > turn

    def again(state):
        turn, z, after = state
        cells = unsettled(turn, after)
        *fresh, back = draw(turn)
        z = jnp.where(cells, ratio * after[0] + jnp.sqrt(1 - jnp.square(ratio)) * back, z)
        mixed = [jnp.where(cells, new, first) for new, first in zip(fresh, noises, strict=True)]
        return turn + 1, z, take(z, memory, after[2], place, mixed)

    start = (jnp.int32(1), z, after)
    return jax.lax.while_loop(lambda state: unsettled(state[0], state[2]).any(), again, start)[2]


def _fresh_noise(rng: Key[Array, "*images"], number: Int[Array, ""], shape: tuple[int, ...]) -> Latents:
    if rng.ndim:
        return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), shape[1:]))(rng)
    return jax.random.normal(jax.random.fold_in(rng, number), shape)


def guided_denoise(
    predict: Callable[[Latents, Float[Array, " batch"], PyTree], Latents],
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
        `denoise(z, level)`: the clean latents by p(unconditional) + scale·(p(conditional) - p(unconditional)), p being
        what the network predicts.

    Source:
        Ho and Salimans 2022, Eq. 6, in Stable Diffusion's parametrisation of the scale.
    """
    branches = [conditional] if scale == 1 else [unconditional, conditional]
    inputs = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *branches)

    def denoise(z: Latents, level: NoiseLevel) -> Latents:
        tiled = jnp.concatenate([z] * len(branches))
        predictions = jnp.split(predict(tiled, jnp.full(len(tiled), level.timestep), inputs), len(branches))
        base, target = predictions[0], predictions[-1]
        return schedule.to_x0(base + scale * (target - base), z, level)

    return denoise


def compose_guides(*guides: Guide) -> Guide:
    """Makes one guide that applies `guides` in order; its carry is the tuple of theirs."""

    def guide(carry, z, level, x0, denoise):
        carries = []
        for one, own in zip(guides, carry, strict=True):
            own, x0 = one(own, z, level, x0, denoise)
            carries.append(own)
        return tuple(carries), x0

    return guide


def steered(
    steering: Steering | None, decode: Decode, context: Float[Array, "batch words embed"], latents: Latents
) -> dict[str, Any]:
    """What `sample` is given to follow a steering; nothing for None.

    Args:
        steering: what leads.
        decode: of the model.
        context: text embedding of the prompts.
        latents: of the shape that is sampled.
    """
    if steering is None:
        return {}
    return {"guide": steering.steer(decode, context), "carry": steering.start(latents), "repeats": steering.repeats}


def noised(latents: Latents, sigma: float | Float[Array, ""], noise: Latents) -> Latents:
    """Clean latents at the noise level σ."""
    signal, scale = scales(jnp.asarray(sigma))
    return signal * latents + scale * noise


def hold_outside(latents: Latents, mask: Float[Array, "batch height width 1"]) -> Hold:
    """Makes a `hold` that keeps a picture outside a mask, so that a text-to-image model paints inside it.

    Args:
        latents: of the picture, clean.
        mask: at latent resolution; 1 is to be painted.

    Source:
        Lugmayr et al. 2022, Eq. 8, without resampling.
    """

    def hold(z: Latents, sigma: Float[Array, ""], noise: Latents) -> Latents:
        return mask * z + (1 - mask) * noised(latents, sigma, noise)

    return hold
