"""Bounds against divisions done by hand."""

import pytest

from handjax.training.roofline import CHIPS, Chip, chip_of, roofline

CHIP = Chip(flops=100.0, hbm=1.0, hbm_bandwidth=10.0, link_bandwidth=2.0, source="a test")


@pytest.mark.parametrize(
    ("work", "seconds", "limit"),
    [((300.0, 20.0, 4.0), 3.0, "compute"), ((100.0, 20.0, 3.0), 2.0, "memory"), ((100.0, 5.0, 8.0), 4.0, "network")],
)
def test_the_longest_of_three_bounds_the_step(work, seconds, limit):
    bound = roofline(CHIP, *work)
    assert (bound.compute, bound.memory, bound.network) == (work[0] / 100, work[1] / 10, work[2] / 2)
    assert (bound.seconds, bound.limit) == (seconds, limit)
    assert bound.seconds_in_turn == bound.compute + bound.memory + bound.network > seconds


@pytest.mark.parametrize(
    ("kind", "tflops"),
    [
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("NVIDIA H200", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA A100-SXM4-40GB", 312),
    ],
)
def test_devices_are_known_by_what_jax_calls_them(kind, tflops):
    chip = chip_of(kind)
    assert chip is not None and chip.flops == tflops * 1e12


def test_no_figures_are_made_up():
    assert chip_of("cpu") is None and chip_of("NVIDIA L4") is None


def test_published_figures_agree_with_each_other():
    # Operations a byte of memory where a chip turns from waiting to computing, as the literature has them.
    ridges = {name: chip.flops / chip.hbm_bandwidth for name, chip in CHIPS.items()}
    assert ridges["TPU v5 lite"] == pytest.approx(240, abs=1)
    assert ridges["TPU v6 lite"] == pytest.approx(560, abs=2)
    assert ridges["NVIDIA H100 80GB HBM3"] == pytest.approx(295, abs=1)
