"""launch.compile: what a sweep tries and chooses, its errors, and figures of a small recipe against sums by hand."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from handjax.errors import BackendError, ConfigError
from handjax.training.config import load_config
from launch import command, compile_text, topologies
from launch import compile as compiling

TOY = "tests/training/toy_config.py"


def test_a_sweep_tries_all_combinations_and_small_batches_first():
    words = compiling.choices(["batch_size=64,8", "parallel.remat=none,blocks"], devices=4)
    remat, batch = "--config.parallel.remat", "--config.batch_size"
    assert words == [[f"{remat}={kept}", f"{batch}={size}"] for kept in ("none", "blocks") for size in (8, 64)]


def test_the_usual_sweep_tries_shardings_and_batches_of_every_chip():
    words = compiling.choices([], devices=4)
    assert len(words) == 2 * 2 * len(compiling.SWEEP_BATCHES)
    assert words[0] == ["--config.parallel.fsdp=1", "--config.parallel.remat=none", "--config.batch_size=4"]
    assert len(compiling.choices([], devices=1)) == len(words) / 2


@pytest.mark.parametrize("word", ["batch_size", "batch_size=", "8"])
def test_a_word_that_names_no_values(word):
    with pytest.raises(ConfigError, match="give a field and its values"):
        compiling.choices([word], devices=1)


def test_a_sweep_leaves_out_what_cannot_fit_and_goes_on_after_a_mistake(monkeypatch):
    tried = []

    def measure(config, devices):
        tried.append((config.parallel.remat, config.batch_size))
        if config.batch_size == 24:
            raise ConfigError("does not divide")
        return {"fits": config.batch_size < 16, "batch_size": config.batch_size}

    monkeypatch.setattr(compiling, "compile_and_measure", measure)
    choices = compiling.choices(["parallel.remat=none,blocks", "batch_size=8,16,32"], 1)
    choices.append(["--config.batch_size=24"])
    report = command.Report("compile", as_json=True)
    items = list(compiling.sweep(load_config(TOY), choices, jax.devices(), report))
    assert tried == [("none", 8), ("none", 16), ("blocks", 8), ("blocks", 16), ("none", 24)]
    assert [item["fits"] for item in items] == [True, False, True, False]
    assert report.finish() == command.USER_ERROR_STATUS


def test_the_best_is_the_fastest_that_fits():
    rates = [{"fits": fits, "examples_per_s_bound": rate} for fits, rate in ((True, 10), (True, 30), (True, 20))]
    assert compiling.best_of([*rates, {"fits": False}]) == rates[1]
    assert compiling.best_of([{"fits": False}]) is None


@pytest.mark.parametrize("name", ["v5e", "v5e:4", "v9:2x2", "v5e-16", "tpu v5e:2x2"])
def test_a_topology_that_does_not_exist(name):
    with pytest.raises(ConfigError, match="is unknown; give one of v5e, v5p, v6e and a shape"):
        topologies.devices_of(name)


def test_without_the_tpu_compiler(monkeypatch):
    monkeypatch.setattr(topologies.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"install it with `pip install 'handjax\[tpu\]'`"):
        topologies.devices_of("v5e:2x2")


def _run(*words: str, devices: int = 1) -> subprocess.CompletedProcess:
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "launch.compile", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_mistake_is_one_line_and_status_2():
    done = _run("--config", TOY, "--topology", "v5e:4by4")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: topology 'v5e:4by4' is unknown")


def test_a_small_recipe_on_four_devices():
    done = _run("--config", TOY, "--json", devices=4)
    assert done.returncode == 0, done.stderr
    (item,) = json.loads(done.stdout)["items"]
    assert (item["chips"], item["batch_size"], item["topology"]) == (4, 8, "local")
    # gradients (6x6 + 6), new model state (6), sums of two losses and a metric, the weight of one loss;
    # of the ring of four each device sends 2 x 3/4
    sent = 2 * 3 / 4 * 4 * (42 + 6 + 3 + 1)
    assert item["collective_gib"]["all-reduce"] * 2**30 == pytest.approx(sent, rel=0.05)
    # each product: x times parameters, x times target, gradient; on a quarter of eight examples
    assert item["tflop_per_chip"] * 1e12 > 3 * 2 * 8 * 6 * 6 / 4
    assert item["hbm_arguments_gib"] * 2**30 == 4 * (4 * 42 + 6 + 36 + 2 * 2 * 6 + 4 + 4)
    assert item["fits"] is None and item["mfu_bound"] is None
    text = compile_text.item(item)
    assert "no published figures of cpu" in text and "batch 8 (2 a chip)" in text


def test_lines_of_a_step_that_does_not_fit():
    item = {
        "config": "sgm.py",
        "topology": "v5e:4x4",
        "chips": 16,
        "device_kind": "TPU v5 lite",
        "batch_size": 256,
        "settings": {"dtype": "bfloat16"},
        "tflop_per_chip": 10.0,
        "tflop_executed_per_chip": 12.0,
        "hbm_peak_gib": 20.5,
        "hbm_limit_gib": 15.75,
        "fits": False,
        "largest": [{"gib": 1.5, "shape": "bf16[8,64,64,960]", "operator": "jit(run)/conv"}],
        "compile_seconds": 600.0,
        "lower_seconds": 30.0,
    }
    lines = compile_text.item(item).splitlines()
    assert lines[2].strip() == "memory      DOES NOT FIT: needs 20.50 of 15.75 GiB a chip"
    assert lines[3].split() == ["1.500", "GiB", "bf16[8,64,64,960]", "jit(run)/conv"]
    assert "roofline" not in "".join(lines)


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="the TPU compiler is not installed")
def test_for_a_tpu_slice():
    done = _run("--config", TOY, "--topology", "v5e:2x2", "--json")
    assert done.returncode == 0, done.stderr
    (item,) = json.loads(done.stdout)["items"]
    assert (item["chips"], item["device_kind"], item["fits"]) == (4, "TPU v5 lite", True)
    assert item["argument_elements"] == {"f32": 4 * 42 + 6 + 36 + 2 * 2 * 6 + 1, "s32": 6, "u32": 1}
    assert item["roofline_step_ms"] == max(item["compute_ms"], item["memory_ms"], item["network_ms"])


# TFLOP/s and GiB of the chips; parameters of Stable Diffusion 1.5's inpainting UNet and text encoder.
PUBLISHED = {"TPU v5 lite": (197, 16), "TPU v5": (459, 95), "TPU v6 lite": (918, 32)}
UNET, TEXT = 859_535_364, 123_060_480
REPORTS = json.loads(Path("docs/benchmarks/compile_sgm.json").read_text())["items"]


def test_the_slices_and_batches_that_are_asked_for_are_committed():
    compiled = {(item["topology"], item["batch_size"]) for item in REPORTS}
    assert {("v5e:4x4", 128), ("v5e:16x16", 2048), ("v5p:2x2x2", 64), ("v6e:4x4", 128)} <= compiled
    assert {("v5e:2x2", 8), ("v5e:4x4", 8), ("v5p:2x2x2", 8), ("v6e:4x4", 8)} <= compiled


@pytest.mark.parametrize("item", REPORTS, ids=lambda item: f"{item['topology']}-{item['batch_size']}")
def test_committed_reports_of_the_full_recipe(item):
    tflops, gib = PUBLISHED[item["device_kind"]]
    assert item["argument_elements"]["bf16"] == UNET + TEXT
    assert item["hbm_limit_gib"] == gib and item["hbm_arguments_gib"] < item["hbm_peak_gib"] <= gib and item["fits"]
    # more than the UNet's 0.846 TFLOP a picture forwards, less than a step that trains all of it
    assert 0.846 < item["tflop_per_chip"] * item["chips"] / item["batch_size"] < 2.68
    assert item["mfu_bound"] == pytest.approx(1e3 * item["tflop_per_chip"] / tflops / item["roofline_step_ms"])
    assert item["roofline_step_ms"] == max(item["compute_ms"], item["memory_ms"], item["network_ms"])
    if item["batch_size"] / item["chips"] >= 8:
        assert item["mfu_bound"] >= 0.5
