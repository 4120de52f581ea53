import jax.numpy as jnp
import numpy as np
import pytest

from handjax.perception.palm import Palms, anchor_centers, decode_palms, hand_region, suppress
from handjax.perception.regions import Region

FRAME = Region(center=jnp.array([50.0, 40.0]), side=jnp.float32(100.0), rotation=jnp.float32(0.0))


def test_anchors_follow_two_grids():
    anchors = anchor_centers()
    assert anchors.shape == (24 * 24 * 2 + 12 * 12 * 6, 2)
    np.testing.assert_allclose(anchors[:4], np.array([[4, 4], [4, 4], [12, 4], [12, 4]]) / 192, rtol=1e-6)
    np.testing.assert_allclose(anchors[48], np.array([4, 12]) / 192, rtol=1e-6)
    np.testing.assert_allclose(anchors[1152:1159], np.array([[8, 8]] * 6 + [[24, 8]]) / 192, rtol=1e-6)
    np.testing.assert_allclose(anchors[-1], np.array([184, 184]) / 192, rtol=1e-6)


def test_decoding_against_numpy():
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 20, (2016, 18)).astype(np.float32)
    logits = rng.normal(0, 50, 2016).astype(np.float32)
    palms = decode_palms(jnp.asarray(raw), jnp.asarray(logits), 0.6)
    anchors = anchor_centers()
    np.testing.assert_allclose(palms.boxes[:, 0], anchors[:, 0] + (raw[:, 0] - raw[:, 2] / 2) / 192, atol=1e-5)
    np.testing.assert_allclose(palms.boxes[:, 3], anchors[:, 1] + (raw[:, 1] + raw[:, 3] / 2) / 192, atol=1e-5)
    np.testing.assert_allclose(palms.keypoints[:, 6, 1], anchors[:, 1] + raw[:, 17] / 192, atol=1e-5)
    scores = 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -100, 100)))
    np.testing.assert_allclose(palms.scores, scores, atol=1e-6)
    np.testing.assert_array_equal(palms.valid, (scores >= 0.6) & (raw[:, 2] >= 0) & (raw[:, 3] >= 0))


def _overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union


def _suppress_by_loops(boxes, keypoints, scores, valid):
    rest = sorted(np.flatnonzero(valid), key=lambda i: -scores[i])
    results = []
    while rest:
        best = rest[0]
        cluster = [i for i in rest if _overlap(boxes[i], boxes[best]) > 0.3]
        weight = scores[cluster] / scores[cluster].sum()
        results.append((weight @ boxes[cluster], np.tensordot(weight, keypoints[cluster], 1), scores[best]))
        rest = [i for i in rest if i not in cluster]
    return results


@pytest.mark.parametrize("seed", range(3))
def test_suppression_against_loops(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 0.7, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.3, (60, 2))], axis=1)
    keypoints, scores = rng.uniform(0, 1, (60, 7, 2)), rng.uniform(0.1, 1, 60)
    valid = scores > 0.4
    expected = _suppress_by_loops(boxes, keypoints, scores, valid)
    palms = Palms(
        boxes=jnp.asarray(boxes), keypoints=jnp.asarray(keypoints), scores=jnp.asarray(scores), valid=jnp.asarray(valid)
    )
    found = suppress(palms, len(expected) + 2)
    assert len(expected) > 3
    np.testing.assert_array_equal(found.valid, [True] * len(expected) + [False] * 2)
    for i, (box, points, score) in enumerate(expected):
        np.testing.assert_allclose(found.boxes[i], box, atol=1e-5)
        np.testing.assert_allclose(found.keypoints[i], points, atol=1e-5)
        np.testing.assert_allclose(found.scores[i], score, atol=1e-6)


def _palm_pointing(angle):
    """A palm whose line from wrist to middle knuckle has this angle, anticlockwise from the x axis."""
    keypoints = np.full((7, 2), 0.5, np.float32)
    keypoints[2] += 0.1 * np.array([np.cos(angle), -np.sin(angle)])
    return jnp.asarray(keypoints)


def test_region_of_a_palm_in_the_target_direction_is_not_turned():
    box = jnp.array([0.4, 0.5, 0.6, 0.8])  # 20 x 30 pixels of the picture, centre at (50, 55)
    region = hand_region(box, _palm_pointing(90.0), FRAME)  # MediaPipe's 90 is in radians
    np.testing.assert_allclose(np.cos(region.rotation), 1.0, atol=1e-6)
    np.testing.assert_allclose(region.center, [50, 55 - 15], atol=1e-3)
    np.testing.assert_allclose(region.side, 2.6 * 30, rtol=1e-5)


@pytest.mark.parametrize("turn", [0.5, 2.0, -2.5])
def test_region_turns_and_shifts_with_the_palm(turn):
    box = jnp.array([0.4, 0.5, 0.6, 0.8])
    region = hand_region(box, _palm_pointing(90.0 - turn), FRAME)
    np.testing.assert_allclose(np.sin(region.rotation), np.sin(turn), atol=1e-4)
    np.testing.assert_allclose(region.center, [50 + 15 * np.sin(turn), 55 - 15 * np.cos(turn)], atol=1e-2)
