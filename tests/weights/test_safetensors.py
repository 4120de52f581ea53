"""Safetensors files without PyTorch."""

import json

import ml_dtypes
import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.weights.safetensors import read_metadata, read_tensors, write_tensors

STATE = {
    "half": np.linspace(-1, 1, 12, dtype=np.float16).reshape(3, 4),
    "brain": np.linspace(-1, 1, 12).astype(ml_dtypes.bfloat16),
    "single": np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 2, 3),
}


def test_round_trip_is_bit_exact(tmp_path):
    write_tensors(tmp_path / "x.safetensors", STATE)
    back = dict(read_tensors(tmp_path / "x.safetensors"))
    assert back.keys() == STATE.keys()
    for name, value in STATE.items():
        assert back[name].dtype == value.dtype and back[name].shape == value.shape
        assert back[name].tobytes() == value.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_damaged_files_are_one_line(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, STATE)
    for content in (path.read_bytes()[:-5], b"", b"<html>not found</html>"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"x\.safetensors: not a complete safetensors file") as error:
            list(read_tensors(path))
        assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match="no such file"):
        list(read_tensors(tmp_path / "y.safetensors"))


def test_shards_are_one_file_to_the_reader(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, STATE)
    write_tensors(path, STATE, max_shard_bytes=40)
    index = tmp_path / "x.safetensors.index.json"
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "x-00001-of-00003.safetensors",
        "x-00002-of-00003.safetensors",
        "x-00003-of-00003.safetensors",
        "x.safetensors.index.json",
    ]
    assert json.loads(index.read_text())["metadata"]["total_size"] == 24 + 24 + 48
    for name, value in read_tensors(index):
        assert (value.dtype, value.tobytes()) == (STATE[name].dtype, STATE[name].tobytes())
    (tmp_path / "x-00002-of-00003.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"x-00002-of-00003\.safetensors: no such file"):
        list(read_tensors(index))
    index.write_text("{}")
    with pytest.raises(WeightsError, match="not the index of a model in shards"):
        list(read_tensors(index))
    write_tensors(path, STATE)
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_one_line(tmp_path, dtype, value):
    broken = np.ones((2, 3), dtype)
    broken[1, 2] = value
    write_tensors(tmp_path / "x.safetensors", {"a": np.ones(2, dtype), "b.weight": broken, "c": broken})
    with pytest.raises(WeightsError, match=r"x\.safetensors: 1 of 6 values of b\.weight are NaN or infinite") as error:
        list(read_tensors(tmp_path / "x.safetensors"))
    assert "\n" not in str(error.value)


def test_notes_in_the_head(tmp_path):
    write_tensors(tmp_path / "x.safetensors", STATE, {"made": "here"})
    assert read_metadata(tmp_path / "x.safetensors") == {"format": "pt", "made": "here"}


def test_who_may_read_other_new_files_may_read_these(tmp_path):
    (tmp_path / "other").write_text("")
    write_tensors(tmp_path / "a.safetensors", {"x": np.zeros(3, np.float32)})
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "other"}
