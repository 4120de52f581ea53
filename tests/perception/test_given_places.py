"""Keypoints and boxes given by hand that are no numbers are one line."""

import re
import sys

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import read_image
from handjax.perception import HandDetector
from handjax.perception.detector import TASK_FILE
from launch import detect

PHOTO = TASK_FILE.parent / "photos" / "nocurl.jpg"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_given_keypoints_that_are_not_finite_are_refused(value):
    detector, photo = HandDetector.load(), read_image(PHOTO)
    (hand,) = detector.detect(photo)
    keypoints = hand.keypoints[None, :, :2].copy()
    assert len(detector.read(photo, keypoints=keypoints)) == 1
    keypoints[0, 7, 1] = value
    with pytest.raises(InputError, match="empty or not finite; give") as caught:
        detector.read(photo, keypoints=keypoints)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("box", "said"),
    [("nan 0 100 100", "empty or not finite"), ("480 0 500 50", "outside of the picture, which is 480x640")],
)
def test_a_box_without_pixels_is_refused_and_the_picture_is_named(box, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["detect", str(PHOTO), "--box", *box.split()])
    assert detect.main() == 2
    assert re.fullmatch(rf"error: {PHOTO}: a hand's box or keypoints are {said}.*\n", capsys.readouterr().err)
