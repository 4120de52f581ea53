from pathlib import Path

import jax
import numpy as np
import pytest

from handjax.errors import BackendError, ConfigError, WeightsError
from handjax.images import read_image
from handjax.perception import HandDetector, flax_backend
from handjax.perception.detector import TASK_FILE

PHOTOS = sorted((TASK_FILE.parent / "photos").glob("*.jpg"))


@pytest.fixture(scope="module")
def detector():
    return HandDetector.load()


@pytest.fixture(scope="module")
def photo():
    return read_image(TASK_FILE.parent / "photos" / "fullcurl.jpg")


@pytest.mark.parametrize("path", PHOTOS, ids=lambda path: path.stem)
def test_each_photograph_holds_one_hand(detector, path):
    image = read_image(path)
    (hand,) = detector.detect(image)
    x0, y0, x1, y1 = hand.box
    assert 0 < x0 < x1 < image.shape[1] and 0 < y0 < y1 < image.shape[0]
    np.testing.assert_array_equal(hand.keypoints[:, :2].min(axis=0), [x0, y0])
    wrist_to_middle_knuckle = np.linalg.norm(hand.world[9] - hand.world[0])
    assert 0.06 < wrist_to_middle_knuckle < 0.13  # metres, of an adult


def test_a_mirrored_picture_holds_the_other_hand(detector, photo):
    (hand,), (mirrored,) = detector.detect(photo), detector.detect(np.ascontiguousarray(photo[:, ::-1]))
    assert {hand.side, mirrored.side} == {"left", "right"}
    np.testing.assert_allclose(mirrored.keypoints[:, 0], photo.shape[1] - hand.keypoints[:, 0], atol=25)


def test_two_hands_side_by_side_are_two(detector, photo):
    both = np.concatenate([photo, photo[:, ::-1]], axis=1)
    hands = detector.detect(both)
    assert sorted(hand.side for hand in hands) == ["left", "right"]
    assert len(HandDetector.load(max_hands=1).detect(both)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (64, 64)])
def test_no_hand_is_an_empty_list(detector, shape):
    assert detector.detect(np.full((*shape, 3), 127, np.uint8)) == []


def test_a_new_picture_size_does_not_recompile_the_networks(detector, photo):
    detector.detect(photo)
    before = flax_backend._palm_regions._cache_size(), flax_backend._place._cache_size()
    for size in (400, 333, 250):
        assert detector.detect(photo[:size, :size]) is not None
    assert (flax_backend._palm_regions._cache_size(), flax_backend._place._cache_size()) == before


def test_the_batched_program_finds_what_the_detector_finds(detector, photo):
    weights = flax_backend.load_weights(TASK_FILE)
    batch = np.stack([photo, np.zeros_like(photo), photo[:, ::-1]])
    pictures = flax_backend.Picture(pixels=batch.reshape(3, -1, 3), size=np.tile(np.int32(photo.shape[:2]), (3, 1)))
    program = jax.jit(jax.vmap(flax_backend.detect_hands, in_axes=(None, 0, None, None)), static_argnums=2)
    hands = program(weights, pictures, 2, 0.5)
    np.testing.assert_array_equal(hands.valid, [[True, False], [False, False], [True, False]])
    for i in (0, 2):
        (expected,) = detector.detect(np.ascontiguousarray(batch[i]))
        np.testing.assert_allclose(hands.keypoints[i, 0], expected.keypoints, atol=0.05)
        assert ("right" if hands.right[i, 0] > 0.5 else "left") == expected.side


def test_reading_a_hand_is_differentiable_in_the_picture(photo):
    weights = flax_backend.load_weights(TASK_FILE)
    picture = flax_backend.pad_picture(photo)
    regions, _ = flax_backend.find_regions(weights, picture, 1, 0.5)
    region = jax.tree.map(lambda x: x[0], regions)

    def index_tip_x(pixels):
        return flax_backend.read_hand(weights, picture.replace(pixels=pixels), region, 0.5).keypoints[8, 0]

    pixels = picture.pixels.astype(np.float32)
    gradient = np.asarray(jax.grad(index_tip_x)(pixels))
    step = 10 * gradient / np.linalg.norm(gradient)
    moved = (index_tip_x(pixels + step) - index_tip_x(pixels - step)) / 2
    # the network bends quickly in its steepest direction; the crop's gradient is tested exactly in test_regions
    assert 0.25 < moved / (gradient * step).sum() < 1.5


@pytest.mark.parametrize("settings", [{"backend": "other"}, {"max_hands": 0}, {"min_score": 1.5}])
def test_bad_settings_are_refused(settings):
    with pytest.raises(ConfigError):
        HandDetector.load(**settings)


def test_mediapipe_that_cannot_be_imported_names_its_packages(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mediapipe", None)
    with pytest.raises(BackendError, match="libegl1 libgles2"):
        HandDetector.load("mediapipe")


@pytest.mark.parametrize("backend", ["flax", "mediapipe"])
def test_missing_weights_are_refused(backend):
    with pytest.raises(WeightsError, match="absent.task"):
        HandDetector.load(backend, task=Path("absent.task"))
