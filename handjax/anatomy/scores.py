"""HandAnat: the plausibility score of a hand, its verdict and its reasons.

`paper` is the score as printed, under which a hand of six fingers can pass; `strict` asks every part to pass, and it
gives the verdict (DECISIONS E2). An unknown number of fingers drops its part.
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float

from handjax.anatomy.features import ANGLE_NAMES, HandFeatures
from handjax.anatomy.limits import ANGLE_LIMITS, DIGIT_RATIOS, LANDMARK_TOLERANCE
from handjax.hand.topology import FINGERS

WEIGHTS = (0.3, 0.4, 0.3)
THRESHOLD = 0.5
FINGER_COUNT = 5
_LOOKS = "looks"
_JOINED = "joined"
RATIO_SCALE = 0.25

Verdict = Literal["plausible", "implausible", "unknown"]


@dataclasses.dataclass(frozen=True)
class AnatomyScore:
    """What is said of one hand.

    Attributes:
      s_anat: the paper's score in [0, 1]; None where the keypoints tell nothing.
      verdict: by the strict rule.
      fingers: how many were counted; None where nobody counted.
      similarity: of the fingers' lengths to the reference, in [0, 1].
      violations: what is wrong, in words; of a plausible hand, what keypoints say and looks have overruled.
    """

    s_anat: float | None
    verdict: Verdict
    fingers: int | None
    similarity: float | None
    violations: tuple[str, ...]

    @property
    def paper_verdict(self) -> Verdict:
        """The verdict as the paper gives it, by the score alone."""
        if self.s_anat is None:
            return "unknown"
        return "implausible" if self.s_anat < THRESHOLD else "plausible"


UNKNOWN = AnatomyScore(None, "unknown", None, None, ())


def judge(features: HandFeatures, fingers: int | None = None, tolerance: float = LANDMARK_TOLERANCE) -> AnatomyScore:
    """Scores one hand.

    Args:
      features: of one hand, from `measure`.
      fingers: how many fingers are seen, by something that does not assume five; None where that is not known.
      tolerance: by how much angles may lie outside their limits, radians.

    Source:
      HandAnat section 3.1, stage 3; DECISIONS E2.
    """
    flexion = np.asarray(features.flexion, np.float64)
    ratios = np.asarray(features.digit_ratios, np.float64)
    if not (np.isfinite(flexion).all() and np.isfinite(ratios).all()):
        return UNKNOWN
    wrong_angles = angle_violations(flexion, tolerance)
    similarity = ratio_similarity(ratios)
    parts = [None if fingers is None else float(fingers == FINGER_COUNT), float(not wrong_angles), similarity]
    violations = [] if fingers in (None, FINGER_COUNT) else [f"{fingers} fingers"]
    violations += wrong_angles
    if similarity < THRESHOLD:
        violations.append(_worst_ratio(ratios))
    known = [(weight, part) for weight, part in zip(WEIGHTS, parts, strict=True) if part is not None]
    s_anat = sum(weight * part for weight, part in known) / sum(weight for weight, _ in known)
    verdict: Verdict = "implausible" if violations else "plausible"
    return AnatomyScore(s_anat, verdict, fingers, similarity, tuple(violations))


def looks(words: str, probability: float) -> str:
    """The violation of a hand that looks malformed in the picture, with the probability that it is."""
    return f"{_LOOKS} malformed: {words} ({probability:.2f})"


def joined(one: str, other: str) -> str:
    """The violation of two fingers between which the outline shows no gap."""
    return f"{one} and {other} {_JOINED}"


def violated_part(violation: str) -> str:
    """What a violation is about: a joint, a finger's length, the finger count, the webbing or the appearance."""
    words = violation.split()
    if words[0] == _LOOKS:
        return "appearance"
    if words[-1] == _JOINED:
        return "webbing"
    if "bent" in words:
        return " ".join(words[: words.index("bent")])
    return f"{words[0]} length" if "palms" in words else "finger count"


def angle_violations(flexion: Float[np.ndarray, "15"], tolerance: float) -> list[str]:
    """Names the joints that bend further than `ANGLE_LIMITS` and `tolerance` allow, radians, the worst first."""
    over = np.maximum(flexion - ANGLE_LIMITS[:, 1], ANGLE_LIMITS[:, 0] - flexion) - tolerance
    degrees, limits = np.degrees(flexion), np.degrees(ANGLE_LIMITS)
    return [
        f"{ANGLE_NAMES[i]} bent {degrees[i]:.0f}°, limit {limits[i, 0]:.0f}…{limits[i, 1]:.0f}°".replace("-", "−")
        for i in np.argsort(-over)
        if over[i] > 0
    ]


def ratio_similarity(ratios: Float[np.ndarray, "5"]) -> float:
    """Similarity of the fingers' lengths to those of real hands, 1 where they are the same (DECISIONS E2).

    It is of the mean of five: a finger alone must be 2.4 times too long or too short to bring it below `THRESHOLD`. A
    rule by finger would not find more, for the landmark network draws usual lengths (docs/anatomy.md).
    """
    return float(np.exp(-np.abs(np.log(ratios / DIGIT_RATIOS)).mean() / RATIO_SCALE))


def _worst_ratio(ratios: Float[np.ndarray, "5"]) -> str:
    worst = int(np.argmax(np.abs(np.log(ratios / DIGIT_RATIOS))))
    return f"{FINGERS[worst]} {ratios[worst]:.2f} palms long, usually {DIGIT_RATIOS[worst]:.2f}"
