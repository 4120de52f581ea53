"""How arrays are cut over the mesh: an array's path and shape decide, so that all that belongs together agrees.

The mesh has three axes. "data" and "fsdp" both cut the batch; "fsdp" also cuts what is stored: parameters, gradients,
moments and averages. "model" cuts single matrix products (tensor parallelism).
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from handjax.errors import ConfigError
from handjax.training.task import PyTree

AXES = DATA, FSDP, MODEL = ("data", "fsdp", "model")
BATCH_AXES = (DATA, FSDP)
REST = -1
# Smaller arrays are cheaper to keep whole than to collect.
SMALL = 2**16
# End of a path -> dimension cut over "model"; the names are those of diffusers and transformers. What a projection
# into heads or hidden units has cut by its outputs, the projection back has cut by its inputs: one sum a pair.
MODEL_RULES = (
    (r"(to_[qkv]|[qkv]_proj|net_0/proj|fc1)/kernel", -1),
    (r"(to_out_0|out_proj|net_2|fc2)/kernel", 0),
)


def mesh_sizes(asked: Mapping[str, int], devices: int) -> dict[str, int]:
    """Returns the sizes of the mesh's axes.

    Args:
      asked: of every axis; one may be -1, for the devices that are left.
      devices: number of devices.

    Raises:
      ConfigError: the product is not the number of devices.
    """
    given = [size for size in asked.values() if size != REST]
    known = math.prod(given)
    fits = known == devices if len(given) == len(AXES) else known > 0 and devices % known == 0
    if not fits or min(given, default=0) < 1 or len(given) < len(AXES) - 1:
        words = ", ".join(f"parallel.{axis}={size}" for axis, size in asked.items())
        raise ConfigError(f"{words} does not fit {devices} devices; the product must be {devices}, one may be {REST}")
    return {axis: devices // known if size == REST else size for axis, size in asked.items()}


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the mesh of `mesh_sizes` over the devices, all of this job's by default."""
    shape = tuple(sizes[axis] for axis in AXES)
    # an axis may take a part of one of the slice's: 8 x 2 x 1 chips of a 4 x 4 torus
    grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def partition_spec(
    path: str,
    shape: Sequence[int],
    sizes: Mapping[str, int],
    model_rules: Sequence[tuple[str, int]] = MODEL_RULES,
) -> PartitionSpec:
    """Returns how an array is cut.

    The first matching rule names the dimension for "model"; of the others the largest goes to "fsdp". Dimensions that
    do not divide evenly, and small arrays, stay whole. A path is read from its end, so that the moments and the
    average of a parameter are cut as it is.

    Args:
      path: names joined by "/".
      shape: of the array.
      sizes: of the mesh's axes.
      model_rules: (regular expression of the path's end, dimension).
    """
    axes: list[str | None] = [None] * len(shape)
    if math.prod(shape) < SMALL:
        return PartitionSpec()
    ruled = next((dim for end, dim in model_rules if re.search(f"(^|/){end}$", path)), None)
    if ruled is not None and sizes[MODEL] > 1 and shape[ruled] % sizes[MODEL] == 0:
        axes[ruled] = MODEL
    free = [dim for dim, axis in enumerate(axes) if axis is None and shape[dim] % sizes[FSDP] == 0]
    if free and sizes[FSDP] > 1:
        axes[max(free, key=lambda dim: shape[dim])] = FSDP
    return PartitionSpec(*axes)


def shardings(tree: PyTree, mesh: Mesh, *, collected: bool = False) -> PyTree:
    """Returns the `NamedSharding` of every array, or shape, of a tree of parameters or of a train state.

    Args:
      tree: its paths and shapes decide.
      mesh: with all axes.
      collected: as the arrays are computed with, whole over "fsdp", in place of how they are stored.
    """
    sizes = {**mesh.shape, FSDP: 1} if collected else mesh.shape

    def sharding(path: Any, leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, partition_spec(path_name(path), np.shape(leaf), sizes))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def path_name(path: Any) -> str:
    """Returns a leaf's path in a tree as names joined by "/"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
