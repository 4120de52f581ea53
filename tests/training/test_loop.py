"""What the loop does with a recipe's fields, seen by the task that it trains."""

import functools
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handjax.training.loop
from handjax.errors import CheckpointError, ConfigError, DivergedError
from handjax.training.checkpoints import restore_params
from handjax.training.config import load_config
from handjax.training.loop import cast_frozen, train
from handjax.training.profiling import Profiler
from handjax.training.roofline import Chip
from tests.training import toy_task

BRIEFLY = ("steps=1", "eval_every=0", "preview_every=0")


def _run(workdir, *fields: str, count_flops=None):
    """Trains the toy; returns the final state, and the dtypes of the frozen weights that the loss was given."""
    config = load_config("tests/training/toy_config.py", [f"--config.{field}" for field in fields])
    task, seen = toy_task.make(config), []

    def loss(trainable, frozen, *rest):
        seen.append(str(frozen["target"].dtype))
        return toy_task.ToyTask.loss(task, trainable, frozen, *rest)

    object.__setattr__(task, "loss", loss)
    load = functools.partial(toy_task.make_loader, config.data, batch_spec=task.batch_spec(), batch_size=8, seed=0)
    return train(config, task, lambda split: load(split=split), workdir, count_flops), seen


def _train(workdir, *fields: str) -> list[str]:
    """Trains one step; returns the dtypes of the frozen weights that the loss was given."""
    return _run(workdir, *BRIEFLY, *fields)[1]


def _saved(workdir) -> set[int]:
    return {int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdecimal()}


def test_frozen_weights_are_kept_in_the_dtype_that_the_recipe_names(tmp_path):
    assert set(_train(tmp_path / "as_given")) == {"float32"}
    assert set(_train(tmp_path / "half", "frozen_dtype=bfloat16")) == {"bfloat16"}


def test_only_numbers_with_a_point_are_rounded():
    frozen = {"weight": np.float32([1 + 2**-7, 1 + 2**-9]), "table": np.arange(300)}
    rounded = cast_frozen(frozen, "bfloat16")
    np.testing.assert_array_equal(rounded["weight"].astype(jnp.float32), [1 + 2**-7, 1])
    assert rounded["table"] is frozen["table"]
    assert cast_frozen(frozen, "") is frozen
    with pytest.raises(ConfigError, match="frozen_dtype='int8' is unknown"):
        cast_frozen(frozen, "int8")


QUIET = ("eval_every=0", "preview_every=0")


def test_a_run_whose_losses_are_no_numbers_ends_with_one_line_and_its_weights(tmp_path):
    with pytest.raises(DivergedError, match="steps 1 to 3 were left out"):
        _run(tmp_path, *QUIET, "absolute=1e39", "guard.stop_after=3", "log_every=1", "checkpoint.every=1")
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["skipped"] for line in lines[:3]] == [1, 2, 3]
    assert all(line["loss"] is None for line in lines)
    config = load_config("tests/training/toy_config.py")
    _, weights = restore_params(tmp_path, toy_task.make(config).init(jax.random.key(0))[0])
    assert np.isfinite(weights["w"]).all()


def test_each_layer_is_reported_when_asked_for(tmp_path):
    _run(tmp_path, *QUIET, "steps=1", "layer_stats=True")
    (line,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert line["layers/top/grads"] == pytest.approx(line["grad_norm"], rel=1e-6)
    # Adam's first step moves every one of the 42 weights by the learning rate, decay aside
    assert line["layers/top/updates"] == pytest.approx(1e-2 * 42**0.5, rel=0.02)


def test_the_newest_the_regular_and_the_best_checkpoints_are_kept(tmp_path):
    fields = ("checkpoint.every=5", "checkpoint.keep=1", "checkpoint.keep_every=15", "checkpoint.best=lr")
    _run(tmp_path, *QUIET, *fields, "optim.warmup_steps=100")  # the smallest rate is that of the first report
    assert _saved(tmp_path) == {5, 15, 30, 40}


def test_the_best_of_what_is_not_reported_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="checkpoint.best='eval/masked' is not reported at step 10"):
        _run(tmp_path, *QUIET, "checkpoint.best=eval/masked")


def test_a_run_begins_with_the_parameters_of_another(tmp_path):
    first, _ = _run(tmp_path / "first", *QUIET, "steps=10")
    second, _ = _run(tmp_path / "second", *QUIET, "steps=1", "optim.lr=0.0", f"init_from={tmp_path / 'first'}")
    # the model state is a moving average, which the one step of the second run moves on by a tenth
    assert np.abs(second.model_state["mean"] - 0.9 * first.model_state["mean"]).max() < 0.15
    assert np.abs(second.model_state["mean"]).max() > 0.15
    for tree in (second.params, second.ema):
        for name, weights in tree.items():
            np.testing.assert_allclose(weights, first.ema[name], rtol=1e-6)
    with pytest.raises(CheckpointError, match="trained on other frozen weights"):
        _run(tmp_path / "third", *QUIET, "steps=1", "features=5", f"init_from={tmp_path / 'first'}")


def test_the_use_of_chips_is_operations_over_time_and_their_peak(tmp_path, monkeypatch):
    chip = Chip(flops=1e9, hbm=1.0, hbm_bandwidth=1.0, link_bandwidth=1.0, source="")
    monkeypatch.setattr(handjax.training.loop, "chip_of", lambda kind: chip)
    _run(tmp_path, *QUIET, count_flops=lambda: 2e6)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["mfu"] * line["step_seconds"] == pytest.approx(2e-3 / jax.device_count())
        assert 0 < line["goodput"] < 1 and 0 <= line["data_wait"] < 1
        assert line["examples_per_second"] * line["step_seconds"] == pytest.approx(8)


def test_operations_are_not_counted_where_no_peak_is_published(tmp_path):
    def count_flops():
        raise AssertionError

    _run(tmp_path, *QUIET, "steps=2", count_flops=count_flops)


def test_traces_are_written_when_asked_for(tmp_path):
    _run(tmp_path / "by_step", *QUIET, "steps=4", "profile.at=2", "profile.steps=2")
    assert len(list((tmp_path / "by_step" / "profile").rglob("*.xplane.pb"))) == 1
    profiler = Profiler(tmp_path / "by_signal", at=0, steps=2)
    with profiler:
        profiler.before(1)
        profiler.after(1, {})
        signal.raise_signal(signal.SIGUSR1)
        for step in (2, 3, 4):
            profiler.before(step)
            profiler.after(step, {})
            assert bool(list((tmp_path / "by_signal").rglob("*.xplane.pb"))) == (step >= 3)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
