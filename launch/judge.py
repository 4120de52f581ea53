"""Who judges the hands of guided pictures. Shared by the benchmarks of guides.

No judge is independent of the anatomy guide. MediaPipe's runtime is a program of its own, with the weights that the
guide differentiates; the learned head was taught by other data and other labels, and reads maps of the same landmark
network. MGHanD's mask is of hands that these weights find, and its adapter's captions are of malformed hands by the
renderer that the head was taught by; its discriminator shares nothing with either.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Float, UInt8
from tqdm import tqdm

from handjax.anatomy.head import HandHead
from handjax.anatomy.scores import Verdict
from handjax.inference.score import HeadCounter, score_hand
from handjax.metrics.comparison import bootstrap_rates, percentile_interval
from handjax.metrics.intervals import bootstrap_mean_interval, wilson_interval
from handjax.perception import HandDetector
from handjax.perception.margin import add_margin

SEED = 91_000
"""Of resampling."""
JUDGED: tuple[Verdict, ...] = ("plausible", "implausible")

Image = UInt8[np.ndarray, "height width 3"]
Judge = Callable[[Image], "Verdicts"]


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """What is said of a picture's hand; None where none was found.

    Attributes:
      whole: by keypoints, outline and the learned head.
      keypoints: without the learned head.
      score: the detector's, which is that of the side, 0.5 to 1; 0 where no hand was found (DECISIONS H7).
    """

    whole: Verdict | None
    keypoints: Verdict | None
    score: float = 0.0


def make_judge() -> Judge:
    """MediaPipe's own runtime finds and reads the hand, with a margin; the learned head looks at the picture.

    Raises:
      BackendError: MediaPipe cannot be loaded on this machine.
    """
    detector, counter = HandDetector.load("mediapipe", max_hands=1), HeadCounter(HandHead.load())

    def judge(image: Image) -> Verdicts:
        padded = add_margin(image)
        hands = detector.detect(padded)
        if not hands:
            return Verdicts(None, None)
        whole, keypoints = (score_hand(padded, hands[0], by).anatomy.verdict for by in (counter, None))
        return Verdicts(whole, keypoints, hands[0].score)

    return judge


def judge_all(judge: Judge, images: Sequence[Image]) -> list[Verdicts]:
    """What the judge says of each picture."""
    return [judge(image) for image in tqdm(images, "judge", unit="picture", disable=None)]


def verdicts_of(name: str, verdicts: Sequence[Verdicts]) -> Iterator[dict[str, Any]]:
    """Hands that were found, how surely, and implausible ones."""
    found = sum(verdict.whole is not None for verdict in verdicts)
    yield {"name": f"{name}, hands found", **share(found, len(verdicts)), "unit": "of pictures"}
    scores = np.array([verdict.score for verdict in verdicts])
    yield {"name": f"{name}, confidence, misses 0", **mean(scores, "of confidence")}
    if found:
        yield {"name": f"{name}, confidence of hands found", **mean(scores[scores > 0], "of confidence")}
    for part in ("whole", "keypoints"):
        yield verdict_shares(name, verdicts, part)


def change_of_confidence(name: str, before: Sequence[Verdicts], after: Sequence[Verdicts]) -> dict[str, Any]:
    """How much surer hands are found in pictures of the same noise."""
    change = np.array([b.score - a.score for a, b in zip(before, after, strict=True)])
    return {"name": f"{name}, change of confidence", **mean(change, "of confidence")}


def mean(values: Float[np.ndarray, " pictures"], unit: str) -> dict[str, Any]:
    """A mean with its interval over pictures."""
    interval = bootstrap_mean_interval(values, SEED)
    return {"ours": float(values.mean()), "unit": unit, "pictures": len(values), "interval_95": interval}


def verdict_shares(name: str, verdicts: Sequence[Verdicts], part: str) -> dict[str, Any]:
    """The share of implausible hands of those that were judged, by `part` of the verdicts."""
    judged = [said for verdict in verdicts if (said := getattr(verdict, part)) in JUDGED]
    return {"name": f"{name}, implausible ({part})", **share(judged.count("implausible"), len(judged))}


def reduction_item(name: str, pairs: Sequence[tuple[Verdict | None, Verdict | None]], seed: int) -> dict[str, Any]:
    """By which share implausible hands become fewer, over the pictures judged both times; interval over pictures.

    None where none is implausible before.
    """
    judged = np.array([[said == "implausible" for said in pair] for pair in pairs if {*pair} <= set(JUDGED)])
    before, after = judged.reshape(-1, 2).T.astype(float)
    mended, spoilt = int(((before > 0) & (after == 0)).sum()), int(((before == 0) & (after > 0)).sum())
    changed = mended + spoilt
    known = before.any()
    resampled = bootstrap_rates(before - after, before, seed) if known else np.empty(0)
    return {
        "name": name,
        "ours": float(1 - after.sum() / before.sum()) if known else None,
        "unit": "fewer",
        "interval_95": percentile_interval(resampled[~np.isnan(resampled)]) if known else None,
        "pairs": len(judged),
        "mended": mended,
        "spoilt": spoilt,
        "sign_test_p": float(scipy.stats.binomtest(mended, changed).pvalue) if changed else 1.0,
    }


def share(part: int, of: int) -> dict[str, Any]:
    """A share with its interval; None of nothing."""
    known = {"ours": part / of, "interval_95": wilson_interval(part, of)} if of else {"ours": None, "interval_95": None}
    return {**known, "unit": "of hands", "part": part, "of": of}
