"""Norms of layers, against NumPy."""

import numpy as np
import pytest

from handjax.training.layer_stats import layer_stats


def test_norms_are_those_of_all_arrays_of_a_layer():
    rng = np.random.default_rng(0)
    shapes = {"encoder": {"conv": {"kernel": (3, 4), "bias": (4,)}, "norm": {"scale": (5,)}}, "gate": ()}

    def tree(shape):
        return {k: tree(v) for k, v in shape.items()} if isinstance(shape, dict) else rng.standard_normal(shape)

    params, grads, updates = (tree(shapes) for _ in range(3))
    norms = layer_stats(params, grads, updates)
    assert sorted(norms) == sorted(
        f"layers/{layer}/{what}"
        for layer in ("encoder/conv", "encoder/norm", "top")
        for what in ("params", "grads", "updates")
    )
    conv = grads["encoder"]["conv"]
    expected = np.linalg.norm(np.concatenate([conv["kernel"].ravel(), conv["bias"]]))
    assert norms["layers/encoder/conv/grads"] == pytest.approx(expected, rel=1e-5)
    assert norms["layers/encoder/norm/params"] == pytest.approx(
        np.linalg.norm(params["encoder"]["norm"]["scale"]), rel=1e-5
    )
    assert norms["layers/top/updates"] == pytest.approx(abs(updates["gate"]), rel=1e-5)
