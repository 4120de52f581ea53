"""Figures of recovered hands, from hands whose errors are made on purpose."""

import dataclasses

import numpy as np
import pytest

from handjax.metrics.alignment import procrustes_align
from handjax.metrics.keypoints import area_under_curve, box_pck, pck_curve
from handjax.metrics.recovery import RecoveredSet, hand_scores, recovery_figures

HANDS, TOKENS = 6, 4
FAR = np.array([1, 2, 3, 4, 5, 6]) / 1000
"""Metres by which every point of a hand is off, in directions that no turn, move or scale takes back."""


def _hands(**changes):
    """Hands of which two points of each pair are pushed apart; the surer the network, the smaller the error."""
    rng = np.random.default_rng(0)
    half = rng.normal(0, 0.05, (HANDS, 10, 3))
    flat = np.concatenate([half, half], axis=1) * [1, 1, 0]
    pushed = np.concatenate([np.ones(10), -np.ones(10)])[:, None] * [0, 0, 1] * FAR[:, None, None]
    vertices, truth = (flat + pushed), flat
    keypoints, true_keypoints = (np.concatenate([x, np.zeros((HANDS, 1, 3))], axis=1) for x in (vertices, truth))
    places = rng.uniform(20, 100, (HANDS, 21, 2))
    fields = {
        "vertices": 1.3 * vertices + 0.2,
        "true_vertices": truth,
        "keypoints": keypoints,
        "true_keypoints": true_keypoints,
        "mesh_known": np.ones(HANDS, bool),
        "world": true_keypoints + 1,
        "world_known": np.ones((HANDS, 21), bool),
        "places": places + [0, 7],
        "true_places": places,
        "placed": np.ones((HANDS, 21), bool),
        "box_side": np.full(HANDS, 100.0),
        "confidence": np.repeat(1 / (1 + np.arange(HANDS)), TOKENS).reshape(HANDS, TOKENS),
        "token_right": np.tile([True, False], HANDS * TOKENS // 2).reshape(HANDS, TOKENS),
        "hidden": np.tile([TOKENS, 1], (HANDS, 1)),
        "iteration_confidence": np.tile([0.25, 0.75], (HANDS, 1)),
    }
    return RecoveredSet(**(fields | changes))


def _figures(hands):
    return {figure["name"]: figure for figure in recovery_figures(hands)}


def test_errors_are_those_that_were_made():
    figures = {name: figure["value"] for name, figure in _figures(_hands()).items()}
    # pushing apart makes a hand larger, which the alignment scales back by a share of some 1e-3
    assert figures["pa_mpvpe_mm"] == pytest.approx(3.5, rel=0.02)
    assert figures["pa_mpjpe_mm"] == pytest.approx(3.5 * 20 / 21, rel=0.02)
    assert figures["pa_mpjpe_world_mm"] == pytest.approx(figures["pa_mpjpe_mm"])
    assert figures["f_5"] == pytest.approx(5 / 6, abs=0.1) and figures["f_15"] == 1
    assert figures["auc_V"] == pytest.approx(1 - 3.5 / 50, abs=0.006)  # a step of thresholds is 0.5 mm
    assert (figures["pck_0.05"], figures["pck_0.1"], figures["pck_0.15"]) == (0, 1, 1)
    assert figures["confidence_error_spearman"] == pytest.approx(-1)
    confidence = 1 / (1 + np.arange(HANDS))
    of_bin = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs(confidence[of_bin == b].mean() - 0.5) * (of_bin == b).sum() / HANDS for b in set(of_bin)]
    assert figures["token_calibration_error"] == pytest.approx(sum(gaps))
    assert figures["token_right"] == 0.5


def test_only_what_is_known_counts():
    whole = _hands()
    known = np.arange(HANDS) < 3
    some = _figures(dataclasses.replace(whole, mesh_known=known, placed=whole.placed & known[:, None]))
    assert some["pa_mpvpe_mm"]["value"] == pytest.approx(2, rel=0.02)
    assert (some["pa_mpvpe_mm"]["hands"], some["pck_0.1"]["hands"], some["pa_mpjpe_world_mm"]["hands"]) == (3, 3, 6)
    none = np.zeros(HANDS, bool)
    left = _figures(dataclasses.replace(whole, mesh_known=none, world_known=np.zeros((HANDS, 21), bool)))
    assert left.keys() == {"pck_0.05", "pck_0.1", "pck_0.15", "confidence"}
    assert left["confidence"]["by_iteration"] == {"hidden": [TOKENS, 1], "confidence": [0.25, 0.75]}


def test_figures_are_means_of_what_each_hand_scores():
    """As the scripts have it, over all hands at once; some keypoints have no place, some hands no mesh."""
    rng, known = np.random.default_rng(1), np.arange(HANDS) != 2
    hands = _hands(mesh_known=known, placed=rng.random((HANDS, 21)) < 0.6)
    hands = dataclasses.replace(hands, places=hands.true_places + rng.normal(0, 6, (HANDS, 21, 2)))
    scores, figures = hand_scores(hands), _figures(hands)
    truth = hands.true_keypoints[known]
    whole = area_under_curve(pck_curve(procrustes_align(hands.keypoints[known], truth), truth))
    assert figures["auc_J"]["value"] == pytest.approx(whole, rel=1e-12)
    expected = box_pck(hands.places, hands.true_places, hands.box_side, hands.placed, 0.1)
    assert 0 < expected < 1 and figures["pck_0.1"]["value"] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_array_equal(np.isfinite(scores["pa_mpvpe_mm"][:, 0]), known)
    np.testing.assert_allclose(scores["pa_mpvpe_mm"][known, 0], 1000 * FAR[known], rtol=0.02)
    np.testing.assert_array_equal(np.isfinite(scores["pck_0.05"]), hands.placed)
