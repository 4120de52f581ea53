"""Hands scored with statuses, sets counted and compared, results in order and written down."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import handjax
from handjax.anatomy.features import ANGLE_NAMES, measure
from handjax.errors import ConfigError, InputError
from handjax.hand.angles import pose_from_angles
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.topology import MANO_JOINT_NAMES
from handjax.images import write_image
from handjax.inference import score_run
from handjax.inference.hand_features import pair_item
from handjax.inference.journal import Journal
from handjax.inference.score import (
    LOOKS_NORMAL,
    LOW_CONFIDENCE,
    OFF_THE_HAND,
    TINY,
    TOUCHES_BORDER,
    FingerCount,
    score_hand,
)
from handjax.inference.score_pictures import PictureScorer, ScoreOptions, score_item
from handjax.inference.score_run import run
from handjax.inference.score_sources import find_sources
from handjax.inference.score_summary import Tally, compare
from handjax.metrics.intervals import wilson_interval
from handjax.perception import DetectedHand
from launch.score_text import describe
from tests.anatomy.spread_hand import as_detected, draw_spread_hand, fill_gap, remove_finger
from tests.inference.drawn_hand import hand_of_shapes

PICTURE = np.zeros((200, 300, 3), np.uint8)


@pytest.fixture(scope="module")
def make_hand():
    """The open hand, its longer side in pixels and its middle given, its index bent by degrees."""
    model = load_open_hand()

    def make(size=100.0, middle=(150, 100), bend=0.0, score=0.99):
        angles, betas = np.zeros((16, 3), np.float32), np.zeros(model.shapedirs.shape[-1])
        angles[MANO_JOINT_NAMES.index("index_pip"), 0] = np.radians(bend)
        world = as_detected(np.array(pose_hand(model, pose_from_angles(model, angles), betas, np.zeros(3)).keypoints))
        flat = world[:, :2]
        scale = size / np.ptp(flat, axis=0).max()
        places = (flat - (flat.min(axis=0) + flat.max(axis=0)) / 2) * scale + middle
        keypoints = np.concatenate([places, world[:, 2:] * scale], axis=1)
        return DetectedHand.from_landmarks("right", score, keypoints.astype(np.float32), world)

    return make


def test_a_good_hand_is_plausible_without_notes(make_hand):
    score = score_hand(PICTURE, make_hand())
    assert (score.anatomy.verdict, score.notes, score.count) == ("plausible", (), None)
    bent = score_hand(PICTURE, make_hand(bend=-80)).anatomy
    assert bent.verdict == "implausible" and bent.violations[0].startswith("index pip bent −")


def test_keypoints_are_granted_a_tolerance_and_at_zero_limits_are_as_printed(make_hand):
    straight = float(np.degrees(measure(make_hand().world, True).flexion[ANGLE_NAMES.index("index pip")]))
    told = {}
    for bend, tolerance in ((-24, None), (-26, None), (-24, 0.0), (-1, 0.0), (1, 0.0)):
        options = {} if tolerance is None else {"tolerance": np.radians(tolerance)}
        anatomy = score_hand(PICTURE, make_hand(bend=bend - straight), **options).anatomy
        told[bend, tolerance] = any(text.startswith("index pip") for text in anatomy.violations)
        assert not told[bend, tolerance] or anatomy.verdict == "implausible" and anatomy.s_anat < 0.7
    assert told == {(-24, None): False, (-26, None): True, (-24, 0): True, (-1, 0): True, (1, 0): False}
    with pytest.raises(ConfigError, match="--tolerance -1"):
        ScoreOptions(tolerance=-1)


@pytest.mark.parametrize(
    ("changes", "notes"),
    [
        ({"middle": (150, 51.9)}, (TOUCHES_BORDER,)),  # 1 % of 200 pixels is the margin
        ({"middle": (150, 52.1)}, ()),
        ({"middle": (270, 100)}, (TOUCHES_BORDER,)),
        ({"size": 23}, (TINY,)),
        ({"size": 25}, ()),
        ({"score": 0.89}, (LOW_CONFIDENCE,)),
        ({"score": 0.6, "size": 20, "middle": (5, 5)}, (TOUCHES_BORDER, TINY, LOW_CONFIDENCE)),
    ],
)
def test_what_makes_a_verdict_less_sure_is_noted(make_hand, changes, notes):
    assert score_hand(PICTURE, make_hand(**changes)).notes == notes


def test_keypoints_that_contradict_each_other_are_unknown():
    rng = np.random.default_rng(0)
    hand = DetectedHand.from_landmarks("right", 0.9, rng.normal(size=(21, 3)) * 50, rng.normal(size=(21, 3)))
    item = score_item(score_hand(PICTURE, hand))
    assert (item["verdict"], item["paper_verdict"], item["s_anat"]) == ("unknown", "unknown", None)


def test_the_outline_has_its_say():
    image, keypoints, world, _ = draw_spread_hand()
    hand = DetectedHand.from_landmarks("right", 0.99, keypoints, world)
    good = score_hand(image, hand)
    assert (good.anatomy.verdict, good.anatomy.violations, good.notes) == ("plausible", (), ())
    item = score_item(good)
    assert (item["webbing"], item["fingers_outline"], item["fingers"]) == ([False] * 4, 5, None)
    webbed = score_hand(fill_gap(image, keypoints, 2), hand)
    assert (webbed.anatomy.verdict, webbed.anatomy.violations) == ("implausible", ("middle and ring joined",))
    short = score_hand(remove_finger(image, keypoints, 4), hand)
    assert (short.anatomy.verdict, short.anatomy.s_anat, short.notes) == ("unknown", None, (OFF_THE_HAND,))


def test_what_is_measured_is_in_the_item(make_hand):
    item = score_item(score_hand(PICTURE, make_hand(bend=40)))
    straight = score_item(score_hand(PICTURE, make_hand()))
    features, before = item["features"], straight["features"]
    assert features["flexion"]["index pip"] - before["flexion"]["index pip"] == pytest.approx(40, abs=2.5)
    assert [len(features[name]) for name in ("flexion", "abduction", "digit_ratios", "bone_ratios")] == [15, 15, 5, 20]
    assert features["bone_ratios"]["middle bone 1"] == 1.0
    index = [features["bone_ratios"][f"index bone {number}"] for number in (2, 3, 4)]
    assert features["digit_ratios"]["index"] == pytest.approx(sum(index), abs=2e-3)
    assert item["fingers_outline"] is None and item["side_of_keypoints"] == "right"
    nonsense = DetectedHand.from_landmarks("right", 0.99, make_hand().keypoints, np.zeros((21, 3), np.float32))
    item = score_item(score_hand(PICTURE, nonsense))
    assert item["features"] is None and item["side_of_keypoints"] is None
    json.dumps(item, allow_nan=False)


def test_a_side_that_keypoints_contradict_is_said(make_hand):
    hand = make_hand(bend=40)
    mirrored = dataclasses.replace(hand, world=hand.world * np.array([-1, 1, 1], np.float32))
    words = "looks like a left hand by its thumb, a right hand by the detector"
    assert words in score_hand(PICTURE, mirrored).notes and not score_hand(PICTURE, hand).notes


def test_both_hands_of_a_picture_are_compared(make_hand):
    right = make_hand()
    left = dataclasses.replace(right, side="left", world=1.2 * right.world * np.array([-1, 1, 1], np.float32))
    assert pair_item([left, right]) == {"difference": 0.0, "unlike": None}
    assert pair_item([right, right]) is None and pair_item([left]) is None and pair_item([left, right, left]) is None
    world = left.world.copy()
    for finger in range(5):
        world[2 + 4 * finger : 5 + 4 * finger] += 4 * (world[2 + 4 * finger] - world[1 + 4 * finger])
    assert pair_item([dataclasses.replace(left, world=world), right])["unlike"].startswith("left ")


def test_a_finger_counter_is_asked_and_believed(make_hand):
    asked = []

    def six(image, hand):
        asked.append((image.shape, hand.side))
        return FingerCount(6, {"five": 0.2, "six": 0.8})

    item = score_item(score_hand(PICTURE, make_hand(), six))
    assert asked == [((200, 300, 3), "right")]
    assert (item["fingers"], item["verdict"], item["violations"]) == (6, "implausible", ["6 fingers"])
    assert item["finger_classes"] == {"five": 0.2, "six": 0.8}
    plain = score_item(score_hand(PICTURE, make_hand()))
    unsure = score_item(score_hand(PICTURE, make_hand(), lambda *_: FingerCount(None, {})))
    assert "finger_classes" not in plain and unsure["s_anat"] == plain["s_anat"] and plain["fingers"] is None
    # 0.3·0 + 0.7·(the score without the count)
    assert item["s_anat"] == pytest.approx(0.7 * plain["s_anat"], abs=1e-4)


def test_what_surely_looks_normal_overrules_keypoints_and_is_overruled_by_complaints(make_hand):
    def said(hand, *complaints, normal=True, image=PICTURE):
        score = score_hand(image, hand, lambda *_: FingerCount(None, {}, complaints, normal))
        return score.anatomy.verdict, score.anatomy.violations, score.notes

    rng = np.random.default_rng(0)
    contradictory = DetectedHand.from_landmarks("right", 0.99, rng.normal(size=(21, 3)) * 50, rng.normal(size=(21, 3)))
    verdict, violations, notes = said(make_hand(bend=-80))
    assert verdict == "plausible" and LOOKS_NORMAL in notes  # and what was overruled can be read
    assert violations == score_hand(PICTURE, make_hand(bend=-80)).anatomy.violations != ()
    doubted = said(contradictory)
    assert doubted[:2] == ("plausible", ()) and LOOKS_NORMAL in doubted[2]
    assert said(contradictory, normal=False)[0] == "unknown"
    assert said(contradictory, "looks odd")[:2] == ("implausible", ("looks odd",))
    assert LOOKS_NORMAL not in said(make_hand())[2]
    six = score_hand(PICTURE, make_hand(), lambda *_: FingerCount(6, {}, (), normal=True))
    assert six.anatomy.verdict == "implausible"
    image, keypoints, world, _ = draw_spread_hand()
    spread = DetectedHand.from_landmarks("right", 0.99, keypoints, world)
    assert said(spread, image=fill_gap(image, keypoints, 2))[1] == ("middle and ring joined",)


def items(verdicts, scores=None, status="scored", **more):
    """One picture with hands of these verdicts."""
    scores = scores or [None if verdict == "unknown" else 0.8 for verdict in verdicts]
    hands = [
        {
            "verdict": verdict,
            "paper_verdict": "unknown" if score is None else "implausible" if score < 0.5 else "plausible",
            "s_anat": score,
            "violations": ["index pip bent −50°, limit 0…110°", "index pip bent"] if verdict == "implausible" else [],
            "fingers": None if score is None or score < 0.75 else 5,
            "notes": [],
        }
        for verdict, score in zip(verdicts, scores, strict=True)
    ]
    return [{"status": status, "hands": hands, "notes": [], "found_by": "at once" if hands else None} | more]


def test_a_set_is_counted():
    tally = Tally("a", "some pictures")
    for _ in range(3):
        tally.add(items(["implausible", "plausible"], [0.3, 0.9]))
    for _ in range(17):
        tally.add(items(["plausible", "plausible"], [0.9, 0.7]))
    tally.add(items(["unknown"], notes=["more than two hands"], found_by="tiles"))
    tally.add(items([], status="no hand found"))
    tally.add(items([], status="error"))
    summary = tally.summary()
    assert summary["pictures"] == {"scored": 21, "no hand found": 1, "drawing": 0, "not a picture": 0, "error": 1}
    assert (summary["hands"], summary["unknown"]) == (41, 1)
    strict = summary["implausible"]["strict"]
    assert (strict["count"], strict["of"], strict["share"]) == (3, 40, 0.075)
    assert (strict["low"], strict["high"]) == wilson_interval(3, 40)
    # of the 21 pictures with hands one has none that was judged, and three an implausible one, each with a good one
    pictures = summary["implausible_pictures"]["strict"]
    assert (pictures["count"], pictures["of"], pictures["share"]) == (3, 20, 0.15)
    assert (pictures["low"], pictures["high"]) == wilson_interval(3, 20)
    assert summary["fingers_unknown"] == 3 + 17
    assert summary["violations"] == {"index pip": 3} and summary["notes"] == {"more than two hands": 1}
    assert summary["found_by"] == {"at once": 20, "tiles": 1}
    mean = summary["s_anat"]
    assert mean["mean"] == pytest.approx((3 * 1.2 + 17 * 1.6) / 40)
    # pictures' means are 0.6 thrice and 0.8 seventeen times: the spread of a binomial
    assert mean["high"] - mean["low"] == pytest.approx(2 * 1.96 * 0.2 * np.sqrt(0.15 * 0.85 / 20), rel=0.15)
    json.dumps(summary, allow_nan=False)


def test_hands_whose_looks_alone_are_judged_count_in_the_strict_rate():
    tally = Tally("a", "some pictures")
    tally.add([items(["implausible"])[0] | {"hands": [items(["implausible"])[0]["hands"][0] | LOOKS_ALONE]}])
    assert tally.rate("strict")["count"] == tally.rate("strict")["of"] == 1 and tally.rate("paper")["of"] == 0
    for _ in range(3):
        tally.add(items(["plausible", "unknown"]))
    strict, paper = tally.rate("strict"), tally.rate("paper")
    assert (strict["count"], strict["of"], paper["count"], paper["of"]) == (1, 4, 0, 3)
    assert tally.bootstrap("strict", 0).mean() == pytest.approx(0.25, abs=0.02)


def test_what_was_overruled_is_no_violation_of_a_set_and_several_bad_hands_are_one_picture():
    tally = Tally("a", "some pictures")
    (item,) = items(["plausible", "plausible"])
    item["hands"][0]["violations"] = ["index pip bent −50°, limit 0…110°"]
    tally.add([item])
    tally.add(items(["implausible", "implausible", "unknown"], [0.4, 0.8, None]))
    assert tally.summary()["violations"] == {"index pip": 2}
    rates = {mode: (rate["count"], rate["of"]) for mode, rate in tally.summary()["implausible_pictures"].items()}
    assert rates == {"strict": (1, 2), "paper": (1, 2)}
    assert Tally("b", "").picture_rate("strict")["share"] is None


LOOKS_ALONE = {"s_anat": None, "paper_verdict": "unknown", "violations": ["looks malformed: fused fingers (0.93)"]}


def test_two_sets_are_compared():
    a, b = Tally("a", "first"), Tally("b", "second")
    for i in range(200):
        a.add(items(["implausible" if i < 80 else "plausible"], [0.4 if i < 60 else 0.8]))
        b.add(items(["implausible" if i < 20 else "plausible"]))
    found = compare(a, b)
    strict = found["strict"]
    assert strict["odds_ratio"] == pytest.approx((80 / 120) / (20 / 180), rel=0.02) and strict["p_value"] < 1e-9
    assert strict["difference"] == pytest.approx(0.3)
    half = 1.96 * np.sqrt(0.4 * 0.6 / 200 + 0.1 * 0.9 / 200)
    assert (strict["low"], strict["high"]) == (pytest.approx(0.3 - half, abs=0.01), pytest.approx(0.3 + half, abs=0.01))
    assert found["paper"]["odds_ratio"] is None and found["paper"]["difference"] == pytest.approx(0.3)
    assert found["s_anat"]["difference"] == pytest.approx(-0.12)
    assert found["s_anat"]["low"] < -0.12 < found["s_anat"]["high"] < 0
    assert compare(a, Tally("c", "nothing")) is None and Tally("c", "").mean()["mean"] is None
    json.dumps(found, allow_nan=False)


def test_results_of_other_code_are_not_taken(tmp_path):
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "limits.py").write_text("LIMIT = 0.4")
    first = score_run.code_hash(tmp_path)
    (tmp_path / "notes.txt").write_text("no code")
    assert score_run.code_hash(tmp_path) == first and len(first) == 64
    (tmp_path / "rules" / "limits.py").write_text("LIMIT = 0.5")
    second = score_run.code_hash(tmp_path)
    (tmp_path / "rules" / "limits.py").rename(tmp_path / "rules" / "other.py")
    assert len({first, second, score_run.code_hash(tmp_path)}) == 3
    header = score_run.provenance(ScoreOptions())
    assert header["code_sha256"] == score_run.code_hash(Path(handjax.__file__).parent)
    assert header["tolerance"] == 25 and header != score_run.provenance(ScoreOptions(tolerance=0))


def test_a_count_that_is_missing_is_told():
    (item,) = items(["plausible", "plausible", "unknown"], [0.9, 0.7, None])
    text = describe(item | {"input": "a.png"})
    assert text == "a.png: plausible, 0.90; plausible, 0.70 without a finger count; unknown"


def test_sources_of_all_kinds(tmp_path):
    for name in ("b/2.png", "b/1.JPG", "a.gif", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()

    def names(*inputs, video=False):
        found = find_sources([str(tmp_path / name) for name in inputs], video)
        return [(str(s.path.relative_to(tmp_path)), s.known and s.known["status"]) for s in found]

    inside = [("b/1.JPG", None), ("b/2.png", None), ("b/notes.txt", "not a picture")]
    assert names("b") == inside and names("b", "b/1.JPG") == inside
    assert names("*.gif", "**/2.*") == [("a.gif", None), ("b/2.png", None)]
    assert names("*.tif") == [("*.tif", None)] and names("b/notes.txt") == [("b/notes.txt", None)]
    assert names("empty") == [("empty", "error")]
    assert names("b", "a.gif", video=True) == [("b", None), ("a.gif", None)]
    (clip,) = find_sources([str(tmp_path / "b")], True)
    before = clip.digest()
    (tmp_path / "b/2.png").write_bytes(b"y")
    assert clip.digest() != before and len(before) == 64


def test_the_journal_forgets_what_was_half_written(tmp_path):
    path = tmp_path / "journal"
    with Journal(path, {"options": 1}) as journal:
        journal.add("a", "hash a", [1])
        journal.add("b", "hash b", [2])
        journal.add("a", "new hash", ["ä"])
    path.write_bytes(path.read_bytes() + b'{"name": "c", "digest": "hash c", "res')
    with Journal(path, {"options": 1}) as journal:
        assert (journal.read("a"), journal.digest("a"), journal.read("b"), journal.has("c")) == (
            ["ä"],
            "new hash",
            [2],
            False,
        )
        journal.add("c", "hash c", [3])
    with Journal(path, {"options": 1}) as journal:
        assert journal.read("c") == [3] and journal.read("b") == [2]
    with Journal(path, {"options": 2}) as journal:
        assert not journal.has("a")
    path.write_bytes(b"")
    with Journal(path, {}) as journal:
        assert not journal.has("a")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "file" / "journal", {})


DETECTOR = """
import numpy as np
from handjax.perception import DetectedHand

def detect(image):
    with open({calls!r}, "a") as file:
        file.write("x")
    points = np.load({points!r}).astype(np.float32)
    return [DetectedHand.from_landmarks("right", 0.99, *points)] * (int(image[0, 0, 0]) % 3)
"""


@pytest.fixture
def detector(tmp_path, make_hand, monkeypatch):
    """A user's detector that finds as many hands as a picture's first value says, and how often it was called."""
    hand, calls = make_hand(middle=(50, 50), size=60), tmp_path / "calls"
    np.save(tmp_path / "points.npy", [hand.keypoints, hand.world])
    source = DETECTOR.format(calls=str(calls), points=str(tmp_path / "points.npy"))
    (tmp_path / "their_detector.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda: len(calls.read_text()) if calls.exists() else 0


@pytest.mark.slow
def test_results_come_in_order_from_any_number_of_workers_and_are_not_made_twice(tmp_path, detector, monkeypatch):
    monkeypatch.setattr(score_run, "FEW", 0)
    for i in range(12):
        write_image(tmp_path / "in" / f"{i:02}.png", np.full((100, 100, 3), i, np.uint8))
    (tmp_path / "in" / "05x.png").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.txt").write_text("")
    sources = find_sources([str(tmp_path / "in")], False)
    options = ScoreOptions(detections="their_detector:detect", thumbnails=True)

    def results(name, workers):
        with Journal(tmp_path / name, {}) as journal:
            return list(run(sources, options, workers, journal))

    alone = results("one", 1)
    assert detector() == 12
    assert [len(item["hands"]) for (item,) in alone] == [0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 0, 1, 2, 0]
    statuses = [item["status"] for (item,) in alone]
    assert (statuses[0], statuses[1], statuses[6], statuses[13]) == (
        "no hand found",
        "scored",
        "error",
        "not a picture",
    )
    assert [item["found_by"] for (item,) in alone[:2]] == [None, "at once"]
    assert all(len(item["thumbnails"]) == max(1, len(item["hands"])) for (item,) in alone if "thumbnails" in item)
    assert results("two", 2) == alone and detector() == 24
    write_image(tmp_path / "in" / "03.png", np.full((100, 100, 3), 4, np.uint8))
    again = results("one", 1)
    assert detector() == 25 and len(again[3][0]["hands"]) == 1  # only the changed picture
    assert again[:3] + again[4:] == alone[:3] + alone[4:]


def test_drawings_are_told_and_their_hands_judged_all_the_same(tmp_path, detector):
    """The user's detector finds two hands where the first value leaves a rest of 2: in the drawing 242, and 2."""
    write_image(tmp_path / "drawn.png", hand_of_shapes((255, 224, 189), (242, 242, 242)))
    write_image(tmp_path / "grey.png", np.full((300, 300, 3), 242, np.uint8))
    write_image(tmp_path / "empty.png", hand_of_shapes((255, 224, 189), (240, 240, 240)))
    scorer = PictureScorer(ScoreOptions(detections="their_detector:detect"), lambda image, hand: FingerCount(5, {}))
    items = [scorer.score(tmp_path / f"{name}.png")[0] for name in ("drawn", "grey", "empty")]
    assert [item["status"] for item in items] == ["drawing", "scored", "no hand found"]
    drawn, grey, _ = items
    assert [hand["verdict"] for hand in drawn["hands"]] == [hand["verdict"] for hand in grey["hands"]]
    assert all(hand["s_anat"] is not None and hand["fingers"] == 5 for hand in drawn["hands"])
    assert describe(drawn).endswith("a drawing, while limits and looks were learnt from photographs")
    tally = Tally("a", "drawn")
    tally.add([drawn])
    assert tally.statuses["drawing"] == 1 and tally.rate("strict")["of"] > 0


def test_options_that_contradict_each_other():
    with pytest.raises(ConfigError, match="--video"):
        ScoreOptions(video=True, detections="hands.json")
