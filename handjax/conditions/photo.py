"""A detected hand in its square crop becomes conditions, by a fit of the hand model and one rendering of it."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from handjax.conditions.pictures import hand_pictures, inpaint_mask
from handjax.hand.camera import PinholeCamera
from handjax.hand.draw import draw_skeleton
from handjax.hand.fit import HandFit, fit_hand
from handjax.hand.model import HandModel, load_open_hand, mirror_pose, pose_hand
from handjax.perception.hands import DetectedHand, Side

BATCH = 16
"""Hands are fitted and drawn in batches of this size, the last one padded, so that nothing compiles twice."""


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
    betas: Float[np.ndarray, "S"]
    translation: Float[np.ndarray, "3"]
    camera: Float[np.ndarray, "4"]
    fit_error_px: float


Estimator = Callable[..., HandFit]
"""Mesh estimator: (right-hand model, keypoints [B,21,2], confidence [B,21], world [B,21,3], size) -> HandFit."""


def conditions_from_hand(hand: DetectedHand, size: int, estimator: Estimator = fit_hand) -> HandConditions:
    """Computes the conditions of one hand; arguments as `conditions_from_hands`."""
    return conditions_from_hands([hand], size, estimator)[0]


def conditions_from_hands(
    hands: Sequence[DetectedHand], size: int, estimator: Estimator = fit_hand
) -> list[HandConditions]:
    """Computes the conditions of hands, each in its own square crop.

    Args:
      hands: keypoints in pixels of the crop (`hand_in_crop`).
      size: side of the crops and of the pictures drawn, pixels.
      estimator: finds pose, shape and place of a right hand; the fit to the keypoints by default.

    Returns:
      One entry a hand. Left hands are mirrored for the estimator and their result is mirrored back (DECISIONS B4).
    """
    conditions: list[HandConditions] = []
    for first in range(0, len(hands), BATCH):
        part = list(hands[first : first + BATCH])
        conditions += _batch_conditions(part + part[-1:] * (BATCH - len(part)), size, estimator)[: len(part)]
    return conditions


@cache
def _right_hand() -> HandModel:
    return load_open_hand("right")


def _batch_conditions(hands: list[DetectedHand], size: int, estimator: Estimator) -> list[HandConditions]:
    model = _right_hand()
    is_left = np.array([hand.side == "left" for hand in hands])
    keypoints = np.stack([hand.keypoints[:, :2] for hand in hands]).astype(np.float32)
    world = np.stack([hand.world for hand in hands]).astype(np.float32)
    as_right = keypoints.copy()
    as_right[is_left, :, 0] = size - as_right[is_left, :, 0]
    world[is_left, :, 0] *= -1
    confidence = np.ones(keypoints.shape[:2], np.float32)
    fit = estimator(model, as_right, confidence, world, (size, size))
    pictures = jax.device_get(_draw(model, fit, keypoints, jnp.asarray(is_left), size))
    fit = jax.device_get(_mirror_left(fit, jnp.asarray(is_left), size))
    camera = np.concatenate([fit.camera.focal, fit.camera.center], axis=-1)
    return [
        HandConditions(
            side=hand.side,
            keypoints=keypoints[i],
            confidence=confidence[i],
            **{name: picture[i] for name, picture in pictures.items()},
            inpaint_mask=inpaint_mask(pictures["depth"][i], keypoints[i]),
            pose=fit.pose[i],
            betas=fit.betas[i],
            translation=fit.translation[i],
            camera=camera[i],
            fit_error_px=float(fit.error_px[i]),
        )
        for i, hand in enumerate(hands)
    ]


@jax.jit(static_argnames="size")
def _draw(model: HandModel, fit: HandFit, keypoints, is_left, size: int) -> dict[str, jax.Array]:
    def draw(pose, betas, translation, camera, points, left):
        vertices = pose_hand(model, pose, betas, translation).vertices
        pictures = hand_pictures(vertices, model.faces, camera, size)._asdict()
        pictures = {name: jnp.where(left, picture[:, ::-1], picture) for name, picture in pictures.items()}
        return pictures | {"skeleton": draw_skeleton(points, size, size)}

    # one at a time: the rasteriser's loop would otherwise run for all hands as long as for the slowest
    return jax.lax.map(lambda hand: draw(*hand), (fit.pose, fit.betas, fit.translation, fit.camera, keypoints, is_left))


def _mirror_left(fit: HandFit, is_left, size: int) -> HandFit:
    flip = jnp.where(is_left[:, None], jnp.array([-1.0, 1.0, 1.0]), 1.0)
    center_x = jnp.where(is_left, size - fit.camera.center[:, 0], fit.camera.center[:, 0])
    return fit.replace(
        pose=jnp.where(is_left[:, None, None], mirror_pose(fit.pose), fit.pose),
        translation=fit.translation * flip,
        camera=PinholeCamera(fit.camera.focal, fit.camera.center.at[:, 0].set(center_x)),
    )
