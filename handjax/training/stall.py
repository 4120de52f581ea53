"""A process that hangs would keep all others waiting for ever: it ends itself."""

import faulthandler
import os
import sys
import threading
from types import TracebackType

STALLED_STATUS = 70
"""EX_SOFTWARE of sysexits.h; the same command goes on."""


class StallWatch:
    """Ends the process, with every thread's traceback on stderr, when no step is done for too long.

    A context manager. Those that wait for a hung process hang as well, so that all end at about the same time.

    Args:
      seconds: without a step; 0 watches nothing.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._alive, self._over = threading.Event(), threading.Event()

    def __enter__(self) -> "StallWatch":
        if self._seconds:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        self._over.set()
        self._alive.set()

    def step_done(self) -> None:
        """Begins to count anew."""
        self._alive.set()

    def _watch(self) -> None:
        while self._alive.wait(self._seconds):
            if self._over.is_set():
                return
            self._alive.clear()
        print(f"no step was done for {self._seconds:g} s; this is where each thread is:", file=sys.stderr)
        faulthandler.dump_traceback(all_threads=True)
        os._exit(STALLED_STATUS)
