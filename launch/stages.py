"""Commands run one after another by a script that goes on where it was stopped, as those of the assets do."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handjax.errors import ConfigError, UserError
from handjax.files import atomic_write, write_json

STDERR = 2


class StageError(UserError):
    """A stage that ended without a result; its own message stands above."""


def run(name: str, *arguments: object, tolerated: int = 0, rounded: bool = True) -> None:
    """Runs `python -m launch.NAME`; two CPU devices keep two cores busier than one device with two threads.

    What it prints goes to stderr: stdout is for what the script itself has to say.

    Args:
      name: of the command.
      arguments: its words.
      tolerated: a status besides 0 that is no failure.
      rounded: to bfloat16, before products, which is fast; not where a result is known by its hash.

    Raises:
      StageError: the command failed.
    """
    words = [f"launch.{name}", *map(str, arguments)]
    print(f"\n$ python -m {shlex.join(words)}", file=sys.stderr, flush=True)
    environment = os.environ | ({"JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"} if rounded else {})
    environment.setdefault("JAX_NUM_CPU_DEVICES", "2")
    line = [sys.executable, "-m", *words]
    status = subprocess.run(line, env=environment, stdout=STDERR, check=False).returncode
    if status not in (0, tolerated):
        raise StageError(f"launch.{name} ended with status {status}; mend what it says and run this command again")


def train_and_export(recipe: str, work: Path, layout: str, out: Path, *overrides: str) -> None:
    """Trains a recipe in its own folder of `work`, and writes its weights in float16.

    Args:
      recipe: as `launch.train --config` takes it.
      work: the run is the folder of the recipe's name in it.
      layout: as `launch.export --to` takes it.
      out: folder of the weights.
      overrides: words "--config.steps=3000".

    Raises:
      StageError: a command failed.
    """
    workdir = work / recipe.partition(".")[0]
    run("train", "--config", recipe, "--workdir", workdir, *overrides)
    run("export", "--run", workdir, "--to", layout, "--out", out, "--dtype", "float16")


def trained(workdir: Path, recipe: str, layout: str, fields: Mapping[str, object], *overrides: str) -> Path:
    """Folder of what a training has exported, which is whole or absent; trains, or goes on, where it is missing.

    Args:
      workdir: of the run.
      recipe: as `launch.train --config` takes it.
      layout: as `launch.export --to` takes it.
      fields: of the recipe.
      overrides: "field=value", after `fields`.

    Raises:
      StageError: a command failed.
    """
    exported = workdir / "exported"
    if not exported.exists():
        words = (*(f"{name}={value}" for name, value in fields.items()), *overrides)
        run("train", "--config", recipe, "--workdir", workdir, *(f"--config.{word}" for word in words))
        with atomic_write(exported) as temporary:
            run("export", "--run", workdir, "--to", layout, "--out", temporary)
    return exported


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Notes what the results in a folder are made with, in its settings.json.

    Raises:
      ConfigError: they were made with something else.
    """
    path, wanted = folder / "settings.json", json.loads(json.dumps(settings))
    if not path.exists():
        return write_json(path, wanted)
    found = json.loads(path.read_text())
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ConfigError(
                f"{folder}: its results are of {name} {found.get(name)}, not {value}; name another --workdir"
            )
    return None
