"""`--config.debug=True`: a few steps on one host, with every shape logged and every number checked."""

import contextlib
import logging
from collections.abc import Iterator, Mapping

import chex
import jax
import ml_collections

from handjax.errors import ConfigError
from handjax.training.sharding import path_name
from handjax.training.state import TrainState
from handjax.training.step import Metrics, TrainStep
from handjax.training.task import Batch, PyTree

log = logging.getLogger(__name__)

DEBUG_STEPS = 5


@contextlib.contextmanager
def debugging(config: ml_collections.FrozenConfigDict) -> Iterator[ml_collections.FrozenConfigDict]:
    """Yields the recipe cut to a few steps, all of them logged; within it the first NaN stops the program.

    Raises:
      ConfigError: several processes.
    """
    if jax.process_count() > 1:
        raise ConfigError(f"debug=True is for one process, this job has {jax.process_count()}; start one alone")
    short = ml_collections.ConfigDict(config)
    short.steps, short.log_every = min(config.steps, DEBUG_STEPS), 1
    with jax.debug_nans(True):  # the global switch is lost as soon as any library uses this context
        yield ml_collections.FrozenConfigDict(short)


def log_shapes(state: TrainState, batch_spec: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Logs one line an array: name, dtype, shape, and the mesh axes it is cut over."""
    trees = {"parameter": state.params, "model state": state.model_state, "batch": dict(batch_spec)}
    for title, tree in trees.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            axes = getattr(getattr(leaf, "sharding", None), "spec", ())
            cut = f" over {tuple(axes)}" if any(axes) else ""
            log.info("%s %s: %s%s%s", title, path_name(path), leaf.dtype, tuple(leaf.shape), cut)


def checked(step: TrainStep) -> TrainStep:
    """Returns the step with a check after it, which waits for the devices.

    It raises AssertionError where the step has changed a shape or dtype of the state or left an infinity; the message
    names the arrays.
    """

    def run(state: TrainState, frozen: PyTree, batch: Batch) -> tuple[TrainState, Metrics]:
        before = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
        state, metrics = step(state, frozen, batch)
        chex.assert_trees_all_equal_shapes_and_dtypes(before, state)
        chex.assert_tree_all_finite((state, metrics))
        return state, metrics

    return run
