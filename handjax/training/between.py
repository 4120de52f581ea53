"""What happens when a step is done: reports, evaluation, previews, checkpoints."""

import logging

import grain
import jax
import ml_collections

from handjax.errors import ConfigError
from handjax.training.checkpoints import Checkpoints
from handjax.training.clock import Clock, device_memory
from handjax.training.evaluation import HeldOut
from handjax.training.metrics import MetricsWriter
from handjax.training.parallel import Engine
from handjax.training.state import TrainState
from handjax.training.step import Metrics

log = logging.getLogger(__name__)


class BetweenSteps:
    """Called when a step is done."""

    def __init__(
        self,
        config: ml_collections.FrozenConfigDict,
        engine: Engine,
        held_out: HeldOut,
        checkpoints: Checkpoints,
        metrics: MetricsWriter,
        data: grain.DatasetIterator,
        clock: Clock,
    ):
        self._config = config
        self._engine = engine
        self._held_out = held_out
        self._checkpoints = checkpoints
        self._metrics = metrics
        self._data = data
        self._clock = clock

    def __call__(self, step: int, state: TrainState, values: Metrics, ending: bool = False) -> None:
        """`step` is the number of completed steps, `values` what the last reported; one that is `ending` is saved."""
        self._checkpoints.wait()  # a save overlaps with one step, so that a kill repeats at most one interval
        report: dict[str, float] = {}
        if self._due(step, self._config.eval_every) or self._due(step, self._config.preview_every):
            jax.block_until_ready(values)  # evaluation would wait for the step, and the clock not count it
        if values and self._due(step, self._config.log_every):
            report |= {name: float(value) for name, value in values.items()}
            report |= self._clock.report() | device_memory()
        with self._clock.aside():
            if self._due(step, self._config.eval_every):
                report |= self._held_out.evaluate(state)
            if self._due(step, self._config.preview_every):
                self._metrics.write_previews(step, self._held_out.preview(state))
        if report:
            self._metrics.write(step, report)
            shown = (f"{name} {value:.4g}" for name, value in report.items() if not name.startswith("layers/"))
            log.info("step %d  %s", step, "  ".join(shown))
        if step and (ending or self._due(step, self._config.checkpoint.every)):
            self._check_best(step, report, ending)
            self._checkpoints.save(step, self._engine.gather(state), self._data, self._clock, report)

    def _due(self, step: int, every: int) -> bool:
        return every > 0 and (step % every == 0 or step == self._config.steps)

    def _check_best(self, step: int, report: dict[str, float], ending: bool) -> None:
        best = self._config.checkpoint.best
        if best and best not in report and not ending:
            raise ConfigError(
                f"checkpoint.best={best!r} is not reported at step {step} ({', '.join(report) or 'nothing'} is); "
                "make checkpoint.every a multiple of eval_every or log_every, or name another"
            )
