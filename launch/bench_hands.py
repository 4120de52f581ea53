"""How fast hands are found, fitted, prepared and loaded: the rows of `launch.bench hands`."""

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

import handjax
from handjax.hand.camera import default_camera, project
from handjax.hand.fit import fit_hand, fit_hand_3d
from handjax.hand.model import HandModel, load_open_hand, pose_hand
from handjax.hand.sampling import sample_pose
from handjax.images import read_image, write_image
from handjax.perception import HandDetector
from handjax.perception.detector import TASK_FILE
from handjax.perception.flax_backend import detect_hands, load_weights
from handjax.perception.regions import pad_picture
from launch.bench_loader import bench_loader
from launch.bench_rasterize import bench_rasterize
from launch.timing import interleaved, seconds, summary

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"
MAX_HANDS, MIN_SCORE = 2, 0.5
FITTED, FIT_SIZE = 256, (512, 512)
# Of the extent of a hand: as far as keypoints are off that are read from a picture.
FIT_NOISE = 0.01
SECONDS_A_FIT = 1 / 200
PREPARED, WORKERS = 256, (1, 2)

Picture = UInt8[np.ndarray, "height width 3"]


def bench_hands(runs: int, peer_python: Path | None = None) -> Iterator[dict[str, Any]]:
    """All that is done to a hand before training, one after the other; `peer_python` as in `bench_rasterize`."""
    yield from bench_perception(runs)
    yield from bench_rasterize(runs, peer_python)
    yield from bench_fit(runs)
    yield from bench_precompute(runs)
    yield from bench_loader(runs)


def bench_perception(runs: int) -> Iterator[dict[str, Any]]:
    """Seconds to find the hands of the carried photographs and their mirror images, beside MediaPipe's own runtime."""
    pictures = carried_pictures()
    theirs = _each(HandDetector.load("mediapipe", MAX_HANDS, MIN_SCORE), pictures)
    for name, ours in (
        ("perception, one picture a call", _each(HandDetector.load("flax", MAX_HANDS, MIN_SCORE), pictures)),
        (f"perception, {len(pictures)} pictures a call", _together(pictures)),
    ):
        ours(), theirs()
        item = summary(name, "mediapipe", interleaved(ours, theirs, runs))
        yield item | {"per_second": len(pictures) / item["ours"], "what": "pictures"}


def carried_pictures() -> list[Picture]:
    """The carried photographs and their mirror images, all of one size."""
    photos = [read_image(path) for path in sorted(PHOTOS.glob("*.jpg"))]
    return [*photos, *(np.ascontiguousarray(photo[:, ::-1]) for photo in photos)]


def _each(detector: HandDetector, pictures: list[Picture]) -> Callable[[], Any]:
    return lambda: [detector.detect(picture) for picture in pictures]


def _together(pictures: list[Picture]) -> Callable[[], Any]:
    weights = jax.device_put(load_weights(TASK_FILE))
    program = jax.jit(jax.vmap(detect_hands, in_axes=(None, 0, None, None)), static_argnums=2)

    def detect():
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(pad_picture, pictures))
        return jax.device_get(program(weights, batch, MAX_HANDS, MIN_SCORE))

    return detect


def bench_fit(runs: int) -> Iterator[dict[str, Any]]:
    """Seconds to fit one of many posed hands with noisy keypoints, by what is known of them."""
    model, confidence = load_open_hand(), jnp.ones((FITTED, 21))
    points, pixels = noisy_hands(model)
    for name, fit in (
        ("fit to pixels and space", lambda: fit_hand(model, pixels, confidence, points, FIT_SIZE)),
        ("fit to pixels", lambda: fit_hand(model, pixels, confidence, None, FIT_SIZE)),
        ("fit to space", lambda: fit_hand_3d(model, points, confidence)),
    ):
        seconds(fit)
        hand = statistics.median(seconds(fit) for _ in range(runs)) / FITTED
        row = {"name": name, "ours": hand, "bound": SECONDS_A_FIT, "unit": "s", "runs": runs}
        yield row | {"per_second": 1 / hand, "what": "hands"}


def noisy_hands(model: HandModel) -> tuple[Float[Array, "hands 21 3"], Float[Array, "hands 21 2"]]:
    """Keypoints of random hands, metres and pixels, with noise of `FIT_NOISE`."""
    camera = default_camera(*FIT_SIZE)

    def draw(key):
        pose_key, turn_key, shape_key, noise_key, pixel_key = jax.random.split(key, 5)
        pose = sample_pose(pose_key, model).at[0].set(jax.random.normal(turn_key, (3,)))
        betas = jax.random.normal(shape_key, model.shapedirs.shape[-1:])
        points = pose_hand(model, pose, betas, jnp.array([0.0, 0.0, 0.5])).keypoints
        pixels = project(camera, points)
        points += FIT_NOISE * jnp.ptp(points, axis=0).max() * jax.random.normal(noise_key, points.shape)
        pixels += FIT_NOISE * jnp.ptp(pixels, axis=0).max() * jax.random.normal(pixel_key, pixels.shape)
        return points, pixels

    return jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), FITTED))


def bench_precompute(runs: int) -> Iterator[dict[str, Any]]:
    """Seconds from the start of `launch.precompute` to its end, on as many photographs for each number of workers."""
    with tempfile.TemporaryDirectory() as folder:
        photos, output = Path(folder) / "photos", Path(folder) / "records"
        pictures = carried_pictures()
        for number in range(PREPARED):
            write_image(photos / f"{number:03d}.png", pictures[number % len(pictures)])

        def prepare(workers: int) -> float:
            shutil.rmtree(output, ignore_errors=True)
            command = [sys.executable, "-m", "launch.precompute", str(photos), "--output", str(output)]
            run = [*command, "--workers", str(workers), "--json"]
            return seconds(lambda: subprocess.run(run, check=True, capture_output=True))

        prepare(WORKERS[0])  # fills the compile cache
        times = [[prepare(workers) for workers in WORKERS] for _ in range(runs)]
    one, two = (statistics.median(column) for column in zip(*times, strict=True))
    yield {"name": "precompute, 1 worker", "ours": one, "unit": "s", "runs": runs} | _pictures(one)
    ratio = statistics.median(b / a for a, b in times)
    row = {"name": "precompute, 2 workers", "ours": two, "peer": one, "peer_name": "1 worker", "ratio": ratio}
    yield row | {"unit": "s", "runs": runs} | _pictures(two)


def _pictures(wall: float) -> dict[str, Any]:
    return {"per_second": PREPARED / wall, "what": "pictures"}
