"""The train loop: whatever the task, data in, steps, reports, checkpoints."""

import contextlib
import itertools
import logging
import sys
import time
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
from handjax.training.checkpoints import Checkpoints, content_hash
from handjax.training.debug import checked, debugging, log_shapes
from handjax.training.evaluation import HeldOut
from handjax.training.metrics import MetricsWriter
from handjax.training.optimizer import make_optimizer
from handjax.training.parallel import Engine, make_engine
from handjax.training.preemption import Preempted, PreemptionWatch
from handjax.training.remat import remat_policy
from handjax.training.state import TrainState, create_state
from handjax.training.step import Layout, Metrics, TrainStep, make_train_step
from handjax.training.task import Batch, PyTree, Task, check_batch

log = logging.getLogger(__name__)

MakeLoader = Callable[[str], grain.IterDataset]
"""Split ("train" or "eval") -> batches as `Task.batch_spec` says; "train" never ends."""

FROZEN_DTYPES = ("", "float32", "bfloat16")


def train(config: ml_collections.FrozenConfigDict, task: Task, make_loader: MakeLoader, workdir: Path) -> TrainState:
    """Trains a task up to `config.steps`, from the newest checkpoint in `workdir` if there is one.

    Args:
      config: a recipe from `load_config`.
      task: the objective.
      make_loader: gives the batches; the iterator of "train" is saved with the checkpoints.
      workdir: receives metrics.jsonl, checkpoints/, previews/, tensorboard/ and config.json.

    Returns:
      The final state.

    Raises:
      ConfigError: a field that does not fit.
      CheckpointError: `workdir` holds another run, or a checkpoint cannot be written.
      Preempted: the run was asked to end; the step it was at is saved.
    """
    if not config.debug:
        return _train(config, task, make_loader, workdir)
    with debugging(config) as short:
        return _train(short, task, make_loader, workdir)


def _train(config: ml_collections.FrozenConfigDict, task: Task, make_loader: MakeLoader, workdir: Path) -> TrainState:
    engine = make_engine(config.parallel, config.batch_size, config.accumulation)
    step, tx = make_step(config, task, engine.layout)
    frozen = task.frozen()
    data = iter(make_loader("train"))
    checkpoints = Checkpoints(workdir / "checkpoints", config, content_hash(frozen))
    with PreemptionWatch() as preemption, contextlib.closing(checkpoints):
        state = create_state(task, tx, config.seed, with_ema=config.ema_decay > 0, constrain=engine.layout.constrain)
        state = checkpoints.restore(state, data)
        run_step: TrainStep = engine.compile(step, state)
        resumed = int(state.step)
        log.info(f"resuming from step {resumed}" if resumed else "starting at step 0")
        if jax.process_index() == 0:
            write_json(workdir / "config.json", config.to_dict())
        state, frozen = engine.place(state), engine.place_frozen(cast_frozen(frozen, config.frozen_dtype))
        if config.debug:
            log_shapes(engine.gather(state), task.batch_spec())
            run_step = checked(run_step)
        held_out = HeldOut(task, engine, frozen, _held_out_batches(config, make_loader))
        with contextlib.closing(MetricsWriter(workdir, resumed + 1 if resumed else 0)) as metrics:
            between = _BetweenSteps(config, engine, held_out, checkpoints, metrics, data)
            if not resumed:
                between(0, state, {})
            running = None
            for number, batch in _progress(data, resumed, config.steps):
                check_batch(batch, task.batch_spec(), config.batch_size // jax.process_count())
                state, values = run_step(state, frozen, engine.place_batch(batch))
                jax.block_until_ready(running)  # the devices have one step in hand, never a queue of them
                running = values
                ending = preemption.asked(number)
                between(number, state, values, ending)
                if ending:
                    checkpoints.wait()
                    raise Preempted(number)
    log.info("step %d reached; results in %s", int(engine.gather(state.step)), workdir)
    return state


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


class _BetweenSteps:
    """What happens when a step is done: reports, evaluation, previews, checkpoints."""

    def __init__(
        self,
        config: ml_collections.FrozenConfigDict,
        engine: Engine,
        held_out: HeldOut,
        checkpoints: Checkpoints,
        metrics: MetricsWriter,
        data: grain.DatasetIterator,
    ):
        self._config = config
        self._engine = engine
        self._held_out = held_out
        self._checkpoints = checkpoints
        self._metrics = metrics
        self._data = data
        self._steps_since_report, self._last_report = 0, time.monotonic()

    def __call__(self, step: int, state: TrainState, values: Metrics, ending: bool = False) -> None:
        """`step` is the number of completed steps, `values` what the last reported; one that is `ending` is saved."""
        self._checkpoints.wait()  # a save overlaps with one step, so that a kill repeats at most one interval
        report: dict[str, float] = {}
        self._steps_since_report += bool(values)
        if values and self._due(step, self._config.log_every):
            report |= {name: float(value) for name, value in values.items()}
            report["examples_per_second"] = self._rate()
        if self._due(step, self._config.eval_every):
            report |= self._held_out.evaluate(state)
        if report:
            self._metrics.write(step, report)
            log.info("step %d  %s", step, "  ".join(f"{name} {value:.4g}" for name, value in report.items()))
        if self._due(step, self._config.preview_every):
            self._metrics.write_previews(step, self._held_out.preview(state))
        if step and (ending or self._due(step, self._config.checkpoint.every)):
            self._checkpoints.save(step, self._engine.gather(state), self._data)
        if report:
            self._steps_since_report, self._last_report = 0, time.monotonic()

    def _due(self, step: int, every: int) -> bool:
        return every > 0 and (step % every == 0 or step == self._config.steps)

    def _rate(self) -> float:
        """Of the steps since the last report; the first one includes compilation."""
        return self._steps_since_report * self._config.batch_size / (time.monotonic() - self._last_report)


def _progress(data: grain.DatasetIterator, done: int, steps: int) -> Iterator[tuple[int, Batch]]:
    """Yields (step number, batch) for the steps that are left, under a progress bar on stderr."""
    interval = 0.5 if sys.stderr.isatty() else 10.0
    bar = tqdm(initial=done, total=steps, unit="step", mininterval=interval, disable=jax.process_index() > 0)
    with logging_redirect_tqdm([logging.getLogger("handjax")]), bar:
        for number in range(done + 1, steps + 1):
            yield number, next(data)
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
