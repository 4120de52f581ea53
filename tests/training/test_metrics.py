"""metrics.jsonl stays one line a step through interruptions."""

import contextlib
import importlib.util
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from handjax.errors import ConfigError
from handjax.images import read_image
from handjax.training.metrics import MetricsWriter


def _steps(workdir):
    return [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_lines_after_the_checkpoint_are_replaced(tmp_path):
    with contextlib.closing(MetricsWriter(tmp_path, 0)) as writer:
        for step in range(5):
            writer.write(step, {"loss": step / 2})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # killed while writing
    with contextlib.closing(MetricsWriter(tmp_path, 3)) as writer:
        writer.write(3, {"loss": 9.0})
    assert _steps(tmp_path) == [0, 1, 2, 3]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1]) == {"step": 3, "loss": 9.0}
    MetricsWriter(tmp_path, 0).close()
    assert _steps(tmp_path) == []


def test_previews_are_named_by_step(tmp_path):
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    with contextlib.closing(MetricsWriter(tmp_path, 0)) as writer:
        writer.write_previews(100, {"result": picture})
    np.testing.assert_array_equal(read_image(tmp_path / "previews" / "step_000100_result.png"), picture)


def test_what_is_no_number_is_null(tmp_path):
    with contextlib.closing(MetricsWriter(tmp_path, 0)) as writer:
        writer.write(1, {"loss": math.nan, "grad_norm": math.inf, "lr": 0.5})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "loss": None,
        "grad_norm": None,
        "lr": 0.5,
    }


def test_tensorboard_gets_numbers_and_pictures(tmp_path):
    picture = np.full((4, 4, 3), 200, np.uint8)
    with contextlib.closing(MetricsWriter(tmp_path, 0)) as writer:
        writer.write(7, {"loss": 0.25})
        writer.write_previews(7, {"result": picture})
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = list(_records(path.read_bytes(), Event))
    values = [(event.step, value) for event in events for value in event.summary.value]
    assert [(step, value.simple_value) for step, value in values if value.tag == "loss"] == [(7, 0.25)]
    assert [value.image.width for _, value in values if value.tag == "result"] == [4]


def _records(data: bytes, kind):
    """TFRecords: length, its checksum, the record, its checksum."""
    while data:
        length = int.from_bytes(data[:8], "little")
        yield kind.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_weights_and_biases_without_its_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="wandb='hands' wants a package: pip install"):
        MetricsWriter(tmp_path, 0, wandb="hands")


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="the optional package wandb is not installed")
def test_weights_and_biases_keeps_one_run_through_a_restart(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for first in (0, 3):
        with contextlib.closing(MetricsWriter(tmp_path, first, "hands", {"optim.lr": 0.1})) as writer:
            writer.write(first + 1, {"loss": 0.5})
            writer.write_previews(first + 1, {"result": np.zeros((4, 4, 3), np.uint8)})
    identity = (tmp_path / "wandb_id.txt").read_text()
    runs = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(runs) == 2 and all(run.name.endswith(identity) for run in runs)
    for run in runs:
        (log,) = run.glob("*.wandb")
        assert b"loss" in log.read_bytes()
        assert len(list(run.rglob("*.png"))) == 1


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from handjax.errors import InputError
from handjax.training.metrics import MetricsWriter

writer = MetricsWriter(Path(sys.argv[1]), 0)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)  # 12 kB
try:
    if sys.argv[2] == "numbers":
        for step in range(1000):
            writer.write(step, {"loss": 0.5})
    else:
        writer.write_previews(0, {"result": picture})
except InputError as error:
    print(error)
try:
    writer.close()
except InputError:
    pass
"""


@pytest.mark.parametrize("what", ["numbers", "pictures"])
def test_no_room_for_a_report_is_one_line(tmp_path, what):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path), what], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(
        "a report cannot be written (File too large); make room and run the same command again, "
        "it goes on from its newest checkpoint\n"
    )
