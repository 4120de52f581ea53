"""The one pure training step of every task."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Shaped

from handjax.training.guard import FINITE_ONLY, Guard, choose
from handjax.training.layer_stats import layer_stats
from handjax.training.remat import Policy
from handjax.training.state import TrainState, step_keys
from handjax.training.task import Batch, PyTree, Task

Metrics = dict[str, Shaped[Array, ""]]
TrainStep = Callable[[TrainState, PyTree, Batch], tuple[TrainState, Metrics]]


def _same(tree: PyTree) -> PyTree:
    return tree


@dataclasses.dataclass(frozen=True)
class Layout:
    """How arrays lie on the devices while the step runs; by default on one.

    Args:
      axis_name: the pmap axis over which the batch is one part; None when it is the global batch.
      constrain: cuts gradients as the parameters are stored.
      collect: makes weights, from how they are stored, as they are computed with.
    """

    axis_name: str | None = None
    constrain: Callable[[PyTree], PyTree] = _same
    collect: Callable[[PyTree], PyTree] = _same


def make_train_step(
    task: Task,
    tx: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    accumulation: int = 1,
    ema_decay: float = 0.0,
    remat: Policy | None = None,
    guard: Guard = FINITE_ONLY,
    with_layers: bool = False,
    layout: Layout = Layout(),
) -> TrainStep:
    """Makes `step(state, frozen, batch) -> (state, metrics)`.

    The objective is sum_k factor_k * (sum_k / weight_k) with sums and weights over the whole batch, so its gradient
    is the same for any number of micro-batches and devices. A first pass asks `task.loss` for the weights
    alone: what they do not depend on (as a rule the whole network) is removed by the compiler.

    Args:
      task: the objective.
      tx: optimiser of the trainable parameters.
      schedule: completed steps -> learning rate, only logged.
      accumulation: number of micro-batches the batch is cut into.
      ema_decay: of the moving average of the parameters; unused when the state has none.
      remat: what of the forward pass is kept for the gradient; None keeps everything.
      guard: leaves out steps that would spoil the run; they count as completed and change nothing but `health`.
      with_layers: also reports every layer.
      layout: how the step's arrays lie on the devices.

    Returns:
      A pure function; differentiates with respect to the trainable parameters only. `metrics` has "loss", every
      named loss and metric as a mean, "grad_norm" (before clipping), "lr", "skipped" and "skipped_in_a_row".
    """

    gradients = _make_gradients(task, accumulation, remat, layout)

    def step(state: TrainState, frozen: PyTree, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, metrics, model_state = gradients(state, frozen, batch)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        grad_norm = optax.global_norm(grads)
        keep, health = guard.judge(state.health, metrics["loss"], grad_norm)
        changed = {
            "params": params,
            "opt_state": opt_state,
            "ema": None if state.ema is None else optax.incremental_update(params, state.ema, 1 - ema_decay),
            "model_state": model_state,
        }
        new_state = state.replace(
            step=state.step + 1,
            health=health,
            **{name: choose(keep, tree, getattr(state, name)) for name, tree in changed.items()},
        )
        metrics |= {"grad_norm": grad_norm, "lr": jnp.asarray(schedule(state.step - state.health.skipped))}
        metrics |= {"skipped": health.skipped, "skipped_in_a_row": health.in_a_row}
        return new_state, metrics | (layer_stats(state.params, grads, updates) if with_layers else {})

    return step


def _make_gradients(task: Task, accumulation: int, remat: Policy | None, layout: Layout) -> Callable:
    """Makes `gradients(state, frozen, batch) -> (gradients, metrics, new model state)` of the whole batch."""
    axis_name = layout.axis_name

    def gradients(state: TrainState, frozen: PyTree, batch: Batch) -> tuple[PyTree, Metrics, PyTree]:
        parts = _split((batch, step_keys(state.seed, state.step, batch_index(batch, axis_name))), accumulation)

        def weights(part):
            losses, _, _ = task.loss(state.params, frozen, state.model_state, *part)
            return {name: weight for name, (_, weight) in losses.items()}

        totals = _sum_over(weights, parts, axis_name)

        def objective(params, part):
            # Collected inside, so that rematerialisation also collects again in place of keeping whole weights.
            params, whole = layout.collect(params), layout.collect(frozen)
            losses, model_state, metrics = task.loss(params, whole, state.model_state, *part)
            means = {name: mean(total, totals[name]) for name, (total, _) in losses.items()}
            loss = sum(task.loss_weights[name] * value for name, value in means.items())
            return loss, ({"loss": loss, **means}, metrics, model_state)

        kept = objective if remat is None else jax.checkpoint(objective, policy=remat)

        def gradient(part):
            grads, aux = jax.grad(kept, has_aux=True)(state.params, part)
            return layout.constrain(grads), aux

        grads, (losses, terms, model_states) = _sum_over(gradient, parts, axis_name)
        shards = accumulation * (1 if axis_name is None else jax.lax.axis_size(axis_name))
        model_state = jax.tree.map(lambda total: _divide(total, shards), model_states)
        return grads, losses | {name: mean(*term) for name, term in terms.items()}, model_state

    return gradients


def batch_index(batch: Batch, axis_name: str | None = None) -> Int[Array, " batch"]:
    """Returns the place of each example in the global batch, of which `batch` is this device's part of the axis."""
    size = len(jax.tree.leaves(batch)[0])
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * size
    return first + jnp.arange(size)


def mean(total: Float[Array, ""], weight: Float[Array, ""]) -> Float[Array, ""]:
    """Returns sum / weight, and zero where nothing had a weight."""
    return total / jnp.where(weight > 0, weight, 1)


def _split(tree: PyTree, parts: int) -> PyTree:
    """Cuts the batch axis into [parts, batch / parts]; interleaved, so that a batch sharded over devices stays so."""
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), tree)


def _sum_over(function: Callable, parts: PyTree, axis_name: str | None) -> PyTree:
    """Adds up `function(part)` over the parts, one after the other, and over the devices of the axis."""
    first = jax.tree.map(lambda x: x[0], parts)
    if len(jax.tree.leaves(parts)[0]) == 1:
        total = function(first)
    else:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, first))
        total, _ = jax.lax.scan(lambda total, part: (jax.tree.map(jnp.add, total, function(part)), None), zeros, parts)
    return total if axis_name is None else jax.lax.psum(total, axis_name)


def _divide(total: Array, count: int) -> Array:
    return total / count if jnp.issubdtype(total.dtype, jnp.inexact) else total // count
