"""Hands in the camera of their picture: where they stand, which of them share a shape, how they are drawn.

A picture tells a hand's size over its distance, never the two apart: the distance comes from the size, and the size
from the shape that the network guesses. Two guesses of one person's hands differ, and with them the order of the hands
in depth. With one shape for both, their distances are inverse to the sizes at which they are seen, and what is wrong
about the shape scales the scene as a whole.
"""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from handjax.conditions.crops import hand_box
from handjax.hand.camera import PinholeCamera
from handjax.hand.mesh_files import Mesh
from handjax.hand.model import HandModel, mirror_model, pose_hand
from handjax.hand.rasterize import join_meshes, rasterize
from handjax.hand.shading import Lighting, even_environment, shade
from handjax.perception.hands import Side
from handjax.perception.palm import box_overlap

PAIR_RATIO = 1.5
"""Of the sizes at which two hands are seen, from which on they are not taken for one person's."""
OVERLAY, AMBIENT = 0.8, 0.4
CONFIDENCE_COLORS = np.array([[0.70, 0.09, 0.17], [0.97, 0.97, 0.97], [0.13, 0.40, 0.67]], np.float32)
"""RGB of the confidences 0, 1/2 and 1, between which colours are mixed: red, white, blue."""

Image = UInt8[np.ndarray, "height width 3"]
_pose_hand = jax.jit(pose_hand)


@dataclasses.dataclass(frozen=True)
class ReconstructedHand:
    """A hand in the camera space of its picture.

    Attributes:
        side: which hand of the person it is.
        pose: axis-angle in MANO's order, of the hand model of `side`, the first row for the whole hand.
        betas: shape in standard deviations.
        translation: of the hand model, metres.
        vertices: metres, camera axes.
        faces: outwards, also of a left hand.
        keypoints: metres, camera axes; OpenPose order.
        places: pixels at which the network sees the keypoints.
        confidence: of each joint, MANO's order; 1 where the network sees only one possible pose.
        token_confidence: of each pose token.
        vertex_confidence: of each vertex.
        log_likelihood: of all pose tokens.
        keypoint_error: mean distance of `places` from the keypoints that the hand was found by, longer sides of their
            box. Confidence does not tell of a pose that is unlike all that the network has learnt; this does.
    """

    side: Side
    pose: Float[np.ndarray, "16 3"]
    betas: Float[np.ndarray, "10"]
    translation: Float[np.ndarray, "3"]
    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    keypoints: Float[np.ndarray, "21 3"]
    places: Float[np.ndarray, "21 2"]
    confidence: Float[np.ndarray, "16"]
    token_confidence: Float[np.ndarray, " L"]
    vertex_confidence: Float[np.ndarray, " V"]
    log_likelihood: float
    keypoint_error: float


def both_sides(right: HandModel) -> dict[Side, HandModel]:
    """A right hand and its mirror image."""
    return {"right": right, "left": mirror_model(right)}


def translation_to(
    points: Float[np.ndarray, "P 3"], places: Float[np.ndarray, "P 2"], camera: PinholeCamera
) -> Float[np.ndarray, "3"]:
    """Where points have to be moved so that they are seen at places, by least squares of u·(Z + tz) = f·(X + tx).

    Args:
        points: metres, camera axes.
        places: pixels.
        camera: of the picture.

    Source: Hartley and Zisserman, "Multiple View Geometry", 2nd edition, section 7.1, with rotation and camera known.
    """
    rays = rays_of(places, camera)
    ones, zeros = np.ones(len(points)), np.zeros(len(points))
    rows = np.stack([ones, zeros, -rays[:, 0], zeros, ones, -rays[:, 1]], axis=1).reshape(-1, 3)
    wanted = (rays * points[:, 2:] - points[:, :2]).ravel()
    return np.linalg.lstsq(rows, wanted, rcond=None)[0].astype(np.float32)


def rays_of(places: Float[np.ndarray, "*P 2"], camera: PinholeCamera) -> Float[np.ndarray, "*P 2"]:
    """x/z and y/z of what is seen at places of a picture."""
    return (np.asarray(places, np.float64) - np.asarray(camera.center)) / np.asarray(camera.focal)


def turn_to(ray: Float[np.ndarray, "2"]) -> Float[np.ndarray, "3"]:
    """The rotation vector from the optical axis to the ray of x/z and y/z, along which a crop's camera looks."""
    x, y = ray
    far = np.hypot(x, y)
    return np.array([-y, x, 0.0], np.float32) * np.float32(np.arctan(far) / max(far, 1e-9))


def pose_at_origin(
    model: HandModel, pose: Float[np.ndarray, "16 3"], betas: Float[np.ndarray, "10"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "21 3"]]:
    """Vertices and keypoints of a hand without translation, by `pose_hand`."""
    made = _pose_hand(model, jnp.asarray(pose), jnp.asarray(betas), jnp.zeros(3))
    return np.asarray(made.vertices), np.asarray(made.keypoints)


def reposed(
    models: Mapping[Side, HandModel],
    hand: ReconstructedHand,
    camera: PinholeCamera,
    betas: Float[np.ndarray, "10"],
    pose: Float[np.ndarray, "16 3"] | None = None,
    wrist: Float[np.ndarray, "3"] | None = None,
) -> ReconstructedHand:
    """The hand in another shape, and pose where it is given, its wrist there or where it is seen at its places."""
    pose = hand.pose if pose is None else pose
    vertices, keypoints = pose_at_origin(models[hand.side], pose, betas)
    translation = translation_to(keypoints, hand.places, camera) if wrist is None else wrist - keypoints[0]
    return dataclasses.replace(
        hand,
        pose=pose,
        betas=betas,
        translation=translation,
        vertices=vertices + translation,
        keypoints=keypoints + translation,
    )


def common_betas(clip: Sequence[Mapping[int, ReconstructedHand]]) -> dict[int, Float[np.ndarray, "10"]]:
    """One shape for each hand of a clip, or of a picture, which is a clip of one frame; a pair of hands has the same.

    Args:
        clip: of each frame the hands by identity.

    Returns:
        Means over frames, of a pair over the frames of both.
    """
    seen: dict[int, list[np.ndarray]] = {}
    for hands in clip:
        for identity, hand in hands.items():
            seen.setdefault(identity, []).append(hand.betas)
    for first, second in pairs_of_hands(clip):
        seen[first] = seen[second] = seen[first] + seen[second]
    return {identity: np.mean(betas, axis=0) for identity, betas in seen.items()}


def pairs_of_hands(clip: Sequence[Mapping[int, ReconstructedHand]]) -> list[tuple[int, int]]:
    """Identities that are taken for the two hands of a person: left and right, close together, about as large.

    Of several that a hand may belong to, the one that it overlaps most over the clip.
    """
    overlap: defaultdict[tuple[int, int], float] = defaultdict(float)
    for hands in clip:
        for first, second in itertools.combinations(sorted(hands), 2):
            overlap[first, second] += _pair_overlap(hands[first], hands[second])
    pairs: list[tuple[int, int]] = []
    for pair in sorted(overlap, key=lambda pair: -overlap[pair]):
        if overlap[pair] > 0 and not set(pair) & set(itertools.chain(*pairs)):
            pairs.append(pair)
    return pairs


def _pair_overlap(first: ReconstructedHand, second: ReconstructedHand) -> float:
    """Overlap of the squares around two hands; 0 of those that are no pair."""
    boxes = [hand_box(hand.places).astype(np.float32) for hand in (first, second)]
    smaller, larger = sorted(float(box[2] - box[0]) for box in boxes)
    if first.side == second.side or larger >= PAIR_RATIO * smaller:
        return 0.0
    return float(box_overlap(jnp.asarray(boxes[0])[None], jnp.asarray(boxes[1]))[0])


def share_shapes(
    models: Mapping[Side, HandModel], hands: Sequence[ReconstructedHand], camera: PinholeCamera
) -> list[ReconstructedHand]:
    """The hands of a picture, those of a pair in their mean shape, so that their depths compare."""
    by_number = dict(enumerate(hands))
    betas, paired = common_betas([by_number]), set(itertools.chain(*pairs_of_hands([by_number])))
    return [
        reposed(models, hand, camera, betas[number]) if number in paired else hand for number, hand in by_number.items()
    ]


def confidence_colors(confidence: Float[np.ndarray, " V"]) -> Float[np.ndarray, "V 3"]:
    """RGB in [0, 1] of confidences in [0, 1], by `CONFIDENCE_COLORS`."""
    stops = np.linspace(0, 1, len(CONFIDENCE_COLORS))
    return np.stack([np.interp(confidence, stops, channel) for channel in CONFIDENCE_COLORS.T], axis=1)


def scene_mesh(hands: Sequence[ReconstructedHand]) -> Mesh:
    """All hands as one mesh in the camera's space, coloured by confidence."""
    joined = join_meshes([jnp.asarray(hand.vertices) for hand in hands], [jnp.asarray(hand.faces) for hand in hands])
    colors = confidence_colors(np.concatenate([hand.vertex_confidence for hand in hands]))
    return Mesh(np.asarray(joined.vertices), np.asarray(joined.faces), colors)


def draw_meshes(image: Image, hands: Sequence[ReconstructedHand], camera: PinholeCamera) -> Image:
    """Draws shaded hands over a copy of their picture; nearer ones hide those behind."""
    if not hands:
        return image.copy()
    mesh = scene_mesh(hands)
    return draw_mesh(image, mesh.vertices, mesh.faces, camera)


def draw_mesh(
    image: Image,
    vertices: Float[Array | np.ndarray, "V 3"],
    faces: Int[Array | np.ndarray, "F 3"],
    camera: PinholeCamera,
) -> Image:
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
