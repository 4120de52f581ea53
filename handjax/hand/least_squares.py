"""Nonlinear least squares of fixed length, for many small problems at once."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FIRST_DAMPING, MIN_DAMPING, MAX_DAMPING = 1e-2, 1e-6, 1e6
DAMPING_DOWN, DAMPING_UP = 0.3, 4.0


def levenberg_marquardt(
    residuals: Callable[[Float[Array, " n"]], Float[Array, " m"]], start: Float[Array, " n"], iterations: int
) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """Minimises half the sum of squared residuals; batch it with `jax.vmap`.

    Args:
        residuals: the residuals of a vector of unknowns.
        start: where to begin.
        iterations: number of steps tried, accepted or not.

    Returns:
        The best unknowns and their cost, never above the start's.

    Source: Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters", 1963: the damping scales
        with the diagonal of JᵀJ.
    """

    def value_twice(unknowns):
        value = residuals(unknowns)
        return value, value

    def step(state, _):
        best, damping, candidate = state
        # the only place that evaluates the residuals, which would otherwise be compiled three times
        jacobian, value = jax.jacfwd(value_twice, has_aux=True)(candidate)
        cost = 0.5 * value @ value
        better = cost < best[1]  # false for a candidate that is not a number
        found = candidate, cost, jacobian.T @ jacobian, jacobian.T @ value
        best = jax.tree.map(partial(jnp.where, better), found, best)
        damping = jnp.clip(damping * jnp.where(better, DAMPING_DOWN, DAMPING_UP), MIN_DAMPING, MAX_DAMPING)
        unknowns, _, normal, gradient = best
        damped = normal + jnp.diag(damping * jnp.diag(normal) + 1e-8)
        change = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(damped), gradient)
        return (best, damping, unknowns - change), None

    count = len(start)
    nothing = start, jnp.asarray(jnp.inf), jnp.zeros((count, count)), jnp.zeros(count)
    state = nothing, jnp.asarray(FIRST_DAMPING), start
    (best, _, _), _ = jax.lax.scan(step, state, length=iterations + 1)
    return best[:2]
