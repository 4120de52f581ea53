"""Where the time of a run goes: seconds a step, waiting for data, the use of the chips, and what of it all counts."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

from handjax.training.roofline import GIB


class Clock:
    """Measures the steps between two reports.

    The first step of a process compiles, so the clock runs from its end on. Goodput goes through restarts: seconds of
    steps that the run stands on, ÷ seconds since it was first started, machines that were away included.

    Args:
      batch_size: of all devices together.
      now: seconds that pass evenly.
      wall: seconds since 1970.
    """

    def __init__(
        self,
        batch_size: int,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ):
        self._batch_size, self._now, self._wall = batch_size, now, wall
        self._started, self._productive = wall(), 0.0
        self._steps = 0
        self._waited = self._aside = 0.0
        self._since: float | None = None
        self._at_peak = 0.0

    def first_step_done(self, at_peak: float = 0.0) -> None:
        """Begins to measure; `at_peak` is the seconds of a step were the chips always at their peak, 0 for unknown."""
        self._since, self._at_peak = self._now(), at_peak
        self._waited = self._aside = 0.0

    def step_done(self) -> None:
        """Counts one step, when the clock runs."""
        self._steps += self._since is not None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for a batch."""
        start = self._now()
        yield
        self._waited += self._now() - start

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Around what is no training: evaluation, previews."""
        start = self._now()
        yield
        self._aside += self._now() - start

    def report(self) -> dict[str, float]:
        """Returns what the steps since the last report took, and begins anew; empty before the first whole step.

        Returns:
          "step_seconds", "examples_per_second", "data_wait" (share of the time in which the host waited for a batch;
          the devices may have been at work), "goodput", and "mfu" (model FLOPs utilisation) where that can be known.
        """
        if not self._steps or self._since is None:
            return {}
        now = self._now()
        spent = now - self._since - self._aside
        self._productive += spent - self._waited
        seconds = spent / self._steps
        figures = {
            "step_seconds": seconds,
            "examples_per_second": self._batch_size / seconds,
            "data_wait": self._waited / spent,
            "goodput": self._productive / (self._wall() - self._started),
        }
        self._since, self._steps, self._waited, self._aside = now, 0, 0.0, 0.0
        return figures | ({"mfu": self._at_peak / seconds} if self._at_peak else {})

    def get_state(self) -> dict[str, float]:
        """What a checkpoint keeps; the steps since the last report count."""
        since = 0.0 if self._since is None else self._now() - self._since - self._aside - self._waited
        return {"started": self._started, "productive": self._productive + since}

    def set_state(self, state: dict[str, float]) -> None:
        """Goes on from what a checkpoint has kept."""
        self._started, self._productive = state["started"], state["productive"]


def device_memory() -> dict[str, float]:
    """Returns the most memory that one of this process's devices has used so far, in GiB; empty where none says."""
    peaks = [_statistics(device).get("peak_bytes_in_use", 0) for device in jax.local_devices()]
    return {"device_peak_gib": max(peaks) / GIB} if any(peaks) else {}


def _statistics(device: jax.Device) -> dict[str, Any]:
    return device.memory_stats() or {}
