"""What the loop does with a recipe's fields, seen by the task that it trains."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import ConfigError
from handjax.training.config import load_config
from handjax.training.loop import cast_frozen, train
from tests.training import toy_task

BRIEFLY = ("steps=1", "eval_every=0", "preview_every=0")


def _train(workdir, *fields: str) -> list[str]:
    """Trains one step; returns the dtypes of the frozen weights that the loss was given."""
    config = load_config("tests/training/toy_config.py", [f"--config.{field}" for field in (*BRIEFLY, *fields)])
    task, seen = toy_task.make(config), []

    def loss(trainable, frozen, *rest):
        seen.append(str(frozen["target"].dtype))
        return toy_task.ToyTask.loss(task, trainable, frozen, *rest)

    object.__setattr__(task, "loss", loss)
    load = functools.partial(toy_task.make_loader, config.data, batch_spec=task.batch_spec(), batch_size=8, seed=0)
    train(config, task, lambda split: load(split=split), workdir)
    return seen


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
