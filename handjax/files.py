"""Files that are either whole or absent: written under a temporary name, then renamed."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from handjax.errors import InputError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path beside `path`; it takes the place of `path` when the block succeeds.

    The block may create a file or a folder there. On an exception the temporary is removed and `path` stays as it was.

    Raises:
      InputError: the folder of `path` cannot be made or written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    temporary = holder / path.name
    try:
        yield temporary
        _put(temporary, path, holder)
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def replace_folder(source: str | os.PathLike, path: str | os.PathLike) -> None:
    """Moves the folder `source` to `path`, beside it, in place of what was there.

    Raises:
      InputError: that cannot be done; then `source` stays where it is.
    """
    source, path = Path(source), Path(path)
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True
        ) as holder:
            _put(source, path, Path(holder))
    except OSError as error:
        raise InputError(f"{path}: cannot be replaced ({error.strerror}); the result is in {source}") from error


def _put(temporary: Path, path: Path, holder: Path) -> None:
    if temporary.is_dir() and path.is_dir():
        path.rename(holder / "replaced")
    temporary.replace(path)


def write_json(path: str | os.PathLike, document: Any) -> None:
    """Writes `document` as indented JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(document, indent=2) + "\n")
