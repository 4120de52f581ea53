"""Two ways to run the pure step on this machine's devices: jit over a mesh, or pmap."""

from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from handjax.errors import ConfigError
from handjax.training.state import TrainState
from handjax.training.step import Metrics, TrainStep
from handjax.training.task import Batch, PyTree

DATA_AXIS = "data"


@runtime_checkable
class Engine(Protocol):
    """Places arrays on the devices and runs the step there."""

    axis_name: str | None
    """What `make_train_step` needs to know."""

    def place(self, tree: PyTree) -> PyTree:
        """Puts a state or weights on all devices."""

    def gather(self, tree: PyTree) -> PyTree:
        """Returns a placed tree as plain arrays: what is evaluated and saved."""

    def place_batch(self, batch: Batch) -> Batch:
        """Cuts the batch axis of a training batch over the devices."""

    def place_held_out(self, batch: Batch) -> Batch:
        """Puts a batch beside gathered weights."""

    def compile(self, step: TrainStep) -> TrainStep:
        """Returns the step for placed arguments; it reuses the memory of the state it is given."""


class JitEngine:
    """One program over a mesh with a "data" axis; the compiler inserts the communication."""

    axis_name: str | None = None

    def __init__(self) -> None:
        mesh = jax.make_mesh((jax.device_count(),), (DATA_AXIS,), axis_types=(AxisType.Auto,))
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._batched = NamedSharding(mesh, PartitionSpec(DATA_AXIS))

    def place(self, tree: PyTree) -> PyTree:
        return jax.device_put(tree, self._replicated)

    def gather(self, tree: PyTree) -> PyTree:
        return tree

    def place_batch(self, batch: Batch) -> Batch:
        return jax.device_put(dict(batch), self._batched)

    place_held_out = place_batch

    def compile(self, step: TrainStep) -> TrainStep:
        return jax.jit(step, donate_argnums=(0,), out_shardings=self._replicated)


class PmapEngine:
    """The classic data-parallel path: one program a device, sums by `psum`."""

    axis_name: str | None = DATA_AXIS

    def place(self, tree: PyTree) -> PyTree:
        """One copy a device, stacked on a new first axis, as pmap wants it."""
        devices = jax.local_devices()
        mesh = jax.make_mesh((len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices)
        stacked = jax.tree.map(lambda x: np.broadcast_to(x, (len(devices), *np.shape(x))), jax.device_get(tree))
        return jax.device_put(stacked, NamedSharding(mesh, PartitionSpec(DATA_AXIS)))

    def gather(self, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x[0], tree)

    def place_batch(self, batch: Batch) -> Batch:
        devices = jax.local_device_count()
        return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), dict(batch))

    def place_held_out(self, batch: Batch) -> Batch:
        return jax.device_put(dict(batch))

    def compile(self, step: TrainStep) -> TrainStep:
        pmapped = jax.pmap(step, self.axis_name, donate_argnums=(0,))

        def run(state: TrainState, frozen: PyTree, batch: Batch) -> tuple[TrainState, Metrics]:
            state, metrics = pmapped(state, frozen, batch)
            return state, self.gather(metrics)

        return run


def make_engine(mode: str, batch_size: int, accumulation: int) -> Engine:
    """Makes the engine that `parallel.mode` names.

    Raises:
      ConfigError: unknown mode, or the batch cannot be cut evenly over devices and micro-batches.
    """
    parts = jax.device_count() * accumulation
    if batch_size % parts:
        raise ConfigError(
            f"batch_size={batch_size} does not divide over {jax.device_count()} devices x {accumulation} "
            f"micro-batches; use a multiple of {parts}"
        )
    if mode == "jit":
        return JitEngine()
    if mode == "pmap":
        return PmapEngine()
    raise ConfigError(f"parallel.mode={mode!r} is unknown; use 'jit' or 'pmap'")
