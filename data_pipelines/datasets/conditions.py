"""The mesh of an annotated hand: MANO's, where the data set has its parameters and the user MANO, else a fitted one."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from data_pipelines.datasets.annotation import HandAnnotation, ManoHand
from data_pipelines.datasets.mano import posed_hand
from handjax.conditions.photo import BATCH, FIT_SIZE, HandConditions, conditions_from_hands
from handjax.conditions.pictures import HandPictures, hand_pictures
from handjax.hand.camera import PinholeCamera, default_camera, project
from handjax.hand.fit import HandFit, fit_hand
from handjax.hand.model import HandModel, PosedHand, load_open_hand
from handjax.perception.hands import DetectedHand
from handjax.record import Side


class HandMesh(NamedTuple):
    """A posed hand model and what the camera sees of it in a square of some side.

    Attributes:
      name: of the model, as in records.
      parameters: pose relative to the flat hand, shape and place of the model of the hand's own side.
      camera: fx, fy, cx, cy in pixels of the square.
      pictures: mask, depth condition and shaded mesh.
      keypoints_2d: where the model has the keypoints, pixels of the square.
      keypoints_3d: the same in camera space, metres.
    """

    name: Literal["open_hand", "mano"]
    parameters: ManoHand
    camera: Float[np.ndarray, "4"]
    pictures: HandPictures
    keypoints_2d: Float[np.ndarray, "21 2"]
    keypoints_3d: Float[np.ndarray, "21 3"]


def hand_meshes(hands: Sequence[HandAnnotation], size: int, mano: Mapping[Side, HandModel]) -> list[HandMesh]:
    """Poses a hand model for each hand.

    Args:
      hands: in pixels of a square of `size`; side and 3-D keypoints are known, the latter in any scale.
      size: side of the pictures.
      mano: the user's models; without one for a hand's side its parameters are of no use.
    """
    fitted = [i for i, hand in enumerate(hands) if hand.mano is None or hand.side not in mano]
    meshes = {
        i: mesh
        for first in range(0, len(fitted), BATCH)
        for i, mesh in _fit([(i, hands[i]) for i in fitted[first : first + BATCH]], size).items()
    }
    return [meshes[i] if i in meshes else _pose(hand, size, mano) for i, hand in enumerate(hands)]


def _pose(hand: HandAnnotation, size: int, mano: Mapping[Side, HandModel]) -> HandMesh:
    assert hand.mano is not None and hand.side is not None
    model = mano[hand.side]
    camera = _camera(hand, size)
    posed = posed_hand(model, hand.mano)
    pictures = jax.device_get(hand_pictures(posed.vertices, model.faces, _pinhole(camera), size))
    return _mesh("mano", hand.mano, camera, pictures, posed)


def _fit(numbered: Sequence[tuple[int, HandAnnotation]], size: int) -> dict[int, HandMesh]:
    """Fits the open hand under each hand's own camera; up to BATCH hands."""
    numbers, hands = zip(*numbered, strict=True)
    detected = [_as_detected(hand) for hand in hands]
    weights = np.stack([hand.placed & _known_in_space(hand) for hand in hands])
    cameras = np.stack([_camera(hand, size) for hand in hands])
    is_left = np.array([hand.side == "left" for hand in hands])
    cameras[is_left, 2] = size - cameras[is_left, 2]

    def estimate(crops, keypoints, confidence, world) -> HandFit:
        scale = FIT_SIZE / size
        arrays = [np.concatenate([x, np.repeat(x[-1:], BATCH - len(x), axis=0)]) for x in (weights, cameras * scale)]
        fit = _fit_under_cameras(_right_hand(), keypoints * scale, arrays[0].astype(np.float32), world, arrays[1])
        return fit.replace(camera=jax.tree.map(lambda x: x / scale, fit.camera), error_px=fit.error_px / scale)

    # the estimator does not look at pixels
    crops = [np.zeros((size, size, 3), np.uint8)] * len(hands)
    conditions = conditions_from_hands(crops, detected, estimate)
    return {i: _fitted_mesh(one) for i, one in zip(numbers, conditions, strict=True)}


def _fitted_mesh(conditions: HandConditions) -> HandMesh:
    parameters = ManoHand(conditions.pose, conditions.betas, conditions.translation)
    posed = posed_hand(_open_hand(conditions.side), parameters)
    pictures = HandPictures(*map(jnp.asarray, (conditions.mask, conditions.depth, conditions.mesh)))
    return _mesh("open_hand", parameters, conditions.camera, pictures, posed)


def _mesh(name, parameters: ManoHand, camera, pictures: HandPictures, posed: PosedHand) -> HandMesh:
    pixels = np.asarray(project(_pinhole(camera), posed.keypoints))
    return HandMesh(name, parameters, camera, pictures, pixels, np.asarray(posed.keypoints))


@jax.jit
def _fit_under_cameras(
    model: HandModel,
    keypoints: Float[Array, "hands 21 2"],
    weights: Float[Array, "hands 21"],
    world: Float[Array, "hands 21 3"],
    cameras: Float[Array, "hands 4"],
) -> HandFit:
    def fit(points, weight, shape, camera):
        return fit_hand(
            model, points[None], weight[None], shape[None], (FIT_SIZE, FIT_SIZE), PinholeCamera(camera[:2], camera[2:])
        )

    return jax.tree.map(lambda leaf: leaf[:, 0], jax.vmap(fit)(keypoints, weights, world, cameras))


_open_hand = cache(load_open_hand)


def _right_hand() -> HandModel:
    return _open_hand("right")


def _as_detected(hand: HandAnnotation) -> DetectedHand:
    """With the unknown keypoints, which have no weight in the fit, in the middle of the others."""
    assert hand.side is not None and hand.keypoints_3d is not None
    points, world = _filled(hand.keypoints_2d[:, :2]), _filled(hand.keypoints_3d[:, :3])
    keypoints = np.column_stack([points, np.zeros(21)]).astype(np.float32)
    return DetectedHand.from_landmarks(hand.side, 1.0, keypoints, (world - world.mean(axis=0)).astype(np.float32))


def _filled(points: Float[np.ndarray, "21 dims"]) -> Float[np.ndarray, "21 dims"]:
    return np.where(np.isfinite(points), points, np.nanmean(points, axis=0))


def _known_in_space(hand: HandAnnotation) -> np.ndarray:
    assert hand.keypoints_3d is not None
    return np.isfinite(hand.keypoints_3d[:, :3]).all(axis=1)


def _camera(hand: HandAnnotation, size: int) -> Float[np.ndarray, "4"]:
    if hand.camera is not None:
        return hand.camera.astype(np.float32)
    camera = default_camera(size, size)
    return np.concatenate([camera.focal, camera.center])


def _pinhole(camera: Float[np.ndarray, "4"]) -> PinholeCamera:
    return PinholeCamera(jnp.asarray(camera[:2], jnp.float32), jnp.asarray(camera[2:], jnp.float32))
