"""A scheduler asks a run to end before it takes the machine away: SIGTERM, or JAX's preemption service."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax
from orbax.checkpoint.multihost import reached_preemption


class Preempted(Exception):
    """The run was asked to end, and has saved what it needs to go on.

    Args:
      step: the step that was saved.
    """

    def __init__(self, step: int):
        super().__init__(f"asked to end; step {step} is saved, and the same command goes on from there")
        self.step = step


class PreemptionWatch:
    """Notices that the run shall end; a context manager.

    A process that is alone listens to SIGTERM itself. Of several, one is often asked before the others, so that there
    JAX's preemption service listens and agrees on a step with all of them.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def __enter__(self) -> "PreemptionWatch":
        # signals can only be received by the main thread
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def asked(self, step: int) -> bool:
        """Whether the run shall end after this step; the same on all processes, each of which asks at every step."""
        return self._asked or (jax.process_count() > 1 and reached_preemption(step))

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
