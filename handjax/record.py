"""The one form in which every data set reaches training: one hand in its crop of a picture."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float

Side = Literal["left", "right"]


@dataclasses.dataclass(frozen=True)
class HandRecord:
    """One hand in the square around it, twice its tight box, at native resolution (DESIGN, idea 3).

    Everything is stored as it is seen: left hands are left. A field that a data set does not have is None, never
    zeros. The pictures of the mesh cover the same square as `image`, each at its own resolution.

    Attributes:
      id: unique in its data set and the same whenever the data set is made again; PICTURE#NUMBER where a picture may
        show several hands, each of which is a record with the same source.
      image: encoded RGB picture (JPEG or PNG).
      keypoints_2d: x, y in pixels of `image` and confidence in [0, 1]; OpenPose order. Unknown places are NaN.
      keypoints_3d: x, y, z in metres in camera axes, the wrist's place left to the data set, and confidence.
      side: which hand of the person it is.
      hand_model: the parametric model that `pose` and `betas` belong to, of the hand's own side.
      pose: axis-angle of 16 joints in MANO's order, the first for the whole hand; relative to the flat hand.
      betas: shape of the hand model.
      translation: of the hand model in camera space, metres.
      camera: fx, fy, cx, cy in pixels of `image`.
      mask: encoded grey PNG, 255 on the hand as the data set's own mask shows it; without one, on the hand's mesh, also
        where something hides it.
      depth: encoded grey PNG of the depth condition times 255 (DECISIONS B3).
      skeleton: encoded RGB PNG (DECISIONS B3).
      mesh: encoded RGB PNG of the shaded mesh.
      edit: how the hand was malformed on purpose, a name of `data_pipelines.malformed.edits`; "none" where it was made
        as those are and is normal.
      fingers: number of fingers, the thumb among them, where the picture tells it.
      caption: what the picture shows, in words.
      source: the data set and the picture it came from.
      licence: of the picture, as its source states it.
    """

    id: str
    image: bytes
    keypoints_2d: Float[np.ndarray, "21 3"] | None = None
    keypoints_3d: Float[np.ndarray, "21 4"] | None = None
    side: Side | None = None
    hand_model: Literal["open_hand", "mano"] | None = None
    pose: Float[np.ndarray, "16 3"] | None = None
    betas: Float[np.ndarray, " S"] | None = None
    translation: Float[np.ndarray, "3"] | None = None
    camera: Float[np.ndarray, "4"] | None = None
    mask: bytes | None = None
    depth: bytes | None = None
    skeleton: bytes | None = None
    mesh: bytes | None = None
    edit: str | None = None
    fingers: int | None = None
    caption: str | None = None
    source: str | None = None
    licence: str | None = None
