"""Fingers counted in silhouettes that are drawn with a known number of them, and in rendered hands."""

import numpy as np
import pytest

from handjax.anatomy.outline import read_outline
from handjax.anatomy.tips import count_fingers, find_tips
from tests.anatomy.spread_hand import draw_spread_hand, fill_gap, remove_finger

SIZE, PALM = 160, 34.0
FANS = {3: (-50, 0, 40), 4: (-60, -15, 12, 40), 5: (-65, -22, 0, 22, 46), 6: (-75, -40, -17, 6, 29, 55)}
FANS[7] = (-90, -60, -34, -8, 18, 44, 74)


def draw(angles, turn=0.0, scale=1.0, lengths=None, shown=None):
    """A round palm with straight fingers, and keypoints of five fingers, each on the nearest drawn one.

    Args:
      angles: of the fingers from the middle of the palm, degrees clockwise from its forward direction.
      turn: of the hand, degrees.
      scale: of the hand.
      lengths: reach of each finger from the middle of the palm, palm lengths.
      shown: the five keypoint fingers' angles; by default evenly chosen from those drawn.
    """
    palm = PALM * scale
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    middle = np.array([SIZE / 2, SIZE / 2])

    def towards(degrees, reach):
        radians = np.radians(degrees + turn)
        return middle + reach * palm * np.array([np.sin(radians), -np.cos(radians)])

    mask = np.hypot(x - middle[0], y - middle[1]) < 0.5 * palm
    for angle, length in zip(angles, lengths or [1.3] * len(angles), strict=True):
        end = towards(angle, length)
        along = np.clip(((x - middle[0]) * (end - middle)[0] + (y - middle[1]) * (end - middle)[1]), 0, None)
        along = np.minimum(along / ((end - middle) ** 2).sum(), 1)
        mask |= np.hypot(x - middle[0] - along * (end - middle)[0], y - middle[1] - along * (end - middle)[1]) < (
            0.1 * palm
        )
    shown = shown or [angles[round(k * (len(angles) - 1) / 4)] for k in range(5)]
    keypoints = np.zeros((21, 3))
    keypoints[0, :2] = towards(180, 0.5)
    for finger, angle in enumerate(shown):
        length = dict(zip(angles, lengths or [1.3] * len(angles), strict=True)).get(angle, 0.6)
        keypoints[1 + 4 * finger : 5 + 4 * finger, :2] = [towards(angle, r) for r in np.linspace(0.5, length, 4)]
    keypoints[9, :2] = towards(0, 0.5)
    return mask, keypoints


@pytest.mark.parametrize("fingers", FANS)
@pytest.mark.parametrize("turn", [0.0, 40.0, 115.0, -100.0, 180.0])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.4])
def test_fingers_are_counted_however_many_they_are_and_however_they_lie(fingers, turn, scale):
    assert count_fingers(*draw(FANS[fingers], turn, scale)) == fingers


def test_tips_lie_at_the_ends_and_rise_over_their_valleys():
    mask, keypoints = draw(FANS[5], lengths=(1.0, 1.3, 1.4, 1.3, 1.1))
    tips, radius = find_tips(mask, keypoints)
    tips = sorted(tips, key=lambda tip: tip.place[0])
    np.testing.assert_allclose([tip.place for tip in tips], keypoints[4::4, :2], atol=0.14 * PALM)
    assert radius == pytest.approx(0.5, abs=0.03)
    assert [tip.breadth for tip in tips] == pytest.approx([0.2] * 5, abs=0.06)
    # capsules 0.2 broad that part by 22° stand apart from 0.1 / sin(11°) on; the thumb does so from the palm on
    assert tips[2].rise == pytest.approx(1.5 - 0.1 / np.sin(np.radians(11)), abs=0.08)
    assert tips[0].rise == pytest.approx(1.1 - 0.5, abs=0.06)


def test_where_fingers_cannot_be_counted_nobody_does():
    fist = draw((), shown=FANS[5])
    assert count_fingers(*fist) is None
    touching = draw((-65, -22, 0, 7, 46), shown=(-65, -22, 0, 0, 46))
    assert count_fingers(*touching) is None
    folded = draw(FANS[4], shown=(*FANS[4], 110))
    assert count_fingers(*folded) is None
    short = draw(FANS[5], lengths=(1.3, 1.3, 1.3, 0.6, 1.3))
    assert count_fingers(*short) is None
    assert count_fingers(np.zeros((SIZE, SIZE), bool), fist[1]) is None
    mask, keypoints = draw(FANS[5])
    assert count_fingers(mask, keypoints) == 5
    cut = np.vstack([mask[45:], np.zeros((45, SIZE), bool)])  # the tips are beyond the upper edge
    assert count_fingers(cut, keypoints - (0, 45, 0)) is None
    ring = mask.copy()
    ring[75:85, 75:85] = False
    assert count_fingers(ring, keypoints) is None


def test_a_rendered_hand_has_five_fingers_and_a_web_makes_them_unknown():
    image, keypoints, *_ = draw_spread_hand()
    assert read_outline(image, keypoints).fingers == 5
    webbed = fill_gap(image, keypoints, 2)
    assert read_outline(webbed, keypoints).fingers is None


@pytest.mark.parametrize("finger", [1, 2, 4])
def test_a_finger_that_is_not_there_is_missed_once_keypoints_crowd_on_its_neighbour(finger):
    image, keypoints, *_ = draw_spread_hand()
    lacking = remove_finger(image, keypoints, finger)
    assert read_outline(lacking, keypoints).fingers is None
    crowded = keypoints.copy()
    crowded[2 + 4 * finger : 5 + 4 * finger] = keypoints[4 * finger - 2 : 1 + 4 * finger]
    assert read_outline(lacking, crowded).fingers == 4
