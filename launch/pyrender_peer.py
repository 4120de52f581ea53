"""Depth maps by pyrender on software OpenGL: run by `launch.bench rasterize` with a Python that has pyrender.

The arguments are an .npz file with `vertices` (of several meshes), `faces`, `focal` and `size`, and the .npz file that
takes the depth maps. Prints the versions of pyrender and of OpenGL's renderer, then for every number of a mesh on
standard input the seconds of one depth map: with the mesh made and uploaded, and once it is resident.
"""

import os
import sys
import time

os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
os.environ.setdefault("EGL_PLATFORM", "surfaceless")
os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")

import numpy as np

np.infty = np.inf  # type: ignore[attr-defined]  # pyrender asks for it; numpy 2 has dropped it

import pyrender  # noqa: E402
from OpenGL.GL import GL_RENDERER, glGetString  # noqa: E402


def main() -> None:
    """Answers one line with one line until standard input ends, then writes the depth maps."""
    meshes = np.load(sys.argv[1])
    size = int(meshes["size"])
    renderer = pyrender.OffscreenRenderer(size, size)
    camera = pyrender.PerspectiveCamera(yfov=2 * np.arctan(size / 2 / meshes["focal"]), aspectRatio=1.0, znear=0.05)
    renderer.render(make_scene(meshes["vertices"][0], meshes["faces"], camera), pyrender.RenderFlags.DEPTH_ONLY)
    print(pyrender.__version__, "on", glGetString(GL_RENDERER).decode(), flush=True)
    depths = {}
    for line in sys.stdin:
        start = time.perf_counter()
        scene = make_scene(meshes["vertices"][int(line)], meshes["faces"], camera)
        depths[line.strip()] = renderer.render(scene, pyrender.RenderFlags.DEPTH_ONLY)
        uploaded = time.perf_counter()
        renderer.render(scene, pyrender.RenderFlags.DEPTH_ONLY)
        print(uploaded - start, time.perf_counter() - uploaded, flush=True)
    np.savez(sys.argv[2], **depths)


def make_scene(vertices: np.ndarray, faces: np.ndarray, camera: pyrender.Camera) -> pyrender.Scene:
    """A mesh and a camera that looks along z with y down."""
    primitive = pyrender.Primitive(positions=vertices, indices=faces, mode=pyrender.constants.GLTF.TRIANGLES)
    scene = pyrender.Scene()
    scene.add(pyrender.Mesh([primitive]))
    scene.add(camera, pose=np.diag([1.0, -1.0, -1.0, 1.0]))
    return scene


if __name__ == "__main__":
    main()
