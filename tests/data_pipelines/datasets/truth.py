"""Hands whose every number is known, for fixtures in the layouts of published data sets."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.features import open_records
from handjax.hand.camera import PinholeCamera
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rasterize import rasterize
from handjax.hand.sampling import sample_pose
from handjax.images import decode_image
from launch import precompute

BACKGROUND = np.array([40, 90, 60], np.uint8)
SKIN = np.array([220, 170, 140])


@dataclasses.dataclass(frozen=True)
class TrueHand:
    """A rendered hand: keypoints in OpenPose's order, metres in camera space and pixels, first pixel at (0.5, 0.5)."""

    side: str
    points: np.ndarray
    pixels: np.ndarray
    mask: np.ndarray
    shade: np.ndarray


def matrix(focal, center):
    """K."""
    return np.array([[focal, 0, center[0]], [0, focal, center[1]], [0, 0, 1]], np.float64)


def pixels_of(points, camera_matrix):
    """Projects by homogeneous coordinates."""
    homogeneous = points @ camera_matrix.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def true_hand(seed, side, camera_matrix, size, at, depth=0.5):
    """A hand in a random pose whose keypoints' middle is seen at the pixel `at`; `size` is height and width."""
    model = load_open_hand(side)
    key = jax.random.key(seed)
    pose = sample_pose(key, model).at[0].set(0.4 * jax.random.normal(jax.random.fold_in(key, 1), (3,)))
    betas = 0.5 * jax.random.normal(jax.random.fold_in(key, 2), (10,))
    posed = pose_hand(model, pose, betas, jnp.zeros(3))
    target = np.linalg.inv(camera_matrix) @ np.array([*at, 1.0]) * depth
    shift = target - np.asarray(posed.keypoints, np.float64).mean(axis=0)
    points = np.asarray(posed.keypoints, np.float64) + shift
    camera = PinholeCamera(jnp.diag(jnp.array(camera_matrix))[:2], jnp.array(camera_matrix[:2, 2]))
    raster = rasterize(posed.vertices + jnp.asarray(shift, jnp.float32), model.faces, camera, *size)
    shade = np.clip(-np.asarray(raster.normals)[..., 2], 0.2, 1.0)
    return TrueHand(side, points, pixels_of(points, camera_matrix), np.asarray(raster.mask) > 0, shade)


def picture_of(hands, size):
    """The photograph: hands in front of a green that slowly changes, so that places can be told apart."""
    x = np.arange(size[1])[None, :, None]
    y = np.arange(size[0])[:, None, None]
    picture = BACKGROUND + np.concatenate([x * 60 // size[1] + 0 * y, 0 * x + y * 60 // size[0], 0 * x * y], axis=2)
    for hand in hands:
        picture = np.where(hand.mask[..., None], SKIN * hand.shade[..., None], picture)
    return picture.astype(np.uint8)


def prepare(monkeypatch, source, output, *arguments):
    """Runs `launch.precompute`; returns the split → records by id."""
    command = ["precompute", "--input", source, "--output", output, *arguments]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    precompute.main()
    splits = {split: open_records(output, split) for split in ("train", "eval", "val")}
    return {split: {record.id: record for record in records} for split, records in splits.items() if records}


def check_record(record, hand, picture):
    """The record shows this hand: places in our order, side, crop; returns the crop's corner in the picture."""
    corner = np.round((hand.pixels - record.keypoints_2d[:, :2])[0])
    np.testing.assert_allclose(record.keypoints_2d[:, :2] + corner, hand.pixels, atol=5e-3)
    assert record.side == hand.side
    image = decode_image(record.image, record.id)
    side = len(image)
    assert abs(np.ptp(hand.pixels, axis=0).max() - side / 2) < 1
    x, y = corner.astype(int)
    rows = np.clip(np.arange(y, y + side), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(x, x + side), 0, picture.shape[1] - 1)
    assert np.abs(image.astype(float) - picture[rows[:, None], columns]).mean() < 4
    return corner


def check_space(record, hand):
    """3-D keypoints are the hand's, in metres and camera axes, and project onto the 2-D ones."""
    np.testing.assert_allclose(record.keypoints_3d[:, :3], hand.points, atol=1e-6)
    focal, center = record.camera[:2].astype(float), record.camera[2:].astype(float)
    projected = focal * hand.points[:, :2] / hand.points[:, 2:] + center
    assert np.abs(projected - record.keypoints_2d[:, :2]).max() < 0.01


def check_mesh(record, hand, corner):
    """The fitted mesh lies where the hand is: by keypoints under the record's camera, and by its depth's outline."""
    posed = pose_hand(load_open_hand(record.side), record.pose, record.betas, record.translation).keypoints
    pixels = np.asarray(record.camera[:2] * posed[:, :2] / posed[:, 2:] + record.camera[2:])
    box = np.ptp(hand.pixels, axis=0).max()
    assert np.linalg.norm(pixels + corner - hand.pixels, axis=1).mean() < 0.01 * box
    depth = decode_image(record.depth, record.id)[..., 0] > 0
    side = len(decode_image(record.image, record.id))
    centers = (np.arange(len(depth)) + 0.5) * side / len(depth)
    rows, columns = (centers + corner[1]).astype(int), (centers + corner[0]).astype(int)
    inside = ((rows >= 0) & (rows < len(hand.mask)))[:, None] & ((columns >= 0) & (columns < hand.mask.shape[1]))
    truth = hand.mask[rows.clip(0, len(hand.mask) - 1)[:, None], columns.clip(0, hand.mask.shape[1] - 1)] & inside
    depth = depth & inside
    assert (depth & truth).sum() / (depth | truth).sum() > 0.8
