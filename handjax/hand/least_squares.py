"""Nonlinear least squares of fixed length, for many small problems at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FIRST_DAMPING, MIN_DAMPING, MAX_DAMPING = 1e-2, 1e-6, 1e6
DAMPING_DOWN, DAMPING_UP = 0.3, 4.0


def levenberg_marquardt(
    residuals: Callable[[Float[Array, "n"]], Float[Array, "m"]], start: Float[Array, "n"], iterations: int
) -> tuple[Float[Array, "n"], Float[Array, ""]]:
    """Minimises half the sum of squared residuals; batch it with `jax.vmap`.

    Args:
        residuals: the residuals of a vector of unknowns.
        start: where to begin.
        iterations: number of steps, accepted or not.

    Returns:
        The best unknowns and their cost, never above the start's.

    Source: Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters", 1963: the damping scales
        with the diagonal of JᵀJ.
    """

    def cost_of(unknowns):
        return 0.5 * jnp.sum(residuals(unknowns) ** 2)

    def step(state, _):
        unknowns, cost, damping = state
        value = residuals(unknowns)
        jacobian = jax.jacfwd(residuals)(unknowns)
        normal = jacobian.T @ jacobian
        damped = normal + jnp.diag(damping * jnp.diag(normal) + 1e-8)
        change = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(damped), jacobian.T @ value)
        candidate = unknowns - change
        candidate_cost = cost_of(candidate)
        better = candidate_cost < cost  # false for a candidate that is not a number
        damping = jnp.clip(damping * jnp.where(better, DAMPING_DOWN, DAMPING_UP), MIN_DAMPING, MAX_DAMPING)
        return (jnp.where(better, candidate, unknowns), jnp.where(better, candidate_cost, cost), damping), None

    state = start, cost_of(start), jnp.asarray(FIRST_DAMPING)
    (unknowns, cost, _), _ = jax.lax.scan(step, state, length=iterations)
    return unknowns, cost
