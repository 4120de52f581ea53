"""The measure around the painting: the detector and the painter are replaced by ones whose answers are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from handjax.inference.evaluate import evaluate_inpainting, figures
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


def test_figures_leave_misses_out_of_the_error():
    values = figures(np.array([0.1, np.inf, 0.3, np.inf]))
    assert (values["detection_rate"], values["pose_rate"]) == (0.5, 0.25)
    assert values["keypoint_error"] == pytest.approx(0.2)
    assert values["detection_rate_95"] == wilson_interval(2, 4)
    low, high = values["keypoint_error_95"]
    assert 0.1 <= low < 0.2 < high <= 0.3
