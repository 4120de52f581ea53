"""Distances of meshes written for prompts, beside explicit loops."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handjax.metrics.alignment import procrustes_align
from handjax.metrics.written import MEASURES, WrittenPrompt, mesh_distances, written_figures

POINTS = 30


def meshes(seed, count):
    return np.random.default_rng(seed).normal(0, 0.05, (count, POINTS, 3))


def test_a_mesh_that_is_moved_turned_and_scaled_is_the_same_mesh():
    (mesh,) = meshes(0, 1)
    moved = 1.3 * Rotation.from_rotvec([0.4, -1.0, 2.0]).apply(mesh) + [1, 2, 3]
    assert np.abs(mesh_distances(moved[None], mesh[None])).max() < 1e-5  # FreiHAND adds 1e-8 to sizes


def test_distances_are_those_of_loops_over_points():
    made, wanted = meshes(0, 2), meshes(1, 3)
    found = mesh_distances(made, wanted)
    assert found.shape == (3, 2, 3)
    for m in range(2):
        for w in range(3):
            aligned = procrustes_align(made[m][None], wanted[w][None])[0]
            far = np.linalg.norm(aligned[:, None] - wanted[w][None], axis=-1)
            one, other = far.min(axis=1), far.min(axis=0)
            expected = max(one.max(), other.max()), (one**2).mean() + (other**2).mean(), 1000 * np.diag(far).mean()
            np.testing.assert_allclose(found[:, m, w], expected, rtol=1e-9)


def test_figures_are_means_over_prompts_of_mean_and_deviation_over_their_meshes():
    prompts = [WrittenPrompt(name, meshes(n, 4), meshes(10 + n, 1 + n)) for n, name in enumerate("abc")]
    figures = written_figures(prompts)
    assert [figure["name"] for figure in figures] == list(MEASURES)
    for row, figure in enumerate(figures):
        each = [mesh_distances(p.made, p.wanted)[row].mean(axis=1) for p in prompts]
        assert figure["value"] == pytest.approx(np.mean([values.mean() for values in each]))
        assert figure["deviation"] == pytest.approx(np.mean([values.std() for values in each]))
        assert [p["value"] for p in figure["by_prompt"]] == pytest.approx([values.mean() for values in each])
        assert [p["records"] for p in figure["by_prompt"]] == [1, 2, 3]
        pairs = [
            np.mean([mesh_distances(p.wanted[[i]], p.wanted[[j]])[row] for i in range(n) for j in range(n) if i != j])
            for n, p in enumerate(prompts, 1)
            if n > 1
        ]
        assert figure["among_records"] == pytest.approx(np.mean(pairs))
        others = [mesh_distances(p.made, q.wanted[:1])[row].mean() for p in prompts for q in prompts if q is not p]
        assert figure["other_prompts"] == pytest.approx(np.mean(others))
        assert (figure["prompts"], figure["meshes"]) == (3, 12)
