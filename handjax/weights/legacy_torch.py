"""Reads what `torch.save` wrote before PyTorch 1.6, without PyTorch and without running anything a file names.

Such a file is a row of pickles - a magic number, the format's version, the writer's sizes of numbers, the state dict
and the names of its storages - and then each storage as its number of values and their bytes.

It is for weights that come as a package's data, so that who installs them need not install PyTorch. Model files that a
user names are read by `files.read_weights`.
"""

import io
import math
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handjax.errors import WeightsError
from handjax.weights.safetensors import check_finite

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


class _Storage(NamedTuple):
    dtype: str
    key: str


class _Tensor(tuple):
    """Arguments of `torch._utils._rebuild_tensor_v2`: storage, offset, shape, strides, and what gradients need."""

    def __new__(cls, *args):
        return super().__new__(cls, args)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    ("torch", "FloatStorage"): "<f4",
    ("torch", "DoubleStorage"): "<f8",
    ("torch", "HalfStorage"): "<f2",
    ("torch", "LongStorage"): "<i8",
    ("torch", "IntStorage"): "<i4",
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}"[:200])
        return _ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, _, view = pid
        if view is not None:
            raise pickle.UnpicklingError("a storage that is part of another")
        return _Storage(dtype, key)


def read_legacy_torch(path: str | os.PathLike, remedy: str) -> dict[str, np.ndarray]:
    """Reads a pickled state dict of PyTorch before 1.6.

    Args:
        path: the file.
        remedy: what to do about a file that is none, such as where to get it.

    Returns:
        Name -> value, in PyTorch's layout; of a file without names the dictionary is empty.

    Raises:
        WeightsError: the file is missing, damaged, no state dict in this format, or a value is not finite.
    """
    path = Path(path)
    try:
        file = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    try:
        tensors = _parse(file)
    # the ways in which an unpickler fails on what was not meant for it have no common base
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise WeightsError(f"{path}: no state dict of PyTorch before 1.6 ({reason}); {remedy}") from error
    return {name: check_finite(value, name, path) for name, value in tensors.items()}


def _parse(file: io.BytesIO) -> dict[str, np.ndarray]:
    magic, version, system, state, keys = (_Unpickler(file).load() for _ in range(5))
    if (magic, version) != (MAGIC, VERSION) or not system["little_endian"]:
        raise ValueError("another magic number, version or order of bytes")
    tensors = {name: value for name, value in state.items() if isinstance(value, _Tensor)}
    dtypes = {tensor[0].key: np.dtype(tensor[0].dtype) for tensor in tensors.values()}
    storages = {}
    for key in keys:
        count, dtype = int.from_bytes(file.read(8), "little"), dtypes[key]
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
    return {name: _array(storages[tensor[0].key], *tensor[1:4]) for name, tensor in tensors.items()}


def _array(storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    last = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
    if min(offset, *shape, *strides, 0) < 0 or last >= len(storage) or math.prod(shape) > len(storage):
        raise ValueError("a tensor that reaches beyond its storage")
    steps = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)
