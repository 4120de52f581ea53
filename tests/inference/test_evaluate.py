"""The measure around the painting: the detector and the painter are replaced by ones whose answers are known."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from handjax.inference.evaluate import evaluate_inpainting, figures, painted_variants
from handjax.inference.handrefiner import HandRefiner
from handjax.metrics.intervals import wilson_interval

KEYPOINTS = np.random.default_rng(0).uniform(4, 12, (21, 2)).astype(np.float32)
BOX_SIDE = float(np.ptp(KEYPOINTS, axis=0).max())
FOUND, SHIFT = 200, 0.5


class BrightHands:
    """Finds the wanted hand, shifted by half a pixel, in pictures of 16 pixels and a margin that are bright."""

    def detect(self, picture):
        assert picture.shape == (24, 24, 3)
        keypoints = np.column_stack([KEYPOINTS + [4 + SHIFT, 4], np.zeros(21)])
        return [SimpleNamespace(keypoints=keypoints, score=0.9)] if picture.mean() >= FOUND else []


def paint(images, mask, depth, skeleton, input_ids, rng):
    """Bright where there is a condition, dark where there is none."""
    bright = np.zeros(len(images), bool) if depth is None else depth.any(axis=(1, 2, 3))
    bright = bright[:, None, None, None]
    return np.where(bright, 250, 10).astype(np.uint8) * np.ones(images.shape, np.uint8)


def test_conditions_and_zeros_are_told_apart():
    refiner = SimpleNamespace(detector=BrightHands(), paint=paint)
    size, count = 16, 3
    batch = {
        "image": np.ones((count, size, size, 3), np.float32),
        "mask": np.ones((count, size, size, 1), np.float32),
        "depth": np.ones((count, size, size, 1), np.float32),
        "skeleton": np.zeros((count, size, size, 3), np.float32),
        "keypoints": np.stack([KEYPOINTS] * count),
        "input_ids": np.zeros((count, 4), np.int32),
    }
    seen: list[int] = []
    result, sheet = evaluate_inpainting(refiner, [batch] * 4, limit=5, seed=0, on_batch=seen.append)
    assert seen == [3, 5]
    for name in ("photograph", "conditioned"):
        assert (result[name]["found"], result[name]["pictures"]) == (5, 5)
        assert result[name]["keypoint_error"] == pytest.approx(SHIFT / BOX_SIDE)
    for name in ("zeroed", "without_sgm"):
        assert result[name]["found"] == 0 and result[name]["keypoint_error"] is None
    assert sheet.shape == (2 * count * size, 7 * size, 3)
    columns = sheet[:size].reshape(size, 7, size, 3).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(columns, [255, 128, 255, 0, 250, 10, 10], atol=0.5)


class Searching(HandRefiner):
    """Paints a hand's number and its scale in hundredths; 200 by a blank depth, 250 without one."""

    def paint(self, images, mask, depth, skeleton, input_ids, rng, scale=None):
        self.settings.append((int(input_ids[0, 0]), jax.random.key_data(rng).tolist(), scale))
        value = 250 if depth is None else 200 if not depth.any() else round(100 * scale) + int(input_ids[0, 0])
        return np.full(images.shape, value, np.uint8)


class Shifted:
    """Finds the wanted hand as far off as its picture says: pixels by value."""

    shifts = {100: 1.0, 40: 1.1, 101: 1.0, 41: 2.0, 51: 1.2, 61: 1.1}

    def detect(self, picture):
        shift = self.shifts.get(int(picture[12, 12, 0]))
        keypoints = np.column_stack([KEYPOINTS + [4 + (shift or 0), 4], np.zeros(21)])
        return [SimpleNamespace(keypoints=keypoints, score=0.9)] if shift else []


def test_handrefiner_is_measured_at_the_strength_that_it_chooses_for_each_hand():
    batch = {
        "image": np.zeros((2, 16, 16, 3), np.float32),
        "mask": np.ones((2, 16, 16, 1), np.float32),
        "depth": np.ones((2, 16, 16, 1), np.float32),
        "skeleton": np.zeros((2, 16, 16, 3), np.float32),
        "keypoints": np.stack([KEYPOINTS] * 2),
        "input_ids": np.array([[0], [1]]),
    }
    refiner = Searching(None, None, None, Shifted(), [])
    pictures = painted_variants(refiner, batch, jax.random.key(0))
    assert {name: made[:, 0, 0, 0].tolist() for name, made in pictures.items()} == {
        "photograph": [128, 128],
        "conditioned": [40, 61],
        "zeroed": [200, 200],
        "without_sgm": [250, 250],
    }
    scales = [scale for hand, _, scale in refiner.settings if hand == 1]
    assert scales[:4] == [1.0, 0.4, 0.5, 0.6] and scales[4:] == [1.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, None]
    noise = {(hand, tuple(key)) for hand, key, _ in refiner.settings}
    assert len(noise) == 2 and len({key for _, key in noise}) == 2  # the same in all variants of a hand
    with pytest.raises(AssertionError, match="for `search` to choose"):
        HandRefiner(None, None, None, None).paint(None, None, batch["depth"], None, None, None)


def test_figures_leave_misses_out_of_the_error():
    values = figures(np.array([0.1, np.inf, 0.3, np.inf]))
    assert (values["detection_rate"], values["pose_rate"]) == (0.5, 0.25)
    assert values["keypoint_error"] == pytest.approx(0.2)
    assert values["detection_rate_95"] == wilson_interval(2, 4)
    low, high = values["keypoint_error_95"]
    assert 0.1 <= low < 0.2 < high <= 0.3
