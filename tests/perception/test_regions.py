import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.perception.regions import Picture, Region, cut_out, letterbox_region, pad_picture, to_picture


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def _region(center, side, rotation=0.0):
    return Region(center=jnp.array(center, jnp.float32), side=jnp.float32(side), rotation=jnp.float32(rotation))


def _sample(image, x, y, black_outside):
    """Bilinear sample at places rounded to 1/32 pixel, in Python integers."""
    x, y = round(x * 32), round(y * 32)
    total = np.zeros(3)
    for row, down in ((y // 32, 32 - y % 32), (y // 32 + 1, y % 32)):
        for column, right in ((x // 32, 32 - x % 32), (x // 32 + 1, x % 32)):
            inside = 0 <= row < image.shape[0] and 0 <= column < image.shape[1]
            pixel = image[np.clip(row, 0, image.shape[0] - 1), np.clip(column, 0, image.shape[1] - 1)]
            total += (inside or not black_outside) * down * right * pixel.astype(float)
    return np.floor(total / 1024 + 0.5) / 255


@pytest.mark.parametrize("black_outside", [True, False])
def test_cut_out_samples_as_an_integer_writing_does(image, black_outside):
    region = _region((50.3, 33.1), 47.7, 0.7)
    crop = np.asarray(cut_out(pad_picture(image), region, 12, black_outside=black_outside))
    cosine, sine = np.cos(0.7), np.sin(0.7)
    for row in range(12):
        for column in range(12):
            x, y = (column / 12 - 0.5) * 47.7, (row / 12 - 0.5) * 47.7
            place = 50.3 + cosine * x - sine * y, 33.1 + sine * x + cosine * y
            np.testing.assert_allclose(crop[row, column], _sample(image, *place, black_outside), atol=1.01 / 255)


def test_cut_out_of_whole_pixels_copies_them(image):
    crop = cut_out(pad_picture(image), _region((30, 20), 16), 16, black_outside=True)
    np.testing.assert_array_equal(np.round(np.asarray(crop) * 255), image[12:28, 22:38])


def test_a_quarter_turn_turns_the_picture(image):
    crop = cut_out(pad_picture(image), _region((30, 20), 16, np.pi / 2), 16, black_outside=True)
    expected = np.rot90(image[12:28, 23:39], 1)  # a pixel's place turns about the corner between pixels
    np.testing.assert_allclose(np.asarray(crop)[1:, 1:], expected[1:, 1:] / 255, atol=1e-6)


def test_letterbox_centers_the_picture_on_black(image):
    frame = np.asarray(cut_out(pad_picture(image), letterbox_region(jnp.array([40, 60])), 60, black_outside=True))
    np.testing.assert_allclose(frame[10:50] * 255, image, atol=1e-4)
    assert not frame[:10].any() and not frame[50:].any()


def test_padding_changes_nothing(image):
    padded = pad_picture(image)
    assert len(padded.pixels) == 4096
    exact = Picture(pixels=image.reshape(-1, 3), size=np.array([40, 60]))
    region = _region((55, 5), 30, 0.3)
    np.testing.assert_array_equal(
        cut_out(padded, region, 8, black_outside=False), cut_out(exact, region, 8, black_outside=False)
    )


def test_gradient_reaches_the_pixels_that_were_sampled(image):
    def total(pixels):
        picture = Picture(pixels=pixels, size=jnp.array([40, 60]))
        return cut_out(picture, _region((30, 20), 16), 16, black_outside=True).sum()

    gradient = jax.grad(total)(jnp.asarray(image, jnp.float32).reshape(-1, 3)).reshape(image.shape)
    expected = np.zeros(image.shape)
    expected[12:28, 22:38] = 1 / 255
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_corners_of_the_unit_square_are_corners_of_the_region():
    corners = to_picture(jnp.array([[0.0, 0.0], [1.0, 1.0]]), _region((10, 20), 4, np.pi))
    np.testing.assert_allclose(corners, [[12, 22], [8, 18]], atol=1e-5)
