"""Hands of a clip without jitter: one side and shape for each, turns and places smoothed over time."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.hand.camera import PinholeCamera
from handjax.hand.model import HandModel
from handjax.inference.scene import ReconstructedHand, common_betas, reposed
from handjax.perception import one_euro
from handjax.perception.hands import DetectedHand, Side
from handjax.perception.one_euro import FilterState, OneEuro

SMOOTHING = OneEuro(speed_weight=3.0)
"""Speeds are in radians a second, of places in hand sizes, of the logarithm of distances as they are. Of weights from
0.3 to 10 this one comes nearest to the truth in the test's clip."""
HAND_SIZE = 0.18
"""Metres from wrist to fingertips."""


class _Motion(NamedTuple):
    """Filters of a hand: joint rotations, and the wrist's x/z, y/z and log z, so that a jitter of depth moves nothing
    in the picture."""

    turns: FilterState
    place: FilterState


def with_one_side(clip: Sequence[Mapping[int, DetectedHand]]) -> list[dict[int, DetectedHand]]:
    """Hands that are followed, each of the side that it is by the mean over its frames, which is their score.

    A frame by itself may say the other side, of which the hand would be read as the mirror image.

    Args:
        clip: of each frame the hands by identity.
    """
    right: defaultdict[int, list[float]] = defaultdict(list)
    for hands in clip:
        for identity, hand in hands.items():
            right[identity].append(hand.score if hand.side == "right" else 1 - hand.score)
    shares = {identity: float(np.mean(each)) for identity, each in right.items()}
    sides: dict[int, Side] = {identity: "right" if share >= 0.5 else "left" for identity, share in shares.items()}
    return [
        {
            identity: dataclasses.replace(hand, side=sides[identity], score=max(shares[identity], 1 - shares[identity]))
            for identity, hand in hands.items()
        }
        for hands in clip
    ]


def smooth_clip(
    models: Mapping[Side, HandModel],
    clip: Sequence[Mapping[int, ReconstructedHand]],
    camera: PinholeCamera,
    rate: float,
    settings: OneEuro = SMOOTHING,
) -> list[dict[int, ReconstructedHand]]:
    """Smooths hands from frame to frame; what is later in the clip changes nothing but their mean shape.

    Args:
        models: right and left hand.
        clip: of each frame the hands by identity.
        camera: of the clip.
        rate: frames a second.
        settings: of the filters.

    Source: the 1€ filter (Casiez, Roussel and Vogel, CHI 2012), of rotations on SO(3).
    """
    betas, motions = common_betas(clip), dict[int, _Motion]()
    smoothed = []
    for hands in clip:
        frame = {}
        for identity, hand in hands.items():
            hand = reposed(models, hand, camera, betas[identity])
            before = motions.get(identity) or _Motion(one_euro.start((16, 3)), one_euro.start((3,)))
            motion = _step(settings, before, jnp.asarray(hand.pose), _to_place(hand.keypoints[0]), rate)
            wrist = _from_place(motion.place.value)
            frame[identity] = reposed(models, hand, camera, hand.betas, np.asarray(motion.turns.value), wrist)
            motions[identity] = motion
        smoothed.append(frame)
    return smoothed


@jax.jit
def _step(settings: OneEuro, before: _Motion, pose: Float[Array, "16 3"], place: Float[Array, "3"], rate) -> _Motion:
    unit = jnp.array([1.0, 1.0, 0.0]) * HAND_SIZE / jnp.exp(place[2]) + jnp.array([0.0, 0.0, 1.0])
    return _Motion(
        one_euro.smooth_turns(settings, before.turns, pose, rate),
        one_euro.smooth(settings, before.place, place, rate, unit),
    )


def _to_place(point: Float[np.ndarray, "3"]) -> Float[Array, "3"]:
    return jnp.array([point[0] / point[2], point[1] / point[2], np.log(point[2])])


def _from_place(place: Float[Array, "3"]) -> Float[np.ndarray, "3"]:
    x, y, log_depth = np.asarray(place)
    return np.array([x, y, 1.0], np.float32) * np.exp(log_depth)
