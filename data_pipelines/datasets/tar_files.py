"""Members of tar archives in WebDataset's way: the files of a sample share their name up to the first point."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from handjax.errors import InputError


class TarMember(NamedTuple):
    """Where the bytes of a file are in an archive."""

    archive: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Reads the file without looking through the archive."""
        with self.archive.open("rb") as archive:
            archive.seek(self.offset)
            return archive.read(self.size)


def tar_samples(archive: Path, remedy: str) -> Iterator[tuple[str, dict[str, TarMember]]]:
    """Gives the key and the files by suffix, "jpg" or "data.json", of each sample, without reading them.

    Raises:
      InputError: the archive is none or broken off.
    """
    samples: dict[str, dict[str, TarMember]] = {}
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                stem, _, suffix = name.partition(".")
                if member.isfile() and stem:
                    key = f"{folder}/{stem}" if folder else stem
                    samples.setdefault(key, {})[suffix.lower()] = TarMember(archive, member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{archive}: no whole tar archive ({error}); {remedy}") from error
    yield from samples.items()
