"""metrics.jsonl stays one line a step through interruptions."""

import contextlib
import json

import numpy as np

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
