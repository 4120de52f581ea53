"""Configs name tasks by string."""

import ml_collections
import pytest

from handjax.errors import ConfigError
from handjax.tasks import make_task, resolve
from tests.training import toy_task


def test_a_task_is_named_by_module_and_function():
    config = ml_collections.ConfigDict({"task": "tests.training.toy_task:make", "features": 3, "absolute": 0.5})
    assert make_task(config) == toy_task.ToyTask(3, {"masked": 1.0, "absolute": 0.5})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("no_such_task", "task 'no_such_task' is unknown"),
        ("handjax.no_such:make", "there is no module 'handjax.no_such'"),
        ("handjax.tasks:no_such", "has no 'no_such'"),
    ],
)
def test_unknown_names(name, expected):
    with pytest.raises(ConfigError, match=expected):
        resolve(name)
