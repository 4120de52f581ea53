"""Every edit of the mesh as a plan, drawn at random about a hand's own joint angles."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from data_pipelines.malformed.edits import Edit
from data_pipelines.malformed.mesh import CHAINS, COPIES, FROM_SECOND_JOINT, FingerPlan
from handjax.hand.model import HandModel, rest_joints
from handjax.hand.sampling import sample_angles
from handjax.hand.topology import JOINT_LIMITS

OPEN_SHARE = 0.8
"""Of the hands that may be folded: drawn open nevertheless."""
LEAST_BEYOND = np.radians(30.0)
"""How far a bend at least goes beyond the limits of motion."""
_MOST_BEYOND = np.radians(55.0)
_FLEXION, _ABDUCTION = 0, 1


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A plan and what it says of itself.

    Attributes:
      plan: the hand.
      usual: its joint angles before the edit, radians.
      fingers: that are not as they should be, thumb 0.
      shown: fingers and copies (5 and 6) that stand for the hand's count; None where nobody could count them.
    """

    plan: FingerPlan
    usual: Float[np.ndarray, "16 3"]
    fingers: tuple[int, ...]
    shown: tuple[int, ...] | None


def open_angles(key: PRNGKeyArray) -> Float[Array, "16 3"]:
    """Joint angles of a hand that shows its fingers: hardly curled, all about alike."""
    curl_key, each_key, angle_key = jax.random.split(key, 3)
    curl = 0.45 * jax.random.beta(curl_key, 1.0, 2.5) + 0.05 * jax.random.normal(each_key, (4,))
    return sample_angles(angle_key, curl.clip(0, 1))


def draw_plan(
    rng: np.random.Generator,
    edit: Edit,
    open_hand: Float[np.ndarray, "16 3"],
    any_hand: Float[np.ndarray, "16 3"],
    rest: "RestingHand",
) -> Drawn:
    """Draws how to make one hand.

    Args:
      rng: source of randomness.
      edit: what is to be wrong.
      open_hand: joint angles with open fingers.
      any_hand: joint angles of any hand; taken for some of those whose count is as it should be.
      rest: where the fingers are at rest.
    """
    folded = edit.kind != "count" and rng.random() > OPEN_SHARE
    usual = any_hand if folded else open_hand
    sketch = _Sketch(rng, np.array(usual, np.float64), rest)
    fingers = _DRAW[edit.name](sketch)
    shown = None if folded or edit.kind == "fused" or edit.name == "forked_finger" else sketch.shown()
    return Drawn(sketch.plan(), usual, tuple(sorted(fingers)), shown)


class RestingHand:
    """Places of the resting hand that edits go by, metres: towards the thumb and towards the fingertips."""

    def __init__(self, model: HandModel):
        joints = np.asarray(rest_joints(model, model.template), np.float64)
        tips = np.asarray(model.tip_regressor @ model.template, np.float64)
        self.knuckles = joints[CHAINS[:, 0]] * [1, -1, 1]
        bones = tips * [1, -1, 1] - self.knuckles
        self.lean = np.arctan2(bones[:, 0], bones[:, 1])


class _Sketch:
    """A plan in the making."""

    def __init__(self, rng: np.random.Generator, angles: np.ndarray, rest: RestingHand):
        self.rng, self.angles, self.rest = rng, angles, rest
        # people differ as well, and hardly two fingers of one hand in the same way
        self.length = np.tile(rng.uniform(0.94, 1.06), 15) * rng.uniform(0.97, 1.03, 15)
        self.width = np.tile(rng.uniform(0.92, 1.1), 15)
        self.shift = np.zeros(5)
        self.missing: set[int] = set()
        self.copies: list[dict] = []

    def one(self, low: int = 0) -> int:
        """Draws a finger, from finger `low` on."""
        return int(self.rng.integers(low, 5))

    def some(self, low: int = 0) -> list[int]:
        """Draws one finger, sometimes two or three, from finger `low` on."""
        count = int(self.rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
        return [low + int(finger) for finger in self.rng.choice(5 - low, count, replace=False)]

    def copy(self, part: int, angles: np.ndarray, offset=(0.0, 0.0, 0.0), size: float = 1.0, at_end: bool = False):
        """Adds a copy of a part; arguments as in `FingerPlan`."""
        self.copies.append({"part": part, "angles": angles, "offset": offset, "size": size, "at_end": at_end})

    def shown(self) -> tuple[int, ...]:
        """What is counted: fingers that are there, and copies."""
        copies = [5 + n for n, copy in enumerate(self.copies) if not copy["at_end"]]
        return tuple(f for f in range(5) if f not in self.missing) + tuple(copies)

    def plan(self) -> FingerPlan:
        empty = {"part": -1, "angles": np.zeros((3, 3)), "offset": np.zeros(3), "size": 1.0, "at_end": False}
        copies = (self.copies + [empty] * COPIES)[:COPIES]
        column = {name: np.array([copy[name] for copy in copies]) for name in empty}
        floats = (np.asarray(a, np.float32) for a in (self.angles, self.length, self.width, self.shift))
        return FingerPlan(
            *floats,
            part=column["part"].astype(np.int32),
            copy_angles=column["angles"].astype(np.float32),
            offset=column["offset"].astype(np.float32),
            copy_size=column["size"].astype(np.float32),
            at_end=column["at_end"],
        )


def _normal(sketch: _Sketch) -> list[int]:
    return []


def _extra_finger(sketch: _Sketch) -> list[int]:
    rng = sketch.rng
    place = rng.choice(["between", "ulnar", "radial"], p=[0.65, 0.25, 0.1])
    if place == "between":
        _insert(sketch, [int(rng.integers(1, 4)) for _ in range(1 + int(rng.random() < 0.3))])
        return []
    finger, sign = (4, -1.0) if place == "ulnar" else (1, 1.0)
    angles = sketch.angles[CHAINS[finger]] + 0.0
    angles[0, _ABDUCTION] += sign * np.radians(rng.uniform(8, 22))
    offset = (sign * rng.uniform(0.013, 0.018), -rng.uniform(0.006, 0.016), 0.0)
    sketch.copy(finger, angles, offset, rng.uniform(0.8, 1.0))
    return []


def _insert(sketch: _Sketch, gaps: list[int]) -> None:
    """Puts copies between the fingers `gap` and `gap + 1` and makes room for them in the row."""
    row: list[tuple[int, int | None]] = [(f, None) for f in range(1, 5)]
    for number, gap in enumerate(sorted(gaps)):
        place = row.index((gap + 1, None))
        row.insert(place, (gap if sketch.rng.random() < 0.5 else gap + 1, number))
    knuckles = sketch.rest.knuckles
    widen = (knuckles[1, 0] - knuckles[4, 0]) * (1.0 + 0.16 * len(gaps))
    middle = (knuckles[1, 0] + knuckles[4, 0]) / 2
    places = middle + widen * np.linspace(0.5, -0.5, len(row))
    sketch.width[:12] *= 0.94 ** len(gaps)
    own = {finger: place for (finger, number), place in zip(row, places, strict=True) if number is None}
    lean = sketch.rest.lean
    for finger, place in own.items():
        sketch.shift[finger] = place - knuckles[finger, 0]
        sketch.angles[CHAINS[finger][0], _ABDUCTION] += np.radians(5.0) * len(gaps) * (place - middle) / widen
    turned = {finger: lean[finger] + sketch.angles[CHAINS[finger][0], _ABDUCTION] for finger in own}
    for (finger, number), place in zip(row, places, strict=True):
        if number is None:
            continue
        right = max((f for f in own if own[f] > place), key=lambda f: -own[f])
        left = max((f for f in own if own[f] < place), key=lambda f: own[f])
        share = (place - own[left]) / (own[right] - own[left])
        angles = (1 - share) * sketch.angles[CHAINS[left]] + share * sketch.angles[CHAINS[right]]
        toward = (1 - share) * turned[left] + share * turned[right]
        angles[0, _ABDUCTION] = toward - lean[finger]
        forward = (1 - share) * knuckles[left, 1] + share * knuckles[right, 1] - knuckles[finger, 1]
        sketch.copy(finger, angles, (place - own[finger], forward, 0.0), sketch.rng.uniform(0.9, 1.02))


def _missing_finger(sketch: _Sketch) -> list[int]:
    rng = sketch.rng
    gone = sorted(int(f) for f in rng.choice(5, 1 + int(rng.random() < 0.3), replace=False, p=[0.12, *[0.22] * 4]))
    knuckles = sketch.rest.knuckles
    for finger in gone:
        bones = CHAINS[finger] - 1
        sketch.length[bones] = [0.75 if finger == 0 else rng.uniform(0.28, 0.42), 0.03, 0.15]
        sketch.width[bones] *= [0.95, 0.85, 0.75]
    sketch.missing.update(gone)
    left = [f for f in range(1, 5) if f not in gone]
    if rng.random() < 0.5 and 2 <= len(left) < 4:  # close ranks, as a hand drawn with too few fingers has them
        narrow = 0.88 * (knuckles[1, 0] - knuckles[4, 0])
        places = knuckles[1:, 0].mean() + narrow * np.linspace(0.5, -0.5, len(left))
        for finger, place in zip(left, places, strict=True):
            sketch.shift[finger] = place - knuckles[finger, 0]
    return gone


def _second_thumb(sketch: _Sketch) -> list[int]:
    angles = sketch.angles[CHAINS[0]] + 0.0
    angles[0, _FLEXION] -= np.radians(sketch.rng.uniform(30, 45))
    sketch.angles[CHAINS[0][0], _FLEXION] += np.radians(sketch.rng.uniform(0, 8))
    sketch.copy(0, angles, (0.0, sketch.rng.uniform(0.004, 0.016), 0.0), sketch.rng.uniform(0.85, 1.0))
    return [0]


def _forked_finger(sketch: _Sketch) -> list[int]:
    finger = sketch.one(1)
    chain = CHAINS[finger]
    apart = np.radians(sketch.rng.uniform(14, 24))
    angles = sketch.angles[chain] + 0.0
    angles[1, _ABDUCTION] += apart
    sketch.angles[chain[1], _ABDUCTION] -= apart
    sketch.width[chain[1:] - 1] *= 0.88
    sketch.copy(FROM_SECOND_JOINT + finger, angles)
    return [finger]


def _backward(sketch: _Sketch) -> list[int]:
    fingers = sketch.some()
    for finger in fingers:
        chain = CHAINS[finger]
        sketch.angles[chain, _FLEXION] = sketch.angles[chain, _FLEXION].clip(None, np.radians(15))
        joint = (
            chain[int(sketch.rng.integers(1, 3))]
            if finger == 0
            else chain[int(sketch.rng.choice(3, p=[0.2, 0.6, 0.2]))]
        )
        beyond = sketch.rng.uniform(LEAST_BEYOND, _MOST_BEYOND)
        bent_at_rest = np.radians(25 if finger == 0 else 10)  # keypoints at rest are not quite in line
        sketch.angles[joint, _FLEXION] = JOINT_LIMITS[joint, _FLEXION, 0] - beyond - bent_at_rest
    return fingers


def _sideways(sketch: _Sketch) -> list[int]:
    fingers = sketch.some(low=1)  # a thumb bent across its hinges looks like one that is bent
    for finger in fingers:
        _bend_sideways(sketch, finger, int(sketch.rng.choice([1, 2], p=[0.7, 0.3])), sketch.rng.choice([-1.0, 1.0]))
    return fingers


def _zigzag(sketch: _Sketch) -> list[int]:
    finger = sketch.one(1)
    sign = sketch.rng.choice([-1.0, 1.0])
    _bend_sideways(sketch, finger, 1, sign)
    _bend_sideways(sketch, finger, 2, -sign)
    return [finger]


def _bend_sideways(sketch: _Sketch, finger: int, place: int, sign: float) -> None:
    joint = CHAINS[finger, place]
    sketch.angles[joint, _FLEXION] = min(sketch.angles[joint, _FLEXION], np.radians(20))
    beyond = sketch.rng.uniform(LEAST_BEYOND, _MOST_BEYOND)
    sketch.angles[joint, _ABDUCTION] = sign * (JOINT_LIMITS[joint, _ABDUCTION, 1] + beyond)


def _scaled(measure: str, low: float, high: float) -> Callable[[_Sketch], list[int]]:
    """Makes an edit that scales a measure of some fingers."""

    def scale(sketch: _Sketch) -> list[int]:
        fingers = sketch.some()
        for finger in fingers:
            getattr(sketch, measure)[CHAINS[finger] - 1] *= sketch.rng.uniform(low, high)
        return fingers

    return scale


def _extra_joint(sketch: _Sketch) -> list[int]:
    finger = sketch.one(1)
    chain = CHAINS[finger]
    angles = sketch.angles[chain] + 0.0
    bend = np.radians(sketch.rng.uniform(5, 35))
    angles[1, _FLEXION] += angles[2, _FLEXION] + bend
    angles[2, _FLEXION] += np.radians(sketch.rng.uniform(5, 30))
    sketch.length[chain[2] - 1] *= 0.5
    sketch.width[chain[2] - 1] *= 0.85
    sketch.copy(FROM_SECOND_JOINT + finger, angles, at_end=True)
    return [finger]


def _missing_joint(sketch: _Sketch) -> list[int]:
    fingers = sketch.some(low=1)
    for finger in fingers:
        sketch.length[CHAINS[finger][1] - 1] *= 0.04
        sketch.angles[CHAINS[finger][1], _FLEXION] *= 0.2
    return fingers


def _fused(count: int) -> Callable[[_Sketch], list[int]]:
    """Makes an edit that fuses `count` neighbours, all bent alike and side by side."""

    def fuse(sketch: _Sketch) -> list[int]:
        rng, first = sketch.rng, int(sketch.rng.integers(1, 6 - count))
        fingers = list(range(first, first + count))
        knuckle = CHAINS[fingers, 0]
        lean, places = sketch.rest.lean[fingers], sketch.rest.knuckles[fingers, 0]
        toward = (lean + sketch.angles[knuckle, _ABDUCTION]).mean()
        mean = sketch.angles[CHAINS[fingers]].mean(axis=0)
        closeness = 0.0165 * rng.uniform(0.3, 0.55) * np.arange(count - 1, -1, -1)
        for finger, place, angle, across in zip(fingers, places, lean, closeness - closeness.mean(), strict=True):
            sketch.angles[CHAINS[finger]] = mean
            sketch.angles[CHAINS[finger][0], _ABDUCTION] = toward - angle
            sketch.shift[finger] = places.mean() + across - place
        return fingers

    return fuse


_DRAW: dict[str, Callable[[_Sketch], list[int]]] = {
    "none": _normal,
    "extra_finger": _extra_finger,
    "missing_finger": _missing_finger,
    "second_thumb": _second_thumb,
    "forked_finger": _forked_finger,
    "backward": _backward,
    "sideways": _sideways,
    "zigzag": _zigzag,
    "long_finger": _scaled("length", 1.5, 1.9),
    "short_finger": _scaled("length", 0.5, 0.65),
    "thin_finger": _scaled("width", 0.45, 0.6),
    "extra_joint": _extra_joint,
    "thick_finger": _scaled("width", 1.5, 1.8),
    "missing_joint": _missing_joint,
    "fused_fingers": _fused(2),
    "three_fused_fingers": _fused(3),
}
RENDERED_EDITS = tuple(_DRAW)
