"""Hands written as JSON and read again."""

import json

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.perception import DetectedHand
from handjax.perception.hand_json import hand_item, read_detections


@pytest.fixture
def hand():
    points = np.random.default_rng(0).uniform(1, 90, size=(2, 21, 3)).astype(np.float32)
    return DetectedHand.from_landmarks("left", 0.75, points[0], points[1] / 1000)


def written(path, hands, **more):
    path.write_text(json.dumps({"items": [{"input": "some/picture.png", "hands": hands, **more}]}))
    return path


def test_what_detect_prints_is_read_again(tmp_path, hand, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ((path, (back,)),) = read_detections(written(tmp_path / "hands.json", [hand_item(hand)])).items()
    assert path == str(tmp_path / "some/picture.png") and (back.side, back.score) == ("left", 0.75)
    np.testing.assert_allclose(back.keypoints, hand.keypoints, atol=0.0051)
    np.testing.assert_allclose(back.world, hand.world, atol=1e-5)
    np.testing.assert_allclose(back.box, hand.box, atol=0.0051)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"side": "both"}, "side 'both'"),
        ({"score": 1.5}, "score 1.5"),
        ({"keypoints": [[1, 2]] * 21}, "21 x 3"),
        ({"world": None}, r"world \(\)"),
        ({"keypoints": [[1, 2, float("nan")]] * 21}, "21 x 3"),
    ],
)
def test_bad_detections_are_told(tmp_path, hand, change, said):
    with pytest.raises(InputError, match=said):
        read_detections(written(tmp_path / "hands.json", [hand_item(hand) | change]))


def test_other_files_are_told(tmp_path, hand):
    with pytest.raises(InputError, match="cannot be read"):
        read_detections(tmp_path / "nothing.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match="no detections"):
        read_detections(tmp_path / "list.json")
    with pytest.raises(InputError, match="frames of a clip"):
        read_detections(written(tmp_path / "clip.json", [hand_item(hand)], frame=0))
