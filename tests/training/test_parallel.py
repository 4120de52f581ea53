"""The same step on two devices, by jit and by pmap, gives what one device gives."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from handjax.errors import ConfigError
from handjax.training.parallel import make_engine

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
state = make_engine(config.parallel.mode, 8, 1).gather(state)
trees = [state.params, state.ema, state.model_state]
print(json.dumps([jax.device_count(), jax.tree.map(lambda x: x.tolist(), trees)]))
"""


def _train(workdir, devices: int, *overrides: str):
    command = [sys.executable, "-c", RUN, str(workdir), *overrides]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    count, trees = json.loads(done.stdout)
    assert count == devices
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return trees, [line for line in lines if "loss" in line]


def test_jit_and_pmap_on_two_devices_agree_with_one(tmp_path):
    trees, lines = _train(tmp_path / "one", 1)
    for mode in ("jit", "pmap"):
        others, other_lines = _train(tmp_path / mode, 2, f"--config.parallel.mode={mode}", "--config.accumulation=2")
        for tree, other in zip(trees, others, strict=True):
            for name in tree:
                np.testing.assert_allclose(other[name], tree[name], rtol=1e-4, atol=1e-5)
        for line, other in zip(lines, other_lines, strict=True):
            for name in line.keys() - {"examples_per_second"}:
                assert other[name] == pytest.approx(line[name], rel=1e-4, abs=1e-5), name


def test_a_batch_that_cannot_be_cut_and_an_unknown_mode():
    with pytest.raises(ConfigError, match="use a multiple of 3"):
        make_engine("jit", batch_size=8, accumulation=3)
    with pytest.raises(ConfigError, match="'pjit' is unknown"):
        make_engine("pjit", batch_size=8, accumulation=1)
