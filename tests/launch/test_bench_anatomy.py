"""Figures of judged hands whose truth and verdicts are made up."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from handjax.anatomy.head import KINDS
from launch import bench_anatomy
from launch.bench import describe


def _hand(edit, verdict, said="normal", sure=0.8, true_fingers=None, fingers=None):
    rest = (1 - sure) / (len(KINDS) - 1)
    count = SimpleNamespace(probabilities={kind: sure if kind == said else rest for kind in KINDS}, complaints=())
    anatomy = SimpleNamespace(verdict=verdict, paper_verdict="plausible", fingers=fingers)
    return bench_anatomy.Judged(edit, true_fingers, SimpleNamespace(anatomy=anatomy, count=count))


HANDS = [
    _hand("none", "plausible", true_fingers=5, fingers=5),
    _hand("none", "implausible", "fused", true_fingers=5),
    _hand("zigzag", "implausible", "angle"),
    _hand("zigzag", "unknown", "count"),
    _hand("extra_finger", "implausible", "count", true_fingers=6, fingers=7),
]


def test_unknown_is_never_right():
    item = bench_anatomy.verdict_item("x", HANDS, "strict")
    assert (item["ours"], item["coverage"], item["hands"]) == (0.6, 0.8, 5)
    # by chance: 2/5 plausible of which 1/5 is said, 3/5 implausible of which 3/5
    assert item["kappa"] == pytest.approx((0.6 - 0.44) / (1 - 0.44))
    assert {edit: (row["part"], row["of"]) for edit, row in item["edits"].items()} == {
        "none": (1, 2),
        "extra_finger": (1, 1),
        "zigzag": (1, 2),
    }
    assert bench_anatomy.verdict_item("x", HANDS, "paper")["ours"] == 0.4
    assert "right, kappa 0.286" in describe(item)


def test_classes_and_counts():
    item = bench_anatomy.class_item("x", HANDS)
    assert item["ours"] == 0.6 and item["recall"] == {
        "normal": 0.5,
        "count": 1,
        "angle": 0.5,
        "proportion": 0,
        "fused": 0,
    }
    assert item["confusion"]["angle"]["count"] == 1
    item = bench_anatomy.count_item("x", HANDS)
    assert (item["part"], item["of"], item["unknown"]) == (1, 3, 1)


def test_calibration_is_that_of_the_likeliest_class():
    item = bench_anatomy.calibration_item("x", HANDS)
    assert item["ours"] == pytest.approx(0.2)  # always 0.8 sure, three of five right
    assert [point["hands"] for point in item["curve"]] == [1, 4]


def test_rank_of_malformed_pictures():
    normal = {Path(str(n)): [_hand("none", "plausible", sure=sure).score] for n, sure in enumerate((0.9, 0.8, 0.3))}
    malformed = {Path("a"): [_hand("none", "", sure=s).score for s in (0.9, 0.5)], Path("b"): []}
    item = bench_anatomy.auc_item(normal, malformed)
    assert item["ours"] == pytest.approx(2 / 3) and item["malformed"] == {"a": pytest.approx(0.5), "b": None}
