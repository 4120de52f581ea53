"""Figures of judged hands whose truth and verdicts are made up."""

from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from handjax.anatomy.features import ANGLE_NAMES, measure
from handjax.anatomy.head import KINDS
from handjax.anatomy.limits import DIGIT_RATIOS
from handjax.errors import ConfigError
from handjax.inference.score import LOOKS_NORMAL
from handjax.perception import DetectedHand
from launch import bench_anatomy, bench_anatomy_speed
from launch.bench import describe
from launch.bench_anatomy_limits import bench_limits, length_item
from launch.stages import StageError


def _hand(edit, verdict, said="normal", sure=0.8, true_fingers=None, fingers=None):
    rest = (1 - sure) / (len(KINDS) - 1)
    count = SimpleNamespace(probabilities={kind: sure if kind == said else rest for kind in KINDS}, complaints=())
    anatomy = SimpleNamespace(verdict=verdict, paper_verdict="plausible", fingers=fingers)
    return bench_anatomy.Judged(edit, true_fingers, SimpleNamespace(anatomy=anatomy, count=count, notes=()))


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
    malformed = {verdict: (row["part"], row["of"]) for verdict, row in item["malformed"].items()}
    assert malformed == {"plausible": (0, 1), "implausible": (2, 3), "unknown": (1, 1)}
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
    hands = [_hand("none", verdict).score for verdict in ("plausible", "unknown", "implausible")]
    item = bench_anatomy.auc_item(normal, {Path(str(n)): hands[:n] for n in range(4)})
    assert "AUC" in describe(item)
    assert item["verdicts"] == {"0": None, "1": "plausible", "2": "unknown", "3": "implausible"}


def test_false_alarms_without_the_heads_overruling():
    def overruled(violations, verdict="plausible"):
        anatomy = SimpleNamespace(verdict=verdict, paper_verdict="plausible", violations=violations)
        return SimpleNamespace(anatomy=anatomy, notes=(LOOKS_NORMAL,))

    of = bench_anatomy.verdict_of
    assert of(overruled(("index pip bent",)), bench_anatomy.NOT_OVERRULED) == "implausible"
    assert of(overruled(()), bench_anatomy.NOT_OVERRULED) == "unknown"
    assert of(_hand("none", "implausible").score, bench_anatomy.NOT_OVERRULED) == "implausible"
    assert of(overruled(("index pip bent",)), "strict") == "plausible"


HAND = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)


def _seen(world, support=1.0, sure=0.99):
    """A hand whose keypoints in the picture are those in space, and the least support of its fingers."""
    outline = SimpleNamespace(support=np.array([1, support, 1, 1, 1]))
    return SimpleNamespace(hand=DetectedHand.from_landmarks("right", sure, 100 * world, world), outline=outline)


def _stretched(finger, by):
    """The hand with the bones of a finger outside the palm longer by a factor."""
    world = HAND.copy()
    knuckle = 4 * finger + 1
    world[knuckle : knuckle + 4] = HAND[knuckle] + by * (HAND[knuckle : knuckle + 4] - HAND[knuckle])
    return world


def test_what_limits_rest_on_is_measured_of_hands():
    twisted = _seen(HAND)
    turned = HAND[:, [1, 0, 2]] * 100
    twisted.hand = DetectedHand.from_landmarks("right", 0.99, turned, HAND)
    hands = [*[_seen(HAND)] * 6, _seen(HAND, support=0.5), twisted, _seen(_stretched(1, 3), sure=0.5)]
    items = {item["name"].partition(", ")[2]: item for item in bench_limits(hands)}
    assert all(name in describe(item) for name, item in items.items())
    assert items["misfit above 0.1"]["ours"] == pytest.approx(1 / 9)
    assert items["a finger's support below 0.6"]["ours"] == pytest.approx(1 / 9)
    features = jax.device_get(measure(HAND, True))
    median = items["median flexion of thumb cmc"]
    np.testing.assert_allclose(list(median["medians"].values()), np.degrees(features.flexion), atol=0.06)
    assert list(median["medians"]) == list(ANGLE_NAMES) and median["hands"] == 8  # one's side is not sure
    lengths = items["median lengths of fingers less those of the table, at most"]
    assert lengths["ours"] == pytest.approx(np.abs(features.digit_ratios - DIGIT_RATIOS).max(), rel=1e-5)


def test_lengths_tell_a_finger_that_is_too_long():
    lengths = [1.0, 0.999, 0.998]
    normal = [_seen(_stretched(finger, by)) for finger in range(5) for by in lengths]
    long = [_seen(_stretched(finger, 1e3)) for finger in range(5)]
    item = length_item("x", normal, [*long, normal[0]])
    assert item["ours"] > 5 / 6 and item["found_at_1_percent_false_alarms"] == pytest.approx(5 / 6)
    assert (item["hands"], item["normal_hands"]) == (6, 15) and "AUC" in describe(item)
    # mean |ln| of 0.25·ln 2 is where the similarity is one half: a finger alone must be 2.38 times as long
    assert np.exp(item["one_finger_alone_fails_at_log"]) == pytest.approx(2.378, abs=1e-3)


def test_pictures_without_a_hand_have_the_same_patches():
    picture = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    cells = bench_anatomy_speed.SIDE // bench_anatomy_speed.PATCH
    patches = bench_anatomy_speed._patches(picture, cells)
    np.testing.assert_array_equal(patches[cells + 2], picture[32:64, 64:96])
    np.testing.assert_array_equal(bench_anatomy_speed._joined(patches, cells), picture)


def test_malformed_pictures_need_photographs_to_be_ranked_below(tmp_path):
    with pytest.raises(ConfigError, match="--photos"):
        next(bench_anatomy.bench_anatomy(1, malformed=tmp_path))


def test_a_test_set_that_cannot_be_made_is_one_line(tmp_path):
    with pytest.raises(StageError, match="launch.precompute ended with status 2; mend what it says"):
        bench_anatomy.test_set(tmp_path / "photos", f"malformed-photos:{tmp_path / 'absent'}", "photos")
