"""Reading and writing safetensors files without PyTorch."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from handjax.errors import WeightsError
from handjax.files import atomic_write


def read_tensors(path: str | os.PathLike) -> Iterator[tuple[str, np.ndarray]]:
    """Reads the tensors of a file one after the other, so that a caller can convert and drop each.

    Args:
        path: a .safetensors file; float16, bfloat16 and float32 come as they are.

    Yields:
        Name and value, in PyTorch's layout.

    Raises:
        WeightsError: the file is missing, truncated or no safetensors file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                yield name, file.get_tensor(name)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; give the folder of a complete model") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a complete safetensors file ({error}); copy or download it again") from error


def write_tensors(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a file that PyTorch's libraries read, atomically.

    Args:
        path: the .safetensors file.
        tensors: names and contiguous values in PyTorch's layout.
    """
    with atomic_write(Path(path)) as temporary:
        save_file(dict(tensors), temporary, metadata={"format": "pt"})
