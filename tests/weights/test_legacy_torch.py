"""State dicts of PyTorch before 1.6, against the loader of PyTorch itself."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.weights.legacy_torch import MAGIC, VERSION, read_legacy_torch

REMEDY = "download it again"


@pytest.fixture
def saved(tmp_path):
    """Writes a state dict as PyTorch before 1.6 did."""
    torch = pytest.importorskip("torch")

    def save(state):
        torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
        return tmp_path / "old.pth"

    return save


def test_values_are_pytorchs(saved):
    torch = pytest.importorskip("torch")
    shared = torch.arange(24, dtype=torch.float32)
    state = OrderedDict(
        [
            ("kernel", torch.randn(4, 3, 2, 2)),
            ("half", torch.randn(5).half()),
            ("double", torch.randn(2, 2).double()),
            ("count", torch.tensor(7)),
            ("part", shared[8:20].view(3, 4)),
            ("all", shared),
            ("turned", torch.randn(2, 3, 4).permute(2, 0, 1)),
        ]
    )
    read = read_legacy_torch(saved(state), REMEDY)
    assert list(read) == list(state)
    for name, value in state.items():
        assert read[name].dtype == value.numpy().dtype
        np.testing.assert_array_equal(read[name], value.numpy())


def test_what_it_names_is_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    path = tmp_path / "bad.pth"
    parts = MAGIC, VERSION, {"little_endian": True}, OrderedDict(a=Attack()), []
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts))
    with pytest.raises(WeightsError, match=r"it asks for \w+\.mkdir\); download it again"):
        read_legacy_torch(path, REMEDY)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("written, forged", [((2, 3), (2, 4)), ((3, 1), (4, 1)), ((3, 1), (0, 9))])
def test_a_tensor_stays_within_its_storage(saved, written, forged):
    torch = pytest.importorskip("torch")
    path = saved({"a": torch.ones(2, 3)})
    # the opcodes of a pair of small numbers: the shape, or the strides
    written, forged = (b"K%cK%c\x86" % pair for pair in (written, forged))
    assert path.read_bytes().count(written) == 1
    path.write_bytes(path.read_bytes().replace(written, forged))
    with pytest.raises(WeightsError, match="beyond its storage"):
        read_legacy_torch(path, REMEDY)


def test_other_files_are_refused_in_a_line(saved, tmp_path):
    torch = pytest.importorskip("torch")
    path = saved({"a": torch.ones(1000)})
    whole = path.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], b"PK" + whole, pickle.dumps([1])):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="no state dict of PyTorch before 1.6 .*; download it again$"):
            read_legacy_torch(path, REMEDY)
    with pytest.raises(WeightsError, match="1 of 2 values of a are NaN"):
        read_legacy_torch(saved({"a": torch.tensor([1.0, float("nan")])}), REMEDY)
    with pytest.raises(WeightsError, match="No such file"):
        read_legacy_torch(tmp_path / "absent.pth", REMEDY)
