"""Meshes as OBJ, PLY and GLB files, by trimesh.

Files hold the axes that viewers and glTF expect, y up and z towards the viewer; arrays are in camera axes, y down and z
forward. Half a turn about x leads from one to the other.
"""

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from handjax.errors import BackendError, InputError
from handjax.files import atomic_write

FORMATS = (".obj", ".ply", ".glb")
HALF_TURN = np.array([1.0, -1.0, -1.0], np.float32)


class Mesh(NamedTuple):
    """Vertices in metres, camera axes; faces; RGB in [0, 1] of each vertex or None."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    colors: Float[np.ndarray, "V 3"] | None = None


def write_mesh(path: Path, mesh: Mesh) -> None:
    """Writes a mesh; the file is whole or absent.

    Args:
        path: ends in .obj, .ply or .glb, which chooses the format.
        mesh: colours are rounded to 8 bits.

    Raises:
        BackendError: trimesh is not installed.
        InputError: another ending, or the folder cannot be written to.
    """
    trimesh = _trimesh()
    _check_format(path)
    colors = None if mesh.colors is None else np.round(255 * np.clip(mesh.colors, 0, 1)).astype(np.uint8)
    vertices, faces = np.asarray(mesh.vertices) * HALF_TURN, np.asarray(mesh.faces)
    with atomic_write(path) as temporary:
        trimesh.Trimesh(vertices, faces, vertex_colors=colors, process=False).export(temporary)


def read_mesh(path: Path) -> Mesh:
    """Reads a mesh, all parts of the file as one.

    Args:
        path: an .obj, .ply or .glb file.

    Returns:
        The mesh with vertices and faces in the file's order; colours where the file gives them to vertices.

    Raises:
        BackendError: trimesh is not installed.
        InputError: no such file, another ending, or no mesh in it.
    """
    trimesh = _trimesh()
    _check_format(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        mesh = trimesh.load_mesh(path, process=False, maintain_order=True)
        vertices, faces = np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)
    except Exception as error:  # trimesh's readers raise whatever their parsers do
        raise InputError(f"{path}: not a mesh that can be read ({error})") from error
    if not len(faces):
        raise InputError(f"{path}: a mesh without faces")
    colored = mesh.visual.kind == "vertex"
    colors = np.asarray(mesh.visual.vertex_colors)[:, :3].astype(np.float32) / 255 if colored else None
    return Mesh(vertices * HALF_TURN, faces, colors)


def _trimesh() -> ModuleType:
    try:
        import trimesh
    except ImportError as error:
        raise BackendError("mesh files are read and written by trimesh; pip install trimesh") from error
    return trimesh


def _check_format(path: Path) -> None:
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: meshes are files ending in {', '.join(FORMATS)}")
