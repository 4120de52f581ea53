import numpy as np
import pytest

from handjax.conditions.crops import box_side, crop_image, hand_box, hand_in_crop
from handjax.perception.hands import DetectedHand


@pytest.fixture
def keypoints():
    points = np.full((21, 3), 50.0)
    points[0, :2], points[12, :2] = (40.0, 30.0), (60.0, 110.0)
    return points


def test_box_is_a_square_around_the_tight_box(keypoints):
    assert box_side(keypoints) == 80
    np.testing.assert_array_equal(hand_box(keypoints, 1.6), [50 - 64, 70 - 64, 50 + 64, 70 + 64])
    x0, y0, x1, y1 = hand_box(keypoints + 0.3, 2.0)
    assert (x1 - x0, y1 - y0) == (160, 160)


def test_crop_repeats_the_edge_outside_the_picture():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    box = np.array([-5, 10, 25, 40])
    expected = np.pad(image[10:, :25], ((0, 20), (5, 0), (0, 0)), mode="edge")
    np.testing.assert_array_equal(crop_image(image, box), expected)
    assert crop_image(image, box, 7).shape == (7, 7, 3)


def test_crop_far_outside_is_still_made():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(crop_image(image, np.array([10, 10, 13, 13])), np.tile(image[1, 1], (3, 3, 1)))


def test_hand_moves_with_its_crop(keypoints):
    hand = DetectedHand.from_landmarks("left", 0.9, keypoints, np.zeros((21, 3)))
    moved = hand_in_crop(hand, np.array([-14, 6, 114, 134]), 64)
    np.testing.assert_allclose(moved.keypoints[0, :2], [(40 + 14) / 2, (30 - 6) / 2])
    np.testing.assert_allclose(moved.box, [27, 12, 37, 52])
    assert moved.side == "left"
