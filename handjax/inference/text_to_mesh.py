"""Posed hand meshes for prompts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from handjax.conditions.pictures import hand_pictures
from handjax.errors import WeightsError
from handjax.hand.camera import PinholeCamera
from handjax.hand.model import HandModel, mirror_pose
from handjax.hand.rotations import matrix_to_axis_angle
from handjax.hand.words import named_side, swap_sides
from handjax.record import Side
from handjax.recovery.decoding import ITERATIONS, TOP_SHARE, joint_confidence
from handjax.recovery.posing import pose_hands
from handjax.recovery.text_files import TextMeshModel
from handjax.recovery.tokenizer import check_hand
from handjax.recovery.writing import PoseWriter, TextFixed

DRAWN_SHARE, DRAWN_FOCAL = 0.85, 5.0
"""Of the side of a hand's picture: what the hand takes, and the focal length."""
_MIRROR = np.array([-1.0, 1.0, 1.0], np.float32)


@dataclasses.dataclass(frozen=True)
class WrittenHand:
    """A hand of mean shape at the origin, turned as the camera would see it.

    Attributes:
        side: which hand of the person it is.
        vertices: metres, camera axes.
        faces: outwards, also of a left hand.
        keypoints: metres, camera axes; OpenPose order.
        pose: axis-angle in MANO's order, of the hand model of `side`, the first row for the whole hand.
        confidence: of each joint, MANO's order; 1 where the network sees only one possible pose.
        log_likelihood: of all pose tokens.
    """

    side: Side
    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    keypoints: Float[np.ndarray, "21 3"]
    pose: Float[np.ndarray, "16 3"]
    confidence: Float[np.ndarray, "16"]
    log_likelihood: float


class HandWriter:
    """A trained model, ready for prompts.

    Args:
        model: transformer, tokenizer and text encoder.
        hand: the right hand that the tokenizer knows.
        iterations: of decoding.
        share: of the codes, the likeliest, that tokens are drawn from.

    Raises:
        ConfigError: the tokenizer knows another hand model, or the hand is a left one.
    """

    def __init__(self, model: TextMeshModel, hand: HandModel, iterations: int = ITERATIONS, share: float = TOP_SHARE):
        check_hand(model.tokenizer, hand)
        self._writer = PoseWriter(model.network, model.tokenizer.network, model.text.network)
        self._text, self._params = model.text, model.params
        self._fixed = TextFixed(model.tokenizer.arrays, hand, model.text.params)
        self._faces = np.asarray(hand.faces)
        self._iterations, self._share = iterations, share

    def __call__(self, prompt: str, count: int, seed: int = 0) -> list[WrittenHand]:
        """Draws hands that the prompt says.

        The prompt's hand is the side that it names first, or right. The network knows right hands: for a left one it
        reads the prompt with the sides exchanged, and the result is mirrored (DECISIONS B4).

        Args:
            prompt: in English.
            count: of hands.
            seed: of the draws.

        Raises:
            InputError: the prompt is empty, or too long.
            WeightsError: the weights give no numbers.
        """
        left = named_side(prompt) == "left"
        ids = jnp.asarray(self._text.ids([swap_sides(prompt) if left else prompt]))
        arrays, key = (self._params, self._fixed, ids), jax.random.key(seed)
        rotations, posed, decoded = jax.device_get(
            _write(self._writer, *arrays, key, count, self._iterations, self._share)
        )
        if not all(np.isfinite(each).all() for each in (posed.vertices, decoded.confidence)):
            raise WeightsError("the model's weights give no numbers; train or export it again")
        confidence = np.asarray(joint_confidence(jnp.asarray(decoded.confidence[:, 0])))
        of_right = matrix_to_axis_angle(jnp.asarray(rotations))
        pose = np.asarray(mirror_pose(of_right) if left else of_right)
        mirror = _MIRROR if left else np.ones(3, np.float32)
        return [
            WrittenHand(
                side="left" if left else "right",
                vertices=posed.vertices[number] * mirror,
                faces=self._faces[:, ::-1] if left else self._faces,
                keypoints=posed.keypoints[number] * mirror,
                pose=pose[number],
                confidence=confidence[number],
                log_likelihood=float(decoded.log_likelihood[number, 0]),
            )
            for number in range(count)
        ]


@functools.partial(jax.jit, static_argnames=("writer", "count", "iterations", "share"))
def _write(writer, params, fixed, ids, key, count, iterations, share):
    rotations, decoded = writer.write(params, fixed, ids, key, count, share=share, iterations=iterations)
    betas = jnp.zeros((count, fixed.hand.shapedirs.shape[-1]))
    return rotations[:, 0], pose_hands(fixed.hand, rotations[:, 0], betas), decoded


def draw_hand(hand: WrittenHand, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Draws a hand in the middle of a white square, lit from the camera."""
    low, high = hand.vertices.min(axis=0), hand.vertices.max(axis=0)
    distance = DRAWN_FOCAL * (high - low)[:2].max() / DRAWN_SHARE
    vertices = hand.vertices - (low + high) / 2 + np.array([0, 0, distance], np.float32)
    camera = PinholeCamera(jnp.full(2, DRAWN_FOCAL * size), jnp.full(2, size / 2))
    drawn = hand_pictures(jnp.asarray(vertices), jnp.asarray(hand.faces), camera, size)
    return np.asarray(jnp.round(255 * (drawn.mesh + 1 - drawn.mask[..., None]))).astype(np.uint8)
