"""MANO's parameters from the conventions of data sets into this project's."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from data_pipelines.datasets.annotation import ManoHand
from data_pipelines.datasets.layout import need_file
from handjax.hand.mano import LeftShape, Tips, absolute_pose, load_mano
from handjax.hand.model import HandModel, PosedHand, pose_hand, rest_joints, shape_hand
from handjax.hand.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from handjax.record import Side

_FILES: dict[Side, str] = {"left": "MANO_LEFT", "right": "MANO_RIGHT"}
_PLACES = "it holds MANO_RIGHT.pkl and MANO_LEFT.pkl (or .npz), from https://mano.is.tue.mpg.de"


def load_manos(folder: Path, tips: Tips = "smplx", left_shape: LeftShape = "auto") -> dict[Side, HandModel]:
    """Reads a user's MANO files of both sides; raises InputError or WeightsError where one is missing or damaged."""
    models: dict[Side, HandModel] = {}
    for side, stem in _FILES.items():
        path = folder / f"{stem}.npz"
        path = path if path.is_file() else need_file(path.with_suffix(".pkl"), f"--mano: {_PLACES}")
        models[side] = load_mano(path, side, tips, left_shape)
    return models


def posed_hand(model: HandModel, hand: ManoHand) -> PosedHand:
    """Vertices, joints and keypoints of a model under given parameters, metres; compiled once a model."""
    return jax.device_get(_pose_hand(model, *map(jnp.float32, (hand.pose, hand.betas, hand.translation))))


def from_mean_pose(model: HandModel, pose: Float[np.ndarray, "16 3"]) -> Float[np.ndarray, "16 3"]:
    """Pose relative to the flat hand of one that is relative to the model's mean pose (DECISIONS G3)."""
    return np.asarray(absolute_pose(model, jnp.asarray(pose, jnp.float32)))


def moved_hand(
    model: HandModel, hand: ManoHand, rotation: Float[np.ndarray, "3 3"], shift: Float[np.ndarray, "3"]
) -> ManoHand:
    """Parameters of a hand after x ↦ rotation x + shift, such as from the world to a camera.

    Args:
      model: the hand's model, whose wrist, about which poses turn, is not at the origin (DECISIONS G5).
      hand: before.
      rotation: of the move.
      shift: metres.
    """
    turn, wrist = jax.device_get(_turned(model, *map(jnp.float32, (hand.pose[0], hand.betas, rotation))))
    translation = rotation @ (wrist + hand.translation) + shift - wrist
    return ManoHand(np.concatenate([turn[None], hand.pose[1:]]), hand.betas, translation)


def seen_at(
    model: HandModel,
    hand: ManoHand,
    keypoints: Float[np.ndarray, "points 3"],
    numbers: Int[np.ndarray, " points"],
    camera: Float[np.ndarray, "4"],
) -> ManoHand:
    """Puts a hand where a camera sees its keypoints nearest to given places, for labels that have no translation.

    Args:
      model: the hand's model.
      hand: its translation is of no account.
      keypoints: x and y in pixels and weight.
      numbers: which of the 21 they are.
      camera: fx, fy, cx, cy in pixels.

    Source: a pixel u of the point X + t means f (x + tx) = (u - c) (z + tz), which is linear in t.
    """
    points = posed_hand(model, ManoHand(hand.pose, hand.betas, np.zeros(3))).keypoints[numbers].astype(np.float64)
    rows, sides = [], []
    for axis in range(2):
        offset = keypoints[:, axis] - camera[2 + axis]
        focal = np.full(len(points), camera[axis])
        weighted = np.sqrt(keypoints[:, 2])
        columns = [np.zeros_like(focal), np.zeros_like(focal), -offset]
        columns[axis] = focal
        rows.append(np.stack(columns, axis=1) * weighted[:, None])
        sides.append((offset * points[:, 2] - focal * points[:, axis]) * weighted)
    translation = np.linalg.lstsq(np.concatenate(rows), np.concatenate(sides))[0]
    return ManoHand(hand.pose, hand.betas, translation)


@jax.jit
@jax.default_matmul_precision("highest")
def _turned(
    model: HandModel, turn: Float[Array, "3"], betas: Float[Array, " S"], rotation: Float[Array, "3 3"]
) -> tuple[Float[Array, "3"], Float[Array, "3"]]:
    """The wrist's rotation after the move, and its place at rest."""
    wrist = rest_joints(model, shape_hand(model, betas))[0]
    return matrix_to_axis_angle(rotation @ axis_angle_to_matrix(turn)), wrist


_pose_hand = jax.jit(pose_hand)
