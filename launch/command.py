"""What every command shares: one-line errors with exit status 2, and the JSON report."""

import contextlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

import handjax
from handjax.errors import ConfigError, InputError, UserError
from launch.memory import return_memory_after_compiling

USER_ERROR_STATUS = 2
PREEMPTED_STATUS = 75
"""EX_TEMPFAIL of sysexits.h: not wrong, try again."""
INTERRUPTED_STATUS = 130
"""By Ctrl-C, as shells have it."""


def run(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and exits with its status; a `UserError` becomes one line on stderr and status 2."""
    return_memory_after_compiling()
    try:
        status = main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR_STATUS)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(INTERRUPTED_STATUS)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(status or 0)


def environment(*packages: str) -> dict[str, Any]:
    """Machine and versions, for figures that are kept; `packages` are those of the peers."""
    cpu = next((line for line in _cpu_lines() if line.startswith("model name")), "").partition(":")[2].strip()
    devices = [device.device_kind for device in jax.devices()]
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "grain", "numpy", *packages)}
    return {
        "machine": {"cpu": cpu or platform.processor(), "cores": os.cpu_count(), "devices": devices},
        "versions": {"handjax": handjax.__version__, "python": platform.python_version(), **versions},
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def output_file(text: str) -> Path:
    """Reads the path of a file to write, as a `type` of argparse: before the work and not after it.

    Raises:
      ConfigError: there is a folder, or no file can be made there.
    """
    path = Path(text)
    if path.is_dir():
        raise ConfigError(f"{text}: is a folder; name a file in it")
    _check_place(text, path.absolute().parent)
    return path


def output_folder(text: str) -> Path:
    """Reads the path of a folder to write to, which need not be there yet; as `output_file`.

    Raises:
      ConfigError: there is a file, or no folder can be made there.
    """
    _check_place(text, Path(text).absolute())
    return Path(text)


def _check_place(text: str, folder: Path) -> None:
    there = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not there.is_dir():
        raise ConfigError(f"{text}: cannot be made, for {there} is a file; choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{text}: {there} cannot be written to; choose another place")


@contextlib.contextmanager
def naming(source: object) -> Iterator[None]:
    """What is wrong with a part of an input is said with the input's name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def positive(kind: type) -> Any:
    """A `type` of argparse for numbers above 0, which it refuses in one line."""

    def read(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise ValueError(text)
        return value

    read.__name__ = f"{kind.__name__} above 0"
    return read


def output_paths(paths: list[Path], folder: Path) -> dict[Path, Path]:
    """Pictures made of pictures keep the places of these below their common folder, so that no two share a name."""
    if not paths:
        return {}
    common = os.path.commonpath([path.resolve().parent for path in paths])
    return {path: folder / path.resolve().relative_to(common).with_name(path.name + ".png") for path in paths}


def clip_folders(clips: list[Path], folder: Path) -> dict[Path, Path]:
    """A folder for what is made of the frames of each clip, named after it; otherwise as `output_paths`.

    Raises:
        ConfigError: it would be the clip itself or within it, whose own frames may have the same names.
    """
    folders = {clip: path.with_suffix("") for clip, path in output_paths(clips, folder).items()}
    for clip, place in folders.items():
        if place.resolve().is_relative_to(clip.resolve()):
            raise ConfigError(f"--out {folder}: what is made of {clip} would get in its place; choose another folder")
    return folders


class Report:
    """Collects a command's items and errors; prints them as the one JSON document of the contract (DESIGN)."""

    def __init__(self, command: str, as_json: bool):
        self._command = command
        self._as_json = as_json
        self._start = time.monotonic()
        self._items: list[dict[str, Any]] = []
        self._errors: list[dict[str, str]] = []

    def item(self, item: dict[str, Any], line: str) -> None:
        """Adds one result; without --json its human-readable `line` is printed at once."""
        self._items.append(item)
        if not self._as_json:
            print(line, flush=True)

    def error(self, source: str, error: UserError) -> None:
        """Adds one failed input; the line is printed on stderr at once and the batch goes on."""
        self._errors.append({"input": source, "error": str(error)})
        print(f"error: {error}", file=sys.stderr, flush=True)

    def finish(self, **figures: Any) -> int:
        """Prints the JSON document if asked for, with `figures` of all items; returns the exit status.

        It is 2 when an input failed.
        """
        if self._as_json:
            document = {
                "command": self._command,
                "version": handjax.__version__,
                "seconds": round(time.monotonic() - self._start, 3),
                "items": self._items,
                "errors": self._errors,
                **figures,
            }
            print(json.dumps(document))
        return USER_ERROR_STATUS if self._errors else 0
