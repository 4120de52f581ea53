"""A profiler trace on demand: at a step that the recipe names, or whenever the process receives SIGUSR1."""

import logging
import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import jax

from handjax.training.task import PyTree

log = logging.getLogger(__name__)


class Profiler:
    """Writes what the devices and the host do in a few steps to WORKDIR/profile; a context manager.

    Args:
      folder: where traces go; TensorBoard and XProf read them.
      at: the step with which a trace begins; 0 begins none.
      steps: length of a trace.
    """

    def __init__(self, folder: Path, at: int, steps: int):
        self._folder, self._at, self._steps = folder, at, steps
        self._asked = False
        self._last: int | None = None
        self._before: Any = None

    def __enter__(self) -> "Profiler":
        if threading.current_thread() is threading.main_thread():  # others cannot receive signals
            self._before = signal.signal(signal.SIGUSR1, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._before is not None:
            signal.signal(signal.SIGUSR1, self._before)
        if self._last is not None:
            self._stop()

    def before(self, step: int) -> None:
        """To be called before a step is started."""
        if self._last is None and (self._asked or step == self._at):
            self._asked, self._last = False, step + self._steps - 1
            jax.profiler.start_trace(self._folder)

    def after(self, step: int, values: PyTree) -> None:
        """To be called when it was started; `values` is what it reports."""
        if self._last is not None and step >= self._last:
            jax.block_until_ready(values)
            self._stop()

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        log.info("trace up to step %d in %s", self._last, self._folder)
        self._last = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
