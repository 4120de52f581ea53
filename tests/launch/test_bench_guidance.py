"""Figures of the guide, from verdicts that are made up; the run itself is a slow test."""

from pathlib import Path

import pytest

from handjax.errors import ConfigError, InputError
from launch import bench_guidance
from launch.bench import describe
from launch.bench_guidance import verdict_items
from launch.judge import Verdicts, reduction_item, share

GOOD, BAD = "plausible", "implausible"
PAIRS = [(BAD, GOOD)] * 30 + [(GOOD, BAD)] * 10 + [(BAD, BAD)] * 20 + [(GOOD, GOOD)] * 40
PHOTOS = Path(bench_guidance.__file__).parents[1] / "handjax" / "assets" / "photos"
UNJUDGED = [(None, GOOD), (BAD, None), ("unknown", BAD), (BAD, "unknown")]


def test_the_reduction_is_over_pictures_judged_both_times():
    item = reduction_item("x", PAIRS + UNJUDGED, 0)
    assert (item["pairs"], item["mended"], item["spoilt"]) == (100, 30, 10)
    assert item["ours"] == pytest.approx(1 - 30 / 50)
    # P(at most 10 or at least 30 heads of 40)
    assert item["sign_test_p"] == pytest.approx(0.00222, abs=2e-5)
    # relative change of 50 to 30: delta method, with 40 changes of ±1 in 100
    low, high = item["interval_95"]
    assert low < 0.4 < high
    assert 0.15 < low < 0.25 and 0.5 < high < 0.62
    assert "x: 0.4 fewer" in describe(item)


def test_no_change_is_no_reduction():
    item = reduction_item("x", [(BAD, BAD), (GOOD, GOOD)], 0)
    assert (item["ours"], item["sign_test_p"], item["interval_95"]) == (0.0, 1.0, (0.0, 0.0))


def test_of_nothing_judged_nothing_is_known():
    for item in (reduction_item("x", [(GOOD, BAD), (None, BAD)], 0), {"name": "x", **share(0, 0)}):
        assert item["ours"] is None and item["interval_95"] is None
        assert describe(item).startswith("x: unknown")


def test_hands_that_are_missed_or_unknown_are_not_judged():
    without = [Verdicts(a, GOOD) for a, _ in UNJUDGED]
    guided = [Verdicts(b, GOOD) for _, b in UNJUDGED]
    items = {
        item["name"]: item for item in verdict_items([*without, Verdicts(BAD, BAD)], [*guided, Verdicts(GOOD, BAD)])
    }
    assert (items["guidance none, hands found"]["part"], items["guidance none, hands found"]["of"]) == (4, 5)
    rates = [items[f"guidance {name}, implausible (whole)"] for name in ("none", "anatomy")]
    assert [(rate["part"], rate["of"]) for rate in rates] == [(3, 3), (1, 3)]
    assert items["reduction of implausible hands (keypoints)"]["pairs"] == 5


def test_prompts_are_five_sets_of_twenty():
    sets = bench_guidance.read_prompt_sets()
    assert [len(prompts) for prompts in sets.values()] == [20] * 5
    assert len({prompt for prompts in sets.values() for prompt in prompts}) == 100


def test_sets_of_prompts_are_counted_apart_and_together(monkeypatch):
    """The guide mends the hands of gestures alone; of food no hand is found."""
    sets = bench_guidance.read_prompt_sets()
    asked = []

    def load(*words):
        asked.append(words[-1])
        return lambda wishes: ((wish, (words[-1], wish)) for wish in wishes)

    def judge(image):
        guidance, wish = image
        if wish.prompt in sets["food"]:
            return Verdicts(None, None)
        good = guidance == "anatomy" and wish.prompt in sets["gestures"]
        return Verdicts(GOOD if good else BAD, BAD if wish.seed % 2 else GOOD)

    monkeypatch.setattr(bench_guidance, "make_judge", lambda: judge)
    monkeypatch.setattr(bench_guidance, "load_asked", load)
    items = {item["name"]: item for item in bench_guidance.bench_guidance_prompts(1, 22)}
    assert asked == ["none", "anatomy"]
    found = items["guidance anatomy, food, hands found"]
    assert (found["part"], found["of"], items["guidance none, hands found"]["part"]) == (0, 22, 88)
    reductions = {name: items[f"reduction of implausible hands, {name} (whole)"] for name in sets}
    assert {name: item["ours"] for name, item in reductions.items()} == dict.fromkeys(sets, 0.0) | {
        "gestures": 1.0,
        "food": None,
    }
    whole = items["reduction of implausible hands (whole)"]
    assert (whole["ours"], whole["pairs"], whole["mended"], whole["spoilt"]) == (0.25, 88, 22, 0)
    assert items["reduction of implausible hands (keypoints)"]["ours"] == 0
    assert items["guidance none, tools, implausible (keypoints)"]["ours"] == 0.5


def test_photographs_are_asked_for_and_must_be_enough():
    with pytest.raises(ConfigError, match="--photos"):
        next(bench_guidance.bench_guidance(1))
    with pytest.raises(InputError, match="found in 3 photographs; 4 are needed"):
        bench_guidance.read_photos(PHOTOS, 4)


@pytest.mark.slow
def test_a_short_run_has_every_row():
    pytest.importorskip("efficientnet_lite_pytorch")
    rows = {item["name"]: item["ours"] for item in bench_guidance.bench_guidance(1, PHOTOS, 3)}
    assert {"guidance none, FD", "guidance anatomy, KID", "a batch with the guide"} < set(rows)
    assert rows["guidance none, hands found"] > 0.5
