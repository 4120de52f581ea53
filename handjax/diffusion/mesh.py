"""How the devices of the mesh that `jax.set_mesh` has set share the arrays of attention.

The compiler decides for everything else; here choices depend on how much one device holds.
"""

import math

import jax
from jax.sharding import PartitionSpec


def batch_axes(batch: int) -> tuple[str, ...]:
    """The mesh's axes over which a batch is cut: the first ones, as many as divide it; none without a mesh."""
    axes = jax.sharding.get_abstract_mesh().auto_axes
    return max((axes[:count] for count in range(len(axes) + 1) if batch % _devices(axes[:count]) == 0), key=len)


def batch_a_device(batch: int) -> int:
    """Examples of a batch that one device holds."""
    return batch // _devices(batch_axes(batch))


def batch_and_heads(batch: int, heads: int) -> PartitionSpec:
    """How [batch, tokens, heads, dim] is cut: what is left of the mesh by the batch cuts the heads, where it can."""
    first = batch_axes(batch)
    rest = tuple(axis for axis in jax.sharding.get_abstract_mesh().auto_axes if axis not in first)
    return PartitionSpec(first, None, rest if heads % _devices(rest) == 0 else None)


def _devices(axes: tuple[str, ...]) -> int:
    return math.prod(jax.sharding.get_abstract_mesh().shape[axis] for axis in axes)
