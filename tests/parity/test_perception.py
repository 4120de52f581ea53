"""The detector beside LiteRT and MediaPipe 1.2.2 on the same weights."""

import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from handjax.errors import BackendError
from handjax.images import find_images, read_image, resize
from handjax.perception import HandDetector
from handjax.perception.detector import TASK_FILE
from handjax.perception.networks import LANDMARK_SIZE, PALM_SIZE, LandmarkNetwork, PalmDetector
from handjax.perception.tflite import load_parameters

PHOTOS = sorted((TASK_FILE.parent / "photos").glob("*.jpg"))
SAMPLES = Path(__file__).parents[3] / "shared" / "samples"


@pytest.mark.parametrize(
    ("member", "module", "size"),
    [
        ("hand_detector.tflite", PalmDetector(), PALM_SIZE),
        ("hand_landmarks_detector.tflite", LandmarkNetwork(), LANDMARK_SIZE),
    ],
)
def test_raw_outputs_are_those_of_litert(member, module, size):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(model_content=zipfile.ZipFile(TASK_FILE).read(member))
    interpreter.allocate_tensors()
    image = resize(read_image(PHOTOS[0]), (size, size))[None] / np.float32(255)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    expected = [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]
    outputs = jax.jit(module.apply)(load_parameters(TASK_FILE, member, module, size), image)
    for ours, theirs in zip(outputs, expected, strict=True):
        in_pixels = np.abs(theirs).max() > 100
        np.testing.assert_allclose(ours, theirs.reshape(ours.shape), rtol=0, atol=5e-4 if in_pixels else 1e-4)


@pytest.fixture(scope="module")
def detectors():
    try:
        return HandDetector.load("flax"), HandDetector.load("mediapipe")
    except BackendError as error:
        pytest.skip(str(error))


def _assert_agreement(detectors, paths):
    """Bounds of the project's agreement with MediaPipe: F1 >= 0.98, median 0.5 %, 99th percentile 2 %, sides 99 %."""
    ours, theirs = ([detector.detect(read_image(path)) for path in paths] for detector in detectors)
    pairs = [pair for a, b in zip(ours, theirs, strict=True) for pair in _matches(a, b)]
    found = sum(map(len, ours)) + sum(map(len, theirs))
    distances = np.concatenate([_relative_distances(a, b) for a, b in pairs])
    assert 2 * len(pairs) / found >= 0.98
    assert np.median(distances) <= 0.005 and np.percentile(distances, 99) <= 0.02
    assert np.mean([a.side == b.side for a, b in pairs]) >= 0.99
    world_error = np.median([np.abs(a.world - b.world).max() for a, b in pairs])
    assert world_error <= 0.001


def _relative_distances(a, b):
    """Of 21 points, as a share of the longer side of the box."""
    return np.linalg.norm(a.keypoints[:, :2] - b.keypoints[:, :2], axis=1) / np.ptp(b.box.reshape(2, 2), axis=0).max()


def _matches(ours, theirs):
    """Pairs of hands whose points lie within half a box of each other, each hand in one pair."""
    pairs, left = [], list(ours)
    for hand in theirs:
        near = [other for other in left if _relative_distances(other, hand).mean() < 0.5]
        if near:
            best = min(near, key=lambda other: _relative_distances(other, hand).mean())
            left = [other for other in left if other is not best]
            pairs.append((best, hand))
    return pairs


def test_photographs_of_the_project_agree_with_mediapipe(detectors):
    _assert_agreement(detectors, PHOTOS)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample pictures (../shared/samples) are not here")
@pytest.mark.parametrize("every", [30, pytest.param(1, marks=pytest.mark.slow)])
def test_sample_pictures_agree_with_mediapipe(detectors, every):
    scenes = find_images([SAMPLES / "malformed", SAMPLES / "two_hands"])
    _assert_agreement(detectors, scenes + find_images([SAMPLES / "sign_digits"])[::every])
