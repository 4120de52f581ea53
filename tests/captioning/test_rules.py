"""What the rules say of hands is held against poses that are built, and against photographs of known digits."""

import json
from pathlib import Path

import numpy as np
import pytest

from handjax.captioning.failures import NoHand
from handjax.captioning.hand_phrases import describe_direction, describe_fingers, facing_side, held_out
from handjax.captioning.picture import Picture
from handjax.captioning.rules import extract, plain_caption, rule_refinement
from handjax.images import read_image
from handjax.perception import DetectedHand, HandDetector

DIGITS = Path(__file__).parents[3] / "shared" / "samples" / "sign_digits"
# Turkish Sign Language, as its photographs show: which fingers are held out in each digit but the round 0.
HELD_OUT = {
    1: {"index"},
    2: {"index", "middle"},
    3: {"thumb", "index", "middle"},
    4: {"index", "middle", "ring", "little"},
    5: {"thumb", "index", "middle", "ring", "little"},
    6: {"index", "middle", "ring"},
    7: {"index", "middle", "little"},
    8: {"index", "ring", "little"},
    9: {"middle", "ring", "little"},
}
TOUCHED = {6: "little", 7: "ring", 8: "middle", 9: "index"}


def _hand(bent=(), thumb_across=False, side="right", score=1.0, turn=0.0, palm=True, place=(100.0, 200.0)):
    """A hand of straight lines with the fingers up, 0.18 m high; `bent` fingers lie folded into the palm."""
    points = np.zeros((21, 3))
    points[1:5] = [[0.03, -0.02, 0], [0.055, -0.04, 0], [0.08, -0.055, 0], [0.105, -0.07, 0]]
    if thumb_across:
        points[1:5] = [[0.025, -0.02, 0], [0.03, -0.05, -0.01], [0.01, -0.06, -0.02], [-0.01, -0.065, -0.025]]
    for number, name in enumerate(("index", "middle", "ring", "little")):
        x, chain = 0.03 - 0.02 * number, slice(5 + 4 * number, 9 + 4 * number)
        out = np.array([[x, -0.09 - up, 0] for up in (0, 0.04, 0.065, 0.09)])
        folded = np.array([[x, -0.09, 0], [x, -0.1, -0.035], [x, -0.075, -0.05], [x, -0.065, -0.03]])
        points[chain] = folded if name in bent else out
    # a right hand whose palm faces the camera has its thumb at the picture's right
    if (side == "right") != palm:
        points[:, 0] *= -1
    if not palm:
        points[:, 2] *= -1
    turned = points.copy()
    turned[:, 0] = points[:, 0] * np.cos(turn) - points[:, 1] * np.sin(turn)
    turned[:, 1] = points[:, 0] * np.sin(turn) + points[:, 1] * np.cos(turn)
    return DetectedHand.from_landmarks(side, score, turned * 500 + [*place, 0], turned)


def _picture(hands, given="", side=300):
    return Picture(np.full((side, side, 3), 240, np.uint8), given, lambda image: hands)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("palm", [True, False])
def test_fingers_side_and_palm_of_built_hands(side, palm):
    bent = ("ring", "little")
    open_hand, fist = _hand(side=side, palm=palm), _hand(HELD_OUT[4], True, side=side, palm=palm)
    assert describe_fingers(open_hand) == f"an open {side} hand with all fingers extended"
    assert describe_fingers(fist) == f"a {side} hand closed into a fist"
    two = _hand(bent, True, side=side, palm=palm)
    assert describe_fingers(two).startswith(f"a {side} hand with the index and middle fingers extended")
    assert facing_side(open_hand) == facing_side(two) == ("palm" if palm else "back")
    assert describe_fingers(_hand(bent, side=side, palm=palm)) == (
        f"a {side} hand with the thumb and the index and middle fingers extended"
    )


def test_a_doubtful_side_is_left_unsaid():
    hand = _hand(score=0.7)
    assert describe_fingers(hand) == "an open hand with all fingers extended"
    assert facing_side(hand) is None


@pytest.mark.parametrize(
    "turn, direction", [(0, "upright"), (0.6, "upright"), (1.2, "sideways"), (-1.6, "sideways"), (3.0, "downward")]
)
def test_directions(turn, direction):
    assert describe_direction(_hand(turn=turn)) == direction


def test_fields_of_one_hand():
    fields = json.loads(extract(_picture([_hand()], "a man waving, in a small kitchen."), ""))
    assert fields == {
        "human_pose": "one hand held upright",
        "action": "a man waving",
        "hand_action": "an open right hand with all fingers extended, palm to the camera",
        "environment": "in a small kitchen",
    }


def test_contact_of_two_hands_and_their_order():
    left, right = _hand(side="left", palm=False, place=(80.0, 200.0)), _hand(place=(220.0, 200.0))
    said = json.loads(extract(_picture([right, left]), ""))
    assert said["hand_action"] == (
        "an open left hand with all fingers extended; an open right hand with all fingers extended; the hands are apart"
    )
    assert (said["human_pose"], said["environment"]) == ("two hands held upright", "a plain light background")
    nearer = _hand(place=(110.0, 200.0))
    assert "the hands touch or overlap" in json.loads(extract(_picture([left, nearer]), ""))["hand_action"]
    assert "close-up of two hands" in json.loads(extract(_picture([left, right], side=200), ""))["human_pose"]


def test_what_rules_say_of_any_number_of_hands_is_valid():
    """The longest phrases: every finger but one out, and the thumb at that one."""
    one, other = (_hand(("little",), side=side) for side in ("left", "right"))
    for hand in (one, other):
        hand.world[4] = hand.world[20] + [0, 0, -0.01]
        assert "the index, middle and ring fingers extended and the thumb touching the little" in describe_fingers(hand)
    for hands in ([one], [one, other], [one, other, _hand(), _hand(side="left")], [_hand()] * 9):
        assert rule_refinement()(_picture(hands)).status == "valid"


def test_fingers_that_are_taken_for_a_hand_are_no_second_one():
    hand = _hand()
    part = DetectedHand.from_landmarks("right", 1.0, hand.keypoints * 0.4 + [60, 70, 0], hand.world)
    assert _picture([hand, part]).hands == _picture([part, hand]).hands == [hand]
    apart = DetectedHand.from_landmarks("right", 1.0, part.keypoints + [60, 0, 0], hand.world)
    assert _picture([apart, hand]).hands == [hand, apart], "a small hand beside a large one is one"


@pytest.mark.parametrize(
    "given, done, place",
    [
        ("a woman pointing at the camera", "a woman pointing at the camera", ""),
        (
            "two men shaking hands in front of a brick wall at night",
            "two men shaking hands",
            "in front of a brick wall at night",
        ),
        ("a boy, outdoors", "a boy", "outdoors"),
        ("man in a field jacket waving", "man in a field jacket waving", ""),
        ("a man in a car washing his hands", "a man in a car washing his hands", ""),
    ],
)
def test_a_given_caption_is_parted(given, done, place):
    fields = json.loads(extract(_picture([_hand()], given), ""))
    assert (fields["action"], fields["environment"]) == (done, place or "a plain light background")


def test_a_busy_background_is_left_unsaid():
    busy = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    assert json.loads(extract(Picture(busy, "", lambda image: [_hand()]), ""))["environment"] == ""
    dark = Picture(np.full((300, 300, 3), 20, np.uint8), "", lambda image: [_hand()])
    assert json.loads(extract(dark, ""))["environment"] == "a plain dark background"


def test_without_a_hand_the_given_caption_is_kept():
    with pytest.raises(NoHand):
        extract(_picture([], "a tree"), "")
    refined = rule_refinement()(_picture([], "a tree"))
    assert (refined.caption, refined.status) == ("a tree", "no_hand")
    assert plain_caption(_picture([])) == ""
    assert plain_caption(_picture([_hand()])) == "a photo of an open right hand, all fingers extended"


@pytest.mark.slow
@pytest.mark.skipif(not DIGITS.is_dir(), reason="the sample pictures (../shared/samples) are not here")
def test_photographs_of_digits_are_described_truly():
    detector = HandDetector.load(max_hands=1)
    right, wrong_claims, touches, seen_so, found = 0, 0, 0, 0, 0
    for digit, fingers in HELD_OUT.items():
        for path in sorted((DIGITS / str(digit)).iterdir())[2::24]:
            image = read_image(path)
            hands = detector.detect(image)
            if not hands:
                continue
            found += 1
            claimed = set(held_out(hands[0]))
            right += claimed == fingers
            wrong_claims += bool(claimed - fingers)
            fields = json.loads(extract(Picture(image, "", lambda image, hands=hands: hands), ""))
            if digit in TOUCHED:
                touches += f"the thumb touching the {TOUCHED[digit]} finger" in fields["hand_action"]
            seen_so += "upright" in fields["human_pose"] and "back" not in fields["hand_action"]
    assert found >= 50
    assert right >= 0.8 * found and wrong_claims <= 0.15 * found
    assert seen_so >= 0.95 * found  # all were held up, palm to the camera
    assert touches >= 16
