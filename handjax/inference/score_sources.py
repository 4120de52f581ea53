"""What a user names, files, folders and patterns, as pictures or clips to score."""

import dataclasses
import glob
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from handjax.errors import InputError
from handjax.images import IMAGE_SUFFIXES
from handjax.inference.score_pictures import NO_PICTURE, Item, error_item


@dataclasses.dataclass(frozen=True)
class Source:
    """A picture or clip; `known` is its item where there is nothing to score."""

    path: Path
    known: Item | None = None

    def digest(self) -> str:
        """Hash of its content: of a folder, of all its files; empty where it cannot be read."""
        files = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        digest = hashlib.sha256()
        try:
            for file in files:
                digest.update(file.name.encode() + b"\0" + (file.read_bytes() if file.is_file() else b""))
        except OSError:
            return ""
        return digest.hexdigest()


def find_sources(inputs: Iterable[str], video: bool) -> list[Source]:
    """Expands inputs in their order, each file once.

    Folders are searched recursively, their files sorted; those that are not named like pictures are kept as such. With
    `video` a folder is one clip.
    """
    found: dict[Path, Source] = {}
    for name in inputs:
        for source in _expand(name, video):
            found.setdefault(source.path, source)
    return list(found.values())


def _expand(name: str, video: bool) -> Iterator[Source]:
    paths = [Path(name)]
    if not paths[0].exists() and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        paths = list(map(Path, matches)) or paths
    for path in paths:
        if path.is_dir() and not video:
            yield from _in_folder(path)
        else:
            yield Source(path)


def _in_folder(folder: Path) -> Iterator[Source]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        yield Source(folder, error_item(folder, InputError(f"{folder}: the folder holds no files; give pictures")))
    for path in files:
        picture = path.suffix.lower() in IMAGE_SUFFIXES
        yield Source(path, None if picture else {"input": str(path), "status": NO_PICTURE, "notes": [], "hands": []})
