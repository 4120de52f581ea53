import numpy as np
import pytest

from data_pipelines.encoding import jpeg, png
from data_pipelines.transforms import Augmentation, draw_window
from handjax.hand.words import swap_sides
from handjax.images import encode_png

WIDE = Augmentation(crop_scale=(1.2, 2.0), max_shift=0.4, max_rotation=40.0, flip_prob=0.5)


def test_plain_window_is_the_square_that_repair_sees():
    window = draw_window(200, 80, Augmentation(), np.random.default_rng(0))
    # 1.6 times half of the record, around its centre
    np.testing.assert_allclose(window.points(np.array([[20.0, 20.0], [180.0, 100.0]])), [[0, 0], [80, 40]], atol=1e-5)
    assert not window.mirrored


@pytest.mark.parametrize("seed", range(12))
def test_picture_map_and_points_move_together(seed):
    side, size, spot = 160, 96, np.array([85.0, 72.0])
    y, x = np.mgrid[:side, :side] + 0.5
    blob = np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / (2 * 6.0**2))
    window = draw_window(side, size, WIDE, np.random.default_rng(seed))
    expected = window.points(spot[None])[0]
    grey = np.repeat((blob[..., None] * 255).astype(np.uint8), 3, axis=-1)
    for seen in (window.photo(encode_png(grey))[..., 0] + 1.0, window.map(png(blob))):
        seen = np.where(seen > 0.05, seen, 0)
        v, u = np.mgrid[:size, :size] + 0.5
        np.testing.assert_allclose([(u * seen).sum() / seen.sum(), (v * seen).sum() / seen.sum()], expected, atol=0.35)


def test_maps_of_another_resolution_cover_the_same_square():
    window = draw_window(160, 96, WIDE, np.random.default_rng(3))
    y, x = np.mgrid[:64, :64] + 0.5
    disc = ((x - 30) ** 2 + (y - 34) ** 2 < 12**2).astype(float)
    v, u = np.nonzero(window.map(png(disc)))
    center = window.points(np.array([[30.0, 34.0]]) * 160 / 64)[0]
    np.testing.assert_allclose([u.mean() + 0.5, v.mean() + 0.5], center, atol=0.5)


def test_no_window_leaves_the_record():
    white = np.full((120, 120, 3), 255, np.uint8)
    for seed in range(60):
        window = draw_window(120, 32, WIDE, np.random.default_rng(seed))
        assert window.photo(jpeg(white)).min() == 1.0, seed
        assert window.map(encode_png(white[..., 0])).min() == 1.0, seed


def test_shrinking_averages_and_skips_no_pixel():
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    seen = draw_window(1024, 64, Augmentation(), np.random.default_rng(0)).photo(encode_png(stripes))
    np.testing.assert_allclose(seen, 0.0, atol=0.05)


@pytest.mark.parametrize("side", [801, 807, 1609])
def test_a_reduced_photo_stays_in_register_with_its_points(side):
    """Decoders and reductions round sizes up; the picture must not shift for it."""
    point = np.array([0.8 * side, 0.3 * side])
    y, x = np.mgrid[:side, :side] + 0.5
    blob = np.exp(-np.square(np.hypot(x - point[0], y - point[1]) / (side / 25)))
    photo = np.repeat(np.rint(255 * blob).astype(np.uint8)[..., None], 3, axis=2)
    window = draw_window(side, 96, Augmentation(), np.random.default_rng(0))
    for encode in (jpeg, encode_png):
        seen = window.photo(encode(photo)).mean(axis=-1) + 1
        rows, columns = np.mgrid[:96, :96] + 0.5
        centre = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
        np.testing.assert_allclose(centre, window.points(point[None])[0], atol=0.05)


def test_a_mirrored_left_hand_is_a_right_one():
    assert swap_sides("a left hand, bright light, Leftover, right") == "a right hand, bright light, Leftover, left"
    assert swap_sides("Left hand on the strings. Right hand raised.") == "Right hand on the strings. Left hand raised."
