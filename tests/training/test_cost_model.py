"""The cost model finds the numbers that made-up reports were made with."""

import pytest

from handjax.training.cost_model import fit
from handjax.training.roofline import Chip

CHIP = Chip(flops=100e12, hbm=10 * 2.0**30, hbm_bandwidth=2.0**40, link_bandwidth=2.0**37, source="a test")


def report(chips: int, batch: int):
    """1 GiB and 0.5 an example; 2 GiB of traffic and 3 an example; 1.5 TFLOP, 2 executed; 0.25 GiB of gradients."""
    return {
        "chips": chips,
        "batch_size": chips * batch,
        "hbm_peak_gib": 1 + 0.5 * batch,
        "hbm_traffic_gib": 2 + 3 * batch,
        "tflop_per_chip": 1.5 * batch,
        "tflop_executed_per_chip": 2.0 * batch,
        "collective_gib": {"all-reduce": 0.3 * (chips - 1) / chips, "all-gather": 0.2 * (chips - 1) / chips},
    }


@pytest.fixture(scope="module")
def model():
    return fit([report(4, 2), report(8, 4), report(16, 8)])


def test_lines_and_rings_are_found(model):
    for line, fixed, slope in ((model.memory, 1, 0.5), (model.traffic, 2, 3), (model.executed, 0, 2.0)):
        assert (line.fixed, line.slope) == (pytest.approx(fixed, abs=1e-9), pytest.approx(slope))
    assert model.reduced == pytest.approx(0.25)
    assert model.sent(2) == pytest.approx(0.25)


def test_what_bounds_a_step_turns_with_the_batch(model):
    # 8 examples: 16 TFLOP take 0.16 s, 26 GiB 0.025 s; 0.5 GiB at 128 GiB/s take 0.0039 s
    many, one = model.step(CHIP, 10**6, 8.0), model.step(CHIP, 10**6, 0.1)
    assert (many.limit, many.seconds) == ("compute", pytest.approx(0.16))
    assert (many.memory, many.network) == (pytest.approx(26 / 1024), pytest.approx(0.5 / 128, rel=1e-5))
    assert one.limit == "network"
    assert model.mfu(CHIP, 16, 8.0) == pytest.approx(0.75)


def test_the_largest_batch_just_fits(model):
    assert model.largest_batch(CHIP) == 18
