"""The downstream loop by commands alone: rendered hands for the original ones and for those that are generated."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from handjax.recovery.files import save_recovery
from handjax.training.config import CONFIG_FOLDER
from tests.recovery.tiny_models import ENCODER, NETWORK, random_model

SMALLER = f"""
_full = get_config

def get_config():
    config = _full("tiny")
    config.update({{"encoder": {ENCODER}, "network": {NETWORK}, "batch_size": 4, "checkpoint": {{"every": 2}}}})
    return config
"""


def start(name, *words):
    command = [sys.executable, "-m", f"launch.{name}", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_loop_goes_on_after_a_kill_and_prints_one_document(tmp_path):
    recipe = tmp_path / "small.py"
    recipe.write_text((CONFIG_FOLDER / "mmhmr.py").read_text() + SMALLER)
    save_recovery(random_model(), tmp_path / "model")
    made = start("precompute", "rendered:24", "--output", tmp_path / "original")
    assert made.wait() == 0, made.stderr.read()
    shutil.copytree(tmp_path / "original", tmp_path / "generated")
    words = ["--suite", "downstream", "--config", recipe, "--model", tmp_path / "model"]
    words += ["--train", tmp_path / "original", "--generated", f"{tmp_path / 'generated'}@2"]
    words += ["--data", tmp_path / "original", "--steps", 6, "--lr", 1e-3]
    words += ["--workdir", tmp_path / "work", "--out", tmp_path / "out", "--json"]
    run = tmp_path / "work" / "runs" / "with_generated-seed0"
    killed = subprocess.Popen(
        [sys.executable, "-m", "launch.evaluate", *map(str, words)], process_group=0, stderr=subprocess.DEVNULL
    )
    while not (run / "checkpoints" / "2").exists():
        assert killed.poll() is None
        time.sleep(0.05)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    measured = tmp_path / "work" / "measured" / "original-seed0" / "figures.json"
    before = measured.stat().st_mtime_ns
    again = start("evaluate", *words)
    said, errors = again.communicate()
    assert again.returncode == 0, errors[-2000:]
    assert "resuming from step" in errors and measured.stat().st_mtime_ns == before
    document = json.loads(said)
    figures = {item["name"]: item for item in document["items"]}
    assert document["errors"] == [] and {"alone/pa_mpjpe_mm", "with_keypoints/pck_0.1"} <= figures.keys()
    alone = json.loads(measured.read_text())["figures"]
    for item in alone:
        if item["name"] in figures:
            assert figures[item["name"]]["original"] == pytest.approx(item["value"], rel=1e-6)
    item = figures["alone/pa_mpjpe_mm"]
    assert item["start"] != item["original"] != item["with_generated"]
    assert item["interval_95"][0] <= item["difference"] <= item["interval_95"][1]
    settings = json.loads((tmp_path / "out" / "figures.json").read_text())["settings"]
    assert settings["generated_share"] == pytest.approx(2 / 3)
    assert str(tmp_path) not in json.dumps(settings)
