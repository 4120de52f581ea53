"""A run that is killed, asked to end, or has a checkpoint cut short ends as the run that was left alone, bit by bit."""

import subprocess
import sys

import pytest

from tests.e2e.faults import Recipe, check_faults, fill_disk


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_faults_of_a_toy_run(tmp_path, kills):
    counts = check_faults(Recipe.toy(steps=40 * (kills + 4)), tmp_path, kills, terms=1, longest=0.8)
    assert counts["killed"] + counts["killed while saving"] == kills
    assert (counts["asked to end"], counts["cut short"]) == (1, 1)
    assert counts["most steps repeated"] <= 20


@pytest.mark.slow
def test_a_full_disk_leaves_the_run_resumable(tmp_path):
    fill_disk(Recipe.toy(steps=100), tmp_path / "full")


@pytest.mark.slow
def test_faults_of_an_sgm_run(tmp_path):
    records, every = tmp_path / "records", 10
    precompute = [sys.executable, "-m", "launch.precompute", "--input", "rendered:40", "--output", str(records)]
    subprocess.run(precompute, check=True)
    fields = [
        f"--config.data.path={records}",
        "--config.steps=100",
        f"--config.checkpoint.every={every}",
        "--config.log_every=1",
        "--config.eval_every=0",
        "--config.preview_every=0",
    ]
    check_faults(Recipe("sgm.py:tiny", fields, every), tmp_path, kills=3, terms=1, longest=4.0)
