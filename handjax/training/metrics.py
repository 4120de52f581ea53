"""What a run reports: metrics.jsonl, TensorBoard and preview pictures."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import tensorboardX

from handjax.files import atomic_write
from handjax.images import write_image


class MetricsWriter:
    """Appends to WORKDIR/metrics.jsonl and to the TensorBoard file beside it.

    Older lines from `first_step` on are dropped: an interrupted run reported them, and they will be reported again.
    Of several processes only the first one writes.
    """

    def __init__(self, workdir: Path, first_step: int):
        self._writes = jax.process_index() == 0
        if not self._writes:
            return
        path = workdir / "metrics.jsonl"
        _drop_from(path, first_step)
        self._file = path.open("a")
        self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step)
        self._previews = workdir / "previews"

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one line: {"step": …, name: value, …}."""
        if not self._writes:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def write_previews(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Writes WORKDIR/previews/step_000100_NAME.png."""
        if not self._writes:
            return
        for name, picture in pictures.items():
            write_image(self._previews / f"step_{step:06d}_{name}.png", np.asarray(picture))

    def close(self) -> None:
        if not self._writes:
            return
        self._file.close()
        self._board.close()


def _drop_from(path: Path, step: int) -> None:
    """Keeps the whole lines before `step`; a killed process may have left part of a line."""
    if not path.exists():
        return
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(line for line in lines if json.loads(line)["step"] < step))
