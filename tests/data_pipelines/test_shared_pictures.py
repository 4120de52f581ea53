"""Hands cut out of a picture, and the picture put together again."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from data_pipelines.record_labels import UnfitRecordError
from data_pipelines.shared_pictures import fit_pictures, hand_type, join_hands, picture_name
from handjax.images import decode_image
from tests.data_pipelines.pairs import painted_pairs

SIZE = 96


@pytest.fixture(scope="module")
def pairs():
    return painted_pairs(3, SIZE)


def test_what_was_cut_out_of_a_picture_is_joined_to_it(pairs):
    """Black where no record reaches."""
    rest = []
    for image, placed, records in pairs:
        hands = join_hands(records[::-1])  # in any order
        assert [hand.side for hand in hands] == ["right", "left"] and hand_type(hands) == "interacting"
        assert hands[0].image == hands[1].image
        np.testing.assert_array_equal(hands[0].camera, hands[1].camera)
        joined = decode_image(hands[0].image, "joined").astype(int)
        corner = np.min([hand.box[:2] for hand in placed], axis=0)
        covered = np.zeros(joined.shape[:2], bool)
        for hand, label in zip(placed, hands, strict=True):
            np.testing.assert_allclose(label.keypoints_2d[:, :2], hand.keypoints - corner, atol=1e-3)
            x0, y0, x1, y1 = hand.box - np.tile(corner, 2)
            covered[y0:y1, x0:x1] = True
        y, x = np.mgrid[: joined.shape[0], : joined.shape[1]]
        original = image[(y + corner[1]).clip(0, SIZE - 1), (x + corner[0]).clip(0, SIZE - 1)].astype(int)
        assert np.abs(joined - original)[covered].mean() < 3
        rest.extend(joined[~covered])
    assert len(rest) > 50 and np.mean(rest) < 8


def test_a_hand_alone_stays_as_it_is(pairs):
    (record, _) = pairs[0][2]
    assert join_hands([record]) == (record,) and hand_type([record]) == "right"


def test_pictures_that_files_cannot_hold_are_refused(pairs):
    (right, left), (other, _) = pairs[0][2], pairs[1][2]
    with pytest.raises(UnfitRecordError, match="its picture has 3 hands, of which these files hold two"):
        join_hands([right, left, left])
    with pytest.raises(UnfitRecordError, match="has two right hands, of which these files hold one"):
        join_hands([right, other])
    moved = dataclasses.replace(left, camera=left.camera + np.float32([0, 0, 0.5, 0]))
    nearer = dataclasses.replace(left, camera=left.camera * np.float32([1.2, 1.2, 1, 1]))
    for wrong in (moved, nearer):
        with pytest.raises(UnfitRecordError, match="are not of one picture"):
            join_hands([right, wrong])


def test_records_of_a_picture_are_told_by_id_and_source(pairs):
    """Hands of one picture that were painted each alone have their own sources."""
    (right, left), (other, _) = pairs[0][2], pairs[1][2]
    assert picture_name(right) == picture_name(left) != picture_name(other)
    alone = [dataclasses.replace(each, source=f"painted:{each.id}") for each in (right, left)]
    assert picture_name(alone[0]) != picture_name(alone[1])
    assert picture_name(dataclasses.replace(right, id="rendered-1-0000003")) == "rendered-1-0000003"


def test_pictures_are_found_again_in_any_order(pairs, tmp_path):
    """And all hands of a picture are left out with one that is unfit, which would be seen without a label."""
    (first, second), (third, fourth), (fifth, sixth) = (records for *_, records in pairs)
    crowd = dataclasses.replace(fifth, id=fifth.id.replace("#0", "#2"))

    def check(record):
        if record is fourth:
            raise UnfitRecordError("bad", "a bad one")

    left_out = Counter()
    mixed = [first, third, fifth, second, fourth, sixth, crowd]
    found = list(fit_pictures(mixed, check, left_out, tmp_path))
    assert [[hand.id for hand in hands] for hands in found] == [[first.id, second.id]]
    assert left_out == {"bad": 2, "more than two hands in the picture": 3}
