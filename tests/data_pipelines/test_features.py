import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest

from data_pipelines.features import open_records
from handjax.errors import InputError
from tests.data_pipelines.conftest import make_record


def test_records_come_back_as_they_were(prepared):
    by_id = {record.id: record for record in open_records(prepared, "train")}
    assert len(by_id) == 23
    for number in (0, 5, 22):
        made = make_record(number)
        read = by_id[made.id]
        for field in dataclasses.fields(made):
            expected, found = getattr(made, field.name), getattr(read, field.name)
            if isinstance(expected, np.ndarray):
                np.testing.assert_array_equal(found, expected)
                assert found.dtype == np.float32
            else:
                assert found == expected, field.name


def test_absent_fields_are_none(prepared):
    only_picture = next(record for record in open_records(prepared, "train") if record.id == "only a picture")
    absent = {field.name for field in dataclasses.fields(only_picture)[2:]}
    assert all(getattr(only_picture, name) is None for name in absent)


def test_tensorflow_is_not_needed(prepared):
    open_records(prepared, "train")[0]
    assert "tensorflow" not in sys.modules


def test_missing_split_is_none_and_missing_data_an_error(prepared, tmp_path):
    assert open_records(prepared, "test") is None
    with pytest.raises(InputError, match="no prepared data set"):
        open_records(tmp_path, "train")
    with pytest.raises(IndexError):
        open_records(prepared, "eval")[3]


def test_data_sets_made_before_a_field_was_added_are_read(prepared, tmp_path):
    source = next(prepared.rglob("features.json")).parent
    for file in source.iterdir():
        shutil.copy(file, tmp_path)
    described = json.loads((tmp_path / "features.json").read_text())
    for name in ("edit", "fingers"):
        del described["featuresDict"]["features"][name]
    (tmp_path / "features.json").write_text(json.dumps(described))
    by_id = {record.id: record for record in open_records(tmp_path, "train")}
    assert by_id["hand-5"].edit is None and by_id["hand-5"].fingers is None and by_id["hand-5"].side == "left"


def test_other_data_sets_are_refused(prepared, tmp_path):
    source = next(prepared.rglob("features.json")).parent
    for file in source.iterdir():
        text = file.read_bytes()
        (tmp_path / file.name).write_bytes(
            text.replace(b'"betas"', b'"other"') if file.name == "features.json" else text
        )
    with pytest.raises(InputError, match="not a data set of hand records"):
        open_records(tmp_path, "train")
