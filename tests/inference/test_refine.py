"""The repair around the painting: the painter is replaced by one that repeats the crop, or paints grey."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import handjax
from handjax.images import read_image
from handjax.inference.refine import MAX_KEYPOINT_ERROR, Refiner, RepairSettings, to_model_range
from handjax.perception import HandDetector

PHOTO = Path(handjax.__file__).parent / "assets" / "photos" / "nocurl.jpg"


class Repeating(Refiner):
    """Paints what was there before."""

    size = 256

    def paint(self, images, mask, depth, skeleton, input_ids, rng, strength):
        self.settings.seen.append((images, mask, depth, skeleton, input_ids))
        return np.rint((images + 1) * 127.5).astype(np.uint8)


class Late(Repeating):
    """Paints no hand at full strength."""

    def paint(self, images, mask, depth, skeleton, input_ids, rng, strength):
        self.settings.seen.append(strength)
        return np.rint((images + 1) * 127.5 * (strength < 1)).astype(np.uint8)


class Grey(Repeating):
    """Paints no hand at all."""

    def paint(self, images, mask, depth, skeleton, input_ids, rng, strength):
        return np.full(images.shape, 128, np.uint8)


@pytest.fixture(scope="module")
def photo():
    return read_image(PHOTO)


def refiner(cls, candidates=1):
    settings = SimpleNamespace(candidates=candidates, strengths=(1.0, 0.5), seen=[])
    model = SimpleNamespace(tokenizer=lambda prompts: np.array([[len(prompt)] for prompt in prompts]))
    return cls(model, None, None, HandDetector.load(max_hands=1), settings)


def test_a_hand_of_the_wanted_pose_is_fixed_and_only_the_mask_changes(photo):
    repeating = refiner(Repeating, candidates=2)
    result = repeating(photo)
    (hand,) = result.hands
    assert hand.status == "fixed" and hand.keypoint_error < 0.05 and hand.score_after > 0.5
    np.testing.assert_array_equal(result.image[~result.changed], photo[~result.changed])
    assert 0.02 < result.changed.mean() < 0.9
    x0, y0, x1, y1 = (int(edge) for edge in hand.box)
    assert result.changed[y0:y1, x0:x1].mean() > 0.95


def test_candidates_share_the_conditions_of_the_hand(photo):
    repeating = refiner(Repeating, candidates=2)
    repeating(photo, prompt="a hand")
    ((images, mask, depth, skeleton, ids),) = repeating.settings.seen
    assert images.shape == skeleton.shape == (2, 256, 256, 3) and mask.shape == depth.shape == (2, 256, 256, 1)
    assert images.min() >= -1 and images.max() <= 1 and set(np.unique(mask)) == {0.0, 1.0}
    np.testing.assert_array_equal(depth[0], depth[1])
    assert depth.max() == 1 and (mask[depth > 0] == 1).all()
    assert ids.ravel().tolist() == [len("a hand")] * 2


@pytest.mark.slow
def test_more_of_the_picture_is_kept_only_where_full_strength_fails(photo):
    late = refiner(Late)
    (hand,) = late(photo).hands
    assert hand.status == "fixed" and late.settings.seen == [1.0, 0.5]
    repeating = refiner(Repeating)
    repeating(photo)
    assert len(repeating.settings.seen) == 1


def test_a_failed_repair_leaves_every_pixel(photo):
    result = refiner(Grey)(photo)
    (hand,) = result.hands
    assert hand.status == "failed" and hand.score_after is None and "no hand" in hand.reason
    np.testing.assert_array_equal(result.image, photo)
    assert not result.changed.any()


class Speckled(Repeating):
    """Paints what was there before, each candidate with speckles of its own."""

    first = 0

    def paint(self, images, mask, depth, skeleton, input_ids, rng, strength):
        pictures = super().paint(images, mask, depth, skeleton, input_ids, rng, strength).astype(int)
        for number, picture in enumerate(pictures):
            picture += np.random.default_rng(self.first + number).integers(-8, 9, picture.shape)
        return np.clip(pictures, 0, 255).astype(np.uint8)


class SecondOnly(Speckled):
    first = 1


@pytest.mark.slow
def test_of_several_the_highest_rank_is_kept(photo):
    ranks = (1.0, 1.2, 1.9, 1.5)
    told = iter(ranks)
    result = dataclasses.replace(refiner(Speckled, candidates=3), rank=lambda picture: next(told))(photo)
    (hand,) = result.hands
    assert hand.status == "fixed" and hand.ranks == ranks
    np.testing.assert_array_equal(result.image, refiner(SecondOnly)(photo).image)
    assert (result.image != refiner(Speckled)(photo).image).any()


def test_the_input_is_kept_where_no_candidate_ranks_above_it(photo):
    told = iter((1.9, 1.2, 1.9, 1.5))
    result = dataclasses.replace(refiner(Speckled, candidates=3), rank=lambda picture: next(told))(photo)
    (hand,) = result.hands
    assert hand.status == "kept" and "none of 3 candidates ranks above the input (1.90, 1.90)" in hand.reason
    np.testing.assert_array_equal(result.image, photo)
    assert not result.changed.any()


def test_a_hand_of_another_pose_is_not_kept_for_its_rank(photo):
    best = dataclasses.replace(refiner(Grey), rank=lambda picture: 1.0 - float(picture.std()))
    (hand,) = best(photo).hands
    assert hand.status == "failed" and hand.ranks[1] > hand.ranks[0]


def test_a_hand_of_another_pose_does_not_count(photo):
    repeating = refiner(Repeating)
    (hand,) = repeating.detector.detect(photo)
    error, score = repeating.judge(np.ascontiguousarray(photo[:, ::-1]), hand)
    assert score is None or error > MAX_KEYPOINT_ERROR


def test_a_picture_without_hands_comes_back_unchanged():
    blank = np.full((120, 160, 3), 200, np.uint8)
    result = refiner(Repeating)(blank)
    assert result.hands == [] and not result.changed.any()
    np.testing.assert_array_equal(result.image, blank)


def test_defaults_and_ranges():
    assert RepairSettings() == RepairSettings(30, 4.0, 8, (1.0, 0.8, 0.6))
    np.testing.assert_allclose(to_model_range(np.array([0, 255], np.uint8)), [-1, 1])
