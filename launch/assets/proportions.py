"""Lengths of the bones of adults' hands and the place of the thumb, and how a hand mesh follows when they change."""

import numpy as np

from handjax.hand.topology import MANO_TO_OPENPOSE

_CHAINS = MANO_TO_OPENPOSE[1:].reshape(5, 4)

# From joint centre to joint centre and on to the end of the last bone, as shares of hand length, index to little:
# Buchholz, Armstrong and Goldstein, "Anthropometric Data for Describing the Kinematics of the Human Hand", 1992.
_SEGMENTS = np.array([[0.245, 0.143, 0.097], [0.266, 0.170, 0.108], [0.244, 0.165, 0.107], [0.204, 0.117, 0.093]])

# Mean and standard deviation in mm of the bones of each finger, thumb to little, from the palm outwards (the thumb's
# from its metacarpal), of the soft tissue beyond the last one, and of the middle finger's metacarpal: Buryanov and
# Kotiuk, "Proportions of Hand Segments", 2010.
_BONES = np.array(
    [
        [(46.22, 3.94), (31.57, 3.13), (21.67, 1.60)],
        [(39.78, 4.94), (22.38, 2.51), (15.82, 2.26)],
        [(44.63, 3.81), (26.33, 3.00), (17.40, 1.85)],
        [(41.37, 3.87), (25.65, 3.29), (17.30, 2.22)],
        [(32.74, 2.77), (18.11, 2.54), (15.96, 2.45)],
    ]
)
_PULP = np.array([(5.67, 0.61), (3.84, 0.59), (3.95, 0.61), (3.95, 0.60), (3.73, 0.62)])
_METACARPAL = (64.60, 5.38)

# Standard deviations of the logarithms of hand length and of hand breadth over hand length, of 4082 men and 1986 women,
# each sex counting half: Gordon et al., "2012 Anthropometric Survey of U.S. Army Personnel", 2014.
SIZE_SPREAD, _BREADTH_SPREAD = 0.063, 0.055

# Where the thumb begins differs less between people than between those who model them. Standard deviations, in metres
# on a hand of 0.189. Of its base along its metacarpal, whose length is 0.164 of the hand's in MakeHuman's rig, 0.206 in
# MyoHand and 0.251 in Buchholz et al. (0.209 here). Of the base out of the palm: 0.014 of the hand's length in
# MakeHuman's rig and 0.115 in MyoHand (0.011 here), which would be 0.0095; but the skin goes along, and with 0.012 on
# either side a hand still looks like one. MyoHand: Caggiano et al., "MyoSuite", 2022.
_BASE_SPREAD, _PALMAR_SPREAD = 0.0067, 0.006
# distances from the thumb's base up to which the skin goes with it, wholly and at all, metres
_BASE_SKIN = (0.015, 0.050)


def growth(points: np.ndarray, skeleton: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How vertices and joints move, [17, V + 16, 3] metres, while one part of the hand doubles.

    The parts are the three bones of each finger, thumb to little, and the length and the breadth of the palm. A bone
    stretches the skin along itself and carries what lies beyond. The forearm only grows in breadth.

    Args:
        points: vertices, then joints [V + 16, 3] metres, in the template's frame, wrist at the origin.
        skeleton: joints and tips [21, 3] metres in MANO's order.
        weights: [V, 16] skin weights.
    """
    weights = np.concatenate([weights, np.eye(16)])
    fields = []
    for chain in _CHAINS:
        for k in range(3):
            bone = skeleton[chain[k + 1]] - skeleton[chain[k]]
            stretched = weights[:, chain[k]] * _share_passed(points - skeleton[chain[k]], bone)
            fields.append((stretched + weights[:, chain[k + 1 : 3]].sum(axis=1))[:, None] * bone)
    carried = np.array([weights[:, chain[:3]].sum(axis=1) for chain in _CHAINS]).T @ skeleton[_CHAINS[:, 0]]
    palm = carried + weights[:, :1] * np.minimum(points, [np.inf, 0.0, np.inf])
    return np.array([*fields, palm * [0.0, 1.0, 0.0], palm * [1.0, 0.0, 0.0]])


def thumb_places(points: np.ndarray, skeleton: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How vertices and joints move, [2, V + 16, 3] metres, while the thumb's place is off by one standard deviation.

    The first moves the thumb's base along its metacarpal, the second the whole thumb out of the palm, to its inner
    side. The skin about the base moves too, for a joint is a mean of skin. Arguments are those of `growth`.
    """
    base, knuckle = skeleton[_CHAINS[0, :2]]
    near, far = _BASE_SKIN
    about = np.clip((far - np.linalg.norm(points[:-16] - base, axis=1)) / (far - near), 0, 1)
    about = about * about * (3 - 2 * about)
    passed = _share_passed(points[:-16] - base, knuckle - base)
    along = np.append(about * (1 - passed), np.eye(16)[_CHAINS[0, 0]])
    thumb = np.maximum(weights[:, _CHAINS[0, :3]].sum(axis=1), about)
    inwards = np.append(thumb, np.eye(16)[_CHAINS[0, :3]].sum(axis=0))
    bone = (knuckle - base) / np.linalg.norm(knuckle - base)
    return np.array([_BASE_SPREAD * along[:, None] * bone, _PALMAR_SPREAD * inwards[:, None] * [0.0, 0.0, -1.0]])


def _share_passed(points: np.ndarray, bone: np.ndarray) -> np.ndarray:
    """How far along a bone points lie that are given from its start: 0 before it, 1 beyond it."""
    return np.clip(points @ bone / (bone @ bone), 0, 1)


def mean_growth(skeleton: np.ndarray) -> np.ndarray:
    """Growth [17] that gives four fingers of a skeleton [21, 3] adults' mean lengths against the middle finger's.

    MakeHuman's last segments are too long and its middle ones too short. The thumb stays as it is, for sources differ
    in where it begins.
    """
    segments = _SEGMENTS.copy()
    segments[:, 2] *= 1 + _PULP[1:, 0] / _BONES[1:, 2, 0]
    lengths = np.linalg.norm(np.diff(skeleton[_CHAINS[1:]], axis=1), axis=-1)
    wanted = segments * lengths[1].sum() / segments[1].sum()
    return np.concatenate([np.zeros(3), (wanted / lengths - 1).ravel(), np.zeros(2)])


def growth_spread() -> np.ndarray:
    """Standard deviations [17] of the growth of each part among hands of equal size, independent of one another."""
    mean, deviation = np.moveaxis(_BONES, -1, 0).copy()
    mean[:, 2] += _PULP[:, 0]
    deviation[:, 2] = np.hypot(deviation[:, 2], _PULP[:, 1])
    total = np.concatenate([(deviation / mean).ravel(), [_METACARPAL[1] / _METACARPAL[0]]])
    return np.append(np.sqrt(np.maximum(total**2 - SIZE_SPREAD**2, 0)), _BREADTH_SPREAD)
