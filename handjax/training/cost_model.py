"""How a step's memory, arithmetic and traffic grow with the batch and the chips, fitted to compiled steps."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handjax.training.roofline import GIB, TERA, Chip, Roofline, roofline


@dataclasses.dataclass(frozen=True)
class Line:
    """fixed + slope * (examples a chip)."""

    fixed: float
    slope: float

    def __call__(self, batch: float) -> float:
        return self.fixed + self.slope * batch


@dataclasses.dataclass(frozen=True)
class CostModel:
    """What one chip needs for a step of a recipe whose weights are whole on every chip.

    Args:
      memory: GiB at the worst moment.
      traffic: GiB to and from its memory.
      model: TFLOP of the arithmetic.
      executed: TFLOP with what is computed again.
      reduced: GiB that all chips sum, the gradients above all.
    """

    memory: Line
    traffic: Line
    model: Line
    executed: Line
    reduced: float

    def sent(self, chips: int) -> float:
        """GiB that a chip sends, by ring algorithms (`handjax.training.collectives`)."""
        return 2 * (chips - 1) / chips * self.reduced

    def step(self, chip: Chip, chips: int, batch: float) -> Roofline:
        """The bound of a step of `batch` examples on each of `chips` chips."""
        return roofline(chip, self.executed(batch) * TERA, self.traffic(batch) * GIB, self.sent(chips) * GIB)

    def mfu(self, chip: Chip, chips: int, batch: float) -> float:
        """The share of the chip's peak that the bound leaves."""
        return self.model(batch) * TERA / chip.flops / self.step(chip, chips, batch).seconds

    def largest_batch(self, chip: Chip) -> int:
        """Examples that fit on a chip."""
        return int((chip.hbm / GIB - self.memory.fixed) // self.memory.slope)


def fit(items: Sequence[Mapping[str, Any]]) -> CostModel:
    """Fits by least squares of relative errors.

    Args:
      items: of `launch.compile --json`, with whole weights, of two batches a chip or more and of several chips.
    """
    batches = [item["batch_size"] / item["chips"] for item in items]

    def line(name: str) -> Line:
        values = np.asarray([item[name] for item in items])
        rows = np.stack([np.ones(len(items)), batches], axis=1) / values[:, None]
        fixed, slope = np.linalg.lstsq(rows, np.ones(len(items)))[0]
        return Line(float(fixed), float(slope))

    several = [item for item in items if item["chips"] > 1]  # one alone sends nothing
    rings = np.asarray([2 * (item["chips"] - 1) / item["chips"] for item in several])
    sent = np.asarray([sum(item["collective_gib"].values()) for item in several])
    return CostModel(
        memory=line("hbm_peak_gib"),
        traffic=line("hbm_traffic_gib"),
        model=line("tflop_per_chip"),
        executed=line("tflop_executed_per_chip"),
        reduced=float(np.mean(sent / rings)),
    )
