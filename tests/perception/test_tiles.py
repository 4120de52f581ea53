import numpy as np
import pytest
from PIL import Image

from handjax.errors import ConfigError, InputError
from handjax.images import read_image
from handjax.perception import HandDetector
from handjax.perception.detector import TASK_FILE
from handjax.perception.tiles import SMALLEST_TILE, lay_tiles

PHOTO = TASK_FILE.parent / "photos" / "nocurl.jpg"
HAND_BOX = np.array([217, 107, 373, 559])  # of the photograph, pixels
WIDTH, HEIGHT = 1280, 960


@pytest.fixture(scope="module")
def detector():
    return HandDetector.load()


@pytest.fixture(scope="module")
def tiled():
    return HandDetector.load(tiled=True)


def _canvas(hand_size, x, y):
    """A large soft picture with the photograph pasted so that its hand, `hand_size` pixels high, is about (x, y)."""
    scale = hand_size / (HAND_BOX[3] - HAND_BOX[1])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    waves = [110 + 60 * np.sin(columns / 97 + i) * np.cos(rows / 61 - i) for i in range(3)]
    canvas = Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))
    with Image.open(PHOTO) as photo:
        small = photo.resize([round(side * scale) for side in photo.size], Image.Resampling.LANCZOS)
    middle = (HAND_BOX[:2] + HAND_BOX[2:]) / 2 * scale
    corner = np.round((x, y) - middle).astype(int)
    canvas.paste(small, tuple(corner.tolist()))
    return np.asarray(canvas), HAND_BOX * scale + np.tile(corner, 2)


@pytest.mark.slow
@pytest.mark.parametrize("hand_size, x, y", [(24, 640, 480), (32, 316, 212), (40, 1015, 728)])
def test_a_small_hand_is_found_in_tiles_and_only_there(detector, tiled, hand_size, x, y):
    image, box = _canvas(hand_size, x, y)
    assert detector.detect(image) == []
    (hand,) = tiled.detect(image)
    np.testing.assert_allclose(hand.box, box, atol=0.2 * hand_size)


@pytest.mark.slow
def test_a_hand_on_the_border_of_tiles_is_found_once(tiled):
    tiles = lay_tiles(HEIGHT, WIDTH)
    smallest = np.flatnonzero(np.asarray(tiles.regions.side) == SMALLEST_TILE)
    x, y = np.asarray(tiles.cores)[smallest[len(smallest) // 2], 2:]  # a corner of four cores
    image, box = _canvas(36, float(x), float(y))
    (hand,) = tiled.detect(image)
    np.testing.assert_allclose(hand.box, box, atol=0.2 * 36)


@pytest.mark.slow
def test_a_large_hand_is_found_once_in_tiles_too(detector, tiled):
    image = read_image(PHOTO)
    (whole,), (hand,) = detector.detect(image), tiled.detect(image)
    np.testing.assert_allclose(hand.box, whole.box, atol=40)


@pytest.mark.parametrize("height, width", [(1, 1), (100, 500), (960, 1280), (129, 128)])
def test_cores_of_one_size_part_the_picture(height, width):
    tiles = lay_tiles(height, width)
    points = np.random.default_rng(0).uniform(0, (width, height), (50, 2))
    for side in np.unique(tiles.regions.side):
        of_side = np.asarray(tiles.regions.side) == side
        low, high = np.split(np.asarray(tiles.cores)[of_side], 2, axis=1)
        inside = ((points[:, None] >= low) & (points[:, None] < high)).all(axis=-1)
        assert (inside.sum(axis=1) == 1).all()
        distance = np.abs(points - np.asarray(tiles.regions.center)[of_side][inside.argmax(axis=1)])
        assert (distance <= side / 2).all()
    assert tiles.regions.side.max() == max(height, width)


def test_a_box_is_read_where_no_hand_is_found(detector):
    image, box = _canvas(40, 640, 480)
    (hand,) = detector.read(image, boxes=box[None])
    np.testing.assert_allclose(hand.box, box, atol=0.2 * 40)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_a_box_is_read_however_the_hand_is_turned(detector, quarters):
    image = np.ascontiguousarray(np.rot90(read_image(PHOTO), quarters))
    height, width = image.shape[:2]
    (upright,) = detector.detect(read_image(PHOTO))
    x, y = upright.keypoints[:, 0], upright.keypoints[:, 1]
    turned = np.stack([(x, y), (y, height - x), (width - x, height - y), (width - y, x)][quarters], axis=-1)
    (hand,) = detector.read(image, boxes=np.concatenate([turned.min(axis=0), turned.max(axis=0)])[None])
    distances = np.linalg.norm(hand.keypoints[:, :2] - turned, axis=1) / 452
    assert np.median(distances) < 0.06 and distances.max() < 0.15


def test_given_keypoints_are_kept(detector):
    image = read_image(PHOTO)
    (found,) = detector.detect(image)
    given = found.keypoints[:, :2] + np.random.default_rng(0).normal(0, 3, (21, 2)).astype(np.float32)
    (hand,) = detector.read(image, keypoints=given[None])
    np.testing.assert_allclose(hand.keypoints[:, :2], given, atol=1e-3)
    np.testing.assert_allclose(hand.world, found.world, atol=0.04)


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [0, 0, np.nan, 3], [1, 2, 3]])
def test_an_empty_box_is_refused(detector, box):
    with pytest.raises(InputError, match="; give"):
        detector.read(np.zeros((20, 20, 3), np.uint8), boxes=np.array([box], float))


def test_only_the_flax_backend_has_tiles():
    with pytest.raises(ConfigError, match="use the flax backend"):
        HandDetector.load("mediapipe", tiled=True)
