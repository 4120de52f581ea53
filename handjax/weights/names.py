"""PyTorch state-dict names and layouts to Flax parameter trees and back, by rules that hold for every model here.

A Flax path is the torch name with list indices joined to the list (`down_blocks.0.conv1` is `down_blocks_0/conv1`)
and the last part named after what it is:

    torch weight          Flax           layout
    4-d                   kernel         OIHW to HWIO
    2-d of an embedding   embedding      as it is
    2-d otherwise         kernel         transposed
    1-d                   scale          as it is
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from handjax.errors import WeightsError

Path = tuple[str, ...]

# Module names that end in a number without being an element of a list: diffusers' TimestepEmbedding.
NUMBERED_NAMES = frozenset({"linear_1", "linear_2"})
# Buffers that old versions of transformers saved; they hold 0, 1, 2, …
BUFFERS = ("position_ids",)
# Names of the VAE's attention before diffusers 0.15, as in the published Stable Diffusion 1.x.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# transformers before 5.6 has this level in CLIP's text encoder, and published files have it; later versions read both.
TEXT_PREFIX = "text_model."
OIHW_TO_HWIO = (2, 3, 1, 0)
HWIO_TO_OIHW = (3, 2, 0, 1)


def flax_path(name: str, ndim: int) -> Path:
    """Gives the Flax path of the `ndim`-dimensional tensor that a state dict calls `name`."""
    parts = [OLD_NAMES.get(part, part) for part in name.split(".")]
    *modules, leaf = re.sub(r"\.(\d+)(?=\.)", r"_\1", ".".join(parts)).split(".")
    if leaf != "weight":
        return (*modules, leaf)
    if ndim == 2 and modules and modules[-1].endswith("_embedding"):
        return (*modules, "embedding")
    return (*modules, "scale" if ndim == 1 else "kernel")


def torch_name(path: Path) -> str:
    """Gives the state dict's name of the parameter at a Flax path."""
    *modules, leaf = path
    names = [name if name in NUMBERED_NAMES else re.sub(r"_(\d+)$", r".\1", name) for name in modules]
    return ".".join((*names, "weight" if leaf in ("kernel", "scale", "embedding") else leaf))


def to_flax(tensors: Iterable[tuple[str, np.ndarray]]) -> dict[str, Any]:
    """Builds the Flax parameter tree of a state dict, one tensor at a time.

    Args:
        tensors: names and values in PyTorch's layout.

    Returns:
        Nested dicts of arrays in Flax's layout, in the dtypes given.
    """
    flat = {}
    for name, value in tensors:
        if name.endswith(BUFFERS):
            continue
        path = flax_path(name, value.ndim)
        if path[-1] == "kernel":
            value = value.transpose(OIHW_TO_HWIO) if value.ndim == 4 else value.T
        flat[path] = value
    return traverse_util.unflatten_dict(flat)


def to_torch(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Builds the state dict of a Flax parameter tree: the inverse of `to_flax`, bit for bit."""
    state = {}
    for path, value in traverse_util.flatten_dict(params).items():
        value = np.asarray(value)
        if path[-1] == "kernel":
            value = value.transpose(HWIO_TO_OIHW) if value.ndim == 4 else value.T
        state[torch_name(path)] = np.ascontiguousarray(value)
    return state


def module_names(params: Mapping[str, Any]) -> list[str]:
    """Lists the state dict's names of the linear layers and convolutions of a Flax parameter tree."""
    return [
        torch_name(path).removesuffix(".weight") for path in traverse_util.flatten_dict(params) if path[-1] == "kernel"
    ]


def _torch_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape, in PyTorch's layout, of the parameter at a Flax path."""
    if path[-1] != "kernel":
        return shape
    return tuple(shape[axis] for axis in HWIO_TO_OIHW) if len(shape) == 4 else shape[::-1]


def check_tree(params: Mapping[str, Any], expected: Mapping[str, Any], source: str) -> None:
    """Compares the paths and shapes of a parameter tree with those that a model's config asks for.

    Args:
        params: the tree that was read.
        expected: the tree that the model needs; anything with shapes, such as `jax.eval_shape` of its init.
        source: where `params` comes from, for the message.

    Raises:
        WeightsError: they differ; names how many tensors do and the first of each kind.
    """
    given, wanted = (
        {torch_name(path): _torch_shape(path, np.shape(value)) for path, value in traverse_util.flatten_dict(t).items()}
        for t in (params, expected)
    )
    shared = given.keys() & wanted.keys()
    reshaped = {name: f"{given[name]} for {wanted[name]}" for name in shared if given[name] != wanted[name]}
    problems = [
        f"{len(names)} {kind}, first {min(names)}{' ' + reshaped[min(names)] if kind == 'of another shape' else ''}"
        for kind, names in (
            ("missing", wanted.keys() - given.keys()),
            ("unexpected", given.keys() - wanted.keys()),
            ("of another shape", reshaped.keys()),
        )
        if names
    ]
    if problems:
        raise WeightsError(
            f"{source}: the tensors do not fit config.json ({'; '.join(problems)}); use the two files of one model"
        )
