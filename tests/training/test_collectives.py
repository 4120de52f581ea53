"""Traffic read from programs in the compiler's own words, against sums done by hand."""

import pytest

from handjax.training.collectives import Traffic, read_collectives

HEAD = "HloModule jit_run, is_scheduled=true, entry_computation_layout={...}, num_partitions=8\n"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # groups written out, of 4: 2 * 3/4 * 4 * 32 * 8 bytes
        (
            "  ROOT %all-reduce.1 = f32[32,8]{1,0} all-reduce(%dot), channel_id=1, "
            "replica_groups={{0,1,2,3},{4,5,6,7}}, use_global_device_ids=true, to_apply=%add",
            {"all-reduce": Traffic(1, 1536)},
        ),
        # several arrays at once, all 8 devices: 2 * 7/8 * (64 + 32) bytes
        (
            "  %all-reduce.2 = (f32[16]{0}, bf16[16]{0:T(256)}, pred[]) all-reduce(%a, %b, %c), replica_groups={}",
            {"all-reduce": Traffic(1, round(2 * 7 / 8 * 97))},
        ),
        # groups by formula, 4 groups of 2: half of 2 * 128 * 256 bytes
        (
            "  %all-gather = bf16[128,256]{1,0:T(8,128)(2,1)S(1)} all-gather(%p), replica_groups=[4,2]<=[8]",
            {"all-gather": Traffic(1, 32768)},
        ),
        # groups by the axes of a mesh: of 4, then of 2 * 2
        (
            "  %all-gather = f32[32,8] all-gather(%p), replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]) {'b'}",
            {"all-gather": Traffic(1, 768)},
        ),
        (
            "  %all-gather = f32[32,8] all-gather(%p), replica_groups=mesh['a'=2,'b'=4] {'a','b':(1)2}, dimensions={1}",
            {"all-gather": Traffic(1, 768)},
        ),
        # an asynchronous one names operands before results
        (
            "  %all-gather-start = (f32[64,256], f32[128,256]) all-gather-start(%p), replica_groups=[4,2]<=[8]\n"
            "  %all-gather-done = f32[128,256]{1,0} all-gather-done(%all-gather-start)",
            {"all-gather": Traffic(1, 65536)},
        ),
        # the result of a reduce-scatter is one part of what is summed: 3/4 of 4 * 100 * 4
        (
            "  %reduce-scatter = f32[100]{0} reduce-scatter(%p), replica_groups=[2,4]<=[8], dimensions={0}",
            {"reduce-scatter": Traffic(1, 1200)},
        ),
        (
            "  %cp = (s8[40]{0}, s8[40]{0}, u32[], u32[]) collective-permute-start(%p), source_target_pairs={{0,1}}",
            {"collective-permute": Traffic(1, 40)},
        ),
        (
            "  %a2a = (f32[8]{0}, f32[8]{0}) all-to-all(%p, %q), replica_groups={{0,1},{2,3},{4,5},{6,7}}",
            {"all-to-all": Traffic(1, 32)},
        ),
        ("  %fusion = f32[8]{0} fusion(%all-reduce.1), kind=kLoop, calls=%all-reduce-scatter.clone", {}),
    ],
)
def test_one_operation(line, expected):
    assert read_collectives(HEAD + line) == expected


def test_operations_of_a_kind_are_added():
    line = "  %r = f32[10]{0} all-reduce(%x), replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%add\n"
    assert read_collectives(HEAD + 3 * line) == {"all-reduce": Traffic(3, 120)}
