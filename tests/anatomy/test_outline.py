import numpy as np
import pytest

from handjax.anatomy.outline import read_outline
from tests.anatomy.spread_hand import draw_spread_hand, fill_gap, remove_finger


@pytest.fixture(scope="module")
def hand():
    return draw_spread_hand()


def test_spread_fingers_are_all_there_and_not_joined(hand):
    outline = read_outline(hand.image, hand.keypoints)
    assert outline.certainty > 0.95
    assert outline.support.min() > 0.9
    assert outline.webbing == (False, False, False, False)
    both = (outline.mask & hand.mask).sum() / (outline.mask | hand.mask).sum()
    assert both > 0.85  # the mesh goes on beyond the wrist


@pytest.mark.parametrize("pair", [1, 2, 3])
def test_skin_between_two_fingers_joins_these(hand, pair):
    outline = read_outline(fill_gap(hand.image, hand.keypoints, pair), hand.keypoints)
    assert outline.webbing == tuple(k == pair for k in range(4))


@pytest.mark.parametrize("finger", [1, 4])
def test_a_finger_that_is_not_there_has_no_support(hand, finger):
    support = read_outline(remove_finger(hand.image, hand.keypoints, finger), hand.keypoints).support
    assert support[finger] < 0.4
    assert np.delete(support, [finger - 1, finger, min(finger + 1, 4)]).min() > 0.9


def test_where_colours_say_nothing_it_is_told(hand):
    noise = np.random.default_rng(0).integers(0, 255, hand.image.shape, np.uint8)
    assert read_outline(noise, hand.keypoints).certainty < 0.9


def test_a_bent_finger_has_no_web(hand):
    bent = hand.keypoints.copy()
    bent[12] = bent[10]  # middle fingertip at its second joint
    webbing = read_outline(hand.image, bent).webbing
    assert webbing[1] is None
    assert webbing[2] is None
    assert webbing[3] is False
