"""The pictures of mesh recovery, by a random tiny model."""

import sys

import numpy as np
import pytest

from handjax.images import read_image
from handjax.recovery.files import save_recovery
from launch import evaluate_recovery
from launch.assets import recovery_picture
from tests.recovery.tiny_models import random_model

SIZE = 256


@pytest.mark.slow
def test_hands_stand_beside_their_meshes_ranks_and_looks(monkeypatch, tmp_path):
    save_recovery(random_model(), tmp_path)
    images = np.full((5, SIZE, SIZE, 3), -0.5, np.float32)
    monkeypatch.setattr(evaluate_recovery, "open_records", lambda path, split: range(5))
    monkeypatch.setattr(evaluate_recovery, "make_loader", lambda *_, **__: iter([{"image": images}]))
    monkeypatch.setattr(recovery_picture, "ACROSS", 4)
    words = ["--data", "records", "--model", str(tmp_path), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["recovery_picture", *words])
    recovery_picture.main()
    sheet = read_image(tmp_path / "recovery.jpg")
    assert sheet.shape == (2 * SIZE, 4 * SIZE, 3)  # four of the five fill two rows
    left, right = sheet[:, :SIZE], sheet[:, SIZE : 2 * SIZE]
    assert np.ptp(left) < 8 and (np.abs(right.astype(int) - 64) > 60).any()
    ranks = read_image(tmp_path / "recovery_ranks.jpg")
    assert ranks.shape == (5 * SIZE, 4 * SIZE, 3)  # of 12 codes there are ranks 1, 7 and 10
    first, tenth = ranks[:SIZE, SIZE : 2 * SIZE].astype(int), ranks[:SIZE, 3 * SIZE :].astype(int)
    assert (np.abs(first - tenth) > 60).any()
    looks = read_image(tmp_path / "recovery_points.jpg")
    assert looks.shape == (5 * SIZE, 6 * SIZE, 3) and (looks[:, SIZE:].max(axis=-1) > 150).any()
