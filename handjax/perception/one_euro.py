"""The one-euro filter: little jitter at rest, little lag in motion."""

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from handjax.hand.rotations import compose


@flax.struct.dataclass
class OneEuro:
    """What a filter sets: how much it smooths.

    Attributes:
      min_cutoff: cut-off frequency at rest, Hz; lower is smoother.
      speed_weight: Hz of cut-off for each unit of speed (the paper's beta); higher lags less.
      speed_cutoff: cut-off frequency of the speed itself, Hz.
    """

    min_cutoff: float = 1.0
    speed_weight: float = 10.0
    speed_cutoff: float = 1.0


@flax.struct.dataclass
class FilterState:
    """Last smoothed value and speed (a second) of each number; what has not `started` takes the next value as it is."""

    value: Float[Array, "*shape"]
    speed: Float[Array, "*shape"]
    started: Bool[Array, "*shape"]


def start(shape: tuple[int, ...]) -> FilterState:
    """The state before the first value."""
    return FilterState(value=jnp.zeros(shape), speed=jnp.zeros(shape), started=jnp.zeros(shape, bool))


def smooth(
    settings: OneEuro,
    state: FilterState,
    value: Float[Array, "*shape"],
    rate: Float[Array, ""] | float,
    unit: Float[Array, "*unit"] | float = 1.0,
) -> FilterState:
    """Takes one value more: pure, and each number is filtered by itself.

    Args:
      settings: how much to smooth.
      state: the filter before.
      value: the new value, any unit.
      rate: values a second.
      unit: length in which speeds are measured, so that `settings` fit large and small things; broadcasts to `value`.

    Returns:
      The filter after; its `value` is the smoothed one.

    Source: Casiez, Roussel and Vogel, 1€ filter, CHI 2012, algorithm 1.
    """
    speed = jnp.where(state.started, (value - state.value) * rate, 0.0)
    speed = state.speed + _share(settings.speed_cutoff, rate) * (speed - state.speed)
    cutoff = settings.min_cutoff + settings.speed_weight * jnp.abs(speed) / unit
    smoothed = state.value + _share(cutoff, rate) * (value - state.value)
    return FilterState(
        value=jnp.where(state.started, smoothed, value), speed=speed, started=jnp.ones_like(state.started)
    )


def smooth_turns(
    settings: OneEuro, state: FilterState, turns: Float[Array, "*joints 3"], rate: Float[Array, ""] | float
) -> FilterState:
    """Takes one rotation vector of each joint more; as `smooth`, on SO(3).

    The difference to the last value is the rotation that leads from it to the new one, a share of which is taken about
    its axis (spherical interpolation); the speed is its length in radians a second. So no angle has a seam.

    Source: Casiez, Roussel and Vogel, 1€ filter, CHI 2012, algorithm 1, with quaternions as in their VRPN version.
    """
    step = compose(-state.value, turns)
    speed = jnp.where(state.started, step * rate, 0.0)
    speed = state.speed + _share(settings.speed_cutoff, rate) * (speed - state.speed)
    cutoff = settings.min_cutoff + settings.speed_weight * jnp.linalg.norm(speed, axis=-1, keepdims=True)
    smoothed = compose(state.value, _share(cutoff, rate) * step)
    return FilterState(
        value=jnp.where(state.started, smoothed, turns), speed=speed, started=jnp.ones_like(state.started)
    )


def _share(cutoff, rate):
    """Share of the new value in an exponential mean of cut-off frequency `cutoff`."""
    return 1.0 / (1.0 + rate / (2.0 * jnp.pi * cutoff))
