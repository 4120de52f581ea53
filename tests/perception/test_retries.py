"""What is tried where no hand is found, and that it lands in the right place."""

import numpy as np
import pytest

import handjax.perception.retries as retries
from handjax.images import read_image, resize
from handjax.perception import DetectedHand, HandDetector
from handjax.perception.detector import TASK_FILE
from handjax.perception.retries import AT_ONCE, LOWER_THRESHOLD, TILES, TURNS, SearchingDetector, turn_back


@pytest.fixture(scope="module")
def photo():
    return resize(read_image(TASK_FILE.parent / "photos" / "fullcurl.jpg"), (320, 240))


class Scripted:
    """Finds its hand only in pictures that `sees` accepts."""

    def __init__(self, sees):
        self.sees, self.looked = sees, 0

    def detect(self, image):
        self.looked += 1
        points = np.random.default_rng(0).normal(size=(21, 3)).astype(np.float32)
        return [DetectedHand.from_landmarks("right", 0.9, points, points)] if self.sees(image) else []


def searching(monkeypatch, plain=lambda _: False, tiled=lambda _: False, lower=lambda _: False):
    detectors = {"plain": Scripted(plain), "tiled": Scripted(tiled), "lower": Scripted(lower)}

    def load(max_hands, min_score=0.5, tiled=False):
        return detectors["tiled" if tiled else "lower" if min_score < 0.5 else "plain"]

    monkeypatch.setattr(retries.HandDetector, "load", load)
    return SearchingDetector(2), detectors


@pytest.mark.parametrize("turns", TURNS)
def test_keypoints_are_turned_back_with_the_picture(turns):
    """A pixel's colour is found again at the keypoint that was on it in the turned picture."""
    rng = np.random.default_rng(turns)
    image = rng.integers(256, size=(30, 50, 3), dtype=np.uint8)
    turned = np.rot90(image, turns)
    places = rng.integers((0, 0), turned.shape[1::-1], size=(21, 2))
    keypoints = np.concatenate([places + 0.5, np.ones((21, 1))], axis=1).astype(np.float32)
    hand = DetectedHand.from_landmarks("left", 0.8, keypoints, keypoints)
    back = turn_back(hand, turns, image.shape[:2])
    x, y = np.floor(back.keypoints[:, :2]).astype(int).T
    np.testing.assert_array_equal(image[y, x], turned[places[:, 1], places[:, 0]])
    shift = (back.keypoints - back.world)[:, :2]  # in space the hand turns about its middle
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:1], shift.shape), atol=1e-5)
    assert (back.side, back.score, back.keypoints[:, 2].max()) == ("left", 0.8, 1)


def test_a_hand_found_turned_is_where_the_upright_one_is(photo):
    detector = HandDetector.load()
    (upright,) = detector.detect(photo)
    (hand,) = detector.detect(np.ascontiguousarray(np.rot90(photo, 1)))
    back = turn_back(hand, 1, photo.shape[:2])
    size = np.ptp(upright.keypoints[:, :2], axis=0).max()
    assert np.abs(back.keypoints - upright.keypoints)[:, :2].max() < 0.15 * size
    assert np.abs(back.world - upright.world).max() < 0.02


def test_what_is_found_at_once_is_looked_for_once(photo):
    detector = SearchingDetector(2)
    hands, by = detector.detect(photo)
    assert by == AT_ONCE and len(hands) == 1
    assert detector.detect(np.full((100, 100, 3), 128, np.uint8)) == ([], None)


def test_attempts_follow_one_another(monkeypatch):
    image = np.zeros((200, 300, 3), np.uint8)
    detector, tried = searching(monkeypatch, plain=lambda i: i.shape[0] > i.shape[1])
    assert detector.detect(image).by == "turned by 90°" and tried["plain"].looked == 2
    detector, tried = searching(monkeypatch, tiled=lambda i: True, lower=lambda i: True)
    assert detector.detect(image).by == TILES
    assert (tried["plain"].looked, tried["lower"].looked) == (4, 0)
    assert detector.detect(image, retry=False) == ([], None) and tried["plain"].looked == 5
    detector, tried = searching(monkeypatch, tiled=lambda i: True, lower=lambda i: True)
    small = detector.detect(np.zeros((100, 128, 3), np.uint8))  # one tile is the whole picture
    assert small.by == LOWER_THRESHOLD and tried["tiled"].looked == 0
    assert searching(monkeypatch)[0].detect(image) == ([], None)
