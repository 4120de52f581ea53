"""Depth maps of posed hands at 512²: our z-buffer beside trimesh's ray casting and pyrender on software OpenGL.

pyrender's pins do not go with ours, so it runs in a process of its own: by this Python where it has pyrender, otherwise
by the one that `--peer-python` names. To make one, in an environment of its own beside Mesa's EGL: `pip install
--no-deps pyrender`, then numpy, trimesh, pillow, imageio, networkx, PyOpenGL, freetype-py, pyglet and six; 0.1.18 ran
with numpy 2.3, networkx 3.6, PyOpenGL 3.1.9 and pyglet 1.4.
"""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from handjax.errors import BackendError
from handjax.hand.camera import PinholeCamera, default_camera, project
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rasterize import depth_map, rasterize
from launch.timing import seconds, summary

SIZE = 512
DISTANCE = 0.5
MESHES = 8
# Of each mesh for every run asked, where one takes milliseconds.
REPEATS = 10
# pyrender draws four samples a pixel and hands out the depth of the first, which is not in the middle.
PYRENDER_SHIFT = (0.125, -0.375)


def bench_rasterize(runs: int, peer_python: Path | None = None) -> Iterator[dict[str, Any]]:
    """The same hands drawn by us and by each peer, seconds a depth map, in turn.

    Args:
        runs: of each mesh.
        peer_python: a Python with pyrender; without one, and if this one has no pyrender, that row is left out.

    Raises:
        BackendError: trimesh is not installed, or `peer_python` cannot draw with pyrender.
    """
    try:
        import trimesh
    except ImportError as error:
        raise BackendError("bench rasterize compares with trimesh; pip install 'handjax[dev]'") from error
    hands, faces, camera = *make_hands(), default_camera(SIZE, SIZE)
    ours = [_drawer(mesh, faces, camera) for mesh in hands]
    casters = [ray_caster(trimesh.Trimesh(mesh, faces, process=False), camera) for mesh in hands]
    drawn, theirs = ([draw() for draw in each] for each in (ours, casters))  # compiles, which is not timed
    times = [(seconds(draw), seconds(cast)) for _ in range(runs) for draw, cast in zip(ours, casters, strict=True)]
    yield _item("trimesh", times, drawn, theirs) | _memory(hands[0], faces, camera)
    if peer_python and shutil.which(peer_python) is None:
        raise BackendError(f"--peer-python {peer_python} is not a program that can be run")
    if peer_python or importlib.util.find_spec("pyrender"):
        yield beside_pyrender(str(peer_python or sys.executable), hands, faces, camera, runs * REPEATS)


def make_hands() -> tuple[Float[np.ndarray, "hands vertices 3"], Int[np.ndarray, "faces 3"]]:
    """Vertices in metres and faces of closed hands of random pose, shape and direction in the middle of the picture."""
    model, generator = load_open_hand(), np.random.default_rng(0)
    spread = np.concatenate([[1.0], np.full(15, 0.2)])[:, None]  # the hand turns more than its joints
    hands = []
    for _ in range(MESHES):
        pose = jnp.asarray(generator.normal(size=(16, 3)) * spread, jnp.float32)
        betas = jnp.asarray(generator.normal(size=model.shapedirs.shape[-1]) / 2, jnp.float32)
        hand = np.asarray(pose_hand(model, pose, betas, jnp.zeros(3)).vertices)
        hands.append(hand - (hand.min(axis=0) + hand.max(axis=0)) / 2 + np.array([0, 0, DISTANCE], np.float32))
    return close_wrists(np.stack(hands), np.asarray(model.faces))


def close_wrists(
    hands: Float[np.ndarray, "hands vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> tuple[Float[np.ndarray, "hands more 3"], Int[np.ndarray, "more 3"]]:
    """Closes the one hole of each hand by a fan: pyrender's depth maps leave out faces that look away."""
    edges = {tuple(edge) for pair in ((0, 1), (1, 2), (2, 0)) for edge in faces[:, pair].tolist()}
    rim = np.array([(b, a) for a, b in sorted(edges) if (b, a) not in edges])
    center = hands[:, rim[:, 0]].mean(axis=1, keepdims=True)
    fan = np.column_stack([rim, np.full(len(rim), hands.shape[1])])
    return np.concatenate([hands, center], axis=1), np.concatenate([faces, fan]).astype(np.int32)


def ray_caster(mesh: Any, camera: PinholeCamera) -> Callable[[], np.ndarray]:
    """Draws the depth of a trimesh mesh by rays through the pixels of its box."""
    rays, pixels = rays_in_box(np.asarray(project(camera, jnp.asarray(mesh.vertices))), camera)

    def cast() -> np.ndarray:
        points, index, _ = mesh.ray.intersects_location(np.zeros_like(rays), rays, multiple_hits=True)
        depth = np.full((SIZE, SIZE), np.inf)
        np.minimum.at(depth, tuple(pixels[index].T), points[:, 2])
        return np.where(np.isfinite(depth), depth, 0.0)

    return cast


def rays_in_box(
    points: Float[np.ndarray, "points 2"], camera: PinholeCamera
) -> tuple[Float[np.ndarray, "rays 3"], np.ndarray]:
    """Rays with z = 1 through the centres of the pixels in the box of `points`, and these pixels as (row, column)."""
    low = np.clip(np.floor(points.min(axis=0)) - 1, 0, SIZE - 1).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + 1, 0, SIZE - 1).astype(int)
    columns, rows = np.meshgrid(np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1))
    pixels = np.stack([rows.ravel(), columns.ravel()], axis=1)
    plane = (pixels[:, ::-1] + 0.5 - np.asarray(camera.center)) / np.asarray(camera.focal)
    return np.concatenate([plane, np.ones((len(plane), 1))], axis=1), pixels


def _drawer(vertices, faces, camera) -> Callable[[], np.ndarray]:
    return lambda: np.asarray(depth_map(jnp.asarray(vertices), jnp.asarray(faces), camera, SIZE, SIZE))


def beside_pyrender(
    python: str,
    hands: Float[np.ndarray, "hands vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    camera: PinholeCamera,
    runs: int,
) -> dict[str, Any]:
    """Draws each hand in turn with ours here and with pyrender in a process of `python`.

    The peer's time is that of a new mesh, as ours is; `peer_resident` is that of drawing one it has already.

    Raises:
        BackendError: that process does not draw.
    """
    ours = [_drawer(mesh, faces, camera) for mesh in hands]
    for draw in ours:
        draw()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "meshes.npz", vertices=hands, faces=faces, focal=np.asarray(camera.focal)[0], size=SIZE)
        version, times = _take_turns(python, folder, ours, runs)
        with np.load(folder / "depths.npz") as stored:
            theirs = [stored[str(number)] for number in range(len(ours))]
    there = PinholeCamera(camera.focal, camera.center + jnp.array(PYRENDER_SHIFT))
    item = _item("pyrender", [pair[:2] for pair in times], [_drawer(mesh, faces, there)() for mesh in hands], theirs)
    resident = float(np.median([again for *_, again in times]))
    return item | {"peer_resident": resident, "peer_version": version} | _memory(hands[0], faces, camera)


def _take_turns(python: str, folder: Path, ours, runs: int) -> tuple[str, list[tuple[float, float, float]]]:
    """The peer's version, and of each mesh and run the seconds of ours, the peer's, and of it once more."""
    script = Path(__file__).with_name("pyrender_peer.py")
    command = [python, str(script), str(folder / "meshes.npz"), str(folder / "depths.npz")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdin and peer.stdout
        version = peer.stdout.readline().strip()
        if not version:
            raise BackendError(f"{python} cannot draw with pyrender (why is said above); see `pydoc {__name__}`")
        times = []
        for _ in range(runs):
            for number, draw in enumerate(ours):
                own = seconds(draw)
                print(number, file=peer.stdin, flush=True)
                uploaded, again = map(float, peer.stdout.readline().split())
                times.append((own, uploaded, again))
    return version, times


def _item(peer_name: str, times, drawn, theirs) -> dict[str, Any]:
    drawn, theirs = np.stack(drawn), np.stack(theirs)
    both = (drawn > 0) & (theirs > 0)
    errors = 1000 * np.abs(drawn - theirs)[both]
    return summary("rasterize", peer_name, times) | {
        "mask_iou": float(both.sum() / ((drawn > 0) | (theirs > 0)).sum()),
        "depth_error_mm": float(errors.max()),
        "depth_error_99_9_percent_mm": float(np.percentile(errors, 99.9)),
        "meshes": len(drawn),
        "size": SIZE,
    }


def _memory(vertices, faces, camera) -> dict[str, Any]:
    """MiB that XLA reserves for the results and between them, of a depth map and of everything a raster has."""
    found = {}
    for name, draw in (("memory_mib", depth_map), ("raster_memory_mib", rasterize)):
        program = draw.lower(jnp.asarray(vertices), jnp.asarray(faces), camera, SIZE, SIZE).compile()
        use: Any = program.memory_analysis()
        found[name] = (use.temp_size_in_bytes + use.output_size_in_bytes) / 2**20
    return found | {"faces": len(faces)}
