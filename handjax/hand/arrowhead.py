"""Levenberg-Marquardt for problems of blocks that share some unknowns, such as fingers of one hand: many at once.

The normal equations then have an arrow's shape: blocks meet only in the rows and columns of what they share, so that
blocks are solved first, side by side, and the shared unknowns after them (the Schur complement). The problems are the
last axis of every array, so that all loops over them run in the vector units.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.hand.least_squares import DAMPING_DOWN, DAMPING_UP, FIRST_DAMPING, MAX_DAMPING, MIN_DAMPING
from handjax.hand.products import matrix_product, vector_product

Unknowns = TypeVar("Unknowns")


def arrowhead_marquardt(
    linearize: Callable[[Unknowns], tuple[Float[Array, " batch"], Float[Array, "size size blocks batch"]]],
    move: Callable[[Unknowns, Float[Array, "own blocks batch"], Float[Array, "shared batch"]], Unknowns],
    start: Unknowns,
    own: int,
    iterations: int,
) -> tuple[Unknowns, Float[Array, " batch"]]:
    """Minimises sums of squares whose unknowns are `own` of each block and `shared` ones of all.

    Args:
        linearize: gives the cost, half the sum of squares, and for each block AᵀA of its rows A = [derivatives by
            own unknowns | by shared unknowns | residual].
        move: the unknowns after a step, which is added to them or, for rotations, applied to them.
        start: where to begin; the last axis of every leaf counts the problems.
        own: number of unknowns of a block.
        iterations: number of steps tried, accepted or not.

    Returns:
        The best unknowns and their costs, never above the start's.

    Source: Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters", 1963; the order of the
        elimination: Triggs et al., "Bundle Adjustment - A Modern Synthesis", 2000, section 6.1.
    """

    def step(state: Any, _: None) -> tuple[Any, None]:
        best, damping, candidate = state
        # the only place that linearizes, which would otherwise be compiled three times
        cost, normal = linearize(candidate)
        better = cost < best[1]  # false for a candidate that is not a number
        best = jax.tree.map(partial(jnp.where, better), (candidate, cost, normal), best)
        damping = jnp.clip(damping * jnp.where(better, DAMPING_DOWN, DAMPING_UP), MIN_DAMPING, MAX_DAMPING)
        return (best, damping, move(best[0], *arrowhead_step(best[2], own, damping))), None

    normal = jax.eval_shape(linearize, start)[1]
    nothing = start, jnp.full(normal.shape[-1], jnp.inf), jnp.zeros(normal.shape)
    state = nothing, jnp.full(normal.shape[-1], FIRST_DAMPING), start
    (best, _, _), _ = jax.lax.scan(step, state, length=iterations + 1)
    return best[:2]


def arrowhead_step(
    normal: Float[Array, "size size blocks batch"], own: int, damping: Float[Array, " batch"]
) -> tuple[Float[Array, "own blocks batch"], Float[Array, "shared batch"]]:
    """The damped Gauss-Newton step of each problem.

    Args:
        normal: AᵀA of each block, as `linearize` of `arrowhead_marquardt` gives it.
        own: number of unknowns of a block.
        damping: what is added to the diagonal, as a share of it.

    Returns:
        Steps of the blocks' own and of the shared unknowns.
    """
    blocks, coupling = normal[:own, :own], normal[:own, own:]
    reached = solve_positive(blocks + _damper(blocks, damping), coupling)
    whole = normal[own:, own:].sum(axis=2)
    reduced = whole - matrix_product(coupling.swapaxes(0, 1), reached).sum(axis=2)
    matrix = reduced[:-1, :-1] + _damper(whole[:-1, :-1], damping)
    shared = -solve_positive(matrix, reduced[:-1, -1:])[:, 0]
    return -reached[:, -1] - vector_product(reached, shared[:, None]), shared


def solve_positive(matrix: Float[Array, "n n ..."], right: Float[Array, "n m ..."]) -> Float[Array, "n m ..."]:
    """Solves systems with symmetric positive definite matrices by Gauss-Jordan elimination, which needs no pivots.

    On a CPU two to three times as fast as LAPACK, which takes one small system after another.
    """

    def eliminate(k, rows):
        pivot = rows[k] / rows[k, k]
        return (rows - rows[:, k][:, None] * pivot).at[k].set(pivot)

    return jax.lax.fori_loop(0, len(matrix), eliminate, jnp.concatenate([matrix, right], axis=1))[:, len(matrix) :]


def _damper(matrix: Float[Array, "n n ..."], damping: Float[Array, " batch"]) -> Float[Array, "n n ..."]:
    diagonal = jnp.eye(len(matrix)).reshape(len(matrix), len(matrix), *(1,) * (matrix.ndim - 2))
    return diagonal * (damping * matrix + 1e-8)
