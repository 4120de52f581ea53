"""A run killed by SIGKILL at random moments ends with the parameters of the run that was left alone, bit by bit."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from handjax.tasks import make_task
from handjax.training.checkpoints import restore_params
from handjax.training.config import load_config

STEPS, EVERY, KILLS = 240, 20, 3
TOY = "tests/training/toy_config.py:slow"
TOY_FIELDS = [f"--config.steps={STEPS}", f"--config.checkpoint.every={EVERY}", "--config.log_every=1"]


def _command(workdir: Path, config: str, fields: list[str]) -> list[str]:
    return [sys.executable, "-m", "launch.train", "--config", config, "--workdir", str(workdir), *fields]


def _newest(workdir: Path) -> int:
    return max((int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdecimal()), default=0)


def _reported(workdir: Path) -> list[int]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def _run_and_kill(workdir: Path, config: str, fields: list[str], delay: float) -> tuple[str, int]:
    """Kills the run `delay` seconds after its next checkpoint; returns its log and the last step it reported."""
    before = _newest(workdir)
    with (workdir / "log").open("w") as log:
        process = subprocess.Popen(_command(workdir, config, fields), stderr=log)
        while _newest(workdir) == before:
            assert process.poll() is None, (workdir / "log").read_text()
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
    return (workdir / "log").read_text(), max(_reported(workdir))


def _resume_step(log: str) -> int:
    found = re.search(r"resuming from step (\d+)", log)
    return int(found[1]) if found else 0


def _check_resumed(log: str, reported: int, every: int) -> None:
    """At most one interval is repeated; the newest checkpoint may be one step ahead of the last report."""
    resumed = _resume_step(log)
    assert resumed > 0 and reported - every <= resumed <= reported + 1


def _check_kills(tmp_path: Path, config: str, fields: list[str], every: int, longest_delay: float) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    subprocess.run(_command(alone, config, fields), check=True)

    killed.mkdir()
    seed = random.randrange(2**32)
    print(f"moments of the kills: seed {seed}")
    moments, reported = random.Random(seed), 0
    for kill in range(KILLS):
        log, last = _run_and_kill(killed, config, fields, moments.uniform(0, longest_delay))
        if kill:
            _check_resumed(log, reported, every)
        reported = last
    last_run = subprocess.run(_command(killed, config, fields), check=True, stderr=subprocess.PIPE, text=True)
    _check_resumed(last_run.stderr, reported, every)

    recipe = load_config(config, fields)
    like, _ = make_task(recipe).init(jax.random.key(0))
    ends = [restore_params(workdir, like) for workdir in (alone, killed)]
    assert [step for step, _ in ends] == [recipe.steps] * 2
    jax.tree.map(np.testing.assert_array_equal, *(params for _, params in ends))
    assert _reported(killed) == _reported(alone)


def test_killed_toy_run_ends_bit_identical(tmp_path):
    _check_kills(tmp_path, TOY, TOY_FIELDS, EVERY, longest_delay=0.8)


@pytest.mark.slow
def test_killed_sgm_run_ends_bit_identical(tmp_path):
    records, every = tmp_path / "records", 10
    precompute = [sys.executable, "-m", "launch.precompute", "--input", "rendered:40", "--output", str(records)]
    subprocess.run(precompute, check=True)
    fields = [
        f"--config.data.path={records}",
        "--config.steps=80",
        f"--config.checkpoint.every={every}",
        "--config.log_every=1",
        "--config.eval_every=0",
        "--config.preview_every=0",
    ]
    _check_kills(tmp_path, "sgm.py:tiny", fields, every, longest_delay=4.0)
