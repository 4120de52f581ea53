"""MANO for those who have it: a user's own file becomes the package's hand model, with MANO's pose space.

MANO's files are licensed by the Max Planck Society and are no part of this package. A loaded model keeps MANO's own
axes, poses and shape directions, so that annotations made with MANO fit. `pose_hand` takes absolute poses, of which
zero is the flat hand; `absolute_pose` turns those that are relative to the mean pose.
"""

import zipfile
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.errors import WeightsError
from handjax.hand.model import HandModel, Side, load_open_hand
from handjax.hand.topology import MANO_PARENTS, MANO_TIP_VERTICES
from handjax.pickles import read_pickle

Tips = Literal["smplx", "manopth", "freihand", "ho3d"]
LeftShape = Literal["auto", "negate", "keep"]
VERTICES, SHAPES = 778, 10
REMEDY = "download MANO again from https://mano.is.tue.mpg.de"
SHAPES_OF_ARRAYS = {
    "v_template": (VERTICES, 3),
    "f": (1538, 3),
    "shapedirs": (VERTICES, 3, SHAPES),
    "posedirs": (VERTICES, 3, 135),
    "weights": (VERTICES, 16),
    "J_regressor": (16, VERTICES),
    "kintree_table": (2, 16),
    "hands_components": (45, 45),
    "hands_mean": (45,),
}
"""What a MANO file holds: 16 joints, 15 of which bend by 9 entries of a matrix or 3 of a vector (DECISIONS G1)."""


def load_hand(path: str) -> HandModel:
    """The right hand that a recipe names: a user's MANO file, or the open hand where the path is empty.

    Raises:
        WeightsError: as `load_mano`, or it is a left hand.
    """
    if not path:
        return load_open_hand("right")
    hand = load_mano(path)
    if hand.side != "right":
        raise WeightsError(f"{path}: a left hand; give MANO_RIGHT.pkl, left hands are its mirror images")
    return hand


def load_mano(
    path: str | Path, side: Side | None = None, tips: Tips = "smplx", left_shape: LeftShape = "auto"
) -> HandModel:
    """Reads a user's MANO file.

    Args:
        path: MANO_RIGHT.pkl or MANO_LEFT.pkl as published, or an .npz of the same arrays.
        side: the hand's side; None takes it from the file's name.
        tips: whose fingertip vertices, a key of MANO_TIP_VERTICES (DECISIONS G2).
        left_shape: the published left hand has shape directions whose x was not mirrored (DECISIONS G4). "auto" negates
            x where the first direction, size, makes the hand longer and narrower at once; "negate" and "keep" decide.
            Keep it for annotations made with the file as it is, such as DexYCB's.

    Returns:
        The model in MANO's axes, metres. It has no texture coordinates: `face_uv` is zero.

    Raises:
        WeightsError: the file is missing, damaged, not MANO's, or names neither side.
    """
    path = Path(path)
    arrays = _checked(_read_npz(path) if path.suffix == ".npz" else read_pickle(path, REMEDY, WeightsError), path)
    side = side or _side_of(path)
    shapedirs = arrays["shapedirs"]
    if side == "left" and (left_shape == "negate" or (left_shape == "auto" and _is_half_mirrored(arrays))):
        shapedirs = shapedirs * np.array([-1.0, 1.0, 1.0])[:, None]
    as_float = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}
    return HandModel(
        template=as_float["v_template"],
        shapedirs=jnp.asarray(shapedirs, jnp.float32),
        skin_weights=as_float["weights"],
        joint_regressor=as_float["J_regressor"],
        tip_regressor=jax.nn.one_hot(jnp.array(MANO_TIP_VERTICES[tips]), VERTICES),
        faces=jnp.asarray(arrays["f"].astype(np.int32)),
        face_uv=jnp.zeros((len(arrays["f"]), 3, 2)),
        side=side,
        name="mano",
        posedirs=as_float["posedirs"],
        pose_components=as_float["hands_components"].reshape(45, 15, 3),
        pose_mean=as_float["hands_mean"].reshape(15, 3),
    )


def _side_of(path: Path) -> Side:
    name = path.stem.lower()
    if ("left" in name) == ("right" in name):
        raise WeightsError(
            f"{path}: the name does not say which hand it is; name it as published, MANO_RIGHT{path.suffix} or "
            f"MANO_LEFT{path.suffix}, or give side='left' or side='right'"
        )
    return "left" if "left" in name else "right"


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}); {REMEDY}") from error
    except (ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).split("\n")[0]
        raise WeightsError(f"{path}: no .npz of plain arrays ({reason}); save them dense, or {REMEDY}") from error


def _checked(content: dict[str, Any], path: Path) -> dict[str, np.ndarray]:
    """The arrays of MANO, each of its shape and finite."""
    missing = [name for name in SHAPES_OF_ARRAYS if name not in content]
    joints = getattr(content.get("kintree_table"), "shape", ())[-1:]
    if joints and joints != (16,):
        raise WeightsError(f"{path}: a body of {joints[0]} joints, as SMPL's; MANO's hands have 16; {REMEDY}")
    if missing:
        raise WeightsError(f"{path}: no MANO file, {', '.join(missing)} missing; {REMEDY}")
    arrays = {name: content[name] for name in SHAPES_OF_ARRAYS}
    for name, array in arrays.items():
        shape = SHAPES_OF_ARRAYS[name]
        if not isinstance(array, np.ndarray) or array.shape != shape:
            found = getattr(array, "shape", type(array).__name__)
            raise WeightsError(f"{path}: {name} is of shape {found}, MANO's is {shape}; {REMEDY}")
        if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
            raise WeightsError(f"{path}: {name} holds values that are no finite numbers; {REMEDY}")
    if not np.array_equal(arrays["kintree_table"][0, 1:], MANO_PARENTS[1:]):
        raise WeightsError(f"{path}: its joints are not linked as MANO's; {REMEDY}")
    if arrays["f"].min() < 0 or arrays["f"].max() >= VERTICES:
        raise WeightsError(f"{path}: its faces name vertices that it has not; {REMEDY}")
    return arrays


def _is_half_mirrored(arrays: dict[str, np.ndarray]) -> bool:
    """Whether size, the first direction of shape, stretches x (along the fingers) where it squeezes the others."""
    centred = arrays["v_template"] - arrays["v_template"].mean(axis=0)
    stretch = np.sum(centred * arrays["shapedirs"][..., 0], axis=0)
    return bool(stretch[0] * (stretch[1] + stretch[2]) < 0)


def absolute_pose(model: HandModel, pose: Float[Array, "*batch 16 3"]) -> Float[Array, "*batch 16 3"]:
    """Pose for `pose_hand` of one that is relative to the mean pose, as in FreiHAND or DexYCB (DECISIONS G3).

    Args:
        model: a MANO model.
        pose: axis-angle, radians; its wrist stays.

    Returns:
        Axis-angle, radians, zero the flat hand.

    Raises:
        WeightsError: the model has no mean pose.
    """
    return pose.at[..., 1:, :].add(_pose_space(model)[1])


def relative_pose(model: HandModel, pose: Float[Array, "*batch 16 3"]) -> Float[Array, "*batch 16 3"]:
    """Pose relative to the mean pose; the inverse of `absolute_pose`."""
    return pose.at[..., 1:, :].add(-_pose_space(model)[1])


@jax.default_matmul_precision("highest")
def pose_from_pca(
    model: HandModel,
    turn: Float[Array, "*batch 3"],
    coefficients: Float[Array, "*batch N"],
    zero: Literal["flat", "mean"] = "mean",
) -> Float[Array, "*batch 16 3"]:
    """Pose of the given coordinates in MANO's pose space.

    Args:
        model: a MANO model.
        turn: rotation of the whole hand, axis-angle in radians.
        coefficients: of the first N ≤ 45 components.
        zero: the pose that no coefficients mean: flat, or the mean pose.

    Returns:
        Axis-angle for `pose_hand`, radians.

    Raises:
        WeightsError: the model has no pose space.

    Source: Romero, Tzionas and Black, "Embodied Hands", 2017, the low-dimensional pose space.
    """
    components, mean = _pose_space(model)
    fingers = jnp.einsum("...n,njk->...jk", coefficients, components[: coefficients.shape[-1]])
    fingers = fingers + mean if zero == "mean" else fingers
    return jnp.concatenate([turn[..., None, :], fingers], axis=-2)


@jax.default_matmul_precision("highest")
def pca_from_pose(
    model: HandModel, pose: Float[Array, "*batch 16 3"], count: int = 45, zero: Literal["flat", "mean"] = "mean"
) -> Float[Array, "*batch count"]:
    """Coordinates in MANO's pose space that come closest to a pose; those of 45 components reproduce it.

    Args:
        model: a MANO model.
        pose: axis-angle, radians.
        count: number of components.
        zero: as in `pose_from_pca`.

    Returns:
        Coefficients; the wrist's rotation has no part in them.

    Raises:
        WeightsError: the model has no pose space.
    """
    components, mean = _pose_space(model)
    fingers = pose[..., 1:, :] - mean if zero == "mean" else pose[..., 1:, :]
    inverse = jnp.linalg.pinv(components[:count].reshape(count, 45))
    return fingers.reshape(*fingers.shape[:-2], 45) @ inverse


def _pose_space(model: HandModel) -> tuple[Float[Array, "45 15 3"], Float[Array, "15 3"]]:
    if model.pose_components is None or model.pose_mean is None:
        raise WeightsError(f"{model.name} has no pose space; load a MANO file, from https://mano.is.tue.mpg.de")
    return model.pose_components, model.pose_mean
