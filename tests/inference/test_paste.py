import numpy as np
import pytest

from handjax.inference.paste import colour_shift, feather, paste_back


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def centre_mask(size: int) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    mask[size // 4 : -size // 4, size // 4 : -size // 4] = 1
    return mask


@pytest.mark.parametrize("box", [(10, 5, 50, 45), (-20, -10, 30, 40), (50, 30, 100, 80)])
def test_only_masked_pixels_change(image, box):
    repaired = np.full((32, 32, 3), 90, np.uint8)
    result, changed = paste_back(image, repaired, centre_mask(32), np.array(box))
    np.testing.assert_array_equal(result[~changed], image[~changed])
    assert (result[changed] != image[changed]).mean() > 0.8
    x0, y0, x1, y1 = box
    quarter = (x1 - x0) // 4
    rows, columns = np.nonzero(changed)
    assert rows.min() >= max(0, y0 + quarter) and rows.max() < y1 - quarter
    assert columns.min() >= max(0, x0 + quarter) and columns.max() < x1 - quarter


def test_centre_is_the_repaired_picture_and_tint_is_removed():
    image = np.full((64, 64, 3), 100, np.uint8)
    repaired = np.full((64, 64, 3), (110, 95, 100), np.uint8)
    repaired[28:36, 28:36] = (150, 135, 140)
    result, _ = paste_back(image, repaired, centre_mask(64), np.array([0, 0, 64, 64]))
    assert result[32, 32].tolist() == [140, 140, 140]
    assert result[20, 20].tolist() == [100, 100, 100]


def test_feather_rises_inside_the_mask_only():
    weights = feather(centre_mask(64) > 0, 3.0)
    assert weights[32, 32] == 1 and weights[:16].max() == 0
    assert 0 <= weights[16, 32] < 0.4 and np.all(np.diff(weights[16:32, 32]) >= 0)
    assert feather(np.ones((8, 8), bool), 3.0).min() == 1


def test_colour_shift_of_a_full_mask_is_zero():
    grey = np.full((4, 4, 3), 10, np.float32)
    assert colour_shift(grey, grey + 5, np.ones((4, 4), bool)).tolist() == [0, 0, 0]
    assert colour_shift(grey, grey + 5, np.zeros((4, 4), bool)).tolist() == [-5, -5, -5]
