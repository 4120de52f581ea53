"""The train step ahead of time: compiled for devices that need not be there, from shapes in place of weights."""

import contextlib
import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache
from jax.stages import Compiled, Lowered

from handjax.errors import ConfigError, InputError
from handjax.files import atomic_write
from handjax.training.loop import cast_frozen, make_step
from handjax.training.parallel import JitEngine, make_engine
from handjax.training.program import Tensor
from handjax.training.remat import remat_policy
from handjax.training.state import create_state
from handjax.training.step import Layout
from handjax.training.task import PyTree, Task

# What a platform's kernels replace, and what its compiler unrolls, decides nothing when operations are counted.
COUNTED_FOR = "tpu"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([KMGT]?)"
_NEEDED = re.compile(rf"Used {_SIZE} of {_SIZE} hbm")
_TENSOR = re.compile(
    rf"Size: {_SIZE}B?\n\s*(?:Operator: op_name=\"(?P<operator>[^\"]*)\".*\n\s*)?Shape: (?P<shape>\S+)"
)


class Memory(NamedTuple):
    """Bytes on each device: what the step is given, what it makes on the way, all at the worst moment and its code."""

    arguments: int
    temporaries: int
    peak: int


class TooLarge(NamedTuple):
    """Why a step has not been compiled.

    Attributes:
      needed: bytes on each device.
      available: bytes that the compiler may use there.
      largest: the largest arrays of the step, in order.
    """

    needed: int
    available: int
    largest: list[Tensor]


def argument_shapes(config: ml_collections.FrozenConfigDict, task: Task) -> tuple[PyTree, PyTree, PyTree]:
    """Returns the shapes of the step's state, frozen weights and batch; `task` may have shapes for weights."""
    _, tx = make_step(config, task, Layout())
    state = jax.eval_shape(lambda: create_state(task, tx, config.seed, with_ema=config.ema_decay > 0))
    frozen = jax.eval_shape(lambda tree: cast_frozen(tree, config.frozen_dtype), task.frozen())
    batch = {
        name: jax.ShapeDtypeStruct((config.batch_size, *example.shape), example.dtype)
        for name, example in task.batch_spec().items()
    }
    return state, frozen, batch


def lower_step(config: ml_collections.FrozenConfigDict, task: Task, devices: Sequence[jax.Device]) -> Lowered:
    """Lowers the step that `launch.train` would run on these devices.

    Args:
      config: the recipe.
      task: its task.
      devices: of this machine, or of a topology.

    Raises:
      ConfigError: the recipe does not fit these devices, or wants pmap.
    """
    engine = make_engine(config.parallel, config.batch_size, config.accumulation, devices)
    if not isinstance(engine, JitEngine):
        raise ConfigError("parallel.mode='pmap' compiles for the devices it runs on alone; use parallel.mode='jit'")
    step, _ = make_step(config, task, engine.layout)
    state, frozen, batch = engine.place_shapes(*argument_shapes(config, task))
    return engine.compile(step, state).lower(state, frozen, batch)


def count_flops(config: ml_collections.FrozenConfigDict, task: Task, *, recomputed: bool) -> float:
    """Returns the operations of one step on the whole batch, by the compiler's count.

    Accumulation is left out, because the count takes the body of a loop for one run of it; it changes no sum. The
    networks must not hide loops or kernels of their own (`handjax.diffusion.attention.plain_attention_everywhere`).

    Args:
      config: the recipe.
      task: its task.
      recomputed: also what `parallel.remat` computes again.
    """
    whole = ml_collections.ConfigDict(config.to_dict())  # sections of a frozen one would be shared
    whole.accumulation = 1
    if not recomputed:
        whole.parallel.remat = "none"
    step, _ = make_step(ml_collections.FrozenConfigDict(whole), task, Layout())
    lowered = jax.jit(step).trace(*argument_shapes(config, task)).lower(lowering_platforms=(COUNTED_FOR,))
    return lowered.cost_analysis()["flops"]


def recomputes(config: ml_collections.FrozenConfigDict) -> bool:
    """Whether a recipe computes anything again for the gradient."""
    return remat_policy(config.parallel.remat) is not None


def compile_step(lowered: Lowered) -> Compiled | TooLarge:
    """Compiles, or tells why the step does not fit in memory.

    Never takes the step from the compile cache: its time would be another's, and on CPUs it could not be saved.
    """
    try:
        with _no_compile_cache():
            return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        too_large = read_too_large(str(error))
        if too_large is None:
            raise
        return too_large


@contextlib.contextmanager
def _no_compile_cache() -> Iterator[None]:
    enabled = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # which asks once whether it is enabled
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def read_too_large(message: str) -> TooLarge | None:
    """Reads the TPU compiler's message about too little memory; None for any other message."""
    needed = _NEEDED.search(message)
    if needed is None:
        return None
    tensors = [
        Tensor(_bytes(*found.groups()[:2]), found["shape"], found["operator"] or "")
        for found in _TENSOR.finditer(message)
    ]
    return TooLarge(_bytes(*needed.groups()[:2]), _bytes(*needed.groups()[2:]), tensors)


def _bytes(number: str, unit: str) -> int:
    return round(float(number) * UNITS[unit])


def memory_of(compiled: Compiled) -> Memory:
    """Returns the compiler's own account of a step's memory."""
    sizes: Any = compiled.memory_analysis()
    peak = sizes.peak_memory_in_bytes
    if _platform(compiled) == "cpu":  # whose peak leaves out what is made on the way
        given = sizes.argument_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
        peak = given + sizes.temp_size_in_bytes
    peak += sizes.generated_code_size_in_bytes
    return Memory(sizes.argument_size_in_bytes, sizes.temp_size_in_bytes, peak)


def _platform(compiled: Compiled) -> str:
    sharding = jax.tree.leaves(compiled.output_shardings)[0]
    return next(iter(sharding.device_set)).platform


def save_step(compiled: Compiled, path: Path) -> None:
    """Writes a compiled step, for `load_step` with the same versions of JAX and of the compiler."""
    executable, _, _ = serialize_executable.serialize(compiled)
    with atomic_write(path) as temporary:
        temporary.write_bytes(executable)


def load_step(path: Path, lowered: Lowered) -> Compiled:
    """Reads what `save_step` has written, in place of compiling `lowered`, on devices as those it was compiled for.

    Raises:
      InputError: the file is missing, or was made by other versions or for other devices.
    """
    try:
        executable = path.read_bytes()
        return serialize_executable.deserialize_and_load(executable, lowered.in_tree, lowered.out_tree)
    except (OSError, EOFError, ValueError, pickle.UnpicklingError, jax.errors.JaxRuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: no compiled step for these devices ({reason}); compile again") from error
