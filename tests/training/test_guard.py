"""Steps that would spoil a run change nothing, are counted, and end the run when there are too many in a row."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from handjax.errors import DivergedError
from handjax.training.config import load_config
from handjax.training.guard import DECAY, FINITE_ONLY, SETTLING_STEPS, Guard, Health, stop_if_diverged
from handjax.training.state import create_state
from handjax.training.step import make_train_step
from tests.training import toy_task

TASK = toy_task.make(load_config("tests/training/toy_config.py"))


def _batch(scale: float = 1.0):
    x = scale * np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)
    return {"x": x, "mask": np.ones((8, 6), np.float32)}


def _run(guard, *batches):
    """Trains a step a batch; returns all states, the first one before any step, and the last report."""
    tx = optax.adam(0.1)
    step = jax.jit(make_train_step(TASK, tx, optax.linear_schedule(1.0, 0.0, 10), ema_decay=0.5, guard=guard))
    states = [create_state(TASK, tx, 0, with_ema=True)]
    for batch in batches:
        state, metrics = step(states[-1], TASK.frozen(), batch)
        states.append(state)
    return states, metrics


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e25])
def test_a_loss_that_is_no_number_changes_nothing_but_the_count(bad):
    states, metrics = _run(FINITE_ONLY, _batch(), _batch(bad), _batch(bad))
    assert not np.isfinite(metrics["loss"])
    assert (metrics["skipped"], metrics["skipped_in_a_row"]) == (2, 2)
    assert states[-1].step == 3
    for name in ("params", "opt_state", "ema", "model_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(states[1], name), getattr(states[-1], name))


def test_after_a_bad_step_training_goes_on_and_the_schedule_has_not_moved():
    states, metrics = _run(FINITE_ONLY, _batch(), _batch(np.nan), _batch())
    assert (metrics["skipped"], metrics["skipped_in_a_row"]) == (1, 0)
    assert metrics["lr"] == pytest.approx(0.9)
    assert np.abs(np.asarray(states[3].params["w"] - states[1].params["w"])).max() > 1e-3


def test_a_kept_step_has_the_bits_of_an_unguarded_one():
    plain, spiky = (_run(guard, *[_batch()] * 3)[0][-1] for guard in (FINITE_ONLY, Guard(spike=3.0)))
    jax.tree.map(np.testing.assert_array_equal, plain.params, spiky.params)


def _judge_all(losses, spike):
    guard, health, kept = jax.jit(Guard(spike).judge), Health.start(), []
    for loss in losses:
        keep, health = guard(health, jnp.float32(loss), jnp.float32(1.0))
        kept.append(bool(keep))
    return kept, health


def test_a_spike_is_measured_by_the_average_of_the_kept_losses():
    rng = np.random.default_rng(0)
    losses = [*(2 + rng.random(SETTLING_STEPS)), 40.0, 2.5, 24.0, 29.0]
    kept, health = _judge_all(losses, spike=10.0)
    # 24 < 10 x 2.5 and 29 > 10 x 2.72, whatever the spike of 40 before
    assert kept == [True] * SETTLING_STEPS + [False, True, True, False]
    ages = np.arange(SETTLING_STEPS + 2)[::-1]
    weights = (1 - DECAY) * DECAY**ages
    np.testing.assert_allclose(health.average, weights @ [*losses[:SETTLING_STEPS], 2.5, 24.0], rtol=1e-5)
    assert (health.skipped, health.kept, health.in_a_row) == (2, SETTLING_STEPS + 2, 1)


def test_no_spike_before_the_loss_has_settled_and_none_when_not_asked_for():
    assert all(_judge_all([1.0, 1.0, 1e6], spike=10.0)[0])
    assert all(_judge_all([1.0] * SETTLING_STEPS + [1e6], spike=0.0)[0])


def test_losses_below_zero_have_no_spikes():
    assert all(_judge_all([-1.0] * SETTLING_STEPS + [-0.5, 3.0], spike=10.0)[0])


def test_too_many_in_a_row_end_the_run_with_their_numbers():
    values = {"skipped_in_a_row": jnp.int32(3), "loss": jnp.float32(np.nan)}
    stop_if_diverged(4, 10, values)
    with pytest.raises(DivergedError, match=r"steps 8 to 10 were left out.*\(it was nan\).*optim.lr") as caught:
        stop_if_diverged(3, 10, values)
    assert "\n" not in str(caught.value)
