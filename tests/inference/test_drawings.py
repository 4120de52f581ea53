"""Which pictures are told to be drawings: shapes of known colours, and the same shapes lit as photographs are."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

import handjax
from data_pipelines.rendered import rendered_records
from handjax.images import decode_image, find_images, read_image, resize
from handjax.inference import drawings
from handjax.inference.drawings import is_drawing
from tests.inference.drawn_hand import hand_of_shapes

PHOTOS = sorted((Path(handjax.__file__).parent / "assets" / "photos").glob("*.jpg"))
DIGITS = Path(__file__).parents[3] / "shared" / "samples" / "sign_digits"
SKINS, PAPERS = ((255, 224, 189), (141, 85, 36)), ((255, 255, 255), (60, 140, 220), (20, 20, 20))


def as_jpeg(image, quality):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("skin", SKINS)
@pytest.mark.parametrize("paper", PAPERS)
def test_shapes_of_few_colours_are_a_drawing_at_any_size_and_as_jpeg(skin, paper):
    """A JPEG of 100 pixels has ripples about every edge, and is not told to be one."""
    for side in (100, 300, 900):
        image = hand_of_shapes(skin, paper, side)
        assert is_drawing(image)
        assert side == 100 or is_drawing(as_jpeg(image, 90))


def test_lines_are_a_drawing():
    picture = Image.new("RGB", (256, 192))
    for number, color in enumerate(("red", "lime", "blue", "yellow", "cyan")):
        ImageDraw.Draw(picture).line((128, 180, 40 + 44 * number, 20), color, 3)
    assert is_drawing(np.asarray(picture))


@pytest.mark.parametrize("skin", SKINS)
@pytest.mark.parametrize("paper", PAPERS)
def test_the_same_shapes_in_light_are_none(skin, paper):
    """Light that falls off by a half across the picture, and a little noise."""
    image = hand_of_shapes(skin, paper)
    light = np.linspace(1, 0.5, 300)[:, None, None] * np.linspace(1, 0.8, 300)[:, None]
    noise = np.random.default_rng(0).normal(0, 3, image.shape)
    assert not is_drawing((image * light + noise).clip(0, 255).astype(np.uint8))


def test_grey_photographs_are_none():
    for path in PHOTOS:
        grey = np.asarray(Image.open(path).convert("L"))
        for gain in (0.25, 0.5, 1.0):
            assert not is_drawing(np.repeat((grey * gain).astype(np.uint8)[..., None], 3, -1))


def test_grey_drawings_are():
    for skin, paper in (((230,) * 3, (255,) * 3), ((120,) * 3, (20,) * 3)):
        assert is_drawing(hand_of_shapes(skin, paper))


def test_photographs_and_walls_are_none():
    for path in PHOTOS:
        assert not is_drawing(read_image(path)) and not is_drawing(resize(read_image(path), (64, 48)))
    wall = np.full((120, 90, 3), 200, np.uint8)
    assert not is_drawing(wall) and not is_drawing(wall[:1, :1])


def test_what_common_colours_cover():
    """Ten stripes of equal width, whose colours are a shade apart: the commonest eight cover eight of them."""
    stripes = np.repeat(np.arange(10) * 16, 8).astype(np.uint8)
    image = np.broadcast_to(stripes[None, :, None], (40, 80, 3))
    assert drawings._covered(image.astype(int)) == pytest.approx(0.8)
    assert not is_drawing(image)


@pytest.mark.skipif(not DIGITS.is_dir(), reason="the sample pictures (../shared/samples) are not here")
@pytest.mark.slow
def test_no_photograph_of_1683_is_taken_for_a_drawing():
    photos = find_images([DIGITS])
    assert len(photos) == 1683 and not any(is_drawing(read_image(path)) for path in photos)


@pytest.mark.slow
def test_rendered_hands_are_photographs_and_what_is_drawn_of_them_is_not():
    """Skeletons, and cartoons of one skin colour with the outline of the hand."""
    for number, record in enumerate(rendered_records(range(40), seed=11)):
        image, mask, skeleton = (decode_image(png, record.id) for png in (record.image, record.mask, record.skeleton))
        hand = mask[..., 0] > 127
        cartoon = np.full(image.shape, PAPERS[number % 3], np.uint8)
        cartoon[binary_dilation(hand, iterations=2)] = 0
        cartoon[hand] = SKINS[number % 2]
        assert (
            not is_drawing(image) and is_drawing(skeleton) and is_drawing(cartoon) and is_drawing(as_jpeg(cartoon, 90))
        )
