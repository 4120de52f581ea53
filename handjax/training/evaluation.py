"""Held-out terms and preview pictures, on the same batches with the same noise throughout a run."""

from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from handjax.training.parallel import Engine, fetch
from handjax.training.state import TrainState, held_out_keys
from handjax.training.step import batch_index, mean
from handjax.training.task import Batch, PyTree, Task


class HeldOut:
    """Measures the parameters worth keeping (the moving average where there is one) on held-out batches."""

    def __init__(self, task: Task, engine: Engine, frozen: PyTree, batches: Sequence[Batch]):
        """`frozen` is placed by `engine`."""
        self._loss_weights = task.loss_weights
        self._engine = engine
        self._frozen = engine.gather(frozen)
        self._batches = batches
        self._evaluate = engine.jit(_with_fixed_noise(task.evaluate))
        self._preview = engine.jit(_with_fixed_noise(task.preview))

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Returns "eval/NAME" -> mean over all held-out examples; "eval/loss" is the objective."""
        batches = [self._run(self._evaluate, state, batch) for batch in self._batches]
        totals = jax.tree.map(lambda *terms: sum(terms), *batches)
        means = {name: float(mean(*term)) for name, term in totals.items()}
        loss = sum(factor * means[name] for name, factor in self._loss_weights.items())
        return {"eval/loss": loss, **{f"eval/{name}": value for name, value in means.items()}}

    def preview(self, state: TrainState) -> dict[str, np.ndarray]:
        """Returns the task's pictures of the first held-out batch."""
        return fetch(self._run(self._preview, state, self._batches[0]))

    def _run(self, function: Callable, state: TrainState, batch: Batch) -> Iterable:
        state = self._engine.gather(state)
        batch = self._engine.place_held_out(batch)
        return function(state.best_params, self._frozen, state.model_state, batch, state.seed)


def _with_fixed_noise(method: Callable) -> Callable:
    """Gives a task's method keys that depend on the seed and the example only, never on the step."""

    def run(params, frozen, model_state, batch, seed):
        return method(params, frozen, model_state, batch, held_out_keys(seed, batch_index(batch)))

    return run
