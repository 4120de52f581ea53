import sys

import numpy as np
import pytest

from handjax.errors import BackendError, InputError
from handjax.hand.mesh_files import FORMATS, Mesh, read_mesh, write_mesh
from handjax.hand.model import load_open_hand

pytest.importorskip("trimesh")


@pytest.fixture
def hand() -> Mesh:
    model = load_open_hand()
    colors = np.random.default_rng(0).integers(0, 256, model.template.shape) / 255
    return Mesh(np.asarray(model.template), np.asarray(model.faces), colors.astype(np.float32))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_mesh_comes_back_as_it_was(tmp_path, hand, suffix):
    write_mesh(tmp_path / f"hand{suffix}", hand)
    back = read_mesh(tmp_path / f"hand{suffix}")
    np.testing.assert_allclose(back.vertices, hand.vertices, atol=1e-7)
    np.testing.assert_array_equal(back.faces, hand.faces)
    np.testing.assert_allclose(back.colors, hand.colors, atol=1e-6)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_mesh_without_colours_stays_without(tmp_path, hand, suffix):
    write_mesh(tmp_path / f"hand{suffix}", hand._replace(colors=None))
    back = read_mesh(tmp_path / f"hand{suffix}")
    assert back.colors is None
    np.testing.assert_array_equal(back.faces, hand.faces)


def test_files_have_y_up_and_z_towards_the_viewer(tmp_path):
    write_mesh(tmp_path / "one.obj", Mesh(np.array([[0.1, 0.2, 0.3], [0, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]])))
    first = next(line for line in (tmp_path / "one.obj").read_text().splitlines() if line.startswith("v "))
    np.testing.assert_allclose([float(word) for word in first.split()[1:4]], [0.1, -0.2, -0.3])


def test_bad_files_are_named(tmp_path, hand):
    (tmp_path / "broken.glb").write_bytes(b"not a mesh")
    (tmp_path / "broken.ply").write_bytes(b"ply\nformat")
    (tmp_path / "points.obj").write_text("v 0 0 0\n")
    for name in ("broken.glb", "broken.ply", "points.obj", "missing.obj", "hand.stl"):
        with pytest.raises(InputError, match=name):
            read_mesh(tmp_path / name)
    with pytest.raises(InputError, match="hand.stl"):
        write_mesh(tmp_path / "hand.stl", hand)
    with pytest.raises(InputError, match="cannot be written"):
        write_mesh(tmp_path / "points.obj" / "hand.obj", hand)


def test_without_trimesh_the_remedy_is_named(tmp_path, hand, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(BackendError, match="pip install trimesh"):
        write_mesh(tmp_path / "hand.obj", hand)
    with pytest.raises(BackendError, match="pip install trimesh"):
        read_mesh(tmp_path / "hand.obj")
