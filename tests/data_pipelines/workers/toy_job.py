"""A job that needs no networks; it lies in a folder of its own, which tests make known to worker processes."""

import dataclasses
import io
import os
import signal
import time
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.splits import split_names
from handjax.errors import WeightsError
from handjax.record import HandRecord


@dataclasses.dataclass(frozen=True)
class ToyJob:
    """Numbered grey pictures; those whose number ends in 7 fail."""

    count: int
    level: int = 0
    changed: str = ""
    killed_by: Path | None = None
    broken: bool = False

    name = "toy"
    description = "Numbers."
    licence = None
    citation = None

    def settings(self):
        return {"level": self.level}

    def splits(self):
        return split_names([f"n-{number}" for number in range(self.count)], 0.1)

    def states(self, names):
        return [name == self.changed for name in names]

    def open(self):
        if self.broken:
            raise WeightsError("toy.bin: no such weights; make them")
        return self._records

    def _records(self, names, failures):
        for name in names:
            time.sleep(0.01)
            if self.killed_by is not None and name == "n-40" and self.killed_by.exists():
                self.killed_by.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            number = int(name.removeprefix("n-"))
            if number % 10 == 7:
                failures.add(Path(name), "a seven", f"{name}: ends in 7")
                continue
            picture = io.BytesIO()
            noise = np.random.default_rng(number).integers(0, 200, (24, 24, 3)) + self.level
            Image.fromarray(noise.astype(np.uint8)).save(picture, "PNG")
            yield HandRecord(id=name, image=picture.getvalue(), caption=f"number {number}", source=name)
