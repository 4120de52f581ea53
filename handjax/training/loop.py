"""The train loop: whatever the task, data in, steps, reports, checkpoints."""

import contextlib
import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grain
import jax
import jax.numpy as jnp
import ml_collections
import optax
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from handjax.errors import ConfigError
from handjax.files import write_json
from handjax.training.between import BetweenSteps
from handjax.training.checkpoints import Checkpoints, content_hash, restore_model_state, restore_params
from handjax.training.clock import Clock
from handjax.training.config import flatten
from handjax.training.debug import checked, debugging, log_shapes
from handjax.training.evaluation import HeldOut
from handjax.training.guard import Guard, stop_if_diverged
from handjax.training.metrics import MetricsWriter
from handjax.training.optimizer import make_optimizer
from handjax.training.parallel import make_engine
from handjax.training.preemption import Preempted, PreemptionWatch
from handjax.training.profiling import Profiler
from handjax.training.remat import remat_policy
from handjax.training.roofline import chip_of
from handjax.training.stall import StallWatch
from handjax.training.state import TrainState, create_state
from handjax.training.step import Layout, Metrics, TrainStep, make_train_step
from handjax.training.task import Batch, PyTree, Task, check_batch

log = logging.getLogger(__name__)

MakeLoader = Callable[[str], grain.IterDataset]
"""Split ("train" or "eval") -> batches as `Task.batch_spec` says; "train" never ends."""

FROZEN_DTYPES = ("", "float32", "bfloat16")


def train(
    config: ml_collections.FrozenConfigDict,
    task: Task,
    make_loader: MakeLoader,
    workdir: Path,
    count_flops: Callable[[], float] | None = None,
) -> TrainState:
    """Trains a task up to `config.steps`, from the newest checkpoint in `workdir` if there is one.

    Args:
      config: a recipe from `load_config`.
      task: the objective.
      make_loader: gives the batches; the position of the iterator of "train" is saved with the checkpoints.
      workdir: receives metrics.jsonl, checkpoints/, previews/, tensorboard/, profile/ and config.json.
      count_flops: counts the operations of a step, for the MFU; asked where the chips' peak is published.

    Returns:
      The final state.

    Raises:
      ConfigError: a field that does not fit.
      CheckpointError: `workdir` holds another run, or a checkpoint cannot be written.
      DivergedError: too many steps in a row were left out by the guard.
      Preempted: the run was asked to end; the step it was at is saved.
    """
    if not config.debug:
        return _train(config, task, make_loader, workdir, count_flops)
    with debugging(config) as short:
        return _train(short, task, make_loader, workdir, count_flops)


def _train(
    config: ml_collections.FrozenConfigDict,
    task: Task,
    make_loader: MakeLoader,
    workdir: Path,
    count_flops: Callable[[], float] | None,
) -> TrainState:
    engine = make_engine(config.parallel, config.batch_size, config.accumulation)
    step, tx = make_step(config, task, engine.layout)
    frozen = task.frozen()
    frozen_hash = content_hash(frozen)
    data, clock = iter(make_loader("train")), Clock(config.batch_size)
    checkpoints = Checkpoints(workdir / "checkpoints", config, frozen_hash)
    # those of one machine would write to one file
    profiler = Profiler(workdir / "profile" / f"process_{jax.process_index()}", config.profile.at, config.profile.steps)
    stall = StallWatch(config.stall_after if jax.process_count() > 1 else 0.0)
    with PreemptionWatch() as preemption, profiler, stall, contextlib.closing(checkpoints):
        state = create_state(task, tx, config.seed, with_ema=config.ema_decay > 0, constrain=engine.layout.constrain)
        state = checkpoints.restore(state, data, clock)
        resumed = int(state.step)
        if config.init_from and not resumed:
            state = _begin_with(state, Path(config.init_from), frozen_hash)
        run_step: TrainStep = engine.compile(step, state)
        log.info(f"resuming from step {resumed}" if resumed else "starting at step 0")
        if jax.process_index() == 0:
            write_json(workdir / "config.json", config.to_dict())
        state, frozen = engine.place(state), engine.place_frozen(cast_frozen(frozen, config.frozen_dtype))
        if config.debug:
            log_shapes(engine.gather(state), task.batch_spec())
            run_step = checked(run_step)
        held_out = HeldOut(task, engine, frozen, _held_out_batches(config, make_loader))
        first_reported = resumed + 1 if resumed else 0
        with contextlib.closing(MetricsWriter(workdir, first_reported, config.wandb, flatten(config))) as metrics:
            between = BetweenSteps(config, engine, held_out, checkpoints, metrics, data, clock)
            if not resumed:
                between(0, state, {})
            running: Metrics = {}
            for number, batch in _progress(data, resumed, config.steps, clock):
                check_batch(batch, task.batch_spec(), config.batch_size // jax.process_count())
                profiler.before(number)
                state, values = run_step(state, frozen, engine.place_batch(batch))
                profiler.after(number, values)
                if running:
                    stop_if_diverged(config.guard.stop_after, number - 1, running)  # waits for the step before, so that
                    clock.step_done()  # the devices have one step in hand, never a queue of them
                else:
                    _first_step(clock, values, count_flops)
                running = values
                ending = preemption.asked(number)
                between(number, state, values, ending)
                stall.step_done()
                if ending:
                    checkpoints.wait()
                    raise Preempted(number)
            if running:
                stop_if_diverged(config.guard.stop_after, config.steps, running)
    log.info("step %d reached; results in %s", int(engine.gather(state.step)), workdir)
    return state


def _begin_with(state: TrainState, workdir: Path, frozen_hash: str) -> TrainState:
    """Takes parameters and model state of another run's newest checkpoint, cut as the state is."""
    step, params = restore_params(workdir, state.params, frozen_hash=frozen_hash)
    model_state = restore_model_state(workdir, state.model_state, whole=False)
    log.info("beginning with the parameters of %s, step %d", workdir, step)
    ema = None if state.ema is None else jax.tree.map(jnp.copy, params)
    return state.replace(params=params, ema=ema, model_state=model_state)


def _first_step(clock: Clock, values: Metrics, count_flops: Callable[[], float] | None) -> None:
    """Operations are counted while the devices have their first step in hand."""
    chip = chip_of(jax.devices()[0].device_kind)
    flops = count_flops() if count_flops and chip else 0.0
    jax.block_until_ready(values)
    clock.first_step_done(flops / chip.flops / jax.device_count() if chip else 0.0)
    log.info("the first step is done")


def make_step(
    config: ml_collections.FrozenConfigDict, task: Task, layout: Layout
) -> tuple[TrainStep, optax.GradientTransformation]:
    """Makes the step of a recipe, and the optimiser that its state is made with."""
    tx, schedule = make_optimizer(config.optim, config.steps)
    step = make_train_step(
        task,
        tx,
        schedule,
        accumulation=config.accumulation,
        ema_decay=config.ema_decay,
        remat=remat_policy(config.parallel.remat),
        guard=Guard(config.guard.spike),
        with_layers=config.layer_stats,
        layout=layout,
    )
    return step, tx


def cast_frozen(frozen: PyTree, dtype: str) -> PyTree:
    """Rounds the floating-point weights to `config.frozen_dtype`; the networks compute in their own dtype.

    Raises:
      ConfigError: a dtype that weights are not kept in.
    """
    if dtype not in FROZEN_DTYPES:
        raise ConfigError(f"frozen_dtype={dtype!r} is unknown; use one of {FROZEN_DTYPES}, empty for the task's own")
    if not dtype:
        return frozen
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, frozen)


def _progress(data: grain.DatasetIterator, done: int, steps: int, clock: Clock) -> Iterator[tuple[int, Batch]]:
    """Yields (step number, batch) for the steps that are left, under a progress bar on stderr."""
    interval = 0.5 if sys.stderr.isatty() else 10.0
    bar = tqdm(initial=done, total=steps, unit="step", mininterval=interval, disable=jax.process_index() > 0)
    with logging_redirect_tqdm([logging.getLogger("handjax")]), bar:
        for number in range(done + 1, steps + 1):
            with clock.waiting():
                batch = next(data)
            yield number, batch
            bar.update()


def _held_out_batches(config: ml_collections.FrozenConfigDict, make_loader: MakeLoader) -> list[Batch]:
    """The same few batches at every evaluation, held in memory."""
    if not (config.eval_every or config.preview_every):
        return []
    batches = list(itertools.islice(make_loader("eval"), config.eval_batches))
    if not batches:
        raise ConfigError(
            f"the eval split has no full batch of {config.batch_size}; "
            "lower batch_size, or set eval_every and preview_every to 0"
        )
    return batches
