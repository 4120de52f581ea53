import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from handjax.metrics.resize import resize_clean, resize_tensorflow


@pytest.mark.parametrize("size", [(299, 299), (64, 48), (500, 731)])
def test_tensorflows_bilinear_samples_at_multiples_of_the_ratio(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    rows, columns = (np.arange(299) * (side / 299) for side in size)
    grid = np.meshgrid(rows, columns, indexing="ij")
    expected = [ndimage.map_coordinates(image[..., c].astype(float), grid, order=1, mode="nearest") for c in range(3)]
    np.testing.assert_allclose(resize_tensorflow(image), np.stack(expected, -1), atol=0.02)


def bicubic(length):
    """Weights of Keys' cubic with a = -1/2, widened by the ratio where it shrinks, normalised in each row."""
    ratio = length / 299
    centres = (np.arange(299) + 0.5) * ratio
    x = np.abs((np.arange(length) + 0.5 - centres[:, None]) / max(ratio, 1))
    weights = np.where(x < 1, (1.5 * x - 2.5) * x**2 + 1, np.where(x < 2, ((-0.5 * x + 2.5) * x - 4) * x + 2, 0))
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(64, 48), (500, 731)])
def test_clean_is_the_antialiased_cubic_without_rounding(size):
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    across = np.einsum("xw,hwc->hxc", bicubic(size[1]), image.astype(float))
    expected = np.einsum("yh,hxc->yxc", bicubic(size[0]), across).clip(0, 255)
    got = resize_clean(image)
    assert got.dtype == np.float32 and got.min() >= 0 and got.max() <= 255
    np.testing.assert_allclose(got, expected, atol=0.01)
    rounded = np.asarray(Image.fromarray(image).resize((299, 299), Image.Resampling.BICUBIC))
    assert np.abs(got - rounded).max() > 0.4  # Pillow rounds pictures of bytes, and cuts them off between its passes
