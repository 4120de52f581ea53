"""What a published data set says about one hand, in the conventions of this project but still in the whole picture."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from handjax.conditions.crops import crop_image
from handjax.record import Side

HALF_PIXEL = 0.5
"""To be added where a data set counts pixels from 0 at the centre of the first one; ours is at (0.5, 0.5)."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One picture of a data set.

    Attributes:
      name: unique in its split, with "/" between folders, and the same on every machine.
      picture: the file.
      entry: what the annotation files hold for it, of whatever form the data set's own `hands` takes.
      others: further files that belong to it, such as a mask.
      caption: of the whole picture, which takes the place of those of its hands.
    """

    name: str
    picture: Path
    entry: Any
    others: tuple[Path, ...] = ()
    caption: str | None = None


@dataclasses.dataclass(frozen=True)
class ManoHand:
    """Parameters of MANO for a hand of its own side.

    Attributes:
      pose: axis-angle of 16 joints, relative to the flat hand (DECISIONS G3).
      betas: shape.
      translation: metres, camera space.
    """

    pose: Float[np.ndarray, "16 3"]
    betas: Float[np.ndarray, " S"]
    translation: Float[np.ndarray, "3"]


@dataclasses.dataclass(frozen=True)
class HandAnnotation:
    """One hand in a picture. What the data set does not say is None.

    Attributes:
      keypoints_2d: x, y in pixels and confidence in [0, 1], 0 where something hides the keypoint; OpenPose order. x and
        y are NaN where the place is not known.
      side: which hand of the person it is.
      keypoints_3d: x, y, z in metres in camera axes and confidence; NaN as above. With `camera` they are in camera
        space and project onto `keypoints_2d`.
      mano: parameters of MANO, in camera space.
      camera: fx, fy, cx, cy in pixels.
      mask: true where the hand is seen.
      caption: what the picture shows, in words.
    """

    keypoints_2d: Float[np.ndarray, "21 3"]
    side: Side | None = None
    keypoints_3d: Float[np.ndarray, "21 4"] | None = None
    mano: ManoHand | None = None
    camera: Float[np.ndarray, "4"] | None = None
    mask: Bool[np.ndarray, "height width"] | None = None
    caption: str | None = None

    @property
    def placed(self) -> Bool[np.ndarray, "21"]:
        """Which keypoints have a place in the picture, seen or not."""
        return np.isfinite(self.keypoints_2d[:, :2]).all(axis=1)


def with_confidence(
    points: Float[np.ndarray, "21 dims"], confidence: Shaped[np.ndarray, "21"] | float = 1.0
) -> Float[np.ndarray, "21 dims_and_one"]:
    """Appends the column of confidence, one for all keypoints or one each."""
    return np.column_stack([points, np.broadcast_to(confidence, 21)]).astype(np.float64)


def camera_of(matrix: Float[np.ndarray, "3 3"], shift: float = 0.0) -> Float[np.ndarray, "4"]:
    """Gives fx, fy, cx, cy of an intrinsic matrix without skew.

    Args:
      matrix: K of a data set.
      shift: `HALF_PIXEL` where its pixels count from the centre of the first one.
    """
    return np.array([matrix[0][0], matrix[1][1], matrix[0][2] + shift, matrix[1][2] + shift], np.float64)


def project_points(
    points: Float[np.ndarray, "points 3"], camera: Float[np.ndarray, "4"]
) -> Float[np.ndarray, "points 2"]:
    """Pixels of points in camera space, metres, in double precision."""
    return camera[:2] * points[:, :2] / points[:, 2:] + camera[2:]


def in_crop(hand: HandAnnotation, box: Int[np.ndarray, "4"]) -> HandAnnotation:
    """Moves a hand to the pixels of a crop that keeps the picture's resolution.

    Args:
      hand: in pixels of the picture.
      box: the crop's square, whole pixels.
    """
    corner = box[:2].astype(np.float64)
    return dataclasses.replace(
        hand,
        keypoints_2d=hand.keypoints_2d - np.append(corner, 0.0),
        camera=None if hand.camera is None else hand.camera - np.concatenate([np.zeros(2), corner]),
        mask=None if hand.mask is None else crop_image(hand.mask[..., None].astype(np.uint8), box)[..., 0] > 0,
    )


def scaled(hand: HandAnnotation, factor: float) -> HandAnnotation:
    """Keypoints and camera of a hand whose picture is resized by a factor; the mask stays as it is."""
    keypoints = hand.keypoints_2d * np.array([factor, factor, 1.0])
    camera = None if hand.camera is None else hand.camera * factor
    return dataclasses.replace(hand, keypoints_2d=keypoints, camera=camera)
