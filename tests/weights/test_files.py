"""Which file of a folder is read, and pickled files."""

import pickle
import sys

import ml_dtypes
import numpy as np
import pytest

from handjax.errors import BackendError, WeightsError
from handjax.weights.files import find_weights, read_weights
from handjax.weights.safetensors import write_tensors


def test_the_preferred_file_is_found(tmp_path):
    names = (
        "pytorch_model.bin",
        "model.safetensors.index.fp16.json",
        "model.fp16.safetensors",
        "model.safetensors.index.json",
        "model.safetensors",
    )
    assert find_weights(tmp_path, "model", "pytorch_model").name == "model.safetensors"
    for name in names:
        (tmp_path / name).touch()
        assert find_weights(tmp_path, "model", "pytorch_model").name == name


def test_safetensors_are_read_as_they_are(tmp_path):
    write_tensors(tmp_path / "x.safetensors", {"a": np.arange(3, dtype=np.float16)})
    ((name, value),) = read_weights(tmp_path / "x.safetensors")
    assert name == "a" and value.dtype == np.float16 and value.tolist() == [0, 1, 2]


def test_pickled_files_only_when_allowed(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.ckpt"
    state = {"a": torch.linspace(0, 1, 6).reshape(2, 3).T, "b": torch.linspace(0, 1, 6).bfloat16(), "note": "none"}
    torch.save({"state_dict": state, "epoch": 3}, path)
    with pytest.raises(WeightsError, match=r"x\.ckpt: pickled weights can hide programs; .* --allow-pickle"):
        list(read_weights(path))
    read = dict(read_weights(path, allow_pickle=True))
    assert set(read) == {"a", "b"} and read["b"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(read["a"], state["a"].numpy())
    np.testing.assert_array_equal(read["b"].astype(np.float32), state["b"].float().numpy())


class Program:
    def __reduce__(self):
        return (print, ("this ran",))


def test_a_program_in_a_pickle_does_not_run(tmp_path, capsys):
    pytest.importorskip("torch")
    path = tmp_path / "x.bin"
    path.write_bytes(pickle.dumps({"a": Program()}))
    with pytest.raises(WeightsError, match=r"x\.bin: not a state dict of PyTorch") as error:
        list(read_weights(path, allow_pickle=True))
    assert "\n" not in str(error.value) and "this ran" not in capsys.readouterr().out
    with pytest.raises(WeightsError, match="no such file"):
        list(read_weights(tmp_path / "y.bin", allow_pickle=True))


class Settings(dict):
    """As yacs' and omegaconf's, which Lightning puts into checkpoints, HaMeR's too."""

    def __init__(self, **fields):
        super().__init__(fields)
        self.frozen = True


class Callback:
    def __init__(self):
        self.best = 1.0


def test_settings_beside_the_tensors_are_left(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    about = {"hyper_parameters": {"cfg": Settings(MODEL=Settings(SIZE=256))}, "callbacks": {Callback: Callback()}}
    torch.save({"state_dict": {"a": torch.arange(3.0)}, **about}, tmp_path / "x.ckpt")
    ((name, value),) = read_weights(tmp_path / "x.ckpt", allow_pickle=True)
    assert name == "a" and value.tolist() == [0, 1, 2]
    torch.save({"state_dict": {"a": torch.arange(3.0)}, "cfg": Program()}, tmp_path / "x.ckpt")
    assert [name for name, _ in read_weights(tmp_path / "x.ckpt", allow_pickle=True)] == ["a"]
    assert "this ran" not in capsys.readouterr().out


def test_pickled_values_that_are_no_numbers(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.tensor([1.0, float("nan")])}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt: 1 of 2 values of a are NaN"):
        list(read_weights(tmp_path / "x.pt", allow_pickle=True))


def test_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BackendError, match=r"pip install 'handjax\[torch\]'"):
        list(read_weights(tmp_path / "x.bin", allow_pickle=True))
