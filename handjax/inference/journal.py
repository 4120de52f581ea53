"""Results that outlive a killed run: one JSON line each, appended as it comes."""

import json
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO

from handjax.errors import InputError


class Journal:
    """A file of results by name and content, for any number of threads.

    A file whose first line is not that of this run, made with other options or by another version, is begun anew; a
    line that a killed run left half-written is cut off.
    """

    def __init__(self, path: Path, header: dict[str, Any]):
        """Opens or makes the file; raises InputError where that fails."""
        self._path = path
        self._places: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
        self._recover(json.dumps(header, sort_keys=True).encode() + b"\n")

    def _recover(self, header: bytes) -> None:
        end = 0
        if self._file.readline() == header:
            end = len(header)
            while (line := self._file.readline()).endswith(b"\n"):
                entry = json.loads(line)
                self._places[entry["name"]] = (entry["digest"], end)
                end += len(line)
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._file.write(header)

    def has(self, name: str) -> bool:
        """Whether something of this name is written down."""
        return name in self._places

    def digest(self, name: str) -> str:
        """The content that `name` had when it was written down."""
        return self._places[name][0]

    def add(self, name: str, digest: str, result: Any) -> None:
        """Writes a result down, in place of an earlier one of that name."""
        line = json.dumps({"name": name, "digest": digest, "result": result}).encode() + b"\n"
        with self._lock:
            end = self._file.seek(0, os.SEEK_END)
            self._file.write(line)
            self._file.flush()
            self._places[name] = (digest, end)

    def read(self, name: str) -> Any:
        """The result of that name."""
        with self._lock:
            self._file.seek(self._places[name][1])
            return json.loads(self._file.readline())["result"]

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
