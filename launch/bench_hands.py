"""How fast hands are found, fitted, prepared and loaded: the rows of `launch.bench hands`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

import handjax
from handjax.images import read_image
from handjax.perception import HandDetector
from handjax.perception.detector import TASK_FILE
from handjax.perception.flax_backend import detect_hands, load_weights
from handjax.perception.regions import pad_picture
from launch.timing import interleaved, summary

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"
MAX_HANDS, MIN_SCORE = 2, 0.5

Picture = UInt8[np.ndarray, "height width 3"]


def bench_perception(runs: int) -> Iterator[dict[str, Any]]:
    """Seconds to find the hands of the carried photographs and their mirror images, beside MediaPipe's own runtime."""
    photos = [read_image(path) for path in sorted(PHOTOS.glob("*.jpg"))]
    pictures = [*photos, *(np.ascontiguousarray(photo[:, ::-1]) for photo in photos)]
    theirs = _each(HandDetector.load("mediapipe", MAX_HANDS, MIN_SCORE), pictures)
    for name, ours in (
        ("perception, one picture a call", _each(HandDetector.load("flax", MAX_HANDS, MIN_SCORE), pictures)),
        (f"perception, {len(pictures)} pictures a call", _together(pictures)),
    ):
        ours(), theirs()
        item = summary(name, "mediapipe", interleaved(ours, theirs, runs))
        yield item | {"pictures": len(pictures), "per_second": len(pictures) / item["ours"]}


def _each(detector: HandDetector, pictures: list[Picture]) -> Callable[[], Any]:
    return lambda: [detector.detect(picture) for picture in pictures]


def _together(pictures: list[Picture]) -> Callable[[], Any]:
    weights = jax.device_put(load_weights(TASK_FILE))
    program = jax.jit(jax.vmap(detect_hands, in_axes=(None, 0, None, None)), static_argnums=2)

    def detect():
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(pad_picture, pictures))
        return jax.device_get(program(weights, batch, MAX_HANDS, MIN_SCORE))

    return detect
