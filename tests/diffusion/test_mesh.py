"""What of a batch and of heads one device of a mesh holds."""

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from handjax.diffusion.attention import blocked_attention, implementations, plain_attention
from handjax.diffusion.mesh import batch_a_device, batch_and_heads


def on(*sizes: int):
    axes = ("data", "fsdp", "model")
    return jax.sharding.use_abstract_mesh(AbstractMesh(sizes, axes, axis_types=(AxisType.Auto,) * 3))


BATCH, ALL = ("data", "fsdp"), ("data", "fsdp", "model")


@pytest.mark.parametrize(
    ("sizes", "batch", "cut", "held"),
    [
        ((16, 1, 1), 128, PartitionSpec(ALL, None, ()), 8),
        ((4, 2, 2), 32, PartitionSpec(ALL, None, ()), 2),
        ((8, 1, 2), 8, PartitionSpec(BATCH, None, ("model",)), 1),
        ((8, 1, 32), 8, PartitionSpec(BATCH, None, None), 1),
        ((16, 1, 1), 8, PartitionSpec((), None, None), 8),
    ],
)
def test_heads_are_cut_by_what_the_batch_leaves(sizes, batch, cut, held):
    with on(*sizes):
        assert batch_and_heads(batch, heads=8) == cut
        assert batch_a_device(batch) == held


def test_without_a_mesh_all_is_held_here():
    assert batch_a_device(12) == 12 and batch_and_heads(12, 8) == PartitionSpec((), None, ())


def test_scores_are_bounded_by_what_one_device_holds():
    # cross-attention at 64x64 latents: 128 examples have too many scores for one chip, 8 have not
    q, k = (jax.ShapeDtypeStruct((128, tokens, 8, 40), "bfloat16") for tokens in (4096, 77))
    assert implementations(q, k, None)["default"].func is blocked_attention
    with on(16, 1, 1):
        assert implementations(q, k, None)["default"] is plain_attention
