"""FID and KID of two folders of pictures: ours beside torch-fidelity and clean-fid, from files to figures.

The pictures are made for it, JPEG and PNG in turn, and so are the weights, random ones in the layout of the published
state dict, which all take. KID is of the whole sets, so that nothing is drawn and all must find the same.

The peers need torchvision, which changes how transformers reads pictures, so they run in a process of their own, by the
Python that `--peer-python` names. To make one: `python -m venv peers && peers/bin/pip install torch torchvision
torch-fidelity clean-fid`; torch-fidelity 0.4.0, clean-fid 0.1.35, torch 2.13.0 and torchvision 0.28.0 ran.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from handjax.errors import BackendError, InputError
from handjax.images import resize, write_image
from handjax.metrics.features import FeatureExtractor, inception, picture_features
from handjax.metrics.frechet import frechet_distance
from handjax.metrics.inception import CLASSES, FEATURES, SIZE, InceptionV3
from handjax.metrics.kernel import kernel_distance
from handjax.metrics.streaming import FeatureStream
from handjax.weights.safetensors import write_tensors
from launch.timing import summary

PICTURES, SIDE = 256, 512
SUFFIXES = (".jpg", ".png")
SPEED_WANTED = 1.5
"""Pictures a second, ours ÷ the peer's."""
TOLERANCE = 1e-3
"""Relative, of each figure from the peer's."""
PEER = Path(__file__).with_name("metrics_peer.py")
OUR_WEIGHTS, PEER_WEIGHTS = "inception.safetensors", "inception.npz"
Figures = dict[str, float]


def bench_metrics(runs: int, peer_python: Path | None = None) -> Iterator[dict[str, Any]]:
    """Both figures of two folders, ours and each peer's in turn; and of these times, those until the features.

    Args:
        runs: of each.
        peer_python: a Python with the peers; this one where None is named.

    Raises:
        BackendError: there is no torch-fidelity, or a peer finds other figures.
    """
    python = str(peer_python or sys.executable)
    if shutil.which(python) is None:
        raise BackendError(f"--peer-python {python} is not a program that can be run")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state: dict[str, Any] = random_state()
        write_tensors(folder / OUR_WEIGHTS, state)
        np.savez(folder / PEER_WEIGHTS, **state)
        sets = [draw_pictures(folder / each, seed) for seed, each in enumerate(("made", "real"))]
        words = [python, str(PEER), *(str(folder / each) for each in (PEER_WEIGHTS, "made", "real"))]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
            for peer_name, version in _answer(peer).items():
                turns = list(take_turns(peer, peer_name, sets, inception(folder / OUR_WEIGHTS, peer_name), runs))
                for item in compare(peer_name, turns, sum(map(len, sets))):
                    yield item | {"peer_version": version}


def take_turns(
    peer: subprocess.Popen[str], peer_name: str, sets: list[list[Path]], extractor: FeatureExtractor, runs: int
) -> Iterator[tuple[Figures, Figures]]:
    """Yields our figures and the peer's, so many times."""
    list(picture_features(sets[0][:1], extractor))  # compiles, which is not timed
    for _ in range(runs):
        own = our_figures(sets, extractor)
        assert peer.stdin
        print(peer_name, file=peer.stdin, flush=True)
        yield own, _answer(peer)


def our_figures(sets: list[list[Path]], extractor: FeatureExtractor) -> Figures:
    """FID, KID and seconds of two lists of pictures, as the peers' process tells its own."""
    start = time.perf_counter()
    streams = [FeatureStream() for _ in sets]
    for stream, paths in zip(streams, sets, strict=True):
        for path, features in picture_features(paths, extractor):
            assert not isinstance(features, InputError), path
            stream.add(features)
    read = time.perf_counter() - start
    fid = frechet_distance(*(stream.moments for stream in streams))
    kid = kernel_distance(*(stream.kept for stream in streams))
    return {"seconds": time.perf_counter() - start, "features_seconds": read, "fid": fid, "kid": kid}


def compare(peer_name: str, turns: list[tuple[Figures, Figures]], pictures: int) -> Iterator[dict[str, Any]]:
    """Yields the items of whole runs and of their part until the features.

    Raises:
        BackendError: a figure differs from the peer's.
    """
    differences = {}
    for figure in ("fid", "kid"):
        own, theirs = (run[figure] for run in turns[0])
        differences[f"{figure}_difference"] = abs(own - theirs) / abs(theirs)
        if not differences[f"{figure}_difference"] <= TOLERANCE:
            raise BackendError(
                f"{peer_name} finds {figure.upper()} {theirs:.8g}, not {own:.8g}; speeds are compared of the same work "
                "only, so compare the versions first with those that `pydoc launch.bench_metrics` tells"
            )
    for name, seconds in (("metrics", "seconds"), ("metrics_features", "features_seconds")):
        item = summary(name, peer_name, [(own[seconds], theirs[seconds]) for own, theirs in turns])
        speed = {"per_second": pictures / item["ours"], "what": "pictures", "ratio_bound": 1 / SPEED_WANTED}
        yield item | speed | {"pictures": pictures} | (differences if name == "metrics" else {})


def _answer(peer: subprocess.Popen[str]) -> dict[str, Any]:
    assert peer.stdout
    line = peer.stdout.readline()
    if not line:
        raise BackendError(
            "torch-fidelity cannot be run (why is said above); make an environment with it and name its Python by "
            f"--peer-python, as `pydoc {__name__}` says"
        )
    return json.loads(line)


def draw_pictures(folder: Path, seed: int) -> list[Path]:
    """Writes pictures of soft blots and a little noise, the folders' unlike each other in colour and grain."""
    rng, paths = np.random.default_rng(seed), []
    for number in range(PICTURES):
        blots = resize(rng.integers(0, 256 - 60 * seed, (6 + 4 * seed, 6 + 4 * seed, 3), np.uint8), (SIDE, SIDE))
        noisy = blots + rng.normal(0, 4 + 8 * seed, blots.shape)
        paths.append(folder / f"{number:04}{SUFFIXES[number % len(SUFFIXES)]}")
        write_image(paths[-1], noisy.clip(0, 255).astype(np.uint8))
    return paths


def random_state() -> dict[str, np.ndarray]:
    """Weights in the published layout, under which the output of each layer keeps the scale of its input."""
    rng, state = np.random.default_rng(0), {}
    shapes = jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))["params"]
    for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]:
        *names, part = (str(key.key) for key in path)
        if part == "kernel":
            height, width, cin, cout = leaf.shape
            kernel = rng.standard_normal((cout, cin, height, width), np.float32)
            name, ones = ".".join(names), np.ones(cout, np.float32)
            state[f"{name}.conv.weight"] = kernel * np.float32((2 / (cin * height * width)) ** 0.5)
            state |= {f"{name}.bn.{norm}": ones for norm in ("weight", "running_var")}
            state |= {f"{name}.bn.{norm}": 0 * ones for norm in ("bias", "running_mean")}
    state["fc.weight"] = rng.standard_normal((CLASSES, FEATURES), np.float32)
    state["fc.bias"] = np.zeros(CLASSES, np.float32)
    return state
