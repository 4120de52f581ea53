"""Posed hand meshes for the hands of a picture, all in one camera of the whole picture."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from handjax.conditions.crops import crop_image, hand_box, hand_in_crop
from handjax.errors import ConfigError, InputError, WeightsError
from handjax.hand.camera import PinholeCamera, project
from handjax.hand.model import HandModel, mirror_pose
from handjax.hand.rasterize import join_meshes, rasterize
from handjax.hand.rotations import matrix_to_axis_angle
from handjax.hand.shading import Lighting, even_environment, shade
from handjax.perception.hands import DetectedHand, Side
from handjax.recovery.camera import FOCAL, crop_translation
from handjax.recovery.decoding import ITERATIONS, joint_confidence
from handjax.recovery.files import RecoveryModel
from handjax.recovery.reading import Fixed, MeshReader

LEAST_SIDE = 16
"""Pixels of the square around a hand below which there is nothing to see."""
OVERLAY, AMBIENT = 0.8, 0.4
_MIRROR = np.array([-1.0, 1.0, 1.0], np.float32)


@dataclasses.dataclass(frozen=True)
class ReconstructedHand:
    """A hand in the camera space of its picture.

    Attributes:
        side: which hand of the person it is.
        vertices: metres, camera axes.
        faces: outwards, also of a left hand.
        keypoints: metres, camera axes; OpenPose order.
        pose: axis-angle in MANO's order, of the hand model of `side`, the first row for the whole hand.
        betas: shape in standard deviations.
        translation: of the hand model, metres.
        confidence: of each joint, MANO's order; 1 where the network sees only one possible pose.
        log_likelihood: of all pose tokens.
    """

    side: Side
    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    keypoints: Float[np.ndarray, "21 3"]
    pose: Float[np.ndarray, "16 3"]
    betas: Float[np.ndarray, "10"]
    translation: Float[np.ndarray, "3"]
    confidence: Float[np.ndarray, "16"]
    log_likelihood: float


class HandReconstructor:
    """A trained model, ready for pictures.

    Args:
        model: transformer and tokenizer.
        hand: the right hand that the tokenizer knows.
        iterations: of decoding (MMHMR Table 6).

    Raises:
        ConfigError: the tokenizer knows another hand model.
    """

    def __init__(self, model: RecoveryModel, hand: HandModel, iterations: int = ITERATIONS):
        if hand.name != model.tokenizer.hand:
            raise ConfigError(f"the model knows {model.tokenizer.hand}, not {hand.name}; give it its own hand model")
        reader = MeshReader(model.network, model.tokenizer.network)
        self._params, self._fixed = model.params, Fixed(model.tokenizer.arrays, hand)
        self._faces = np.asarray(hand.faces)
        self._size = model.network.config.encoder.image_size
        self._recover = jax.jit(functools.partial(reader.recover, iterations=iterations))

    def read(
        self, image: UInt8[np.ndarray, "height width 3"], hand: DetectedHand, with_cue: bool = True
    ) -> ReconstructedHand:
        """Reads a hand that was found.

        Args:
            image: the picture.
            hand: its side, and keypoints that say where it is.
            with_cue: whether the keypoints also help the network, or it sees the picture alone.

        Raises:
            InputError: the hand is too small.
            WeightsError: the weights give no numbers.
        """
        box, left = hand_box(hand.keypoints), hand.side == "left"
        side = int(box[2] - box[0])
        if side < LEAST_SIDE:
            raise InputError(f"a hand in a square of {side} pixels is too small; it takes {LEAST_SIDE} or more")
        crop = crop_image(image, box, self._size).astype(np.float32) / 127.5 - 1
        places = hand_in_crop(hand, box, self._size).keypoints[:, :2] / self._size - 0.5
        if left:  # the network knows right hands (DECISIONS B4)
            crop, places = crop[:, ::-1], places * _MIRROR[:2]
        cue = np.concatenate([places, np.ones((21, 1))], axis=1).astype(np.float32) * with_cue
        made, decoded = jax.device_get(
            self._recover(self._params, self._fixed, jnp.asarray(crop)[None], jnp.asarray(cue)[None], jax.random.key(0))
        )
        if not all(np.isfinite(each).all() for each in (made.posed.vertices, made.camera, decoded.confidence)):
            raise WeightsError("the model's weights give no numbers; train or export it again")
        mirror = _MIRROR if left else np.ones(3, np.float32)
        translation = in_picture(made.camera[0] * mirror[[1, 0, 2]], box, image.shape[:2])
        pose = matrix_to_axis_angle(jnp.asarray(made.rotations[0]))
        return ReconstructedHand(
            side=hand.side,
            vertices=made.posed.vertices[0] * mirror + translation,
            faces=self._faces[:, ::-1] if left else self._faces,
            keypoints=made.posed.keypoints[0] * mirror + translation,
            pose=np.asarray(mirror_pose(pose) if left else pose),
            betas=made.betas[0],
            translation=translation,
            confidence=np.asarray(joint_confidence(jnp.asarray(decoded.confidence)))[0],
            log_likelihood=float(decoded.log_likelihood[0]),
        )


def picture_camera(shape: tuple[int, int]) -> PinholeCamera:
    """The camera of a whole picture, whose focal length is as many picture sides as that of a crop.

    Args:
        shape: height and width, pixels.
    """
    focal = FOCAL * max(shape)
    return PinholeCamera(jnp.full(2, focal), jnp.array([shape[1] / 2, shape[0] / 2]))


def in_picture(
    camera: Float[np.ndarray, "3"], box: Int[np.ndarray, "4"], shape: tuple[int, int]
) -> Float[np.ndarray, "3"]:
    """Where a hand stands in the camera of the whole picture so that it looks as in its crop.

    Args:
        camera: scale and shift of the crop.
        box: the crop's square, pixels.
        shape: of the picture, height and width.

    Returns:
        Metres. Of two hands alike, the one that looks smaller is farther away.

    Source: Kissos et al. 2020, "Beyond weak perspective for monocular 3D human pose estimation", section 3.
    """
    x, y, depth = np.asarray(crop_translation(jnp.asarray(camera)))
    side = box[2] - box[0]
    depth *= max(shape) / side
    metres = depth / (FOCAL * max(shape))  # of a pixel
    middle = (box[:2] + box[2:]) / 2 - np.array([shape[1], shape[0]]) / 2
    return np.array([x + metres * middle[0], y + metres * middle[1], depth], np.float32)


def keypoints_2d(hand: ReconstructedHand, shape: tuple[int, int]) -> Float[np.ndarray, "21 2"]:
    """Pixels at which a hand's keypoints are seen in its picture."""
    return np.asarray(project(picture_camera(shape), jnp.asarray(hand.keypoints)))


def draw_meshes(
    image: UInt8[np.ndarray, "height width 3"], hands: Sequence[ReconstructedHand]
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws shaded hands over a copy of their picture; nearer ones hide those behind."""
    if not hands:
        return image.copy()
    joined = join_meshes([jnp.asarray(hand.vertices) for hand in hands], [jnp.asarray(hand.faces) for hand in hands])
    return draw_mesh(image, joined.vertices, joined.faces, picture_camera(image.shape[:2]))


def draw_mesh(
    image: UInt8[np.ndarray, "height width 3"],
    vertices: Float[Array | np.ndarray, "V 3"],
    faces: Int[Array | np.ndarray, "F 3"],
    camera: PinholeCamera,
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws a shaded mesh over a copy of a picture.

    Args:
        image: the picture.
        vertices: metres, camera axes.
        faces: outwards.
        camera: of the picture.
    """
    height, width = image.shape[:2]
    raster = rasterize(jnp.asarray(vertices), jnp.asarray(faces), camera, height, width)
    light = Lighting(jnp.array([0.0, 0.0, -1.0]), jnp.full(3, 1 - AMBIENT), even_environment(AMBIENT))
    drawn = 255 * np.asarray(shade(raster, jnp.ones((height, width, 3)), light))
    share = OVERLAY * np.asarray(raster.mask)[..., None]
    return np.round((1 - share) * image + share * drawn).astype(np.uint8)
