"""Colours, patches and keypoint noise against their definitions, and their statistics."""

import numpy as np
import pytest

from data_pipelines.appearance import Appearance, change_colors, draw_patch, move_keypoints

# of the NTSC's colour axes, as textbooks print them
LUMA = np.array([0.299, 0.587, 0.114])
COLOR_AXES = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
ROUNDED = 0.02  # how far those of Python's colorsys are off


@pytest.fixture
def photo():
    """Colours of the middle range, so that none is cut off, with greys in the first row."""
    photo = np.random.default_rng(5).uniform(-0.35, 0.35, (12, 10, 3)).astype(np.float32)
    photo[0] = photo[0, :, :1]
    return photo


def changed(photo, seed=0, **strengths):
    """The picture before and after, in [0, 1]."""
    after = change_colors(photo, Appearance(**strengths), np.random.default_rng(seed))
    assert after.dtype == np.float32 and after.shape == photo.shape
    return (photo + 1) / 2, (after + 1) / 2


def factors(measure, **strengths):
    """What `measure` finds over many draws."""
    photo = np.random.default_rng(5).uniform(-0.3, 0.3, (12, 10, 3)).astype(np.float32)
    return np.array([measure(*changed(photo, seed, **strengths)) for seed in range(400)])


def check_uniform(values, middle, reach):
    """Mean, standard deviation and range of a uniform distribution."""
    assert np.abs(values - middle).max() <= reach * 1.01
    assert values.mean() == pytest.approx(middle, abs=3 * reach / np.sqrt(3 * len(values)))
    assert values.std() == pytest.approx(reach / np.sqrt(3), rel=0.1)


def test_no_strength_changes_nothing_and_draws_nothing(photo):
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    places = np.ones((21, 2), np.float32)
    assert change_colors(photo, Appearance(), rng) is photo
    assert draw_patch(places, 50.0, Appearance(), rng) is None
    assert move_keypoints(places, 50.0, 0.0, rng) is places
    assert rng.bit_generator.state == before


def test_brightness_is_a_factor():
    check_uniform(factors(lambda before, after: np.median(after / before), brightness=0.3), 1, 0.3)
    check_uniform(factors(lambda before, after: (after / before).max(), brightness=0.3), 1, 0.3)


def test_contrast_is_a_factor_of_the_distance_from_the_mean():
    def measure(before, after):
        assert (after @ LUMA).mean() == pytest.approx((before @ LUMA).mean(), abs=1e-3)
        return after.std() / before.std()

    check_uniform(factors(measure, contrast=0.4), 1, 0.4)


def test_saturation_is_a_factor_of_colour_and_keeps_luma_and_greys(photo):
    def measure(before, after):
        np.testing.assert_allclose(after @ LUMA, before @ LUMA, atol=0.01)
        return np.linalg.norm(after @ COLOR_AXES.T) / np.linalg.norm(before @ COLOR_AXES.T)

    check_uniform(factors(measure, saturation=0.5), 1, 0.5)
    before, after = changed(photo, saturation=0.5)
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)


def test_hue_turns_colours_and_keeps_luma_and_greys(photo):
    def measure(before, after):
        old, new = before @ COLOR_AXES.T, after @ COLOR_AXES.T
        np.testing.assert_allclose(after @ LUMA, before @ LUMA, atol=0.01)
        np.testing.assert_allclose(np.linalg.norm(new, axis=-1), np.linalg.norm(old, axis=-1), atol=ROUNDED)
        turned = (new @ [1, 1j]) * np.conj(old @ [1, 1j])
        return np.angle(turned.sum()) / (2 * np.pi)

    check_uniform(factors(measure, hue=0.1), 0, 0.1)
    before, after = changed(photo, hue=0.3)
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)


def test_all_at_once_are_one_after_the_other(photo):
    strengths = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.2}
    before, after = changed(photo, 3, **strengths)
    draws = np.random.default_rng(3).uniform(-1, 1, 4) * list(strengths.values())
    axes = np.vstack([LUMA, COLOR_AXES])
    expected = before * (1 + draws[0])
    luma, i, q = np.moveaxis(expected @ axes.T, -1, 0)
    turned = (i + 1j * q) * (1 + draws[2]) * np.exp(2j * np.pi * draws[3])
    expected = np.stack([luma, turned.real, turned.imag], -1) @ np.linalg.inv(axes).T
    mean = (expected @ LUMA).mean()
    expected = (expected - mean) * (1 + draws[1]) + mean
    np.testing.assert_allclose(after, expected, atol=ROUNDED)
    assert np.abs(after - before).max() > 0.1


def test_colours_stay_in_range():
    photo = np.random.default_rng(0).choice([-1.0, 1.0], (20, 20, 3)).astype(np.float32)
    for seed in range(50):
        after = change_colors(photo, Appearance(1.0, 1.0, 1.0, 0.5), np.random.default_rng(seed))
        assert after.min() >= -1 and after.max() <= 1 and np.isfinite(after).all()


HIDDEN = Appearance(occlusion_prob=1.0, occlusion_size=(0.2, 0.6))
PLACES = np.array([[30.0, 30.0], [50.0, 60.0], [64.0, 40.0]], np.float32)


def patches(count, appearance=HIDDEN):
    return [draw_patch(PLACES, 60.0, appearance, np.random.default_rng(seed)) for seed in range(count)]


def test_patches_come_as_often_as_asked():
    drawn = patches(1000, Appearance(occlusion_prob=0.3))
    assert np.mean([patch is not None for patch in drawn]) == pytest.approx(0.3, abs=0.045)


def test_a_patch_hides_what_it_covers_and_nothing_else():
    size = 160
    photo = np.full((size, size, 3), 2.0, np.float32)  # no texture's value
    pixels = np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).reshape(-1, 2) + 0.5
    areas, middles = [], []
    for patch in patches(200):
        painted = patch.paint(photo)
        hidden = (painted != photo).any(axis=-1)
        np.testing.assert_array_equal(hidden.ravel(), patch.covers(pixels))
        assert np.abs(painted[hidden]).max() <= 1
        areas.append(hidden.sum())
        middles.append(pixels[hidden.ravel()].mean(axis=0))
    assert photo.min() == 2.0
    # sides from 12 to 36 pixels, each with mean 24
    assert min(areas) > 12**2 * 0.95 and max(areas) < 36**2 * 1.05
    assert np.mean(areas) == pytest.approx(24**2, rel=0.1)
    nearest = np.linalg.norm(np.array(middles)[:, None] - PLACES, axis=-1)
    assert nearest.min(axis=1).max() < 1.0
    np.testing.assert_allclose(np.bincount(nearest.argmin(axis=1)) / 200, 1 / 3, atol=0.1)


def test_textures_are_of_every_colour_and_from_flat_to_noisy():
    textures = [patch.texture.reshape(-1, 3) for patch in patches(300)]
    colors = np.array([texture.mean(axis=0) for texture in textures])
    assert np.abs(colors.mean(axis=0)).max() < 0.12 and colors.std(axis=0).min() > 0.45
    spread = np.array([texture.std(axis=0).mean() for texture in textures])
    assert spread.min() < 0.05 and spread.max() > 0.4


def test_keypoints_move_by_shares_of_the_hand():
    places = np.zeros((21, 2), np.float32)
    moved = np.stack([move_keypoints(places, 80.0, 0.05, np.random.default_rng(seed)) for seed in range(200)])
    assert moved.dtype == np.float32
    assert moved.std() == pytest.approx(4.0, rel=0.03) and abs(moved.mean()) < 0.15
    assert abs(np.corrcoef(moved[..., 0].ravel(), moved[..., 1].ravel())[0, 1]) < 0.05
