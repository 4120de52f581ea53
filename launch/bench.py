"""Times ours beside a peer on the same input in one process: `python -m launch.bench rasterize`."""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from handjax.errors import BackendError, ConfigError
from handjax.files import write_json
from handjax.hand.camera import PinholeCamera, default_camera, project
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rasterize import rasterize
from launch import command

SIZE = 512
DISTANCE = 0.5


def main() -> int:
    """Runs one benchmark and prints ours ÷ peer in time: below 1 is faster."""
    parser = argparse.ArgumentParser(prog="launch.bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS), help="what is timed")
    parser.add_argument("--runs", type=int, default=5, help="of each, in turn")
    parser.add_argument("--out", type=Path, help="JSON file for the figures, machine and versions")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        raise ConfigError(f"--runs is {arguments.runs}; it must be at least 1")
    report = command.Report("bench", arguments.json)
    item = BENCHMARKS[arguments.name](arguments.runs)
    line = f"{item['name']}: {item['ours']:.4g} {item['unit']}, {item['peer_name']} {item['peer']:.4g} {item['unit']}"
    report.item(item, f"{line}, ratio {item['ratio']:.3g}")
    if arguments.out:
        write_json(arguments.out, {**item, **command.environment()})
    return report.finish()


def bench_rasterize(runs: int) -> dict[str, Any]:
    """Depth of the open hand at 512²: our z-buffer beside trimesh's ray casting inside the hand's box.

    Raises:
      BackendError: trimesh is not installed.
    """
    try:
        import trimesh
    except ImportError as error:
        raise BackendError("bench rasterize compares with trimesh; pip install 'handjax[dev]'") from error
    model = load_open_hand()
    place = jnp.array([0.0, 0.08, DISTANCE])
    vertices = pose_hand(model, jnp.zeros((16, 3)), jnp.zeros(model.shapedirs.shape[-1]), place).vertices
    camera = default_camera(SIZE, SIZE)
    mesh = trimesh.Trimesh(np.asarray(vertices), np.asarray(model.faces), process=False)
    rays, pixels = rays_in_box(np.asarray(project(camera, vertices)), camera)

    def ours() -> np.ndarray:
        return np.asarray(rasterize(vertices, model.faces, camera, SIZE, SIZE).depth)

    def peer() -> np.ndarray:
        points, index, _ = mesh.ray.intersects_location(np.zeros_like(rays), rays, multiple_hits=True)
        depth = np.full((SIZE, SIZE), np.inf)
        np.minimum.at(depth, tuple(pixels[index].T), points[:, 2])
        return np.where(np.isfinite(depth), depth, 0.0)

    theirs, drawn = peer(), ours()
    both = (drawn > 0) & (theirs > 0)
    times = interleaved(ours, peer, runs)
    return summary("rasterize", "trimesh", times) | {
        "mask_iou": float(both.sum() / ((drawn > 0) | (theirs > 0)).sum()),
        "depth_error_mm": float(1000 * np.abs(drawn - theirs)[both].max()),
        "faces": len(model.faces),
        "size": SIZE,
    }


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


def interleaved(ours: Callable[[], Any], peer: Callable[[], Any], runs: int) -> list[tuple[float, float]]:
    """Seconds of (ours, peer), one after the other `runs` times, so that both see the same machine."""
    return [(seconds(ours), seconds(peer)) for _ in range(runs)]


def seconds(function: Callable[[], Any]) -> float:
    """Wall time of one call, its result ready."""
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def summary(name: str, peer_name: str, times: list[tuple[float, float]]) -> dict[str, Any]:
    """The item of the JSON contract: medians of each and of the ratios of neighbouring runs."""
    ours, peer = zip(*times, strict=True)
    return {
        "name": name,
        "ours": statistics.median(ours),
        "peer": statistics.median(peer),
        "peer_name": peer_name,
        "ratio": statistics.median(a / b for a, b in times),
        "unit": "s",
        "runs": len(times),
    }


BENCHMARKS: dict[str, Callable[[int], dict[str, Any]]] = {"rasterize": bench_rasterize}


if __name__ == "__main__":
    command.run(main)
