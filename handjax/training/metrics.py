"""What a run reports, and to whom: metrics.jsonl, preview pictures, TensorBoard, Weights & Biases."""

import contextlib
import importlib.util
import json
import math
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2

from handjax.errors import ConfigError, InputError
from handjax.files import atomic_write
from handjax.images import write_image


class Writer(Protocol):
    """Receives the reports of a run."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the numbers of a step."""

    def write_previews(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Takes the pictures of a step, uint8 [height, width, 3] by name."""

    def close(self) -> None:
        """Writes what is not written yet."""


class MetricsWriter:
    """Hands each report to every writer; of several processes only the first one writes.

    Args:
      workdir: of the run.
      first_step: what is reported from this step on replaces older reports, of an interrupted run.
      wandb: project of Weights & Biases, "" for none.
      config: the recipe, flat, for those who show it.

    Raises:
      ConfigError: `wandb` without its package.
      InputError: of the methods, when there is no room, say.
    """

    def __init__(self, workdir: Path, first_step: int, wandb: str = "", config: Mapping[str, Any] | None = None):
        self._workdir = workdir
        self._writers: list[Writer] = []
        if wandb and importlib.util.find_spec("wandb") is None:
            raise ConfigError(
                f"wandb={wandb!r} wants a package: pip install 'handjax[wandb]', or leave the field empty"
            )
        if jax.process_index() > 0:
            return
        self._writers = [Folder(workdir, first_step), TensorBoard(workdir / "tensorboard", first_step)]
        if wandb:
            self._writers.append(WeightsAndBiases(workdir, wandb, config or {}))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Reports numbers."""
        with self._reporting():
            for writer in self._writers:
                writer.write(step, values)

    def write_previews(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Reports pictures."""
        with self._reporting():
            for writer in self._writers:
                writer.write_previews(step, pictures)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self._workdir}: a report cannot be written ({error.strerror}); make room and run the same command "
                "again, it goes on from its newest checkpoint"
            ) from error

    def close(self) -> None:
        """Ends all writers."""
        with self._reporting():
            for writer in self._writers:
                writer.close()


class Folder:
    """WORKDIR/metrics.jsonl, one line {"step": …, name: value, …} a report, and WORKDIR/previews/step_000100_NAME.png.

    A number that is none (NaN, infinity) becomes null, because JSON has no word for it.
    """

    def __init__(self, workdir: Path, first_step: int):
        path = workdir / "metrics.jsonl"
        _drop_from(path, first_step)
        self._file = path.open("a")
        self._previews = workdir / "previews"

    def write(self, step: int, values: Mapping[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **finite}) + "\n")
        self._file.flush()

    def write_previews(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        for name, picture in pictures.items():
            write_image(self._previews / f"step_{step:06d}_{name}.png", np.asarray(picture))

    def close(self) -> None:
        self._file.close()


class TensorBoard:
    """Event files for TensorBoard, written at once: tensorboardX's own writer waits for ever when its disk is full."""

    def __init__(self, folder: Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._events = EventsWriter(str(folder / "events"))
        # hides what an interrupted run has reported from this step on
        self._write(
            event_pb2.Event(step=first_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._write(event_pb2.Event(step=step, summary=summary.scalar(name, value)))

    def write_previews(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        for name, picture in pictures.items():
            image = summary.image(name, np.asarray(picture), dataformats="HWC")
            self._write(event_pb2.Event(step=step, summary=image))

    def _write(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        self._events.write_event(event)
        self._events.flush()

    def close(self) -> None:
        self._events.close()


class WeightsAndBiases:
    """A run of Weights & Biases, the same one after a restart; `WANDB_MODE=offline` keeps it in WORKDIR/wandb."""

    def __init__(self, workdir: Path, project: str, config: Mapping[str, Any]):
        import wandb  # an optional package

        self._wandb = wandb
        name = workdir / "wandb_id.txt"
        if not name.exists():
            with atomic_write(name) as temporary:
                temporary.write_text(secrets.token_hex(8))
        self._run = wandb.init(
            project=project, id=name.read_text(), resume="allow", dir=workdir, name=workdir.name, config=dict(config)
        )
        # its own count of reports only grows, ours goes back to the checkpoint
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log({"step": step, **values})

    def write_previews(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        images = {f"previews/{name}": self._wandb.Image(np.asarray(picture)) for name, picture in pictures.items()}
        self._run.log({"step": step, **images})

    def close(self) -> None:
        self._run.finish()


def _drop_from(path: Path, step: int) -> None:
    """Keeps the whole lines before `step`; a killed process may have left part of a line."""
    if not path.exists():
        return
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(line for line in lines if json.loads(line)["step"] < step))
