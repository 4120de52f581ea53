"""What is drawn of a reading: tokens of other ranks, and the points that the last layer samples."""

import jax.numpy as jnp
import numpy as np
import pytest

from handjax.hand.model import load_open_hand
from handjax.inference.explain import COLORS, FINGERS, Explainer
from handjax.recovery.camera import crop_places, reference_points
from handjax.recovery.decoding import ITERATIONS, hidden_before
from handjax.recovery.ggpm import keypoint_of_tokens
from handjax.recovery.masking import masked_counts
from tests.recovery.tiny_models import NETWORK, random_model

SIZE = 256


@pytest.fixture(scope="module")
def explainer():
    return Explainer(random_model(), load_open_hand())


@pytest.fixture(scope="module")
def crops():
    """A grey crop, and keypoints of which none is at the border."""
    places = np.random.default_rng(0).uniform(-0.3, 0.3, (1, 21, 2))
    return np.zeros((1, SIZE, SIZE, 3), np.float32), np.concatenate([places, np.ones((1, 21, 1))], 2).astype(np.float32)


def test_tokens_are_hidden_as_decoding_hides_them(explainer, crops):
    _, decoded = explainer.read(*crops)
    expected = [16, *masked_counts(ITERATIONS, 16)[:-1]]
    np.testing.assert_array_equal(hidden_before(decoded)[:, 0], expected)


def test_other_ranks_give_other_meshes(explainer, crops):
    tiles = explainer.less_likely(*crops)
    assert tiles.shape == (1, SIZE, 4 * SIZE, 3)  # of 12 codes there are ranks 1, 7 and 10
    np.testing.assert_array_equal(tiles[:, :, :SIZE], explainer.plain(crops[0]))
    np.testing.assert_array_equal(tiles[:, :, SIZE : 2 * SIZE], explainer.meshes(*crops, rank=1))
    tokens = [np.asarray(explainer.read(*crops, rank)[1].tokens) for rank in (1, 7, 10)]
    assert (tokens[0] != tokens[1]).any() and (tokens[1] != tokens[2]).any()


def test_points_lie_about_the_keypoints_of_their_tokens(explainer, crops):
    """A new network's offsets are its circle: one pixel of each map a point, in the directions of its heads."""
    points = np.asarray(explainer.sampling_points(*crops))
    joints = keypoint_of_tokens(16)
    references = np.asarray(reference_points(jnp.asarray(crops[1][:, joints, :2])))
    offsets = points - references[:, :, None, None, None]
    for level, (height, width) in enumerate(((16, 12), (64, 48))):
        steps = offsets[:, :, :, level] * [width, height]
        for head, direction in enumerate(((1, 0), (-1, 0))):
            far = np.arange(1, NETWORK["points"] + 1)[:, None] * direction
            np.testing.assert_allclose(steps[0, :, head], np.broadcast_to(far, steps[0, :, head].shape), atol=1e-3)
    tiles = explainer.looks(*crops)
    for number, finger in enumerate(FINGERS):
        tile = tiles[0, :, (number + 1) * SIZE : (number + 2) * SIZE]
        for joint, color in zip(finger, COLORS, strict=True):
            places = crop_places(jnp.asarray(points[0, joint].reshape(-1, 2)))
            x, y = np.floor((np.asarray(places) + 0.5) * SIZE).astype(int).T
            drawn = (tile[y, x] == color).all(-1)
            assert drawn.any()
