"""The loader's benchmark, on few and small records."""

import itertools

import numpy as np
import pytest

from launch import bench_loader
from launch.bench import BENCHMARKS, describe
from launch.bench_loader import BATCH, DRAINED, loader_rate, read_batches, write_records


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_loader, "RECORDS", 3)
        write_records(folder, 64)
    return folder


@pytest.mark.slow
def test_every_way_is_timed(records, monkeypatch):
    monkeypatch.setattr(bench_loader, "THREADS", (1, 2))
    items = list(bench_loader.bench_size(records, 48, 16, 2))
    ways = itertools.product(("plain", "augmented"), (1, 2))
    assert [item["name"] for item in items] == [f"loader_48_{way}_threads{threads}" for way, threads in ways]
    for item in items:
        assert 0 < item["ours"] < 1 and item["examples_per_s"] == pytest.approx(1 / item["ours"])
        assert item["peer"] == items[0]["ours"] and item["runs"] == 2
    assert items[0]["ratio"] == 1
    assert BENCHMARKS["loader"][:2] == (bench_loader.__name__, "bench_loader")


@pytest.mark.slow
def test_batches_are_those_of_the_recipe_at_another_size(records):
    plain, changed = (
        next(read_batches(records, 64, 1, options)) for options in (bench_loader.PLAIN, bench_loader.EVERY_CHANGE)
    )
    for batch in (plain, changed):
        assert (
            batch["image"].shape == batch["skeleton"].shape == (BATCH, 64, 64, 3)
            and batch["input_ids"].shape[0] == BATCH
        )
    np.testing.assert_allclose(plain["box_side"], 64 / 1.6, atol=1e-4)
    assert np.ptp(changed["box_side"]) > 1


def test_what_was_made_ahead_is_not_timed(monkeypatch):
    clock = {"wall": 0.0, "cpu": 0.0}
    monkeypatch.setattr(bench_loader.time, "perf_counter", lambda: clock["wall"])
    monkeypatch.setattr(bench_loader.time, "process_time", lambda: clock["cpu"])
    made = []

    def batches():
        while True:
            if len(made) >= DRAINED:
                clock["wall"] += 0.5
                clock["cpu"] += 0.25
            made.append(1)
            yield None

    assert loader_rate(batches(), 5 * BATCH) == pytest.approx((0.5 / BATCH, 0.25 / BATCH))
    assert len(made) == DRAINED + 5


def test_rates_are_said():
    item = {"name": "x", "ours": 0.02, "peer": 0.04, "peer_name": "one", "ratio": 0.5, "unit": "s", "runs": 1}
    line = describe(item | {"examples_per_s": 50.0, "examples_per_cpu_s": 25.0})
    assert line == "x: 0.02 s, one 0.04 s, ratio 0.5; 50 examples/s, 25 a CPU second"
