"""Figures of witnesses whose words and truth are made up."""

from types import SimpleNamespace

import numpy as np
import pytest

from handjax.errors import ConfigError
from handjax.inference.score import FingerCount
from handjax.perception import DetectedHand
from launch import bench_witnesses
from launch.bench_witnesses import Seen


def _seen(edit, fingers, head, outline, verdict="plausible", world=None, source="IMG_1001.JPG"):
    hand = None if world is None else DetectedHand.from_landmarks("right", 0.99, 1000 * world, world)
    score = SimpleNamespace(
        hand=hand,
        anatomy=SimpleNamespace(fingers=head, verdict=verdict),
        outline=SimpleNamespace(fingers=outline),
        count=FingerCount(head, {}),
    )
    return Seen(b"", edit, fingers, score, source)


BENT = np.zeros((21, 3), np.float32)
BENT[11:13, 0] = 0.04, 0.08  # the middle finger, sideways from its second joint on

HANDS = [
    _seen("none", 5, 5, 5),
    _seen("none", 5, None, 4),
    _seen("missing_finger", 4, 5, 4),
    _seen("extra_finger", 6, None, 6, "unknown"),
    _seen("fused_fingers", None, None, 4, "implausible"),
    _seen("none", 5, 5, None),
]


def test_the_outline_is_judged_where_it_counts():
    item = bench_witnesses.fingers_item("x", HANDS)
    assert (item["part"], item["of"], item["countable"]) == (3, 4, 5)
    assert item["wrong"] == {"5 as 4": 1} and item["said_of_hands_that_cannot_be_counted"] == {"4": 1}
    assert (item["head_right_on_the_same"], item["head_unknown_on_the_same"]) == (1, 2)


@pytest.mark.parametrize(
    ("rule", "right", "false", "counts"),
    [
        ("head", 4, 0, 2),
        ("head, or else the outline", 4, 1, 3),
        ("head where the outline does not differ", 4, 0, 2),
        ("outline, or else the head", 5, 1, 4),
    ],
)
def test_each_rule_gives_its_own_verdicts(monkeypatch, rule, right, false, counts):
    def score_hand(image, hand, counter):
        fingers = counter(image, hand).fingers
        return SimpleNamespace(anatomy=SimpleNamespace(verdict="plausible" if fingers in (None, 5) else "implausible"))

    monkeypatch.setattr(bench_witnesses, "score_hand", score_hand)
    monkeypatch.setattr(bench_witnesses, "decode_image", lambda *_: None)
    item = bench_witnesses.rule_item("x", HANDS, rule)
    assert (item["part"], item["of"], item["normal"]) == (right, 6, 3)
    assert (item["false_alarms"], item["counts_right"]) == (false, counts)


def _world(rng, scale=1.0):
    """Keypoints of a right hand: straight fingers a little before the palm, lengths of bones off by chance."""
    world = np.zeros((21, 3))
    for finger, x in enumerate((-0.06, -0.03, 0.0, 0.025, 0.05)):
        lengths = scale * rng.normal(1, 0.05, 4).clip(0.8) * (0.06 if finger == 0 else 0.09, 0.04, 0.03, 0.02)
        reach = np.cumsum(lengths)[:, None]
        world[1 + 4 * finger : 5 + 4 * finger] = reach * (x / 0.09, -1, -0.4 if finger == 0 else -0.2)
    return world.astype(np.float32)


def test_sides_and_pairs():
    rng = np.random.default_rng(0)
    worlds = [_world(rng) for _ in range(8)]
    seen = bench_witnesses.side_of_keypoints(worlds[0])
    assert seen is not None
    hands = [_seen("none", 5, 5, 5, world=world) for world in worlds]
    contradicted, would = bench_witnesses.side_items(hands)
    assert contradicted["part"] + would["part"] == would["of"] == 8
    assert would["part"] == (8 if seen == "right" else 0)
    item = bench_witnesses.pair_item(hands)
    assert (item["part"], item["of"]) == (0, 7) and 0 < item["median_and_98_percent"][0] < 0.15


def test_limits_that_photographs_set():
    rng = np.random.default_rng(1)
    normal = [_seen("none", 5, 5, 5, world=_world(rng)) for _ in range(40)]
    long = []
    for _ in range(20):
        world = _world(rng)
        world[12] += 2 * (world[12] - world[11])  # the last bone of the middle finger thrice as long
        long.append(_seen("long_finger", 5, 5, 5, world=world))
    bent = [_seen("sideways", 5, 5, 5, world=_world(rng) + BENT) for _ in range(20)]
    hinges, angles, lengths = bench_witnesses.limit_items(normal, [*normal, *long, *bent])
    assert hinges["hands"] == 40 and hinges["ours"] < 10
    assert (lengths["part"], lengths["of"], lengths["auc"]) == (20, 20, 1.0)
    assert (angles["part"], angles["of"], angles["auc"]) == (20, 20, 1.0) and angles["other_normal_hands"] < 0.1
    with pytest.raises(ConfigError, match="--photos"):
        next(bench_witnesses.bench_witnesses(1))
