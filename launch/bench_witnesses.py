"""What the witnesses without a say in a verdict know, on hands that no test set is made of: `launch.bench witnesses`.

Hands: the photographs on the training side of `malformed-photos`, pictures that are made of them and rendered hands,
both by edits of another seed than the head's and the test sets'.
"""

import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.malformed.edits import BY_NAME
from data_pipelines.malformed.photos import MalformedPhotoJob, session
from data_pipelines.malformed.rendered import SIZE, malformed_records
from data_pipelines.precompute import Failures
from handjax.anatomy.features import ANGLE_NAMES, HandFeatures, projection_misfit
from handjax.anatomy.limits import MOST_MISFIT
from handjax.anatomy.sides import MOST_UNLIKE, side_of_keypoints, unlike_bones
from handjax.errors import ConfigError
from handjax.images import decode_image
from handjax.inference.hand_features import features_of
from handjax.inference.score import HandScore, score_hand
from handjax.record import HandRecord
from launch.bench_anatomy import Judges

SEED = 7
SAMPLES = 800
FALSE_ALARMS = 0.02
"""Share of the photographs' normal hands that a limit may call wrong; it decides the tolerance."""
SPREAD = 20.0
"""Degrees to either side at a finger's knuckle; its other joints are hinges and have none.

Source: the norms that Norkin and White tabulate, "Measurement of Joint Motion"; Lin, Wu and Huang, "Modeling the
Constraints of Human Hand Motion", 2000, have 15 and hinges too.
"""
_KNUCKLES = np.array([name.endswith("mcp") for name in ANGLE_NAMES])[3:]  # of the fingers' joints, the thumb's left out

Rule = Callable[[int | None, int | None], int | None]
RULES: dict[str, Rule] = {
    "head": lambda head, outline: head,
    "head, or else the outline": lambda head, outline: outline if head is None else head,
    "head where the outline does not differ": lambda head, outline: head if outline in (None, head) else None,
    "outline, or else the head": lambda head, outline: head if outline is None else outline,
}
"""Ways to a number of fingers from what the head and what the outline says."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """A picture's first hand; `fingers` is their true number, None where they cannot be counted."""

    picture: Path | bytes
    edit: str
    fingers: int | None
    score: HandScore
    source: str = ""

    @property
    def outline(self) -> int | None:
        return self.score.outline.fingers if self.score.outline else None

    @property
    def head(self) -> int | None:
        return self.score.anatomy.fingers


def bench_witnesses(runs: int, photos: Path | None = None, samples: int = SAMPLES) -> Iterator[dict[str, Any]]:
    """The figures of docs/anatomy.md on finger counts of the outline, on sides, pairs, abduction and lengths of bones.

    Args:
      runs: not read; nothing is timed.
      photos: folder of photographs of normal hands.
      samples: rendered hands drawn, and pictures edited.

    Raises:
      ConfigError: no photographs are given.
    """
    if photos is None:
        raise ConfigError("witnesses are measured on photographs; give --photos DIR")
    job = MalformedPhotoJob(photos, seed=SEED)
    names = job.splits()["train"]
    mixed = np.random.default_rng(SEED).permutation(names).tolist()
    edited = itertools.islice(job.open()(mixed, Failures()), samples)
    rendered = malformed_records((f"train:{number}" for number in range(samples)), SEED, SIZE, Failures())
    with Judges(os.cpu_count() or 1) as judges:
        paths = [photos / name.partition(":")[2] for name in names]
        scores = judges(paths, "photographs")
        normal = [Seen(p, "none", 5, s, p.name) for p, hands in zip(paths, scores, strict=True) for s in hands]
        sets = {"rendered": _seen(list(rendered), judges, "rendered"), "edited": _seen(list(edited), judges, "edited")}
    sets["photographs"] = normal
    for name, hands in sets.items():
        yield fingers_item(name, hands)
        for rule in RULES:
            yield rule_item(name, hands, rule)
    yield from side_items(normal)
    yield pair_item(normal)
    yield from limit_items(normal, [hand for name in ("rendered", "edited") for hand in sets[name]])


def fingers_item(name: str, hands: Sequence[Seen]) -> dict[str, Any]:
    """How often the outline's number is right where it gives one, of hands whose fingers can be counted."""
    said = [hand for hand in hands if hand.fingers is not None and hand.outline is not None]
    other = Counter(hand.outline for hand in hands if hand.fingers is None and hand.outline is not None)
    right = sum(hand.outline == hand.fingers for hand in said)
    pairs = Counter((hand.fingers, hand.outline) for hand in said if hand.outline != hand.fingers)
    return {
        "name": f"{name}, fingers by the outline where it counts them",
        **_share(right, len(said)),
        "countable": sum(hand.fingers is not None for hand in hands),
        "wrong": {f"{true} as {fingers}": count for (true, fingers), count in pairs.items()},
        "said_of_hands_that_cannot_be_counted": {str(fingers): count for fingers, count in other.items()},
        "head_right_on_the_same": sum(hand.head == hand.fingers for hand in said),
        "head_unknown_on_the_same": sum(hand.head is None for hand in said),
    }


def rule_item(name: str, hands: Sequence[Seen], rule: str) -> dict[str, Any]:
    """Share of right verdicts if the number of fingers came by one of `RULES`; unknown is wrong."""
    numbers = [RULES[rule](hand.head, hand.outline) for hand in hands]
    verdicts = [_verdict(hand, fingers) for hand, fingers in zip(hands, numbers, strict=True)]
    right = sum(v == ("plausible" if h.edit == "none" else "implausible") for h, v in zip(hands, verdicts, strict=True))
    false = sum(v == "implausible" for h, v in zip(hands, verdicts, strict=True) if h.edit == "none")
    known = [fingers == hand.fingers for hand, fingers in zip(hands, numbers, strict=True) if hand.fingers is not None]
    return {
        "name": f"{name}, strict verdict, fingers by the {rule}",
        **_share(right, len(hands)),
        "false_alarms": false,
        "normal": sum(hand.edit == "none" for hand in hands),
        "counts_right": sum(known),
    }


def side_items(normal: Sequence[Seen]) -> Iterator[dict[str, Any]]:
    """How often keypoints contradict the detector's side, and how often they would if it named the other one."""
    pairs = [(hand.score.hand.side, side_of_keypoints(hand.score.hand.world)) for hand in normal]
    for words, part in (
        ("side of the keypoints not the detector's", sum(seen not in (None, side) for side, seen in pairs)),
        ("side of the keypoints would contradict the other side", sum(side == seen for side, seen in pairs)),
    ):
        yield {"name": f"photographs, {words}", **_share(part, len(pairs))}


def pair_item(normal: Sequence[Seen]) -> dict[str, Any]:
    """Share of two photographs of one session, as of both hands of a person, whose bones seem to be of two people."""
    features = [_features(hand) for hand in normal]
    pairs = [
        unlike_bones(one, other)[0]
        for (a, one), (b, other) in itertools.pairwise(zip(normal, features, strict=True))
        if one is not None and other is not None and session(a.source) == session(b.source)
    ]
    quantiles = np.quantile(pairs, [0.5, 0.98]).round(4).tolist()
    strangers = [
        unlike_bones(one, other)[0]
        for one, other in zip(features, features[len(features) // 2 :], strict=False)
        if one is not None and other is not None
    ]
    return {
        "name": f"photographs of one session, bones that differ by more than {MOST_UNLIKE}",
        **_share(sum(pair > MOST_UNLIKE for pair in pairs), len(pairs)),
        "median_and_98_percent": quantiles,
        "of_different_sessions": float((np.array(strangers) > MOST_UNLIKE).mean()),
    }


def limit_items(normal: Sequence[Seen], others: Sequence[Seen]) -> Iterator[dict[str, Any]]:
    """Whether abduction and lengths of bones tell malformed hands, beyond what most photographs' normal hands reach."""
    usual = [features for hand in normal if (features := _features(hand)) is not None]
    hinges = np.abs(np.degrees([features.abduction[3:][~_KNUCKLES] for features in usual])).max(axis=1)
    yield {
        "name": "photographs, most abduction of a finger's hinges, median",
        "ours": float(np.median(hinges)),
        "unit": "°",
        "of_98_percent": float(np.quantile(hinges, 0.98)),
        "hands": len(hinges),
    }
    median = np.median([features.bone_ratios for features in usual], axis=0)

    def beyond_spread(features: HandFeatures) -> float:
        return float((np.abs(np.degrees(features.abduction[3:])) - SPREAD * _KNUCKLES).max())

    def unusual_bone(features: HandFeatures) -> float:
        return float(np.abs(np.log(features.bone_ratios / median)).max())

    for quantity, measured, kind in (
        ("abduction", beyond_spread, "angle"),
        ("lengths of bones", unusual_bone, "proportion"),
    ):
        limit = float(np.quantile([measured(features) for features in usual], 1 - FALSE_ALARMS))
        values = {
            wrong: np.array([measured(f) for hand in others if _kind(hand) == k and (f := _features(hand)) is not None])
            for wrong, k in ((False, "normal"), (True, kind))
        }
        yield {
            "name": f"{quantity} beyond {1 - FALSE_ALARMS:.0%} of the photographs' normal hands, {kind} edits",
            **_share(int((values[True] > limit).sum()), len(values[True])),
            "limit": limit,
            "other_normal_hands": float((values[False] > limit).mean()),
            "auc": _auc(values[True], values[False]),
        }


def _seen(records: Sequence[HandRecord], judges: Judges, name: str) -> list[Seen]:
    scores = judges([record.image for record in records], name)
    return [
        Seen(record.image, record.edit or "none", record.fingers, hands[0])
        for record, hands in zip(records, scores, strict=True)
        if hands
    ]


def _verdict(hand: Seen, fingers: int | None) -> str:
    """The verdict if so many fingers had been counted."""
    count = hand.score.count
    if fingers == hand.head or count is None:
        return hand.score.anatomy.verdict
    image = hand.picture.read_bytes() if isinstance(hand.picture, Path) else hand.picture
    told = dataclasses.replace(count, fingers=fingers)
    return score_hand(decode_image(image, "a picture"), hand.score.hand, lambda *_: told).anatomy.verdict


def _features(hand: Seen) -> HandFeatures | None:
    found = hand.score.hand
    return None if projection_misfit(found.world, found.keypoints) > MOST_MISFIT else features_of(found)


def _kind(hand: Seen) -> str:
    return BY_NAME[hand.edit].kind


def _auc(high: Float[np.ndarray, " a"], low: Float[np.ndarray, " b"]) -> float:
    differences = np.subtract.outer(high, low)
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())


def _share(part: int, whole: int) -> dict[str, Any]:
    return {"ours": part / whole if whole else None, "unit": "of the hands", "part": part, "of": whole}
