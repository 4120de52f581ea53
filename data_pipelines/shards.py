"""Data sets made shard by shard: a shard is whole or absent, and stays as long as what it was made from stays.

Beside each shard lies a sidecar, FILE.json, that tells what the shard was made from and what became of it.
"""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from array_record.python.array_record_module import ArrayRecordWriter

import handjax
from data_pipelines.features import record_serializer, write_dataset_info
from data_pipelines.precompute import Failures
from data_pipelines.splits import spread_names
from handjax.errors import InputError
from handjax.files import atomic_write, write_json
from handjax.record import HandRecord

SHARD_SIZE = 128
"""Inputs in a shard: what an interruption costs a worker at most, in a data set of up to 65,536 inputs."""
MAX_SHARDS = 512
"""Of a split: whoever reads the data set holds all of them open."""
_MAKERS = (
    "data_pipelines",
    "handjax/conditions",
    "handjax/hand",
    "handjax/images.py",
    "handjax/perception",
    "handjax/assets/hand_landmarker.task",
    "handjax/assets/open_hand.npz",
)
_HASH_BLOCK = 1 << 20

RecordMaker = Callable[[Iterable[str], Failures], Iterator[HandRecord]]
"""Makes the records of named inputs, taking a name when its turn has come, and notes what gave none."""


@runtime_checkable
class Job(Protocol):
    """What is prepared, and how. A job travels to the workers as a pickle: it is settings and no more."""

    @property
    def name(self) -> str:
        """Of the data set, in the names of its files."""

    @property
    def description(self) -> str:
        """Of the data set, in words."""

    @property
    def licence(self) -> str | None:
        """Of the pictures."""

    @property
    def citation(self) -> str | None:
        """Of the data set, in BibTeX."""

    def settings(self) -> dict[str, Any]:
        """What all records depend on, in values that JSON knows."""
        ...

    def splits(self) -> dict[str, list[str]]:
        """The names of the inputs of each split, in order."""
        ...

    def states(self, names: Sequence[str]) -> list[Any]:
        """What the records of each input depend on besides, in values that JSON knows."""
        ...

    def open(self) -> RecordMaker:
        """Loads what making records needs, once a process."""
        ...


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of a data set before it is made.

    Attributes:
      file: its name.
      split: that it belongs to.
      names: of its inputs.
      fingerprint: of all that its records depend on.
    """

    file: str
    split: str
    names: tuple[str, ...]
    fingerprint: str


def plan_shards(job: Job) -> list[Shard]:
    """Divides a job into shards; the same inputs always give the same ones, at any number of workers."""
    common = [job.settings(), versions(), maker_hash()]
    shards = []
    for split, names in job.splits().items():
        states = dict(zip(names, job.states(names), strict=True))
        parts = spread_names(names, min(-(-len(names) // SHARD_SIZE), MAX_SHARDS))
        for number, part in enumerate(parts):
            file = f"{job.name}-{split}.array_record-{number:05d}-of-{len(parts):05d}"
            made_from = json.dumps([common, [[name, states[name]] for name in part]])
            shards.append(Shard(file, split, tuple(part), hashlib.sha256(made_from.encode()).hexdigest()))
    return shards


def versions() -> dict[str, str]:
    """Versions of what records depend on."""
    packages = ("jax", "numpy", "pillow", "tensorflow-datasets", "array-record")
    return {"handjax": handjax.__version__} | {package: importlib.metadata.version(package) for package in packages}


@functools.cache
def maker_hash(makers: tuple[str, ...] = _MAKERS) -> str:
    """Hash of the code and weights that make records: between releases the version does not tell when they change.

    Args:
      makers: files, and folders of code, below the one that the package is in.
    """
    root = Path(handjax.__file__).parent.parent
    digest = hashlib.sha256()
    for path in [path for maker in makers for path in sorted((root / maker).rglob("*.py")) or [root / maker]]:
        digest.update(file_hash(path).encode())
    return digest.hexdigest()


def make_shard(shard: Shard, make_records: RecordMaker, folder: Path) -> None:
    """Writes a shard and then its sidecar; what was interrupted leaves neither.

    Raises:
      InputError: they cannot be written, as on a full disk.
    """
    path, failures, count = folder / shard.file, Failures(), 0
    serialize = record_serializer()
    names = _counted(shard.names, _progress(folder, shard))
    with atomic_write(path) as temporary:
        writer = ArrayRecordWriter(str(temporary), "group_size:1")
        for record in make_records(names, failures):
            with _writing(path):
                writer.write(serialize(record))
            count += 1
        with _writing(path):
            writer.close()
    with _writing(path):
        sidecar = {
            "fingerprint": shard.fingerprint,
            "split": shard.split,
            "inputs": len(shard.names),
            "records": count,
            "bytes": path.stat().st_size,
            "sha256": file_hash(path),
            "failures": failures.items,
            "left_out": failures.left_out,
        }
        write_json(_sidecar(folder, shard), sidecar)
    _progress(folder, shard).unlink(missing_ok=True)


def read_sidecar(shard: Shard, folder: Path) -> dict[str, Any] | None:
    """Returns what a shard's sidecar tells; None where there is none, or one of a shard made from something else."""
    try:
        sidecar = json.loads(_sidecar(folder, shard).read_text())
        return sidecar if sidecar["fingerprint"] == shard.fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_finished(shard: Shard, folder: Path) -> bool:
    sidecar, path = read_sidecar(shard, folder), folder / shard.file
    return sidecar is not None and path.is_file() and file_hash(path) == sidecar["sha256"]


def keep_finished(shards: Sequence[Shard], work: Path, output: Path) -> list[Shard]:
    """Clears the folder of work of all but finished shards, and takes what is finished from an earlier result too.

    Args:
      shards: the plan.
      work: folder of an interrupted run, or a new one.
      output: folder of an earlier result, which may be absent; it stays as it is.

    Returns:
      The shards that are still to be made.

    Raises:
      InputError: `work` cannot be made.
    """
    missing = [shard for shard in shards if not _is_finished(shard, work)]
    todo = {shard.file for shard in missing if not _is_finished(shard, output)}
    with _writing(work):
        work.mkdir(parents=True, exist_ok=True)
        wanted = {path.name for s in shards for path in (work / s.file, _sidecar(work, s)) if s not in missing}
        for stale in [path for path in work.iterdir() if path.name not in wanted]:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        for shard in missing:
            if shard.file not in todo:
                for name in (shard.file, _sidecar(output, shard).name):
                    _link_or_copy(output / name, work / name)
    return [shard for shard in missing if shard.file in todo]


def finish(job: Job, shards: Sequence[Shard], work: Path) -> dict[str, Any]:
    """Makes a TFDS data set of the shards, all of which are made.

    Returns:
      What became of the inputs: pictures (their number), records (split → number), failures (counts by reason, and
      items) and shards (each with its hash).

    Raises:
      InputError: a shard is missing.
    """
    sidecars = {shard.file: read_sidecar(shard, work) for shard in shards}
    files = []
    failures = Failures()
    for name, sidecar in sidecars.items():
        if sidecar is None:
            raise InputError(f"{work / name}: was not made; the workers must write to the same folder as this command")
        failures.items += sidecar["failures"]
        failures.left_out.update(sidecar["left_out"])
        files.append({"file": name} | {key: sidecar[key] for key in ("split", "inputs", "records", "bytes", "sha256")})
    lengths = {split: [f["records"] for f in files if f["split"] == split] for split in {s.split for s in shards}}
    lengths = {split: lengths[split] for split in sorted(lengths, reverse=True) if any(lengths[split])}
    for file in [file for file in files if file["split"] not in lengths]:  # TFDS knows no split without records
        (work / file["file"]).unlink()
        files.remove(file)
    sizes = {split: sum(f["bytes"] for f in files if f["split"] == split) for split in lengths}
    if lengths:
        with _writing(work):
            about = {"description": job.description, "license": job.licence, "citation": job.citation}
            write_dataset_info(work, job.name, lengths, sizes, **about)
    return {
        "pictures": sum(len(shard.names) for shard in shards),
        "records": {split: sum(numbers) for split, numbers in lengths.items()},
        "failures": {"counts": failures.counts(), "items": failures.items},
        "shards": files,
    }


def count_done(shards: Iterable[Shard], folder: Path) -> int:
    """Counts the inputs that are dealt with, also in shards that are in the making."""
    done = 0
    for shard in shards:
        if _sidecar(folder, shard).exists():
            done += len(shard.names)
        else:
            with contextlib.suppress(FileNotFoundError):
                done += _progress(folder, shard).stat().st_size
    return done


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _sidecar(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.file}.json"


def _progress(folder: Path, shard: Shard) -> Path:
    return folder / f"{shard.file}.progress"


def _counted(names: Iterable[str], progress: Path) -> Iterator[str]:
    """Passes names on; the file `progress` has a byte for each that is dealt with, which any process can look up."""
    with _writing(progress), progress.open("wb", buffering=0) as file:
        for name in names:
            yield name
            file.write(b".")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Says what to do when a disk is full; ArrayRecord reports that as a RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).split(";")[0]
        raise InputError(
            f"{path}: cannot be written ({reason}); make room and run the same command again, finished shards are kept"
        ) from error
