"""Hands of a synthetic MANO whose every number is known, for fixtures of data sets that have its parameters."""

import dataclasses

import numpy as np

from handjax.hand.mano import load_mano
from handjax.hand.model import pose_hand
from handjax.hand.topology import MANO_TIP_VERTICES, MANO_TO_OPENPOSE
from tests.data_pipelines.datasets.truth import TrueHand, check_space, pixels_of
from tests.hand.mano_files import mano_arrays, mirrored, write_python2
from tests.hand.test_mano import published


def write_mano(folder):
    """MANO's two files as published, the left one with the right one's shape in x; returns them by side."""
    files = {"right": mano_arrays(), "left": mirrored(mano_arrays(), fix_shape=False)}
    for side, arrays in files.items():
        write_python2(folder / f"MANO_{side.upper()}.pkl", arrays)
    return files


def mended(arrays):
    """The left hand's arrays with shape directions mirrored in x."""
    return arrays | {"shapedirs": arrays["shapedirs"] * np.array([-1.0, 1.0, 1.0])[:, None]}


def mean_pose(arrays):
    return np.concatenate([np.zeros(3), arrays["hands_mean"]]).reshape(16, 3)


@dataclasses.dataclass(frozen=True)
class ManoTruth:
    """A posed MANO hand in camera space, metres: absolute pose, shape, place, vertices, 16 joints and what is seen."""

    pose: np.ndarray
    betas: np.ndarray
    place: np.ndarray
    vertices: np.ndarray
    joints: np.ndarray
    hand: TrueHand


def mano_truth(seed, side, arrays, tips, camera_matrix, size, place):
    """A hand of random pose with the given translation, so large that the wrong left shape would not be it."""
    rng = np.random.default_rng(seed)
    pose, betas, place = 0.3 * rng.standard_normal((16, 3)), rng.standard_normal(10), np.array(place)
    betas[0] = 6.0
    pose += mean_pose(arrays)
    vertices, joints = published(arrays, pose, betas, place)
    points = np.concatenate([joints, vertices[list(MANO_TIP_VERTICES[tips])]])[MANO_TO_OPENPOSE]
    shade = np.zeros(size)
    hand = TrueHand(side, points, pixels_of(points, camera_matrix), np.zeros(size, bool), shade)
    return ManoTruth(pose, betas, place, vertices, joints, hand)


def moved(truth, rotation, shift, camera_matrix):
    """The same hand after x ↦ rotation x + shift; its parameters stay those from before."""
    points, vertices, joints = (x @ rotation.T + shift for x in (truth.hand.points, truth.vertices, truth.joints))
    hand = dataclasses.replace(truth.hand, points=points, pixels=pixels_of(points, camera_matrix))
    return dataclasses.replace(truth, vertices=vertices, joints=joints, hand=hand)


def check_mano(record, truth, folder, tips, left_shape="auto"):
    """The record's parameters, posed by the user's own MANO, give the hand that was written."""
    assert record.hand_model == "mano" and record.side == truth.hand.side
    model = load_mano(folder / f"MANO_{record.side.upper()}.pkl", tips=tips, left_shape=left_shape)
    posed = pose_hand(model, record.pose, record.betas, record.translation)
    np.testing.assert_allclose(posed.vertices, truth.vertices, atol=5e-6)
    np.testing.assert_allclose(posed.keypoints, truth.hand.points, atol=5e-6)
    np.testing.assert_allclose(record.pose[1:], truth.pose[1:], atol=2e-6)
    check_space(record, truth.hand)
