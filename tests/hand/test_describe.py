import numpy as np
import pytest

from handjax.hand.describe import FINGERS, describe_hand, extended_fingers


def hand_with(extended: tuple[str, ...]) -> np.ndarray:
    """Fingers of three unit bones: straight, or folded back at the second joint."""
    points = np.zeros((21, 3), np.float32)
    for i, (name, chain) in enumerate(FINGERS.items()):
        heights = [1, 2, 3, 4] if name in extended else [1, 2, 2, 1]
        depths = [0, 0, 0, 0] if name in extended else [0, 0, 1, 1]
        for k, joint in enumerate(chain):
            points[joint] = (i, heights[k], depths[k])
    return points


@pytest.mark.parametrize("extended", [(), ("index",), ("index", "middle"), tuple(FINGERS)])
def test_extended_fingers(extended):
    assert extended_fingers(hand_with(extended)) == extended


def test_description_names_side_and_fingers():
    assert describe_hand(hand_with(("index", "middle")), "left") == "left hand, index and middle fingers extended"
    assert describe_hand(hand_with(()), "right") == "closed right hand, a fist"
    assert describe_hand(hand_with(tuple(FINGERS)), "right") == "open right hand, all fingers extended"
