"""The same step on several devices, cut in all ways, gives what one device gives."""

import json
import os
import subprocess
import sys

import jax
import ml_collections
import numpy as np
import pytest

from handjax.errors import ConfigError
from handjax.training.config import default_config
from handjax.training.parallel import make_engine
from tests.training import block_task
from tests.training.mesh_runs import RUNS
from tests.training.reports import read_reports

RUN = """
import json, sys
from pathlib import Path
import jax
from handjax.tasks import make_task
from handjax.training.config import load_config
from handjax.training.loop import train
from handjax.training.parallel import make_engine
from tests.training.toy_task import make_loader

config = load_config("tests/training/toy_config.py", sys.argv[2:])
task = make_task(config)
load = lambda split: make_loader(config.data, batch_spec=task.batch_spec(), batch_size=8, seed=0, split=split)
state = train(config, task, load, Path(sys.argv[1]))
state = make_engine(config.parallel, 8, 1).gather(state)
trees = [state.params, state.ema, state.model_state]
print(json.dumps([jax.device_count(), jax.tree.map(lambda x: x.tolist(), trees)]))
"""
CUT = {"attn/to_q/kernel", "attn/to_k/kernel", "attn/to_v/kernel", "attn/to_out_0/kernel"}
CUT |= {"ff/net_0/proj/kernel", "ff/net_2/kernel"}
MATRICES = 4 * block_task.CHANNELS**2 + 12 * block_task.CHANNELS**2
BIASES = (1 + 8 + 1) * block_task.CHANNELS


def _python(devices: int, *words: str) -> str:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _train(workdir, devices: int, *overrides: str):
    count, trees = json.loads(_python(devices, "-c", RUN, str(workdir), *overrides))
    assert count == devices
    return trees, [line for line in read_reports(workdir) if "loss" in line]


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    return json.loads(_python(8, "-m", "tests.training.mesh_runs", str(tmp_path_factory.mktemp("checkpoints"))))


@pytest.mark.slow
def test_loop_with_jit_and_pmap_on_two_devices_agrees_with_one(tmp_path):
    trees, lines = _train(tmp_path / "one", 1)
    for mode, fsdp in (("jit", 2), ("pmap", 1)):
        words = (f"--config.parallel.mode={mode}", f"--config.parallel.fsdp={fsdp}", "--config.accumulation=2")
        others, other_lines = _train(tmp_path / mode, 2, *words)
        for tree, other in zip(trees, others, strict=True):
            for name in tree:
                np.testing.assert_allclose(other[name], tree[name], rtol=1e-4, atol=1e-5)
        for line, other in zip(lines, other_lines, strict=True):
            assert other == pytest.approx(line, rel=1e-4, abs=1e-5)


def test_pmap_is_for_one_process(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    parallel = default_config().parallel
    parallel.mode = "pmap"
    with pytest.raises(ConfigError, match="for the devices of one process; use parallel.mode='jit'"):
        make_engine(parallel, 8, 1)


@pytest.mark.parametrize("name", RUNS)
def test_eight_devices_agree_with_one_to_rounding(eight, name):
    run = eight["runs"][name]
    assert max(run["loss_errors"]) < 1e-5
    assert run["errors"]["step"] == 0
    assert max(run["errors"].values()) < 1e-5  # updates are of 1e-2


@pytest.mark.parametrize("name", ["4x2x1", "2x2x2", "all"])
def test_moments_and_averages_are_cut_as_their_parameters(eight, name):
    specs = eight["runs"][name]["specs"]
    params = {path.removeprefix("params/"): spec for path, spec in specs.items() if path.startswith("params/")}
    assert {path for path, spec in params.items() if any(spec)} == CUT
    for path, spec in params.items():
        others = [other for other in specs if other.endswith(path)]
        assert len(others) == 4  # itself, two moments, the average
        assert [specs[other] for other in others] == [spec] * 4


@pytest.mark.parametrize("name", ["4x2x1", "2x2x2", "all"])
def test_gradients_are_cut_as_their_parameters(eight, name):
    run = eight["runs"][name]
    parts = {path.removeprefix("params/"): part for path, part in run["parts"].items() if path.startswith("params/")}
    assert run["gradients"] == parts


def test_each_device_holds_its_share(eight):
    whole = 4 * 4 * (MATRICES + BIASES) + 12 + 16  # parameters, two moments, average; step, count and seed; guard
    for name, parts in (("8x1x1", 1), ("4x2x1", 2), ("2x2x2", 4), ("all", 4)):
        run = eight["runs"][name]
        assert run["state_bytes"] == whole - 16 * MATRICES * (parts - 1) // parts
        assert run["frozen_bytes"] == 4 * block_task.CHANNELS**2 // (2 if name == "all" else 1)


def test_each_way_sends_what_it_should(eight):
    sent = {name: run["collectives"] for name, run in eight["runs"].items()}
    gradients = 4 * (MATRICES + BIASES) * 2 * 7 / 8
    for name in ("8x1x1", "pmap"):
        assert sent[name].keys() == {"all-reduce"}
        # besides, losses and weights; less one of the output biases, which have the same gradient
        assert sent[name]["all-reduce"]["bytes"] == pytest.approx(gradients, rel=0.003)
    # Every matrix is collected from the other half once.
    assert sent["4x2x1"].keys() <= {"all-reduce", "all-gather", "reduce-scatter"}
    assert sent["4x2x1"]["all-gather"]["bytes"] == 4 * MATRICES / 2
    # Of what is cut by "model" only the half of a device is collected.
    assert 4 * MATRICES / 4 <= sent["2x2x2"]["all-gather"]["bytes"] < 4 * MATRICES / 2
    # Frozen weights are collected, too, and everything again for the gradient.
    assert sent["all"]["all-gather"]["bytes"] > 1.5 * sent["2x2x2"]["all-gather"]["bytes"]


@pytest.mark.parametrize("name", ["2x2x2", "pmap"])
def test_checkpoint_moves_to_another_mesh_exactly(eight, name):
    moved = eight["moved"][name]
    assert set(moved["errors"].values()) == {0}
    cut = {path.removeprefix("params/") for path, spec in moved["specs"].items() if "model" in spec}
    assert cut >= CUT if name == "2x2x2" else not cut


@pytest.mark.parametrize(
    ("fields", "batch_size", "accumulation", "expected"),
    [
        ({}, 8, 3, "use a multiple of 3"),
        ({"mode": "pjit"}, 8, 1, "parallel.mode='pjit' is unknown; use 'jit' or 'pmap'"),
        ({"frozen": "cut"}, 8, 1, "parallel.frozen='cut' is unknown"),
        ({"fsdp": 2}, 8, 1, "does not fit 1 devices"),
        ({"mode": "pmap", "frozen": "sharded"}, 8, 1, "keeps all weights whole"),
    ],
)
def test_what_does_not_fit_is_told(fields, batch_size, accumulation, expected):
    parallel = ml_collections.ConfigDict({**default_config().parallel, **fields})
    with pytest.raises(ConfigError, match=expected) as caught:
        make_engine(parallel, batch_size, accumulation)
    assert "\n" not in str(caught.value)
