"""A detected hand in its square crop becomes conditions, by a fit of the hand model and one rendering of it."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from handjax.conditions.pictures import HandPictures, hand_pictures, inpaint_mask
from handjax.hand.draw import draw_skeleton
from handjax.hand.fit import HandFit, fit_hand
from handjax.hand.model import HandModel, load_open_hand, mirror_pose, pose_hand
from handjax.perception.hands import DetectedHand, Side

FIT_SIZE = 256
"""Hands are fitted in pictures of this size, whatever their own, so that the fit is compiled once."""
BATCH = 16
"""Hands are fitted in batches of this size, the last one padded, so that nothing is compiled twice."""


@dataclasses.dataclass(frozen=True)
class HandConditions:
    """One hand in a square picture of `size` pixels, seen as it is: a left hand is left.

    Attributes:
      side: which hand of the person it is.
      keypoints: as detected, pixels.
      confidence: of each keypoint, in [0, 1].
      mask: 1 on the hand's mesh.
      depth: the depth condition (DECISIONS B3).
      skeleton: RGB in [0, 1] (DECISIONS B3).
      mesh: the shaded mesh, RGB in [0, 1].
      inpaint_mask: the rectangle to repaint (DECISIONS B4).
      pose: axis-angle of the 16 joints of the side's own model, radians.
      betas: shape of the hand model.
      translation: of the hand model in camera space, metres.
      camera: fx, fy, cx, cy in pixels of the square.
      fit_error_px: distance of the model's keypoints from the detected ones, pixels.
    """

    side: Side
    keypoints: Float[np.ndarray, "21 2"]
    confidence: Float[np.ndarray, "21"]
    mask: Float[np.ndarray, "size size"]
    depth: Float[np.ndarray, "size size"]
    skeleton: Float[np.ndarray, "size size 3"]
    mesh: Float[np.ndarray, "size size 3"]
    inpaint_mask: Float[np.ndarray, "size size"]
    pose: Float[np.ndarray, "16 3"]
    betas: Float[np.ndarray, " S"]
    translation: Float[np.ndarray, "3"]
    camera: Float[np.ndarray, "4"]
    fit_error_px: float


Estimator = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], HandFit]
"""Finds the mesh of right hands: (crops [B, s, s, 3] uint8, keypoints [B, 21, 2] px, confidence [B, 21], world
[B, 21, 3] m) -> HandFit in the pixels of the crops. Left hands come and go mirrored."""


def fit_estimator(crops, keypoints, confidence, world) -> HandFit:
    """The default `Estimator`: fits the open hand to the keypoints; the pixels are not looked at."""
    scale = FIT_SIZE / crops.shape[1]
    fit = fit_hand(_right_hand(), keypoints * scale, confidence, world, (FIT_SIZE, FIT_SIZE))
    return fit.replace(camera=jax.tree.map(lambda x: x / scale, fit.camera), error_px=fit.error_px / scale)


def conditions_from_hand(
    crop: UInt8[np.ndarray, "size size 3"], hand: DetectedHand, estimator: Estimator = fit_estimator
) -> HandConditions:
    """Computes the conditions of one hand; arguments as `conditions_from_hands`."""
    return conditions_from_hands([crop], [hand], estimator)[0]


def conditions_from_hands(
    crops: Sequence[UInt8[np.ndarray, "size size 3"]],
    hands: Sequence[DetectedHand],
    estimator: Estimator = fit_estimator,
) -> list[HandConditions]:
    """Computes the conditions of hands, each in its own square crop.

    Args:
      crops: squares of one size around the hands (`crop_image`), at which the conditions are drawn.
      hands: keypoints in pixels of the crop (`hand_in_crop`).
      estimator: finds pose, shape and place of right hands; the fit to the keypoints by default.

    Returns:
      One entry a hand. Left hands are mirrored for the estimator and their result is mirrored back (DECISIONS B4).
    """
    conditions: list[HandConditions] = []
    for first in range(0, len(hands), BATCH):
        part = slice(first, first + BATCH)
        conditions += _batch_conditions(np.stack(crops[part]), list(hands[part]), estimator)
    return conditions


@cache
def _right_hand() -> HandModel:
    return load_open_hand("right")


def _batch_conditions(
    crops: UInt8[np.ndarray, "hands size size 3"], hands: list[DetectedHand], estimator: Estimator
) -> list[HandConditions]:
    size = crops.shape[1]
    is_left = np.array([hand.side == "left" for hand in hands])
    keypoints = np.stack([hand.keypoints[:, :2] for hand in hands]).astype(np.float32)
    world = np.stack([hand.world for hand in hands]).astype(np.float32)
    as_right = keypoints.copy()
    as_right[is_left, :, 0] = size - as_right[is_left, :, 0]
    world[is_left, :, 0] *= -1
    crops = np.where(is_left[:, None, None, None], crops[:, :, ::-1], crops)
    padded = [
        np.concatenate([x, np.repeat(x[-1:], BATCH - len(hands), axis=0)])
        for x in (crops, as_right, np.ones(keypoints.shape[:2], np.float32), world)
    ]
    fit = jax.device_get(estimator(*padded))
    fits = [jax.tree.map(lambda leaf, i=i: leaf[i], fit) for i in range(len(hands))]
    return [_conditions(hand, points, one, size) for hand, points, one in zip(hands, keypoints, fits, strict=True)]


def _conditions(hand: DetectedHand, keypoints: Float[np.ndarray, "21 2"], fit: HandFit, size: int) -> HandConditions:
    """Draws one hand, whose fit is still that of a right one."""
    pictures = jax.device_get(_draw(_right_hand(), fit, size))._asdict()
    pose, translation, center = np.asarray(fit.pose), np.asarray(fit.translation), np.asarray(fit.camera.center)
    if hand.side == "left":
        pictures = {name: picture[:, ::-1] for name, picture in pictures.items()}
        pose = np.asarray(mirror_pose(jnp.asarray(pose)))
        translation = translation * np.array([-1, 1, 1], np.float32)
        center = np.array([size - center[0], center[1]], np.float32)
    return HandConditions(
        side=hand.side,
        keypoints=keypoints,
        confidence=np.ones(21, np.float32),
        **pictures,
        skeleton=np.asarray(draw_skeleton(keypoints, size, size)),
        inpaint_mask=inpaint_mask(pictures["depth"], keypoints),
        pose=pose,
        betas=np.asarray(fit.betas),
        translation=translation,
        camera=np.concatenate([fit.camera.focal, center]),
        fit_error_px=float(fit.error_px),
    )


@partial(jax.jit, static_argnames="size")
def _draw(model: HandModel, fit: HandFit, size: int) -> HandPictures:
    vertices = pose_hand(model, fit.pose, fit.betas, fit.translation).vertices
    return hand_pictures(vertices, model.faces, fit.camera, size)
