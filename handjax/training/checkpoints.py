"""Checkpoints that survive being killed at any moment: Orbax, with the position in the data beside the state."""

import contextlib
import hashlib
import json
import logging
import math
import platform
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grain
import jax
import ml_collections
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from handjax.errors import CheckpointError
from handjax.training.clock import Clock
from handjax.training.config import flatten
from handjax.training.state import TrainState
from handjax.training.task import PyTree

log = logging.getLogger(__name__)

# Fields that may change between restarts: they decide what is shown, kept and where it is computed, not what is learnt.
FREE_FIELDS = frozenset(
    {"log_every", "eval_every", "eval_batches", "preview_every", "checkpoint", "parallel"}
    | {"guard.stop_after", "layer_stats", "profile", "stall_after", "wandb"}
)

UNREADABLE = "unreadable_"
"""Begins the name of a folder that was a checkpoint."""


class Checkpoints:
    """Saves and restores a run.

    Items of a checkpoint: params, opt_state, ema, model_state (those that are not empty), health, data (the iterator's
    position) and meta (step, seed, recipe, hash of the frozen weights, versions, time). Frozen weights are not saved.

    Every process reads its own rows of the same global batches, so one position is that of all, and any number of
    processes may go on from it.
    """

    def __init__(self, folder: Path, config: ml_collections.FrozenConfigDict, frozen_hash: str):
        self._folder = folder
        self._best = config.checkpoint.best
        self._meta = {"config": _identity(config), "frozen": frozen_hash, "seed": config.seed, "versions": _versions()}
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_what_is_kept(config.checkpoint),
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(
        self, step: int, state: TrainState, data: grain.DatasetIterator, clock: Clock, report: Mapping[str, float]
    ) -> None:
        """Starts to save; the arrays are copied before it returns, the writing goes on in the background.

        Args:
          step: number of completed steps.
          state: after it.
          data: iterator, whose position is kept.
          clock: whose time is kept.
          report: of this step, for `checkpoint.best`.

        Raises:
          CheckpointError: it cannot be written.
        """
        items = {name: ocp.args.StandardSave(tree) for name, tree in _items(state).items()}
        meta = ocp.args.JsonSave(self._meta | {"step": step, "clock": clock.get_state()})
        position = ocp.args.JsonSave(data.get_state())
        measured = {name: report[name] for name in (self._best,) if name in report}
        with self._writing():
            args = ocp.args.Composite(meta=meta, data=position, **items)
            self._manager.save(step, args=args, metrics=measured or None)

    def restore(self, state: TrainState, data: grain.DatasetIterator, clock: Clock) -> TrainState:
        """Restores the newest readable checkpoint.

        Args:
          state: a state of this run's shapes, returned as it is when there is no checkpoint; arrays are read onto the
            devices that hold it, cut as it is, however they were cut when they were saved.
          data: iterator, moved in place to the position after the restored step.
          clock: goes on, in place, from the restored step.

        Returns:
          The restored state.

        Raises:
          CheckpointError: the checkpoint is of another recipe or other frozen weights, or none is readable.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                restored, reason = self._read(step, state, data, clock), ""
            except (ValueError, KeyError, OSError) as error:
                restored, reason = state, _first_line(error)
            if _all_processes(not reason):
                self._put_aside(steps[: steps.index(step)])
                return restored
            log.warning(
                "checkpoint of step %d in %s is unreadable (%s)", step, self._folder, reason or "for another process"
            )
        if steps:
            raise CheckpointError(
                f"{self._folder}: no checkpoint of {steps} can be read; remove the folder or use another --workdir"
            )
        return state

    def _put_aside(self, steps: list[int]) -> None:
        """What cannot be read now makes room for what will be saved; it is renamed, for it may be whole after all."""
        if jax.process_index() == 0:
            for step in steps:
                folder = self._folder / f"{UNREADABLE}{step}"
                shutil.rmtree(folder, ignore_errors=True)
                (self._folder / str(step)).rename(folder)
        _all_processes(True)
        self._manager.reload()

    def wait(self) -> None:
        """Waits until what `save` started is on disk.

        Raises:
          CheckpointError: it cannot be written, such as to a full disk; the checkpoints before are whole.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees Orbax's threads."""
        with self._writing():
            self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # TensorStore's are ValueErrors
            raise CheckpointError(
                f"{self._folder}: a checkpoint cannot be written ({_reason(error)}); make room and run the same "
                "command again, it goes on from the checkpoint before"
            ) from error

    def _read(self, step: int, state: TrainState, data: grain.DatasetIterator, clock: Clock) -> TrainState:
        meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
        self._check(step, meta)
        args = {name: ocp.args.StandardRestore(_shapes(tree)) for name, tree in _items(state).items()}
        restored = self._manager.restore(step, args=ocp.args.Composite(data=ocp.args.JsonRestore(), **args))
        data.set_state(restored["data"])
        clock.set_state(meta["clock"])
        return state.replace(step=jax.numpy.asarray(step, state.step.dtype), **{name: restored[name] for name in args})

    def _check(self, step: int, meta: dict[str, Any]) -> None:
        """Raises when a checkpoint is not of this run."""
        here = f"{self._folder}: the checkpoint of step {step}"
        advice = "use another --workdir or the old recipe"
        old, new = meta["config"], self._meta["config"]
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                raise CheckpointError(f"{here} has {name}={old.get(name)}, this run {new.get(name)}; {advice}")
        if meta["frozen"] != self._meta["frozen"]:
            raise CheckpointError(f"{here} was trained on other frozen weights than this run; {advice}")


def restore_params(workdir: Path, like: PyTree, frozen_hash: str | None = None) -> tuple[int, PyTree]:
    """Reads the parameters worth keeping (the moving average where there is one) of a run's newest checkpoint.

    Args:
      workdir: of the run.
      like: a tree of arrays of the same shapes and dtypes, as `Task.init` gives.
      frozen_hash: of the frozen weights that the run must have had; with it, the parameters come cut as `like`, else
        whole on one device.

    Returns:
      The step and the parameters.

    Raises:
      CheckpointError: there is no checkpoint, or it holds other parameters or those of other frozen weights.
    """
    step, items = _newest(workdir)
    item = items / "ema" if (items / "ema").exists() else items / "params"
    if frozen_hash is None:
        return step, _read_item(item, _on_one_device(like))
    check_frozen(workdir, frozen_hash)
    return step, _read_item(item, _shapes(like))


def check_frozen(workdir: Path, frozen_hash: str) -> None:
    """Raises CheckpointError where a run's newest checkpoint was trained on other frozen weights than those hashed."""
    items = _newest(workdir)[1]
    if json.loads((items / "meta" / "metadata").read_text())["frozen"] != frozen_hash:
        raise CheckpointError(f"{items}: trained on other frozen weights than this run's; use a run on the same model")


def restore_model_state(workdir: Path, like: PyTree, *, whole: bool = True) -> PyTree:
    """Reads the model state of a run's newest checkpoint.

    Args:
      workdir: of the run.
      like: a tree of arrays of the same shapes and dtypes.
      whole: on one device; else cut as `like`.

    Raises:
      CheckpointError: as `restore_params`.
    """
    if not jax.tree.leaves(like):
        return like
    return _read_item(_newest(workdir)[1] / "model_state", _on_one_device(like) if whole else _shapes(like))


def _newest(workdir: Path) -> tuple[int, Path]:
    folder = (workdir / "checkpoints").absolute()
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    if not steps:
        raise CheckpointError(f"{folder}: there is no checkpoint; give the --workdir of a launch.train run")
    return max(steps), folder / str(max(steps))


def _read_item(item: Path, shapes: PyTree) -> PyTree:
    try:
        with contextlib.closing(ocp.StandardCheckpointer()) as checkpointer:
            return checkpointer.restore(item, shapes)
    except (ValueError, KeyError, OSError) as error:
        raise CheckpointError(f"{item}: not what this task has trained ({_first_line(error)})") from error


def content_hash(tree: PyTree) -> str:
    """Returns a hash of the names, shapes, dtypes and values of all arrays of `tree`."""
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _what_is_kept(checkpoint: ml_collections.FrozenConfigDict) -> policies.AnyPreservationPolicy:
    def smallness(values: Mapping[str, float]) -> float:
        value = values.get(checkpoint.best, math.inf)  # the field may have been another when the run began
        return -math.inf if math.isnan(value) else -value

    kept: list[policies.PreservationPolicy] = [policies.LatestN(checkpoint.keep)]
    if checkpoint.keep_every:
        kept.append(policies.EveryNSteps(checkpoint.keep_every))
    if checkpoint.best:
        smallest = policies.BestN(n=1, get_metric_fn=smallness, keep_checkpoints_without_metrics=False)
        kept.append(smallest)
    return policies.AnyPreservationPolicy(kept)


def _all_processes(well: bool) -> bool:
    """Whether all is well on every process, which each of them asks."""
    return bool(np.all(multihost_utils.process_allgather(np.asarray(well))))


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "jax": jax.__version__, "orbax-checkpoint": ocp.__version__}


def _items(state: TrainState) -> dict[str, PyTree]:
    """The parts of a state that hold arrays; step and seed are in the metadata."""
    parts = {name: getattr(state, name) for name in ("params", "opt_state", "ema", "model_state", "health")}
    return {name: tree for name, tree in parts.items() if jax.tree.leaves(tree)}


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


def _on_one_device(tree: PyTree) -> PyTree:
    """Shapes that are read whole, however many devices the run had that saved them."""
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), tree)


def _reason(error: Exception) -> str:
    """What the system said, without the names of TensorStore's files before it."""
    if isinstance(error, OSError):
        return error.strerror or _first_line(error)
    return _first_line(error).partition(" [os_error_code")[0].rpartition(": ")[2]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _identity(config: ml_collections.FrozenConfigDict) -> dict[str, Any]:
    """The fields a checkpoint depends on, flat; a constant schedule may be trained on for more steps."""
    free = FREE_FIELDS | ({"steps"} if config.optim.schedule == "constant" else set())
    fields = {name: value for name, value in flatten(config).items() if not {name, name.split(".")[0]} & free}
    return json.loads(json.dumps(fields))
