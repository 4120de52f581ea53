"""FreiHAND's, HO-3D's, HaMeR's and InterWild's evaluations, written again hand by hand from what they publish."""

import math

import numpy as np
import pytest
import scipy.linalg

from handjax.metrics import alignment, keypoints, surfaces, two_hands

HANDS, POINTS = 5, 21
EXACT = {"rel": 1e-9, "abs": 0}


def _pair(seed=0, count=POINTS, noise=0.01):
    """Hands of some 0.1 m, turned, scaled and moved, with noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 0.04, (HANDS, count, 3)) + rng.normal(0, 0.5, (HANDS, 1, 3))
    turns = np.linalg.qr(rng.normal(size=(HANDS, 3, 3)))[0]
    turns *= np.sign(np.linalg.det(turns))[:, None, None]
    scales = rng.uniform(0.8, 1.2, (HANDS, 1, 1))
    moved = scales * (truth + rng.normal(0, noise, truth.shape)) @ turns + rng.normal(0, 0.1, (HANDS, 1, 3))
    return moved, truth


def _freihand_aligned(prediction, truth):
    """Both hands centred and divided by their Frobenius norms; the orthogonal matrix may mirror."""
    size = math.sqrt(((truth - truth.mean(0)) ** 2).sum()) + 1e-8
    fixed = (truth - truth.mean(0)) / size
    moving = prediction - prediction.mean(0)
    moving = moving / (math.sqrt((moving**2).sum()) + 1e-8)
    turn, scale = scipy.linalg.orthogonal_procrustes(fixed, moving)
    return moving @ turn.T * scale * size + truth.mean(0)


def _measures(prediction, truth):
    """Mean error and area under the curve, one keypoint after the other."""
    thresholds = [0.05 * i / 99 for i in range(100)]
    means, areas = [], []
    for k in range(truth.shape[1]):
        far = [math.dist(p, t) for p, t in zip(prediction[:, k], truth[:, k], strict=True)]
        shares = [sum(f <= t for f in far) / len(far) for t in thresholds]
        area = sum((a + b) / 2 * (0.05 / 99) for a, b in zip(shares, shares[1:], strict=False))
        means.append(sum(far) / len(far))
        areas.append(area / 0.05)
    return sum(means) / len(means), sum(areas) / len(areas)


def _check_measures(prediction, truth):
    error, area = _measures(prediction, truth)
    assert keypoints.mean_position_error(prediction, truth) == pytest.approx(error, **EXACT)
    assert keypoints.area_under_curve(keypoints.pck_curve(prediction, truth)) == pytest.approx(area, **EXACT)


@pytest.mark.parametrize("count", [POINTS, 120])
def test_freihand_as_it_is_and_aligned(count):
    prediction, truth = _pair(1, count)
    _check_measures(prediction, truth)
    aligned = np.stack([_freihand_aligned(*hand) for hand in zip(prediction, truth, strict=True)])
    ours = alignment.procrustes_align(prediction, truth)
    np.testing.assert_allclose(ours - truth, aligned - truth, rtol=1e-9, atol=1e-14)
    _check_measures(ours, truth)
    assert 0 < keypoints.area_under_curve(keypoints.pck_curve(ours, truth)) < 1


def test_freihand_may_mirror_and_hamer_does_not():
    _, truth = _pair(2)
    mirrored = truth * [-1, 1, 1]
    assert keypoints.mean_position_error(alignment.procrustes_align(mirrored, truth), truth) < 1e-7
    assert keypoints.mean_position_error(alignment.procrustes_align(mirrored, truth, "hamer"), truth) > 0.005


@pytest.mark.parametrize("mirror", [1, -1])
def test_hamer_aligns_by_the_best_similarity(mirror):
    """The rotation that Horn's quaternion gives, the greatest eigenvector of a 4x4 matrix, and least-squares scale."""
    prediction, truth = _pair(3, noise=0.02)
    prediction = prediction * [mirror, 1, 1]
    ours = alignment.procrustes_align(prediction, truth, "hamer")
    for moving, fixed, aligned in zip(prediction, truth, ours, strict=True):
        a, b = moving - moving.mean(0), fixed - fixed.mean(0)
        m = a.T @ b
        vector = np.array([m[1, 2] - m[2, 1], m[2, 0] - m[0, 2], m[0, 1] - m[1, 0]])
        matrix = np.block([[np.trace(m), vector], [vector[:, None], m + m.T - np.trace(m) * np.eye(3)]])
        w, *v = np.linalg.eigh(matrix)[1][:, -1]
        cross = np.cross(np.eye(3), v)
        turn = (w * w - np.dot(v, v)) * np.eye(3) + 2 * np.outer(v, v) + 2 * w * cross
        turned = a @ turn.T
        scale = (turned * b).sum() / (a * a).sum()
        np.testing.assert_allclose(aligned, scale * turned + fixed.mean(0), rtol=1e-9, atol=1e-12)


def test_ho3d_aligns_scale_and_wrist():
    prediction, truth = _pair(4)
    expected = []
    for moving, fixed in zip(prediction, truth, strict=True):
        unit = moving / math.dist(moving[4], moving[0]) * math.dist(fixed[4], fixed[0])
        expected.append(unit - unit[0] + fixed[0])
    ours = alignment.wrist_align(prediction, truth, wrist=0, reference=4)
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-15)
    _check_measures(ours, truth)


def test_unknown_points_do_not_count():
    prediction, truth = _pair(5)
    known = np.random.default_rng(0).random(truth.shape[:2]) < 0.6
    known[:, 3] = False
    means = []
    for k in range(POINTS):
        far = [math.dist(prediction[n, k], truth[n, k]) for n in range(HANDS) if known[n, k]]
        means += [sum(far) / len(far)] if far else []
    error = keypoints.mean_position_error(prediction, truth, known)
    assert error == pytest.approx(sum(means) / len(means), **EXACT)
    assert math.isnan(keypoints.mean_position_error(prediction, truth, np.zeros_like(known)))


def test_hint_counts_points_within_a_share_of_the_box():
    rng = np.random.default_rng(6)
    truth = rng.uniform(0, 200, (HANDS, POINTS, 2))
    prediction = truth + rng.normal(0, 15, truth.shape)
    known, sides = rng.random(truth.shape[:2]) < 0.9, rng.uniform(100, 200, HANDS)
    shares = []
    for k in range(POINTS):
        hits = [math.dist(prediction[n, k], truth[n, k]) <= 0.1 * sides[n] for n in range(HANDS) if known[n, k]]
        shares.append(sum(hits) / len(hits))
    ours = keypoints.box_pck(prediction, truth, sides, known, 0.1)
    assert ours == pytest.approx(sum(shares) / len(shares), **EXACT)
    assert 0.1 < ours < 0.9


def test_distances_of_surfaces_by_brute_force():
    prediction, truth = (points[0] for points in _pair(7, 150, noise=0.004))
    prediction = alignment.procrustes_align(prediction[None], truth[None])[0]
    far = np.array([[math.dist(p, t) for t in truth] for p in prediction])
    to_truth, to_prediction = far.min(1), far.min(0)
    for threshold in (0.005, 0.015):
        near, found = (to_truth < threshold).mean(), (to_prediction < threshold).mean()
        expected = 2 * near * found / (near + found)
        assert 0 < expected < 1 or threshold > 0.01
        assert surfaces.f_score(prediction, truth, threshold) == pytest.approx(expected, **EXACT)
    assert surfaces.hausdorff_distance(prediction, truth) == pytest.approx(
        max(to_truth.max(), to_prediction.max()), **EXACT
    )
    chamfer = (to_truth**2).mean() + (to_prediction**2).mean()
    assert surfaces.chamfer_distance(prediction, truth) == pytest.approx(chamfer, **EXACT)


def test_the_threshold_of_the_f_score_is_strict():
    line = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    assert surfaces.f_score(line + [0, 0.5, 0], line, 0.5) == 0
    assert surfaces.f_score(line + [0, 0.5, 0], line, np.nextafter(0.5, 1)) == 1


def test_interwild_measures_the_left_hand_from_the_right_root():
    """Both hands moved to their roots, then the left one by the relative translation."""
    right, true_right = _pair(8, 30)
    left, true_left = _pair(9, 30)
    relative, true_relative = left[:, 0] - right[:, 0], true_left[:, 0] - true_right[:, 0]
    expected_root = np.mean([math.dist(a, b) for a, b in zip(relative, true_relative, strict=True)])
    ours = two_hands.relative_root_error(right[:, 0], left[:, 0], true_right[:, 0], true_left[:, 0])
    assert ours == pytest.approx(expected_root, **EXACT)
    errors = []
    for n in range(HANDS):
        mesh = np.concatenate([right[n] - right[n, 0], left[n] - left[n, 0] + relative[n]])
        true_mesh = np.concatenate(
            [true_right[n] - true_right[n, 0], true_left[n] - true_left[n, 0] + true_relative[n]]
        )
        errors.append(np.mean([math.dist(a, b) for a, b in zip(mesh, true_mesh, strict=True)]))
    scene, true_scene = np.concatenate([right, left], axis=1), np.concatenate([true_right, true_left], axis=1)
    ours = two_hands.root_relative_vertex_error(scene, true_scene, right[:, 0], true_right[:, 0])
    assert ours == pytest.approx(np.mean(errors), **EXACT)


def test_root_aligned_hands_share_their_wrist():
    prediction, truth = _pair(10)
    aligned = alignment.root_align(prediction, truth)
    np.testing.assert_allclose(aligned[:, 0], truth[:, 0], rtol=1e-12)
    np.testing.assert_allclose(np.diff(aligned, axis=1), np.diff(prediction, axis=1), atol=1e-12)
