"""Everything that knows the anatomy of a hand as a table: orders, bones, tips, units, limits of motion.

Angles are radians; the convention of the joint axes is explained in `handjax.hand.angles`.
"""

import numpy as np

FINGERS = ("thumb", "index", "middle", "ring", "little")

KEYPOINT_NAMES = (
    "wrist",
    *("thumb_cmc", "thumb_mcp", "thumb_ip", "thumb_tip"),
    *(f"{finger}_{part}" for finger in FINGERS[1:] for part in ("mcp", "pip", "dip", "tip")),
)
"""The 21 keypoints in OpenPose's order, which is MediaPipe's and FreiHAND's."""

KEYPOINT_PARENTS = np.array([-1, *(0 if k % 4 == 1 else k - 1 for k in range(1, 21))])
KEYPOINT_BONES = np.array([(KEYPOINT_PARENTS[k], k) for k in range(1, 21)])
"""(20, 2) parent and child of each bone, fingers from thumb to little, wrist outwards."""

MANO_JOINT_NAMES = (
    "wrist",
    *(f"{finger}_{part}" for finger in ("index", "middle", "little", "ring") for part in ("mcp", "pip", "dip")),
    *("thumb_cmc", "thumb_mcp", "thumb_ip"),
)
"""The 16 joints that rotate, in MANO's order (DECISIONS G1)."""

MANO_PARENTS = np.array([-1, *(0 if j % 3 == 1 else j - 1 for j in range(1, 16))])

TIP_NAMES = tuple(f"{finger}_tip" for finger in FINGERS)
"""The 5 fingertips, appended to the 16 joints to make 21 keypoints."""

KEYPOINT_ORDERS = {
    "openpose": KEYPOINT_NAMES,
    "mano": MANO_JOINT_NAMES + TIP_NAMES,
    "interhand": (*(KEYPOINT_NAMES[4 * f + k] for f in range(5) for k in (4, 3, 2, 1)), "wrist"),
    "rhd": ("wrist", *(KEYPOINT_NAMES[4 * f + k] for f in range(5) for k in (4, 3, 2, 1))),
}
"""Names in the order of each convention.

HO3D stores MANO's order; InterHand2.6M goes from the tip of each finger to its base and ends with the wrist, RHD
begins with the wrist.
"""


def keypoint_permutation(source: str, target: str) -> np.ndarray:
    """Indices that reorder keypoints: `points_in_target = points_in_source[..., permutation, :]`.

    Args:
        source: a key of KEYPOINT_ORDERS.
        target: a key of KEYPOINT_ORDERS.

    Returns:
        (21,) integers.
    """
    names = KEYPOINT_ORDERS[source]
    return np.array([names.index(name) for name in KEYPOINT_ORDERS[target]])


MANO_TO_OPENPOSE = keypoint_permutation("mano", "openpose")
OPENPOSE_TO_MANO = keypoint_permutation("openpose", "mano")

MANO_TIP_VERTICES = {
    "smplx": (744, 320, 443, 554, 671),
    "manopth": (745, 317, 444, 556, 673),
    "freihand": (744, 320, 443, 555, 672),
    "ho3d": (744, 333, 444, 555, 672),
}
"""MANO's fingertip vertices, thumb to little, as each project chose them (DECISIONS G2)."""


def _degrees(flexion, abduction, twist):
    return np.radians([flexion, abduction, twist])


_HINGE = (-3, 3)
_FINGER_LIMITS = [
    _degrees((-20, 90), (-20, 20), (-5, 5)),
    _degrees((-3, 110), _HINGE, _HINGE),
    _degrees((-5, 80), _HINGE, _HINGE),
]
_THUMB_LIMITS = [
    _degrees((-15, 40), (-25, 25), (-10, 25)),
    _degrees((-10, 60), (-10, 10), (-5, 5)),
    _degrees((-20, 80), _HINGE, _HINGE),
]

JOINT_LIMITS = np.stack([_degrees(*[(-180, 180)] * 3), *_FINGER_LIMITS * 4, *_THUMB_LIMITS])
"""(16, 3, 2) lower and upper limit of flexion, abduction and twist of each joint in MANO's order, radians.

Zero is the template: straight fingers, slightly spread, thumb halfway between the plane of the palm and opposition.
The wrist turns freely, because its rotation is the hand's orientation.

Source: fingers, thumb MCP and IP: goniometric norms of the American Academy of Orthopaedic Surgeons as tabulated in
Norkin and White, "Measurement of Joint Motion", with the PIP limit of 110 degrees of Lin, Wu and Huang, "Modeling the
Constraints of Human Hand Motion", 2000. Thumb CMC: ranges of 53 (flexion), 42 (abduction) and 17 (rotation) degrees
of Cooney et al., "The Kinesiology of the Thumb Trapeziometacarpal Joint", 1981, widened by their deviation between
people. Hinges keep 3 degrees of play for the fit's sake.
"""

FLEXION_DIRECTIONS = np.array(
    [
        (0.0, 0.0, -1.0),
        *[(-0.03, 0.0, -1.0)] * 3,
        *[(0.0, 0.0, -1.0)] * 3,
        *[(0.03, 0.0, -1.0)] * 3,
        *[(0.0, 0.0, -1.0)] * 3,
        *[(-1.0, 0.0, -0.2)] * 3,
    ]
)
"""(16, 3) where each bone's far end moves when its joint bends, as (radial, distal, dorsal) parts, not normalised.

Index and little finger lean towards the middle, because the tips of bent fingers point at the scaphoid; the thumb's
pad faces the ulnar side.
"""
