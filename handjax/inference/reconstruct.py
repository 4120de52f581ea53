"""Posed hand meshes for the hands of a picture, all in one camera of the whole picture."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from handjax.conditions.crops import box_side, crop_image, hand_box, hand_in_crop
from handjax.errors import InputError, WeightsError
from handjax.hand.camera import PinholeCamera, default_camera
from handjax.hand.model import HandModel, mirror_pose
from handjax.hand.rotations import compose, matrix_to_axis_angle
from handjax.inference.scene import ReconstructedHand, both_sides, pose_at_origin, rays_of, translation_to, turn_to
from handjax.perception.hands import DetectedHand
from handjax.recovery.camera import project_to_crop
from handjax.recovery.decoding import ITERATIONS, Decoded, joint_confidence, vertex_confidence
from handjax.recovery.files import RecoveryModel
from handjax.recovery.reading import Fixed, MeshReader, Recovered
from handjax.recovery.tokenizer import check_hand

LEAST_SIDE = 16
"""Pixels of the square around a hand below which there is nothing to see."""
_MIRROR = np.array([-1.0, 1.0, 1.0], np.float32)

Image = UInt8[np.ndarray, "height width 3"]


class HandReconstructor:
    """A trained model, ready for pictures.

    Args:
        model: transformer and tokenizer.
        hand: the right hand that the tokenizer knows.
        iterations: of decoding (MMHMR Table 6).

    Raises:
        ConfigError: the tokenizer knows another hand model, or the hand is a left one.
    """

    def __init__(self, model: RecoveryModel, hand: HandModel, iterations: int = ITERATIONS):
        check_hand(model.tokenizer, hand)
        self.model, self.models = model, both_sides(hand)
        self._reader = MeshReader(model.network, model.tokenizer.network)
        self._fixed = Fixed(model.tokenizer.arrays, hand)
        self._recover = jax.jit(functools.partial(self._reader.recover, iterations=iterations))
        self._draw = jax.jit(functools.partial(self._reader.draw, iterations=iterations), static_argnames="count")

    def read(
        self, image: Image, hand: DetectedHand, with_cue: bool = True, camera: PinholeCamera | None = None
    ) -> ReconstructedHand:
        """Reads a hand that was found.

        Args:
            image: the picture.
            hand: its side, and keypoints that say where it is.
            with_cue: whether the keypoints also help the network, or it sees the picture alone.
            camera: of the picture; None is the one that is assumed where optics are unknown.

        Raises:
            InputError: the hand is too small, or seen nowhere before the camera.
            WeightsError: the weights give no numbers.
        """
        crop, cue = self.crop(image, hand, with_cue)
        read = self._recover(self.model.params, self._fixed, crop[None], cue[None], jax.random.key(0))
        return self._stand(jax.device_get(read), (0,), image, hand, camera)

    def hypotheses(
        self, image: Image, hand: DetectedHand, count: int, seed: int = 0, camera: PinholeCamera | None = None
    ) -> list[ReconstructedHand]:
        """Draws poses of a hand from what the network holds for possible, the likeliest first; otherwise as `read`.

        Source: MMHMR section 2.2, "explicitly and quantitatively estimate confidence levels or prediction
            probabilities for all mesh reconstruction hypotheses".
        """
        crop, cue = self.crop(image, hand)
        read = self._draw(self.model.params, self._fixed, crop[None], cue[None], jax.random.key(seed), count=count)
        read = jax.device_get(read)
        drawn = [self._stand(read, (number, 0), image, hand, camera) for number in range(count)]
        return sorted(drawn, key=lambda hypothesis: -hypothesis.log_likelihood)

    def crop(
        self, image: Image, hand: DetectedHand, with_cue: bool = True
    ) -> tuple[Float[np.ndarray, "size size 3"], Float[np.ndarray, "21 3"]]:
        """What the network sees of a hand, a left one mirrored (DECISIONS B4): its crop in [-1, 1] and its keypoints.

        Raises:
            InputError: the hand is too small.
        """
        box, size = hand_box(hand.keypoints), self.model.network.config.encoder.image_size
        side = int(box[2] - box[0])
        if side < LEAST_SIDE:
            raise InputError(f"a hand in a square of {side} pixels is too small; it takes {LEAST_SIDE} or more")
        crop = crop_image(image, box, size).astype(np.float32) / 127.5 - 1
        places = hand_in_crop(hand, box, size).keypoints[:, :2] / size - 0.5
        if hand.side == "left":
            crop, places = crop[:, ::-1], places * _MIRROR[:2]
        cue = np.concatenate([places, np.ones((21, 1))], axis=1).astype(np.float32) * with_cue
        return np.ascontiguousarray(crop), cue

    def _stand(
        self,
        read: tuple[Recovered, Decoded],
        index: tuple[int, ...],
        image: Image,
        hand: DetectedHand,
        camera: PinholeCamera | None,
    ) -> ReconstructedHand:
        """Brings one of the hands that were read from the camera of its crop to that of the picture."""
        made, decoded = jax.tree.map(lambda x: x[index], read[0]), read[1]
        confidence = np.asarray(decoded.confidence[index])
        if not all(np.isfinite(each).all() for each in (made.posed.vertices, made.camera, confidence)):
            raise WeightsError("the model's weights give no numbers; train or export it again")
        camera = camera or default_camera(*image.shape[:2])
        box, mirrored, model = hand_box(hand.keypoints), hand.side == "left", self.models[hand.side]
        middle, side = (box[:2] + box[2:]) / 2, box[2] - box[0]
        in_crop = project_to_crop(jnp.asarray(made.posed.keypoints), jnp.asarray(made.camera))
        places = (middle + side * np.asarray(in_crop) * (_MIRROR[:2] if mirrored else 1)).astype(np.float32)
        seen = matrix_to_axis_angle(jnp.asarray(made.rotations))
        seen = mirror_pose(seen) if mirrored else seen
        pose = np.asarray(seen.at[0].set(compose(jnp.asarray(turn_to(rays_of(middle, camera))), seen[0])))
        vertices, keypoints = pose_at_origin(model, pose, made.betas)
        translation = translation_to(keypoints, places, camera)
        if not (keypoints + translation)[:, 2].min() > 0:
            raise InputError("the network cannot tell how far away a hand is; show it whole, larger and in focus")
        batch = jnp.asarray(confidence)[None]
        return ReconstructedHand(
            side=hand.side,
            pose=pose,
            betas=made.betas,
            translation=translation,
            vertices=vertices + translation,
            faces=np.asarray(model.faces),
            keypoints=keypoints + translation,
            places=places,
            confidence=np.asarray(joint_confidence(batch))[0],
            token_confidence=confidence,
            vertex_confidence=np.asarray(vertex_confidence(batch, model.skin_weights))[0],
            log_likelihood=float(decoded.log_likelihood[index]),
            keypoint_error=float(np.linalg.norm(places - hand.keypoints[:, :2], axis=1).mean())
            / box_side(hand.keypoints),
        )
