"""The registry of training objectives: configs name tasks by string."""

import importlib
import pkgutil
from typing import Any

from handjax.errors import ConfigError
from handjax.training.config import did_you_mean


def make_task(config: Any) -> Any:
    """Makes the task that `config.task` names.

    Args:
      config: a recipe; `config.task` is a module of this package ("sgm" calls `handjax.tasks.sgm:make`) or any
        "module:function". The function gets the whole config.

    Returns:
      An object with the methods of `handjax.training.task.Task`.

    Raises:
      ConfigError: no such module or function.
    """
    return resolve(config.task)(config)


def resolve(name: str) -> Any:
    """Imports "module:attribute", or `make` of a module of this package when there is no colon.

    Raises:
      ConfigError: no such module or attribute.
    """
    known = [module.name for module in pkgutil.iter_modules(__path__)]
    if ":" not in name and name not in known:
        raise ConfigError(f"task {name!r} is unknown{did_you_mean(name, known)} (known: {', '.join(known)})")
    module_name, _, attribute = (name if ":" in name else f"{__name__}.{name}:make").partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if not module_name.startswith(error.name or " "):
            raise
        raise ConfigError(f"{name!r}: there is no module {error.name!r}; use MODULE:FUNCTION") from error
    except AttributeError as error:
        raise ConfigError(f"{name!r}: module {module_name} has no {attribute!r}") from error
