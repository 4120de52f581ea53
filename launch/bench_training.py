"""What training costs besides its steps: time to the first one, checkpoints, waiting for data; `sgm.py:tiny`."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launch.bench_loader import write_records

RECIPE = "sgm.py:tiny"
SIDE = 192
"""Of the records' pictures in pixels."""
BATCH = 8
"""Makes steps of more than 200 ms on two CPU cores."""
EVERY = 50
STEPS = 3 * EVERY
QUIET = ["--config.eval_every=0", "--config.preview_every=0", f"--config.batch_size={BATCH}"]


def bench_training(runs: int) -> Iterator[dict[str, Any]]:
    """Seconds to the first step with a warm compile cache, and how checkpoints every 50 steps slow the steps down.

    Runs with and without checkpoints take turns; only whole intervals after the first are measured, which hold the
    copying of the checkpoint at their beginning and all of its writing.
    """
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records"
        write_records(records, SIDE)
        first_step(records, Path(folder) / "cold")
        starts = [first_step(records, Path(folder) / f"warm{number}") for number in range(runs)]
        yield {"name": "first_step", "ours": statistics.median(starts), "bound": 15.0, "unit": "s", "runs": runs}
        pairs = [
            (
                steps(records, Path(folder) / f"with{number}", EVERY),
                steps(records, Path(folder) / f"without{number}", STEPS),
            )
            for number in range(runs)
        ]
    ours, peer = (statistics.median(turn["step_seconds"] for turn in turns) for turns in zip(*pairs, strict=True))
    ratio = statistics.median(saving["step_seconds"] / plain["step_seconds"] for saving, plain in pairs)
    yield {
        "name": f"step_checkpoints_every_{EVERY}",
        "ours": ours,
        "peer": peer,
        "peer_name": "without checkpoints",
        "ratio": ratio,
        "ratio_bound": 1.03,
        "unit": "s",
        "runs": runs,
    }
    waits = statistics.median(turn["data_wait"] for pair in pairs for turn in pair)
    yield {"name": "data_wait", "ours": waits, "bound": 0.02, "unit": "of the time", "runs": 2 * runs}


def first_step(records: Path, workdir: Path) -> float:
    """Seconds from the start of the process to the end of its first step.

    Args:
      records: folder of prepared records.
      workdir: of the run.
    """
    start = time.perf_counter()
    with subprocess.Popen(_command(records, workdir, "--config.steps=1"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = [time.perf_counter() - start for line in process.stderr if "the first step is done" in line]
    if process.returncode:
        raise RuntimeError(f"launch.train ended with status {process.returncode}")
    return told[0]


def steps(records: Path, workdir: Path, save_every: int) -> dict[str, float]:
    """Means of what a run reports of its steps after the first interval: "step_seconds" and "data_wait".

    Args:
      records: folder of prepared records.
      workdir: of the run.
      save_every: steps between checkpoints; the last one is always saved, after the last report.
    """
    words = [f"--config.steps={STEPS}", f"--config.log_every={EVERY}", f"--config.checkpoint.every={save_every}"]
    subprocess.run(_command(records, workdir, *words), check=True, capture_output=True)
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()][1:]
    return {name: statistics.mean(line[name] for line in lines) for name in ("step_seconds", "data_wait")}


def _command(records: Path, workdir: Path, *words: str) -> list[str]:
    train = [sys.executable, "-m", "launch.train", "--config", RECIPE, "--workdir", str(workdir)]
    return [*train, f"--config.data.path={records}", *QUIET, *words]
