"""Times ours, beside a peer on the same input where there is one: `python -m launch.bench NAME`."""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from handjax.errors import BackendError, ConfigError
from handjax.files import write_json
from handjax.hand.camera import PinholeCamera, default_camera, project
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rasterize import rasterize
from launch import command
from launch.bench_loader import bench_loader
from launch.bench_sd import bench_sd
from launch.timing import interleaved, seconds, summary

SIZE = 512
DISTANCE = 0.5


def main() -> int:
    """Runs one benchmark and prints seconds, and ours ÷ peer: below 1 is faster."""
    parser = argparse.ArgumentParser(prog="launch.bench", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS), help="what is timed")
    parser.add_argument("--runs", type=int, default=5, help="of each, in turn")
    parser.add_argument("--out", type=Path, help="JSON file for the figures, machine and versions")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        raise ConfigError(f"--runs is {arguments.runs}; it must be at least 1")
    report = command.Report("bench", arguments.json)
    benchmark, peers = BENCHMARKS[arguments.name]
    items = []
    for item in benchmark(arguments.runs):
        items.append(item)
        report.item(item, describe(item))
    if arguments.out:
        write_json(arguments.out, {"items": items, **command.environment(*peers)})
    return report.finish()


def describe(item: dict[str, Any]) -> str:
    """One line of figures."""
    line = f"{item['name']}: {item['ours']:.4g} {item['unit']}"
    if "peer" in item:
        line += f", {item['peer_name']} {item['peer']:.4g} {item['unit']}, ratio {item['ratio']:.3g}"
    if "bound" in item:
        line += f", at most {item['bound']:g} {item['unit']}"
    if "peak_gib" in item:
        line += f"; peak memory {item['peak_gib']:.2f} and {item['peer_peak_gib']:.2f} GiB"
    if "examples_per_s" in item:
        line += f"; {item['examples_per_s']:.4g} examples/s, {item['examples_per_cpu_s']:.4g} a CPU second"
    return line if item.get("mfu") is None else f"{line}; MFU {item['mfu']:.1%}"


def bench_rasterize(runs: int) -> Iterator[dict[str, Any]]:
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
    yield summary("rasterize", "trimesh", times) | {
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


def bench_first_image(runs: int) -> Iterator[dict[str, Any]]:
    """From the start of `launch.generate` with the tiny model to its first picture, programs in the compile cache."""
    with tempfile.TemporaryDirectory() as out:
        run = [sys.executable, "-m", "launch.generate", "a photo of a left hand", "--out", out]

        def generate() -> None:
            subprocess.run(run, check=True, capture_output=True)

        generate()
        times = [seconds(generate) for _ in range(runs)]
    yield {"name": "first_image", "ours": statistics.median(times), "bound": 20.0, "unit": "s", "runs": runs}


# What runs, and the packages whose versions are kept with the figures.
BENCHMARKS: dict[str, tuple[Callable[[int], Iterator[dict[str, Any]]], tuple[str, ...]]] = {
    "first_image": (bench_first_image, ()),
    "loader": (bench_loader, ("array-record", "pillow", "tensorflow-datasets")),
    "rasterize": (bench_rasterize, ("trimesh",)),
    "sd": (bench_sd, ("torch", "diffusers", "transformers")),
}


if __name__ == "__main__":
    command.run(main)
