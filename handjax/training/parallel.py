"""Two ways to run the pure step on the devices: jit over a mesh, or pmap."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Wrapped

from handjax.errors import ConfigError
from handjax.training.sharding import AXES, BATCH_AXES, DATA, FSDP, MODEL, make_mesh, mesh_sizes, shardings
from handjax.training.step import Layout, TrainStep
from handjax.training.task import Batch, PyTree


@runtime_checkable
class Engine(Protocol):
    """Places arrays on the devices and runs the step there."""

    layout: Layout
    """What `make_train_step` needs to know."""

    def place(self, tree: PyTree) -> PyTree:
        """Puts a state on all devices."""

    def place_frozen(self, tree: PyTree) -> PyTree:
        """Puts weights that never change on all devices."""

    def gather(self, tree: PyTree) -> PyTree:
        """Returns a placed tree with one array a leaf, maybe cut: what is evaluated and saved."""

    def place_batch(self, batch: Batch) -> Batch:
        """Cuts the batch axis over the devices; `batch` is this process's part of the global batch."""

    def place_held_out(self, batch: Batch) -> Batch:
        """Puts a batch beside gathered weights."""

    def jit(self, function: Callable, **options: Any) -> Wrapped:
        """`jax.jit` for gathered arrays."""

    def compile(self, step: TrainStep, state: PyTree) -> Wrapped:
        """Returns the step for placed arguments; it reuses the memory of the state it is given.

        `state` has the shapes of the step's state, as arrays or as `jax.ShapeDtypeStruct`.
        """


class JitEngine:
    """One program over the mesh; the compiler inserts the communication.

    Args:
      mesh: with the axes of `handjax.training.sharding`.
      shard_frozen: cuts frozen weights as if they were trained, in place of a whole copy a device.
    """

    def __init__(self, mesh: Mesh, *, shard_frozen: bool = False) -> None:
        self.mesh = mesh
        self._shard_frozen = shard_frozen
        self._whole = NamedSharding(mesh, PartitionSpec())
        self._batched = NamedSharding(mesh, PartitionSpec(BATCH_AXES))
        self.layout = Layout(
            constrain=lambda tree: jax.lax.with_sharding_constraint(tree, shardings(tree, mesh)),
            collect=lambda tree: jax.lax.with_sharding_constraint(tree, shardings(tree, mesh, collected=True)),
        )

    def place(self, tree: PyTree) -> PyTree:
        return jax.device_put(tree, shardings(tree, self.mesh))

    def place_frozen(self, tree: PyTree) -> PyTree:
        return self.place(tree) if self._shard_frozen else jax.device_put(tree, self._whole)

    def gather(self, tree: PyTree) -> PyTree:
        return tree

    def place_batch(self, batch: Batch) -> Batch:
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self._batched, x), dict(batch))

    place_held_out = place_batch

    def place_shapes(self, state: PyTree, frozen: PyTree, batch: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        """What `place`, `place_frozen` and `place_batch` do, to shapes in place of arrays."""
        placed = (
            (state, shardings(state, self.mesh)),
            (frozen, shardings(frozen, self.mesh) if self._shard_frozen else _everywhere(frozen, self._whole)),
            (batch, _everywhere(batch, self._batched)),
        )
        state, frozen, batch = (
            jax.tree.map(lambda x, cut: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cut), *pair) for pair in placed
        )
        return state, frozen, batch

    def jit(self, function: Callable, **options: Any) -> Wrapped:
        def run(*arguments: PyTree) -> Any:
            # Kernels that the compiler cannot cut learn from it how the devices share the batch.
            with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
                return function(*arguments)

        return jax.jit(run, **options)

    def compile(self, step: TrainStep, state: PyTree) -> Wrapped:
        return self.jit(step, donate_argnums=(0,), out_shardings=(shardings(state, self.mesh), self._whole))


def _everywhere(tree: PyTree, sharding: NamedSharding) -> PyTree:
    return jax.tree.map(lambda _: sharding, tree)


class PmapEngine:
    """The classic data-parallel path: one program a device, sums by `psum`."""

    layout = Layout(axis_name=DATA)

    def place(self, tree: PyTree) -> PyTree:
        """One copy a device, stacked on a new first axis, as pmap wants it."""
        devices = jax.local_devices()
        mesh = make_mesh({DATA: len(devices), FSDP: 1, MODEL: 1}, devices)
        stacked = jax.tree.map(lambda x: np.broadcast_to(x, (len(devices), *np.shape(x))), jax.device_get(tree))
        return jax.device_put(stacked, NamedSharding(mesh, PartitionSpec(DATA)))

    place_frozen = place

    def gather(self, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda x: x[0], tree)

    def place_batch(self, batch: Batch) -> Batch:
        devices = jax.local_device_count()
        return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), dict(batch))

    def place_held_out(self, batch: Batch) -> Batch:
        return jax.device_put(dict(batch))

    def jit(self, function: Callable, **options: Any) -> Wrapped:
        return jax.jit(function, **options)

    def compile(self, step: TrainStep, state: PyTree) -> Wrapped:
        return jax.pmap(step, self.layout.axis_name, donate_argnums=(0,), out_axes=(0, None))


def fetch(tree: PyTree) -> PyTree:
    """Returns what a program over placed arrays gave, whole, as NumPy arrays on every process."""
    return multihost_utils.process_allgather(tree, tiled=True) if jax.process_count() > 1 else jax.device_get(tree)


def make_engine(
    parallel: ml_collections.ConfigDict,
    batch_size: int,
    accumulation: int,
    devices: Sequence[jax.Device] | None = None,
) -> Engine:
    """Makes the engine that a recipe's `parallel` section describes.

    Args:
      parallel: `mode` ("jit" or "pmap"), the mesh's `data`, `fsdp` and `model`, and `frozen` ("whole" or "sharded").
      batch_size: of all devices together.
      accumulation: micro-batches of a step.
      devices: all of this job's by default.

    Raises:
      ConfigError: an unknown word, a mesh that is not that of the devices, or a batch that cannot be cut evenly.
    """
    for name, known in (("mode", ("jit", "pmap")), ("frozen", ("whole", "sharded"))):
        if parallel[name] not in known:
            raise ConfigError(f"parallel.{name}={parallel[name]!r} is unknown; use {known[0]!r} or {known[1]!r}")
    if parallel["mode"] == "pmap" and jax.process_count() > 1:
        raise ConfigError("parallel.mode='pmap' is for the devices of one process; use parallel.mode='jit' for several")
    count = jax.device_count() if devices is None else len(devices)
    sizes = mesh_sizes({axis: parallel[axis] for axis in AXES}, count)
    shard_frozen = parallel["frozen"] == "sharded"
    shards = sizes[DATA] * sizes[FSDP]
    if batch_size % (shards * accumulation):
        raise ConfigError(
            f"batch_size={batch_size} does not divide over {shards} shards (parallel.data x parallel.fsdp) x "
            f"{accumulation} micro-batches; use a multiple of {shards * accumulation}"
        )
    if shards % jax.process_count():
        raise ConfigError(
            f"{shards} shards (parallel.data x parallel.fsdp) do not divide over {jax.process_count()} processes; "
            "lower parallel.model"
        )
    if parallel["mode"] == "jit":
        return JitEngine(make_mesh(sizes, devices), shard_frozen=shard_frozen)
    if sizes[FSDP] * sizes[MODEL] > 1 or shard_frozen:
        raise ConfigError(
            "parallel.mode='pmap' keeps all weights whole; leave out parallel.fsdp, parallel.model and parallel.frozen"
        )
    return PmapEngine()
