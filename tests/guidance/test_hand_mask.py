"""The cumulative hand mask against sets of pixels, and on a photograph under jit."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handjax
from handjax.guidance.hand_mask import HandMask, MaskSettings, look_for_hands
from handjax.images import read_image, resize
from handjax.perception import HandDetector
from handjax.perception.detector import TASK_FILE
from handjax.perception.flax_backend import load_weights
from handjax.perception.margin import detect_with_margin

HEIGHT, WIDTH = 32, 48
PHOTO = Path(handjax.__file__).parent / "assets" / "photos" / "nocurl.jpg"


def inside(box, dilation):
    """Pixels (row, column) whose centres lie in the dilated box."""
    x0, y0, x1, y1 = box
    margin = dilation * max(x1 - x0, y1 - y0)
    return {
        (row, column)
        for row in range(HEIGHT)
        for column in range(WIDTH)
        if x0 - margin <= column <= x1 + margin and y0 - margin <= row <= y1 + margin
    }


def pixels_of(mask, picture):
    return set(map(tuple, np.argwhere(mask.pixels[picture])))


def grow(mask, boxes, seen, **settings):
    settings = MaskSettings(**{"dilation": 0.25, "cap": 1.0, **settings})
    return jax.jit(lambda m, b, s: m.grown(b, s, settings))(mask, jnp.float32(boxes), jnp.array(seen))


def test_the_mask_is_the_union_of_all_dilated_boxes_that_were_hands():
    first, second, third = (10.0, 5.0, 20.0, 9.0), (30.0, -4.0, 60.0, 6.0), (12.0, 20.0, 16.0, 24.0)
    mask = HandMask.empty(2, HEIGHT, WIDTH, 2)
    mask = grow(mask, [[first, second], [third, first]], [[True, False], [False, False]])
    assert pixels_of(mask, 0) == inside(first, 0.25) and not mask.pixels[1].any()
    mask = grow(mask, [[third, second], [second, first]], [[True, True], [False, True]])
    assert pixels_of(mask, 0) == inside(first, 0.25) | inside(second, 0.25) | inside(third, 0.25)
    assert pixels_of(mask, 1) == inside(first, 0.25)
    np.testing.assert_allclose(mask.area[0], len(pixels_of(mask, 0)) / HEIGHT / WIDTH, rtol=1e-6)
    assert mask.found.tolist() == [2, 1] and not mask.full.any()
    np.testing.assert_array_equal(mask.seen, [[True, True], [False, True]])
    missed = grow(mask, [[second, second], [third, third]], [[False, False], [False, False]])
    for name in ("pixels", "boxes", "seen", "found"):
        np.testing.assert_array_equal(getattr(missed, name), getattr(mask, name))
    np.testing.assert_array_equal(missed.boxes[0], [third, second])


def test_a_cell_of_latents_with_any_pixel_is_in_the_mask():
    mask = grow(HandMask.empty(1, HEIGHT, WIDTH, 1), [[(15.0, 7.0, 17.0, 8.0)]], [[True]], dilation=0.0)
    cells = np.asarray(mask.cells(8))[0, ..., 0]
    assert cells.shape == (4, 6)
    assert set(map(tuple, np.argwhere(cells))) == {(r // 8, c // 8) for r, c in pixels_of(mask, 0)}
    assert cells.sum() == 4 and set(np.unique(cells)) == {0.0, 1.0}


def test_the_cap_makes_boxes_smaller_about_their_centres():
    whole, corner = (0.0, 0.0, 47.0, 31.0), (0.0, 0.0, 4.0, 4.0)
    mask = grow(HandMask.empty(1, HEIGHT, WIDTH, 1), [[whole]], [[True]], cap=0.35, dilation=0.0)
    # 0.55 of either side is 25 × 17 or 26 × 18 pixels; 0.6 would be 0.36 of the area
    rows, columns = np.argwhere(mask.pixels[0]).T
    assert 0.27 < mask.area[0] <= 0.35 and mask.full[0]
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == (31, 47)
    before = mask.area[0]
    mask = grow(mask, [[corner]], [[True]], cap=0.35, dilation=0.0)
    assert mask.area[0] == pytest.approx(float(before) + 25 / HEIGHT / WIDTH)  # there is room for it
    full = grow(mask, [[whole]], [[True]], cap=float(mask.area[0]))
    np.testing.assert_array_equal(full.pixels, mask.pixels)


def test_a_mask_without_room_stays_and_says_so():
    mask = HandMask.empty(1, HEIGHT, WIDTH, 1)
    mask = grow(mask, [[(4.0, 4.0, 9.0, 9.0)]], [[True]], cap=0.001)
    assert mask.area[0] <= 0.001 and mask.full[0] and mask.found[0] == 1


@pytest.fixture(scope="module")
def weights():
    return load_weights(TASK_FILE)


def test_a_photographed_hand_is_found_inside_jit_as_the_detector_finds_it(weights):
    """The latents are the pixels; the second picture shows nothing."""
    image = resize(read_image(PHOTO), (96, 96))
    latents = jnp.stack([jnp.float32(image) / 127.5 - 1, jnp.zeros((96, 96, 3))])
    settings = MaskSettings(threshold=0.5)
    boxes, seen = jax.jit(lambda x: look_for_hands(weights, lambda z: z, x, settings))(latents)
    (hand,) = detect_with_margin(HandDetector.load(max_hands=2), image)
    places = hand.keypoints[:, :2]
    assert seen.sum(axis=1).tolist() == [1, 0]
    np.testing.assert_allclose(boxes[0][0], [*places.min(axis=0), *places.max(axis=0)], atol=0.5)
