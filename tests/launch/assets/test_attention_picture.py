"""The shares of Fig. 5: how much of an attention map lies on the keypoints."""

import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.losses import keypoint_mask
from handjax.errors import InputError
from launch.assets import attention_picture
from launch.assets.attention_picture import examples, shares_on_keypoints

SIZE, CELLS = 96, 24


def batch_of(*valid):
    """Hands whose keypoints lie about the picture; those without keypoints have them all in the middle, as records."""
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(8, SIZE - 8, (len(valid), 21, 2)).astype(np.float32)
    keypoints[~np.array(valid)] = SIZE / 2
    return {
        "image": np.zeros((len(valid), SIZE, SIZE, 3), np.float32),
        "keypoints": keypoints,
        "keypoints_valid": np.array(valid),
        "box_side": np.linspace(60, 200, len(valid), dtype=np.float32),
    }


def test_a_map_that_is_the_discs_has_all_of_itself_on_them_and_a_uniform_one_their_area():
    batch = batch_of(True, True, True)
    discs = np.asarray(keypoint_mask(jnp.asarray(batch["keypoints"]), jnp.asarray(batch["box_side"]), SIZE, CELLS))
    area = discs.mean(axis=(1, 2))
    assert (area > 0.02).all() and (area < 0.3).all() and np.ptp(area) > 0
    shares, of_picture = shares_on_keypoints(discs, batch)
    np.testing.assert_allclose(shares, 1, rtol=1e-6)
    assert of_picture == pytest.approx(area.mean(), rel=1e-6)
    shares, _ = shares_on_keypoints(np.full((3, CELLS, CELLS), 0.3, np.float32), batch)
    np.testing.assert_allclose(shares, area, rtol=1e-5)
    shares, _ = shares_on_keypoints(1 - discs, batch)
    np.testing.assert_array_equal(shares, 0)


def test_examples_without_keypoints_are_left_out(monkeypatch):
    batches = [batch_of(True, False, *[True] * 6), batch_of(False, *[True] * 7), batch_of(*[True] * 8)]
    monkeypatch.setattr(attention_picture, "held_out_batches", lambda *_: iter(batches))
    kept = examples("records", None, limit=10)
    expected = np.concatenate([batches[0]["keypoints"][[0, *range(2, 8)]], batches[1]["keypoints"][1:2]])
    np.testing.assert_array_equal(kept["keypoints"], expected)
    assert kept["keypoints_valid"].all() and len(kept["image"]) == len(expected) == 8


def test_records_none_of_which_has_keypoints_are_told(monkeypatch):
    monkeypatch.setattr(attention_picture, "held_out_batches", lambda *_: iter([batch_of(*[False] * 8)]))
    with pytest.raises(InputError, match="records: none of 5 held-out examples has keypoints"):
        examples("records", None, limit=5)
