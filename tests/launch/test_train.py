"""launch.train as a user calls it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import handjax.training.loop
import launch.train
from handjax.training.config import CONFIG_FOLDER

TOY = "tests/training/toy_config.py"
PAPERS = {"handrefiner", "mghand", "sesahand", "mmhmr", "mgm", "controlnet", "vq_mano", "slider"}


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


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("absolute=1e39", "FloatingPointError: invalid value (nan)"),
        pytest.param("optim.lr=1e39", "'lr': 'Nonfinite'", marks=pytest.mark.slow),
    ],
)
def test_debug_run_stops_at_the_first_nan_or_infinity(tmp_path, field, expected):
    done = _train(TOY, "--workdir", str(tmp_path), "--config.debug=True", f"--config.{field}")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "step 1 " not in done.stderr


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


def test_the_command_and_its_loop_name_no_paper():
    """Another paper is another task and recipe, never another line here."""
    recipes = {path.stem for path in CONFIG_FOLDER.glob("[!_]*.py")}
    assert "sgm" in recipes
    for module in (launch.train, handjax.training.loop):
        words = set(re.findall(r"[a-z_]+", Path(module.__file__).read_text().lower()))
        assert not words & (recipes | PAPERS)
