import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.malformed.edits import BY_NAME
from data_pipelines.malformed.photo_edits import edit_photo
from data_pipelines.malformed.photo_hand import CANVAS, fill, take_apart
from data_pipelines.malformed.photos import MalformedPhotoJob, plain_records, session
from data_pipelines.malformed.rendered import SIZE
from data_pipelines.malformed.strokes import bent, draw, own_stroke, place, stretched
from data_pipelines.precompute import Failures
from handjax.images import decode_image, read_image
from handjax.perception import HandDetector

PHOTOS = Path(__file__).parents[4] / "shared" / "samples" / "sign_digits"
OPEN = ("IMG_1123.JPG", "IMG_1133.JPG", "IMG_1143.JPG", "IMG_1163.JPG", "IMG_4064.JPG", "IMG_4084.JPG", "IMG_1255.JPG")
needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no photographs in {PHOTOS}")


@pytest.fixture(scope="module")
def detector():
    return HandDetector.load(max_hands=1)


@pytest.fixture(scope="module")
def hands(detector):
    photos = [read_image(PHOTOS / "5" / name) for name in OPEN]
    taken = [take_apart(photo, detector.detect(photo)[0]) for photo in photos]
    taken = [hand for hand in taken if hand is not None and hand.free.all()]
    return [hand for hand in taken if (pieces_at_cuts(hand.image, hand) == 5).sum() >= 4]


def skin_of(image):
    """Red where the paper is grey."""
    redness = image[..., 0] - image[..., 2]
    return redness > 0.5 * np.percentile(redness, 95)


def pieces_at_cuts(image, hand):
    """Number of pieces into which each circle about the palm cuts the skin, away from the wrist."""
    middle = (hand.keypoints[0] + hand.keypoints[9]) / 2
    palm = np.linalg.norm(hand.keypoints[9] - hand.keypoints[0])
    up = np.arctan2(*(hand.keypoints[9] - hand.keypoints[0])[::-1])
    angle = up + np.linspace(-0.7 * np.pi, 0.7 * np.pi, 1500)
    skin, pieces = skin_of(image), []
    for radius in palm * np.arange(0.8, 1.1, 0.02):
        x, y = middle[0] + radius * np.cos(angle), middle[1] + radius * np.sin(angle)
        inside = skin[np.clip(y.astype(int), 0, CANVAS - 1), np.clip(x.astype(int), 0, CANVAS - 1)]
        starts, ends = (np.flatnonzero(np.diff(np.r_[0, inside, 0].astype(int)) == sign) for sign in (1, -1))
        pieces.append(((ends - starts) > 8).sum())
    return np.array(pieces)


def count_at_a_cut(image, hand):
    """Usual number of pieces where the hand had five of them before."""
    return np.bincount(pieces_at_cuts(image, hand)[pieces_at_cuts(hand.image, hand) == 5]).argmax()


def test_filling_continues_what_is_known():
    ramp = np.tile(np.linspace(0, 200, 64, dtype=np.float32)[None, :, None], (64, 1, 3))
    known = np.ones((64, 64), np.float32)
    known[20:40, 20:40] = 0
    filled = fill(np.where(known[..., None] > 0, ramp, 255.0), known)
    np.testing.assert_array_equal(filled[known > 0], ramp[known > 0])
    assert np.abs(filled - ramp).max() < 25


@needs_photos
@pytest.mark.parametrize("name", ["none", "extra_finger", "missing_finger"])
def test_a_cut_across_the_fingers_counts_them(name, hands):
    right = []
    for hand in hands:
        for seed in range(4):
            edited = edit_photo(np.random.default_rng(seed), hand, BY_NAME[name])
            right.append(count_at_a_cut(edited.image, hand) == 5 + edited.added)
    assert len(right) >= 16 and np.mean(right) >= 0.85


@needs_photos
def test_redrawn_hands_are_unharmed(hands, detector):
    off = []
    for hand in hands:
        for seed in range(3):
            edited = edit_photo(np.random.default_rng(seed), hand, BY_NAME["none"])
            before = detector.detect(hand.image.round().clip(0, 255).astype(np.uint8))
            after = detector.detect(edited.image.round().clip(0, 255).astype(np.uint8))
            assert len(before) == len(after) == 1
            box = np.ptp(hand.keypoints, axis=0).max()
            off.append(np.linalg.norm(before[0].keypoints - after[0].keypoints, axis=1)[:].mean() / box)
    assert max(off) < 0.05 and np.mean(off) < 0.02


@needs_photos
def test_a_stretched_finger_is_longer_by_its_factor(hands):
    hand = hands[0]
    start = place(hand, 2, 0, 0.45)
    own, long = own_stroke(hand, 2), stretched(own_stroke(hand, 2), start, 1.6)

    def area(stroke):
        return draw(hand, stroke, start)[1].sum()

    assert area(long) / area(own) == pytest.approx(1.6, rel=0.08)


@needs_photos
def test_a_bent_finger_points_elsewhere_by_the_angle(hands):
    hand = hands[0]
    stroke = bent(own_stroke(hand, 1), place(hand, 1, 1), 0.8)
    before, after = (course[-1] - course[-6] for course in (hand.courses[1], stroke.course))
    turn = np.arctan2(after[1], after[0]) - np.arctan2(before[1], before[0])
    assert (turn + np.pi) % (2 * np.pi) - np.pi == pytest.approx(0.8, abs=0.02)
    np.testing.assert_allclose(
        stroke.course[: place(hand, 1, 1) - 3], hand.courses[1][: place(hand, 1, 1) - 3], atol=1e-3
    )


@needs_photos
def test_splits_are_by_session_and_never_share_one():
    splits = MalformedPhotoJob(PHOTOS).splits()
    photos = {split: {name.partition(":")[2] for name in names} for split, names in splits.items()}
    sessions = {split: {session(name) for name in names} for split, names in photos.items()}
    assert not sessions["train"] & sessions["eval"] and not photos["train"] & photos["eval"]
    assert sum(map(len, photos.values())) == len(list(PHOTOS.glob("*/*.JPG")))
    assert 0.2 < len(photos["eval"]) / len(photos["train"] | photos["eval"]) < 0.5


@needs_photos
def test_records_are_the_same_again_and_say_what_they_show():
    make = MalformedPhotoJob(PHOTOS).open()
    names = ["eval:5/IMG_1123.JPG", "train:5/IMG_4064.JPG"]
    records = list(make(names, Failures()))
    again = list(MalformedPhotoJob(PHOTOS).open()(names[1:], Failures()))
    by_id = {record.id: record for record in records}
    assert len(by_id) == len(records) and all(record.image == by_id[record.id].image for record in again)
    for record in records:
        assert Image.open(io.BytesIO(record.image)).size == (192, 192)
        held_out = BY_NAME[record.edit].held_out
        assert record.source in names[0] or not held_out
        if record.edit in ("none", "extra_finger", "missing_finger"):
            assert record.fingers in (5, None) if record.edit == "none" else record.fingers not in (5, None)


@needs_photos
def test_photographs_as_they_are_come_with_their_keypoints(tmp_path, detector):
    for name in OPEN:
        shutil.copy(PHOTOS / "5" / name, tmp_path)
    names = {name.partition(":")[2] for name in MalformedPhotoJob(tmp_path).splits()["train"]}
    records = list(plain_records(tmp_path))
    assert names and {record.source for record in records} == names
    for record in records:
        image = decode_image(record.image, record.id)
        again = detector.detect(image)[0].keypoints[:, :2]
        assert record.edit is None and image.shape == (SIZE, SIZE, 3)
        assert np.linalg.norm(again - record.keypoints_2d[:, :2], axis=1).mean() < 0.03 * SIZE
