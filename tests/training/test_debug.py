"""What the debugging mode sees that a normal run does not."""

import jax.numpy as jnp
import optax
import pytest

from handjax.training.config import load_config
from handjax.training.debug import checked, debugging
from handjax.training.state import create_state
from tests.training import toy_task

TASK = toy_task.make(load_config("tests/training/toy_config.py"))
STATE = create_state(TASK, optax.sgd(0.1), 0, with_ema=False)
METRICS = {"loss": jnp.float32(1)}


def _check(metrics=METRICS, **changes):
    return checked(lambda state, frozen, batch: (state.replace(**changes), metrics))(STATE, {}, {})


def test_a_sound_step_passes_unchanged():
    state, metrics = _check(step=jnp.int32(1))
    assert (int(state.step), metrics) == (1, METRICS)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"params": STATE.params | {"b": jnp.full(6, jnp.inf)}}, "finite"),
        ({"metrics": {"loss": jnp.float32(-jnp.inf)}}, "finite"),
        ({"params": STATE.params | {"b": jnp.zeros(6, jnp.bfloat16)}}, "bfloat16"),
        ({"model_state": {"mean": jnp.zeros(7)}}, "shape"),
    ],
)
def test_infinity_and_another_shape_or_dtype_stop_the_run(changes, expected):
    with pytest.raises(AssertionError, match=expected):
        _check(**changes)


def test_a_debug_run_is_short_and_reports_every_step():
    with debugging(load_config("tests/training/toy_config.py", ["--config.steps=40"])) as short:
        assert (short.steps, short.log_every) == (5, 1)
        with pytest.raises(FloatingPointError):
            jnp.log(jnp.float32(-1))
    with debugging(load_config("tests/training/toy_config.py", ["--config.steps=3"])) as short:
        assert short.steps == 3
