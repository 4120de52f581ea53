"""Recipes: where they are found, what they inherit, and how the command line changes a field."""

import ast
import difflib
import importlib.util
import inspect
import json
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_collections

import handjax
from handjax.errors import ConfigError

CONFIG_FOLDER = Path(handjax.__file__).parents[1] / "configs"
OVERRIDE_PREFIX = "--config."
POSITIVE_FIELDS = (
    "steps",
    "batch_size",
    "accumulation",
    "log_every",
    "eval_batches",
    "checkpoint.every",
    "checkpoint.keep",
    "guard.stop_after",
    "profile.steps",
)


def default_config() -> ml_collections.ConfigDict:
    """Returns the fields every recipe has; a recipe's `get_config` gives only what it sets or adds."""
    return ml_collections.ConfigDict(
        {
            "task": "",
            "steps": 10_000,
            "seed": 0,
            "batch_size": 8,
            "accumulation": 1,  # micro-batches a step; the gradient is that of the whole batch
            "ema_decay": 0.0,  # 0 keeps no moving average
            "frozen_dtype": "",  # of the frozen weights in memory, as "bfloat16"; empty: as the task gives them
            "log_every": 10,
            "eval_every": 500,  # 0: never; otherwise also before the first step and after the last
            "eval_batches": 4,
            "preview_every": 500,  # 0: never
            "debug": False,
            "init_from": "",  # --workdir of another run, whose parameters this one begins with
            "guard": {
                "spike": 10.0,  # a loss this many times its average leaves the step out; 0: only what is no number
                "stop_after": 20,  # steps left out in a row
            },
            "stall_after": 1800.0,  # seconds without a step, after which one of several processes ends itself; 0: never
            "layer_stats": False,  # also reports norms of each layer
            "wandb": "",  # project of Weights & Biases that is reported to as well
            "profile": {"at": 0, "steps": 5},  # a trace from this step on; 0: only on SIGUSR1
            "checkpoint": {
                "every": 500,
                "keep": 3,  # newest ones
                "keep_every": 0,  # those of every so many steps are kept as well
                "best": "",  # as is that with the smallest of this number of the report, as eval/loss
            },
            "optim": {
                "lr": 5e-5,
                "schedule": "constant",  # or "cosine": down to 0 at `steps`
                "warmup_steps": 0,
                "weight_decay": 1e-2,
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "clip_norm": 1.0,  # 0: no clipping
            },
            "parallel": {
                "mode": "jit",  # or "pmap"
                "data": -1,  # sizes of the mesh's axes; -1: the devices that are left
                "fsdp": 1,
                "model": 1,
                "frozen": "whole",  # a copy a device; or "sharded", cut as what is trained
                "remat": "none",  # what is computed again for the gradient: or all but "dots", all but "blocks"
            },
            "data": {
                "loader": "data_pipelines.loader:make_loader",
                "path": "",
                "encoded": False,  # whether `path` holds latents (`launch.encode`) in place of pictures
            },
        }
    )


def load_config(spec: str, overrides: Iterable[str] = ()) -> ml_collections.FrozenConfigDict:
    """Loads a recipe and applies overrides.

    Args:
      spec: "sgm.py", "sgm.py:tiny" or a path; a bare name that is no file here is looked up in configs/. What
        follows the colon is handed to the recipe's `get_config`.
      overrides: command-line words "--config.optim.lr=1e-5".

    Returns:
      The recipe on top of `default_config`, frozen.

    Raises:
      ConfigError: no such recipe, variant (`get_config` raised ValueError) or field, or a value that does not fit.
    """
    path, variant = _split_spec(spec)
    get_config = getattr(_import_file(path), "get_config", None)
    if get_config is None:
        raise ConfigError(f"{path}: a recipe needs a function get_config()")
    if variant and not inspect.signature(get_config).parameters:
        raise ConfigError(f"{spec}: {path.name} has no variants; leave out :{variant}")
    try:
        recipe = get_config(variant) if variant else get_config()
    except ValueError as error:
        raise ConfigError(f"{spec}: {error}") from error
    config = default_config()
    config.update(recipe)
    apply_overrides(config, overrides)
    _check(config)
    return ml_collections.FrozenConfigDict(config)


def read_config(workdir: Path) -> ml_collections.FrozenConfigDict:
    """Reads the recipe that a training run has left in its folder.

    Raises:
      ConfigError: `workdir` is not the folder of a training run, or its recipe is damaged.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the --workdir of a launch.train run")
    try:
        return ml_collections.FrozenConfigDict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not the recipe of a run ({error}); copy it again or train anew") from error


def config_name(spec: str) -> str:
    """Returns a short name of a recipe for folders: "sgm.py:tiny" gives "sgm-tiny"."""
    path, _, variant = spec.partition(":")
    return Path(path).stem + (f"-{variant}" if variant else "")


def _split_spec(spec: str) -> tuple[Path, str]:
    name, _, variant = spec.partition(":")
    for path in (Path(name), CONFIG_FOLDER / name):
        if path.is_file():
            return path, variant
    known = sorted(p.name for p in CONFIG_FOLDER.glob("[!_]*.py"))
    raise ConfigError(f"{name}: no such recipe{did_you_mean(name, known)}; configs/ has {', '.join(known)}")


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: a recipe is a Python file (*.py)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def apply_overrides(config: ml_collections.ConfigDict, overrides: Iterable[str]) -> None:
    """Sets the fields that "--config.name=value" words name, in place.

    Raises:
      ConfigError: a word of another form, an unknown field (names the closest), or a value of another type.
    """
    for word in overrides:
        name, equals, text = word.removeprefix(OVERRIDE_PREFIX).partition("=")
        if not word.startswith(OVERRIDE_PREFIX) or not equals:
            raise ConfigError(f"{word!r} is not understood; fields are set by {OVERRIDE_PREFIX}NAME=VALUE")
        fields = flatten(config)
        if any(field.startswith(f"{name}.") for field in fields):
            raise ConfigError(f"{name!r} is a section; set one of its fields, as {name}.FIELD (in {word})")
        if name not in fields:
            raise ConfigError(f"unknown field {name!r}{did_you_mean(name, fields)} (in {word})")
        *sections, field = name.split(".")
        section = config
        for key in sections:
            section = section[key]
        section[field] = _parse(name, text, fields[name])


def _check(config: ml_collections.ConfigDict) -> None:
    fields = flatten(config)
    for name in POSITIVE_FIELDS:
        if fields[name] < 1:
            raise ConfigError(f"{name}={fields[name]} is too small; it must be at least 1")
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"seed={config.seed} does not fit; use 0 to {2**32 - 1}")


def flatten(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns "optim.lr" -> value for every field."""
    fields: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, ml_collections.ConfigDict)
        fields |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return fields


def _parse(name: str, text: str, current: Any) -> Any:
    if isinstance(current, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    wanted = type(current)
    if wanted is float and type(value) is int:
        value = float(value)
    if wanted is tuple and type(value) is list:
        value = tuple(value)
    if type(value) is not wanted:
        raise ConfigError(f"{name} takes {wanted.__name__}, as {current!r}; got {text!r}")
    return value


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean …?" for the closest known name, or nothing when none is close."""
    matches = difflib.get_close_matches(name, list(known), 1, cutoff=0.4)
    return f"; did you mean {matches[0]!r}?" if matches else ""
