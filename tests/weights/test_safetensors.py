"""Safetensors files without PyTorch."""

import ml_dtypes
import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.weights.safetensors import read_tensors, write_tensors

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
