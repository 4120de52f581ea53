"""What a training run has learnt so far, for the commands that use it without an export."""

from pathlib import Path
from typing import Any, TypeVar

import jax

from handjax.errors import ConfigError
from handjax.tasks import make_task
from handjax.training.checkpoints import check_frozen, content_hash, restore_params
from handjax.training.config import read_config
from handjax.training.task import Task

Kind = TypeVar("Kind", bound=Task)


def restore_run(folder: Path, kind: type[Kind], recipe: str) -> tuple[Kind, Any]:
    """Reads a run's task, and the parameters of its newest checkpoint.

    Args:
        folder: the --workdir of the run.
        kind: of task that is wanted.
        recipe: whose runs are of that kind.

    Raises:
        CheckpointError: there is no checkpoint, or what the run does not train has changed.
        ConfigError: the run is of another task.
    """
    config = read_config(folder)
    task = make_task(config)
    if not isinstance(task, kind):
        raise ConfigError(f"{folder}: a run of {config.task}; give one of {recipe}")
    check_frozen(folder, content_hash(task.frozen()))
    _, params = restore_params(folder, jax.eval_shape(task.init, jax.random.key(0))[0])
    return task, params
