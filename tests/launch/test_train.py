"""launch.train as a user calls it."""

import json
import subprocess
import sys

import pytest

TOY = "tests/training/toy_config.py"


def _train(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "launch.train", "--config", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_debug_run_is_short_prints_shapes_and_leaves_its_files(tmp_path):
    done = _train(TOY, "--workdir", str(tmp_path), "--config.debug=True")
    assert done.returncode == 0, done.stderr
    assert "parameter w: float32(6, 6)" in done.stderr
    assert done.stdout == ""
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 5]
    assert {"loss", "masked", "absolute", "lr", "grad_norm", "examples_per_second"} <= lines[-1].keys()
    assert {"eval/loss", "eval/masked"} <= lines[0].keys() & lines[-1].keys()
    assert json.loads((tmp_path / "config.json").read_text())["optim"]["lr"] == 1e-2
    assert (tmp_path / "previews" / "step_000005_weights.png").is_file()
    assert (tmp_path / "checkpoints" / "5").is_dir()


def test_debug_run_stops_at_the_first_nan(tmp_path):
    done = _train(TOY, "--workdir", str(tmp_path), "--config.debug=True", "--config.optim.lr=1e39")
    assert done.returncode == 1
    assert "FloatingPointError" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([TOY, "--config.optim.lrr=1"], "error: unknown field 'optim.lrr'; did you mean 'optim.lr'?"),
        ([TOY, "--workdir", TOY], f"error: {TOY}: cannot be a folder"),
    ],
)
def test_mistakes_end_with_one_line_and_status_2(arguments, expected):
    done = _train(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1
