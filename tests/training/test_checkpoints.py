"""Checkpoints come back exactly, refuse another run, and a broken one is passed over."""

import contextlib
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from handjax.errors import CheckpointError
from handjax.training.checkpoints import Checkpoints, content_hash, restore_params
from handjax.training.clock import Clock
from handjax.training.config import load_config
from handjax.training.guard import Health
from handjax.training.state import create_state
from tests.training import toy_task

CONFIG = load_config("tests/training/toy_config.py")
TASK = toy_task.make(CONFIG)


def _state(step: int):
    state = create_state(TASK, optax.adam(0.1), step, with_ema=True)
    health = Health(skipped=jnp.int32(2), in_a_row=jnp.int32(1), kept=jnp.int32(step), average=jnp.float32(0.5))
    return state.replace(step=jnp.int32(step), ema=jax.tree.map(lambda x: x + 1, state.params), health=health)


def _data():
    return iter(toy_task.make_loader(CONFIG.data, batch_spec=TASK.batch_spec(), batch_size=8, seed=0, split="train"))


def _open(folder, config=CONFIG, frozen="hash"):
    return contextlib.closing(Checkpoints(folder, config, frozen))


def _save(folder, *steps: int):
    with _open(folder / "checkpoints") as checkpoints:
        data = _data()
        for done in range(1, max(steps) + 1):
            next(data)
            if done in steps:
                checkpoints.save(done, _state(done), data, Clock(8), {})
        return next(data)


def _assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_state_and_data_position_come_back_exactly(tmp_path):
    following = _save(tmp_path, 1, 3)
    data = _data()
    with _open(tmp_path / "checkpoints") as checkpoints:
        restored = checkpoints.restore(_state(0), data, Clock(8))
    for name in ("step", "params", "opt_state", "ema", "model_state", "health"):
        _assert_same(getattr(restored, name), getattr(_state(3), name))
    _assert_same(next(data), following)


def test_no_checkpoint_leaves_the_state_as_it_is(tmp_path):
    state = _state(0)
    with _open(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.restore(state, _data(), Clock(8)) is state


def test_parameters_alone_can_be_read(tmp_path):
    _save(tmp_path, 2)
    step, params = restore_params(tmp_path, _state(0).params)
    assert step == 2
    _assert_same(params, _state(2).ema)
    with pytest.raises(CheckpointError, match="not what this task has trained"):
        restore_params(tmp_path, {"other": jnp.zeros(3)})
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        restore_params(tmp_path / "elsewhere", _state(0).params)


@pytest.mark.parametrize(
    ("overrides", "frozen", "expected"),
    [
        (["--config.optim.lr=0.5"], "hash", "has optim.lr=0.01, this run 0.5"),
        (["--config.seed=1"], "hash", "has seed=0, this run 1"),
        ([], "other", "other frozen weights"),
    ],
)
def test_another_run_is_refused(tmp_path, overrides, frozen, expected):
    _save(tmp_path, 1)
    other = load_config("tests/training/toy_config.py", overrides)
    with (
        _open(tmp_path / "checkpoints", other, frozen) as checkpoints,
        pytest.raises(CheckpointError, match=expected) as caught,
    ):
        checkpoints.restore(_state(0), _data(), Clock(8))
    assert "\n" not in str(caught.value)


def test_what_is_shown_and_how_long_may_change(tmp_path):
    _save(tmp_path, 1)
    other = load_config("tests/training/toy_config.py", ["--config.steps=99", "--config.log_every=1"])
    with _open(tmp_path / "checkpoints", other) as checkpoints:
        assert int(checkpoints.restore(_state(0), _data(), Clock(8)).step) == 1


def test_truncated_newest_checkpoint_is_reported_and_the_one_before_used(tmp_path, caplog):
    _save(tmp_path, 1, 2)
    for path in (tmp_path / "checkpoints" / "2" / "params").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with _open(tmp_path / "checkpoints") as checkpoints, caplog.at_level(logging.WARNING, "handjax"):
        data = _data()
        assert int(checkpoints.restore(_state(0), data, Clock(8)).step) == 1
        assert "checkpoint of step 2" in caplog.text
        next(data)
        checkpoints.save(2, _state(2), data, Clock(8), {})
    step, params = restore_params(tmp_path, _state(0).params)
    assert step == 2
    _assert_same(params, _state(2).ema)


def test_only_unreadable_checkpoints_stop_the_run(tmp_path):
    _save(tmp_path, 1)
    (tmp_path / "checkpoints" / "1" / "meta" / "metadata").write_text("{")
    with (
        _open(tmp_path / "checkpoints") as checkpoints,
        pytest.raises(CheckpointError, match=r"no checkpoint of \[1\] can be read"),
    ):
        checkpoints.restore(_state(0), _data(), Clock(8))


def test_hash_sees_values_names_and_types():
    tree = {"a": np.arange(4, dtype=np.float32), "b": jnp.ones(3, jnp.bfloat16)}
    same = {"b": np.asarray(tree["b"]), "a": jnp.asarray(tree["a"])}
    assert content_hash(tree) == content_hash(same)
    others = [
        tree | {"a": tree["a"] + np.float32(1e-6)},
        tree | {"a": tree["a"].reshape(2, 2)},
        tree | {"a": tree["a"].astype(np.float16)},
        {"a": tree["a"], "c": tree["b"]},
    ]
    assert len({content_hash(other) for other in [tree, *others]}) == 5
