"""Hands are looked for with a margin, and told in pixels of the picture."""

import numpy as np
import pytest

from handjax.images import read_image
from handjax.perception import DetectedHand, HandDetector
from handjax.perception.detector import TASK_FILE
from handjax.perception.margin import add_margin, detect_with_margin, origin


class BrightestPixel:
    """Finds a hand whose keypoints all lie in the middle of the brightest pixel."""

    def detect(self, image):
        y, x = np.unravel_index(image[..., 0].argmax(), image.shape[:2])
        keypoints = np.tile(np.float32([x + 0.5, y + 0.5, 7]), (21, 1))
        return [DetectedHand.from_landmarks("left", 0.9, keypoints, keypoints / 1000)]


def test_the_margin_is_a_quarter_of_each_side_and_repeats_the_edge():
    image = np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)
    wide = add_margin(image)
    assert wide.shape == (60, 96, 3)
    np.testing.assert_array_equal(wide[10:50, 16:80], image)
    np.testing.assert_array_equal(wide[0, 16:80], image[0])
    np.testing.assert_array_equal(wide[10:50, -1], image[:, -1])
    np.testing.assert_array_equal(wide[:10, :16], np.broadcast_to(image[0, 0], (10, 16, 3)))
    np.testing.assert_array_equal(origin(image.shape), [16, 10])


def test_hands_are_told_in_pixels_of_the_picture():
    image = np.zeros((40, 64, 3), np.uint8)
    image[33, 21] = 255
    (hand,) = detect_with_margin(BrightestPixel(), image)
    np.testing.assert_allclose(hand.keypoints, np.tile([21.5, 33.5, 7], (21, 1)))
    np.testing.assert_allclose(hand.box, [21.5, 33.5, 21.5, 33.5])
    assert (hand.side, hand.score) == ("left", 0.9) and hand.world[0, 0] == pytest.approx((21.5 + 16) / 1000)


def test_a_hand_that_fills_its_picture_is_found_in_the_margin_only():
    """A crop as tight as the hand: with the margin its keypoints are about those of the whole photograph."""
    detector = HandDetector.load(max_hands=1)
    photo = read_image(TASK_FILE.parent / "photos" / "halfcurl.jpg")
    (known,) = detector.detect(photo)
    x0, y0, x1, y1 = known.box.astype(int)
    crop = np.ascontiguousarray(photo[y0:y1, x0:x1])
    assert not detector.detect(crop)
    (hand,) = detect_with_margin(detector, crop)
    error = np.linalg.norm(hand.keypoints[:, :2] + [x0, y0] - known.keypoints[:, :2], axis=1).mean()
    assert error < 0.2 * max(x1 - x0, y1 - y0)
