"""What can be wrong with a hand: one table of edits, their classes and their words."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from handjax.anatomy.head import KINDS, Kind
from handjax.hand.topology import FINGERS

NORMAL_SHARE = 1 / 3
HELD_OUT_SHARE = 0.3
"""Of the malformed hands of each class in test sets: made by edits that training never sees."""
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")


@dataclasses.dataclass(frozen=True)
class Edit:
    """One way to make a hand.

    Attributes:
      name: in records.
      kind: class of the hands that it makes.
      words: what is wrong; {fingers} stands for the fingers, {have} for "has" or "have", {are} for "is" or "are".
      held_out: whether it is for testing only.
    """

    name: str
    kind: Kind
    words: str
    held_out: bool = False


EDITS = (
    Edit("none", "normal", ""),
    Edit("extra_finger", "count", "with {count} fingers"),
    Edit("missing_finger", "count", "with {count} fingers, the {fingers} missing"),
    Edit("second_thumb", "count", "with two thumbs", held_out=True),
    Edit("forked_finger", "count", "whose {fingers} {are} forked", held_out=True),
    Edit("backward", "angle", "whose {fingers} {are} bent backwards"),
    Edit("sideways", "angle", "whose {fingers} {are} bent sideways"),
    Edit("zigzag", "angle", "whose {fingers} {are} bent to both sides", held_out=True),
    Edit("long_finger", "proportion", "whose {fingers} {are} too long"),
    Edit("short_finger", "proportion", "whose {fingers} {are} too short"),
    Edit("thin_finger", "proportion", "whose {fingers} {are} too thin"),
    Edit("extra_joint", "proportion", "whose {fingers} {have} one joint too many"),
    Edit("thick_finger", "proportion", "whose {fingers} {are} too thick", held_out=True),
    Edit("missing_joint", "proportion", "whose {fingers} {have} one joint too few", held_out=True),
    Edit("fused_fingers", "fused", "whose {fingers} are fused"),
    Edit("three_fused_fingers", "fused", "whose {fingers} are fused", held_out=True),
)
BY_NAME = {edit.name: edit for edit in EDITS}


def draw_edit(rng: np.random.Generator, names: Sequence[str], held_out: bool, count_share: float = 0.25) -> Edit:
    """Draws the edit of one hand: a third are normal, the other malformed classes are equally frequent.

    Args:
      rng: source of randomness.
      names: of the edits that can be made, at least one of them malformed and not held out.
      held_out: whether edits for testing only may be drawn.
      count_share: share of wrong counts among the malformed, if `names` has such.
    """
    if rng.random() < NORMAL_SHARE:
        return BY_NAME["none"]
    edits = [BY_NAME[name] for name in names if name != "none"]
    kinds = [kind for kind in KINDS if any(edit.kind == kind and not edit.held_out for edit in edits)]
    others = [kind for kind in kinds if kind != "count"]
    kind = "count" if "count" in kinds and rng.random() < count_share else others[int(rng.integers(len(others)))]
    known, unknown = ([e for e in edits if e.kind == kind and e.held_out == side] for side in (False, True))
    chosen = unknown if held_out and unknown and rng.random() < HELD_OUT_SHARE else known
    return chosen[int(rng.integers(len(chosen)))]


def describe(edit: Edit, side: str, fingers: Sequence[int], count: int | None) -> str:
    """Tells in words what a hand is and what is wrong with it, as "a right hand with six fingers".

    Args:
      edit: by which it was made.
      side: of the hand.
      fingers: numbers of the fingers that are not as they should be, thumb 0.
      count: number of its fingers; None where it cannot be told.
    """
    if edit.kind == "normal":
        return f"a normal {side} hand" + (f" with {_NUMBERS[count]} fingers" if count else "")
    many = len(fingers) > 1
    words = edit.words.format(
        fingers=_listed(fingers),
        are="are" if many else "is",
        have="have" if many else "has",
        count=_NUMBERS[count or 0],
    )
    return f"a {side} hand {words}"


def _listed(fingers: Sequence[int]) -> str:
    """Names fingers: "thumb", "index and middle finger"."""
    names = [FINGERS[finger] for finger in sorted(fingers)]
    last = f"{names[-1]} finger" if names and names[-1] != "thumb" else "".join(names[-1:])
    first = names[:-1]
    return f"{', '.join(first)} and {last}" if first else last
