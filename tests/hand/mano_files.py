"""Synthetic files in MANO's layout, written as Python 2 and chumpy wrote the published ones."""

import pickle
import sys
import types

import numpy as np
from scipy import sparse

from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.topology import MANO_PARENTS, MANO_TIP_VERTICES, OPENPOSE_TO_MANO

# MANO's right hand points along -x with its thumb towards +z
TO_MANO_AXES = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
OLD_MODULES = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "scipy.sparse._csc": "scipy.sparse.csc",
    "builtins": "__builtin__",
    "copyreg": "copy_reg",
}


def mano_arrays(seed=0):
    """Random values in MANO's shapes around a plausible skeleton; float64, joint regressor sparse."""
    rng = np.random.default_rng(seed)
    keypoints = np.asarray(pose_hand(load_open_hand(), np.zeros((16, 3)), np.zeros(10), np.zeros(3)).keypoints)
    points = keypoints[OPENPOSE_TO_MANO] @ TO_MANO_AXES.T + np.array([0.095, 0.006, 0.006])
    owner = rng.permutation(np.arange(778) % 21)
    owner[list(MANO_TIP_VERTICES["smplx"])] = np.arange(16, 21)
    template = points[owner] + 0.003 * rng.standard_normal((778, 3))
    regressor = (owner == np.arange(16)[:, None]) * rng.uniform(0.5, 1.0, 778)
    shapedirs = 5e-4 * rng.standard_normal((778, 3, 10))
    shapedirs[..., 0] += 0.05 * (template - template.mean(0))
    weights = rng.uniform(size=(778, 16)) ** 4
    weights[list(MANO_TIP_VERTICES["smplx"])] = np.eye(16)[[15, 3, 6, 12, 9]]  # tips move with their last joint
    return {
        "v_template": template,
        "f": rng.integers(0, 778, (1538, 3)).astype(np.uint32),
        "shapedirs": shapedirs,
        "posedirs": 2e-4 * rng.standard_normal((778, 3, 135)),
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": sparse.csc_matrix(regressor / regressor.sum(1, keepdims=True)),
        "J": rng.standard_normal((16, 3)),
        "kintree_table": np.stack([MANO_PARENTS % 2**32, np.arange(16)]).astype(np.uint32),
        "hands_components": np.linalg.qr(rng.standard_normal((45, 45)))[0],
        "hands_mean": 0.2 * rng.standard_normal(45),
        "hands_coeffs": rng.standard_normal((1554, 45)),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def dense(arrays):
    return arrays | {"J_regressor": arrays["J_regressor"].toarray()}


def mirrored(arrays, fix_shape):
    """The left hand's file, with the shape directions of the right's where `fix_shape` is false."""
    mirror = np.array([-1.0, 1.0, 1.0])
    shapedirs = arrays["shapedirs"] * (mirror[:, None] if fix_shape else 1.0)
    return arrays | {"v_template": arrays["v_template"] * mirror, "shapedirs": shapedirs}


class _Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2's str, and modules by the names they had."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        raw = text.encode("latin1") if isinstance(text, str) else text
        short = b"S" + repr(raw)[1:].encode() + b"\n"
        self.write(b"T" + len(raw).to_bytes(4, "little") + raw if self.proto else short)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, obj, name=None):
        module = OLD_MODULES.get(obj.__module__, obj.__module__)
        self.write(f"c{module}\n{name or obj.__qualname__}\n".encode())
        self.memoize(obj)


def chumpy_class(name, module):
    """A class that pickles under chumpy's name."""
    kind = type(name, (), {"__module__": f"chumpy.{module}"})
    sys.modules.setdefault(kind.__module__, types.ModuleType(kind.__module__))
    return kind


def with_chumpy(arrays):
    """The arrays with shape directions as chumpy's selection of the first ten of twelve, as the published files."""
    variable = chumpy_class("Ch", "ch")()
    wide = np.concatenate([arrays["shapedirs"], np.ones((778, 3, 2))], axis=2)
    variable.__dict__ |= {"x": wide, "_dirty_vars": {"x"}, "_itr": None, "_depends_on_deps": {}}
    selection = chumpy_class("Select", "reordering")()
    kept = np.arange(wide.size).reshape(wide.shape)[..., :10]
    selection.__dict__ |= {"a": variable, "idxs": kept.ravel(), "preferred_shape": kept.shape, "_dirty_vars": {"a"}}
    template = chumpy_class("Ch", "ch")()
    template.__dict__ |= {"x": arrays["v_template"], "_dirty_vars": set()}
    return arrays | {"shapedirs": selection, "v_template": template}


def write_python2(path, content, protocol=2):
    with path.open("wb") as file:
        _Python2Pickler(file, protocol).dump(content)
    return path
