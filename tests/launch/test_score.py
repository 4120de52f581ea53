"""`launch.score` on the carried photographs."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import handjax
from handjax.images import write_image
from handjax.perception.hands import DetectedHand
from launch.score import score_hand, summarise

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"


@pytest.mark.slow
def test_real_hands_are_plausible_and_bad_files_are_told(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    write_image(tmp_path / "wall.png", np.full((64, 64, 3), 200, np.uint8))
    command = [sys.executable, "-m", "launch.score", str(PHOTOS), str(tmp_path), "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    document = json.loads(result.stdout)
    assert result.returncode == 2 and [Path(error["input"]).name for error in document["errors"]] == ["broken.png"]
    hands = {Path(item["input"]).name: item["hands"] for item in document["items"]}
    assert hands.pop("wall.png") == [] and len(hands) == 3
    for (hand,) in hands.values():
        assert (hand["verdict"], hand["fingers"], hand["violations"]) == ("plausible", None, [])
        assert 0.5 < hand["s_anat"] <= 1 and len(hand["keypoints"]) == 21


def test_contradicting_keypoints_are_unknown():
    rng = np.random.default_rng(0)
    hand = DetectedHand.from_landmarks("right", 0.9, rng.normal(size=(21, 3)) * 50, rng.normal(size=(21, 3)))
    assert score_hand(hand).verdict == "unknown"


def test_the_summary_counts_what_was_not_judged_apart():
    verdicts = Counter({"plausible": 37, "implausible": 3, "unknown": 2, "no hand found": 5})
    # Wilson 1927 for 3 of 40
    wanted = "3 of 40 hands implausible (7.5% [2.6%, 19.9%]); 2 hands unknown, 5 pictures without a hand"
    assert summarise(verdicts) == wanted
    assert summarise(Counter({"unknown": 1})) == "no hand was judged; 1 hands unknown, 0 pictures without a hand"
