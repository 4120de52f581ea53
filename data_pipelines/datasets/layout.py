"""Looks whether a download is whole: every line says which file is missing or broken and where to get it."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jaxtyping import UInt8
from PIL import Image

from data_pipelines.datasets.annotation import Sample
from handjax.errors import InputError


def need_file(path: Path, remedy: str) -> Path:
    """Returns the path of a file that must be there.

    Raises:
      InputError: it is missing or empty.
    """
    if not path.is_file():
        raise InputError(f"{path}: missing; {remedy}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; {remedy}")
    return path


def read_json(path: Path, remedy: str) -> Any:
    """Reads an annotation file.

    Raises:
      InputError: it is missing, empty or broken off.
    """
    try:
        return json.loads(need_file(path, remedy).read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); {remedy}") from error


def read_yaml(path: Path, remedy: str) -> dict[str, Any]:
    """Reads an annotation file in YAML that holds a mapping.

    Raises:
      InputError: it is missing, empty, broken off, or asks for objects to be made.
    """
    try:
        content = yaml.safe_load(need_file(path, remedy).read_bytes())
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())}); {remedy}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, no mapping; {remedy}")
    return content


def read_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]], remedy: str) -> dict[str, np.ndarray]:
    """Reads arrays of an .npz.

    Args:
      path: the file.
      shapes: names of the arrays → their shapes.
      remedy: what to do about a file that is missing or broken.

    Raises:
      InputError: it is missing, empty, broken off, or lacks one of them.
    """
    try:
        with np.load(need_file(path, remedy), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in shapes if name in arrays.files}
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no .npz of plain arrays ({error}); {remedy}") from error
    check_shapes(found, shapes, path, remedy)
    return found


def check_shapes(arrays: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], path: Path, remedy: str) -> None:
    """Raises InputError where a file lacks one of the arrays or has it in another shape."""
    for name, shape in shapes.items():
        if name not in arrays or np.shape(arrays[name]) != shape:
            raise InputError(f"{path}: {name} is not an array of shape {shape}; {remedy}")


def check_pictures(samples: Sequence[Sample], remedy: str) -> None:
    """Raises InputError where pictures that are annotated, or their masks, are not there."""
    files = [path for sample in samples for path in (sample.picture, *sample.others)]
    missing = [path for path in files if not path.is_file()]
    if missing:
        others = f" and {len(missing) - 1} more of {len(files)} files" if len(missing) > 1 else ""
        raise InputError(f"{missing[0]}{others}: missing; {remedy}")


def read_labels(path: Path) -> UInt8[np.ndarray, "height width"]:
    """Reads a grey or palette picture whose values are labels and not colours.

    Raises:
      InputError: it is damaged, or no picture of one channel.
    """
    try:
        with Image.open(path) as picture:
            labels = np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: the picture is damaged ({error}); replace it") from error
    if labels.ndim != 2:
        raise InputError(f"{path}: has {labels.shape[-1]} channels where labels have one; replace it")
    return labels.astype(np.uint8)
