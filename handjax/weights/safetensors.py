"""Reading and writing safetensors files, whole or in shards, without PyTorch."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from handjax.errors import WeightsError
from handjax.files import atomic_write, write_json


def read_tensors(path: str | os.PathLike, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Reads the tensors of a file one after the other, so that a caller can convert and drop each.

    Args:
        path: a .safetensors file, or the .json index of one in shards; float16, bfloat16 and float32 come as they are.
        prefix: only tensors whose names begin so are read.

    Yields:
        Name and value, in PyTorch's layout.

    Raises:
        WeightsError: a file is missing, truncated or no safetensors file, or a value is not finite.
    """
    for file in _files(Path(path)):
        with _reading(file), safe_open(file, framework="numpy") as tensors:
            for name in filter(lambda name: name.startswith(prefix), tensors.keys()):
                yield name, check_finite(tensors.get_tensor(name), name, file)


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Reads the notes in the head of a .safetensors file; empty where there are none. Raises as `read_tensors`."""
    with _reading(Path(path)), safe_open(path, framework="numpy") as tensors:
        return tensors.metadata() or {}


def check_finite(value: np.ndarray, name: str, path: str | os.PathLike) -> np.ndarray:
    """Returns the tensor `name` of the file `path`; raises WeightsError where an element is NaN or infinite."""
    if not np.isfinite(value).all():
        broken = np.size(value) - np.count_nonzero(np.isfinite(value))
        raise WeightsError(
            f"{path}: {broken} of {np.size(value)} values of {name} are NaN or infinite; training diverged or the "
            "precision is too low: use another file"
        )
    return value


def write_tensors(
    path: str | os.PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    max_shard_bytes: int | None = None,
) -> None:
    """Writes a file that PyTorch's libraries read, atomically. Replaces `path` in one file or in shards.

    Args:
        path: the .safetensors file.
        tensors: names and contiguous values in PyTorch's layout.
        metadata: notes for the head of the file.
        max_shard_bytes: more than this goes into shards, with an index as diffusers names it, written last.
    """
    path = Path(path)
    shards = _split(tensors, max_shard_bytes)
    count = len(shards)
    names = (
        [path.name] if count == 1 else [f"{path.stem}-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    )
    for name, shard in zip(names, shards, strict=True):
        with atomic_write(path.with_name(name)) as temporary:
            save_file(shard, temporary, metadata={"format": "pt", **(metadata or {})})
            _as_readable_as_others(temporary)
    index = path.with_name(f"{path.name}.index.json")
    if count > 1:
        size = sum(value.nbytes for value in tensors.values())
        places = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        write_json(index, {"metadata": {"total_size": size}, "weight_map": places})
    # What an earlier write left under the same name would be read instead.
    for stale in {path, index, *path.parent.glob(f"{path.stem}-?????-of-?????.safetensors")}:
        if stale.name not in (*names, index.name if count > 1 else ""):
            stale.unlink(missing_ok=True)


def _as_readable_as_others(path: Path) -> None:
    """Gives a file the mode that new files have here; safetensors leaves it to its owner alone."""
    plain = path.with_name("plain")
    plain.touch()
    shutil.copymode(plain, path)
    plain.unlink()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what the block raises about a file into one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; give the folder of a complete model") from error
    except (AttributeError, TypeError) as error:
        raise WeightsError(f"{path}: of a number format that is not read ({error}); convert it to float16") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a complete safetensors file ({error}); copy or download it again") from error


def _files(path: Path) -> list[Path]:
    """The files of `path`: itself, or the shards when it is an index."""
    if path.suffix != ".json":
        return [path]
    with _reading(path):
        text = path.read_text()
    try:
        return [path.with_name(name) for name in dict.fromkeys(json.loads(text)["weight_map"].values())]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not the index of a model in shards; copy or download it again") from error


def _split(tensors: Mapping[str, np.ndarray], max_bytes: int | None) -> list[dict[str, np.ndarray]]:
    """Fills shards in order, each up to `max_bytes` or with one larger tensor."""
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, value in tensors.items():
        size += value.nbytes
        if max_bytes is not None and size > max_bytes and shards[-1]:
            shards.append({})
            size = value.nbytes
        shards[-1][name] = value
    return shards
