"""Sheets of painted hands: which pictures stand where."""

import dataclasses

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import encode_png, write_image
from handjax.record import HandRecord
from launch.assets import sample_sheets
from launch.assets.sample_sheets import COLUMNS, SHOWN, sheet_of_records, sheet_of_tables

SIDE = 8


def grey(level):
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def test_a_row_of_the_tables_has_the_same_pictures_as_the_photographs(tmp_path):
    folders = ["test0", *(f"painted/{setting.name}-test0-seed0" for setting in SHOWN)]
    for row, folder in enumerate(folders):
        for number in range(2 * COLUMNS):
            write_image(tmp_path / folder / f"{number:05}.png", grey(20 * row + number))
    cells = sheet_of_tables(tmp_path)[::SIDE, ::SIDE, 0]
    np.testing.assert_array_equal(cells, 20 * np.arange(len(folders))[:, None] + 2 * np.arange(COLUMNS))
    with pytest.raises(InputError, match=r"no pictures of launch.tables"):
        sheet_of_tables(tmp_path / "missing")


def test_a_records_labels_are_drawn_over_its_darkened_picture(monkeypatch):
    keypoints = np.full((21, 3), SIDE / 2, np.float32)
    record = HandRecord("a#0", encode_png(grey(100)), mesh=encode_png(grey(200)), keypoints_2d=keypoints)
    other = dataclasses.replace(record, id="b#0", image=encode_png(grey(60)))
    splits = {"train": [record], "eval": [other]}
    monkeypatch.setattr(sample_sheets, "open_records", lambda folder, split: splits[split])
    drawn = sheet_of_records(["painted"])
    assert drawn.shape == (3 * SIDE, 2 * SIDE, 3)
    np.testing.assert_array_equal(drawn[::SIDE, ::SIDE, 1], [[200, 200], [100, 60], [50, 30]])
    assert drawn[2 * SIDE + SIDE // 2, SIDE // 2].max() == 255  # a joint
    with pytest.raises(InputError, match="neither mesh nor keypoints"):
        splits["train"] = [dataclasses.replace(record, mesh=None)]
        sheet_of_records(["painted"])
    with pytest.raises(InputError, match="no records"):
        sheet_of_records([])


def test_hands_that_share_a_picture_are_drawn_as_large_as_their_meshes(monkeypatch):
    """Whose squares are as large as the hands are in it."""
    image = np.concatenate([np.full((12, 6, 3), level, np.uint8) for level in (60, 180)], axis=1)
    keypoints = np.full((21, 3), [9, 3, 1], np.float32)
    record = HandRecord("a#0", encode_png(image), mesh=encode_png(grey(200)), keypoints_2d=keypoints)
    splits = {"train": [record, dataclasses.replace(record, image=encode_png(grey(100)))], "eval": []}
    monkeypatch.setattr(sample_sheets, "open_records", lambda folder, split: splits[split])
    drawn = sheet_of_records(["painted"])
    assert drawn.shape == (3 * SIDE, 2 * SIDE, 3)
    np.testing.assert_array_equal(drawn[SIDE : 2 * SIDE, [0, SIDE - 1], 0], [[60, 180]] * SIDE)
    labels = drawn[2 * SIDE :, :SIDE].max(axis=-1)
    assert labels[2, 6] == 255 and labels[SIDE - 2, 1] == 30
