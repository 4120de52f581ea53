"""How well hands are judged, and how fast: the rows of `launch.bench anatomy`."""

import dataclasses
import itertools
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from tqdm import tqdm

from data_pipelines.features import open_records
from data_pipelines.malformed.edits import BY_NAME
from data_pipelines.malformed.frozen import check_frozen, fingerprint
from data_pipelines.malformed.photos import MalformedPhotoJob
from handjax.anatomy.head import KINDS, HandHead
from handjax.anatomy.scores import Verdict
from handjax.errors import ConfigError, InputError
from handjax.images import decode_image, find_images, read_image
from handjax.inference.score import LOOKS_NORMAL, HandScore, HeadCounter, score_hand
from handjax.metrics.agreement import agreement
from handjax.metrics.calibration import reliability_curve, top_confidence
from handjax.perception.retries import SearchingDetector
from handjax.record import HandRecord
from launch import stages
from launch.bench_anatomy_limits import bench_limits, length_item
from launch.bench_anatomy_speed import bench_speed

FROZEN = Path(__file__).parents[1] / "docs" / "benchmarks" / "anatomy_sets.json"
MODES = ("strict", "paper")
NOT_OVERRULED = "strict, keypoints not overruled"
"""The strict verdict as it would be if the head never took keypoints for mistaken."""
MAX_HANDS = 2
WANTED_ACCURACY, WANTED_KAPPA, MOST_FALSE_ALARMS = 0.942, 0.88, 0.05


@dataclasses.dataclass(frozen=True)
class Judged:
    """A picture of a hand, and what is said of it; `score` is None where no hand was found."""

    edit: str
    fingers: int | None
    score: HandScore | None

    @property
    def truth(self) -> str:
        return "plausible" if self.edit == "none" else "implausible"

    def verdict(self, mode: str) -> Verdict:
        assert self.score
        return verdict_of(self.score, mode)

    @property
    def kinds(self) -> list[float]:
        assert self.score and self.score.count
        return [self.score.count.probabilities[kind] for kind in KINDS]


def verdict_of(score: HandScore, mode: str) -> Verdict:
    """The verdict on a hand in one of `MODES`, or `NOT_OVERRULED`."""
    if mode == "paper":
        return score.anatomy.paper_verdict
    if mode == NOT_OVERRULED and LOOKS_NORMAL in score.notes:
        return "implausible" if score.anatomy.violations else "unknown"
    return score.anatomy.verdict


class Judge:
    """Finds and scores the hands of a picture: its pixels, its file, or what is in the file."""

    def __init__(self) -> None:
        self._detector = SearchingDetector(MAX_HANDS)
        self._counter = HeadCounter(HandHead.load())

    def __call__(self, picture: np.ndarray | Path | bytes) -> list[HandScore]:
        image = _read(picture)
        return [score_hand(image, hand, self._counter) for hand in self._detector.detect(image).hands]


class Judges:
    """A process a core, each with its own judge; used in a `with` statement."""

    def __init__(self, workers: int) -> None:
        os.environ.setdefault("NPROC", "1")  # for their JAX, which reads it when it starts; here it has started
        self._pool = multiprocessing.get_context("spawn").Pool(workers, _start_judge)

    def __enter__(self) -> "Judges":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()

    def __call__(self, pictures: Sequence[Any], name: str) -> list[list[HandScore]]:
        """The hands of each picture; `name` is what the progress bar says."""
        results = self._pool.imap(_judge_here, pictures, chunksize=2)
        return list(tqdm(results, name, len(pictures), unit="picture", disable=None))


_here: Judge


def _start_judge() -> None:
    global _here
    _here = Judge()


def _judge_here(picture: np.ndarray | Path | bytes) -> list[HandScore]:
    return _here(picture)


def _read(picture: np.ndarray | Path | bytes) -> np.ndarray:
    if isinstance(picture, Path):
        return read_image(picture)
    return decode_image(picture, "a record") if isinstance(picture, bytes) else picture


def bench_anatomy(
    runs: int, data: Path | None = None, photos: Path | None = None, malformed: Path | None = None
) -> Iterator[dict[str, Any]]:
    """All figures but that of speed, which is measured where no folder is given: on a machine that does nothing else.

    Args:
      runs: of the timing.
      data: folder of the test sets, made there where they are missing; None leaves them out.
      photos: folder of photographs of normal hands, which the edited ones are made of.
      malformed: folder of pictures of malformed hands, to be ranked below the photographs.

    Raises:
      ConfigError: there are no photographs to rank the malformed hands below.
    """
    if malformed and not photos:
        raise ConfigError("--malformed: they are ranked below photographs; name the folder of these with --photos")
    if not (data or photos):
        yield from bench_speed(runs)
        return
    with Judges(os.cpu_count() or 1) as judges:
        for name, source in (("rendered", "malformed:1"), ("photos", f"malformed-photos:{photos}")):
            if data and (photos or name == "rendered"):
                yield from bench_set(name, test_set(data / name, source, name), judges)
        if photos:
            normal = judge_photos(find_images([photos]), judges)
            yield from bench_false_alarms(photos, normal)
            seen = {photos / name.partition(":")[2] for name in MalformedPhotoJob(photos).splits()["train"]}
            yield from bench_limits([score for path in sorted(seen) for score in normal[path]])
            if malformed:
                yield auc_item(normal, judge_photos(find_images([malformed]), judges))


def test_set(folder: Path, source: str, name: str) -> Sequence[HandRecord]:
    """The records of a frozen test set, made where they are missing.

    Raises:
      StageError: they could not be made.
      InputError: they are not the frozen ones.
    """
    if not folder.exists():
        only = ("--splits", "eval") if name == "rendered" else ()
        stages.run("precompute", source, *only, "--output", folder, rounded=False)
    records = open_records(folder, "eval")
    if records is None:
        raise InputError(f"{folder}: has no test set; remove it, and it is made again")
    check_frozen(fingerprint(records[number] for number in range(len(records))), FROZEN, name)
    return records


def bench_set(name: str, records: Sequence[HandRecord], judges: Judges) -> Iterator[dict[str, Any]]:
    """Agreement with the truth of a test set: verdicts in both modes, classes, counts, calibration."""
    loaded = [records[number] for number in range(len(records))]
    judged = [
        Judged(record.edit or "none", record.fingers, scores[0] if scores else None)
        for record, scores in zip(loaded, judges([record.image for record in loaded], name), strict=True)
    ]
    found = [hand for hand in judged if hand.score]
    missed = Counter(BY_NAME[hand.edit].kind for hand in judged if not hand.score)
    yield {"name": f"{name}, hands missed", **_share(sum(missed.values()), len(judged)), "by_kind": dict(missed)}
    for mode in MODES:
        yield verdict_item(f"{name}, verdicts, {mode}", found, mode)
        for part, held_out in (("edits seen in training", False), ("edits not seen", True)):
            hands = [hand for hand in found if hand.edit == "none" or BY_NAME[hand.edit].held_out == held_out]
            yield verdict_item(f"{name}, verdicts, {mode}, normal hands and {part}", hands, mode)
    yield verdict_item(f"{name}, verdicts, {NOT_OVERRULED}", found, NOT_OVERRULED)
    of = {edit: [hand.score for hand in group if hand.score] for edit, group in _grouped(found)}
    yield length_item(name, of["none"], [*of["long_finger"], *of["short_finger"]])
    yield class_item(name, found)
    yield count_item(name, found)
    yield calibration_item(name, found)


def verdict_item(name: str, hands: Sequence[Judged], mode: str) -> dict[str, Any]:
    """Accuracy and kappa of verdicts, an unknown one being wrong; and how many of each verdict are malformed."""
    result = agreement([hand.truth for hand in hands], [hand.verdict(mode) for hand in hands])
    edits = {
        edit: _share(sum(hand.verdict(mode) == hand.truth for hand in group), len(group))
        for edit, group in _grouped(hands)
    }
    return {
        "name": name,
        "ours": result.accuracy,
        "unit": "right",
        "kappa": result.kappa,
        "coverage": result.coverage,
        "hands": result.trials,
        "wanted": WANTED_ACCURACY,
        "kappa_wanted": WANTED_KAPPA,
        "edits": edits,
        "malformed": {verdict: _malformed(hands, mode, verdict) for verdict in get_args(Verdict)},
    }


def _malformed(hands: Sequence[Judged], mode: str, verdict: Verdict) -> dict[str, Any]:
    """How many of the hands of a verdict are malformed."""
    group = [hand for hand in hands if hand.verdict(mode) == verdict]
    return _share(sum(hand.truth == "implausible" for hand in group), len(group))


def class_item(name: str, hands: Sequence[Judged]) -> dict[str, Any]:
    """Accuracy of the five classes as the learned head tells them apart, and how often each is taken for which."""
    truth = [BY_NAME[hand.edit].kind for hand in hands]
    said = [KINDS[int(np.argmax(hand.kinds))] for hand in hands]
    result = agreement(truth, said)
    pairs = Counter(zip(truth, said, strict=True))
    confusion = {kind: {other: pairs[kind, other] for other in KINDS} for kind in KINDS}
    recall = {kind: confusion[kind][kind] / max(sum(confusion[kind].values()), 1) for kind in KINDS}
    return {
        "name": f"{name}, five classes",
        "ours": result.accuracy,
        "unit": "right",
        "kappa": result.kappa,
        "recall": recall,
        "confusion": confusion,
    }


def count_item(name: str, hands: Sequence[Judged]) -> dict[str, Any]:
    """Accuracy of finger counts, where the truth is known; unknown is wrong."""
    known = [hand for hand in hands if hand.fingers is not None]
    said = [hand.score.anatomy.fingers for hand in known if hand.score]
    right = sum(hand.fingers == fingers for hand, fingers in zip(known, said, strict=True))
    return {"name": f"{name}, fingers counted", **_share(right, len(known)), "unknown": said.count(None)}


def calibration_item(name: str, hands: Sequence[Judged]) -> dict[str, Any]:
    """Expected calibration error of the head's classes, and the reliability curve of "malformed"."""
    kinds = np.array([hand.kinds for hand in hands])
    truth = np.array([KINDS.index(BY_NAME[hand.edit].kind) for hand in hands])
    curve = reliability_curve(1 - kinds[:, 0], truth > 0)
    return {
        "name": f"{name}, expected calibration error",
        "ours": reliability_curve(*top_confidence(kinds, truth)).error,
        "unit": "",
        "malformed_error": curve.error,
        "curve": [
            {"confidence": float(c), "frequency": float(f), "hands": int(n)}
            for c, f, n in zip(curve.confidence, curve.frequency, curve.counts, strict=True)
            if n
        ],
    }


def judge_photos(paths: Sequence[Path], judges: Judges) -> dict[Path, list[HandScore]]:
    """The hands of each photograph."""
    return dict(zip(paths, judges(paths, "photos"), strict=True))


def bench_false_alarms(folder: Path, photos: dict[Path, list[HandScore]]) -> Iterator[dict[str, Any]]:
    """Share of normal hands called implausible, of all photographs and of those that training did not see."""
    unseen = {folder / name.partition(":")[2] for name in MalformedPhotoJob(folder).splits()["eval"]}
    parts = {"": photos, ", photographs that training did not see": {p: photos[p] for p in photos if p in unseen}}
    for (words, part), mode in itertools.product(parts.items(), (*MODES, NOT_OVERRULED)):
        scores = [score for hands in part.values() for score in hands]
        verdicts = Counter(verdict_of(score, mode) for score in scores)
        by_head = sum(bool(score.count and score.count.complaints) for score in scores)
        yield {
            "name": f"false alarms, {mode}{words}",
            **_share(verdicts["implausible"], len(scores)),
            "unknown": verdicts["unknown"],
            "by_head": by_head,
            "photos": len(part),
            "photos_without_hand": sum(not hands for hands in part.values()),
            "bound": MOST_FALSE_ALARMS,
        }


def auc_item(normal: dict[Path, list[HandScore]], malformed: dict[Path, list[HandScore]]) -> dict[str, Any]:
    """Chance that a malformed picture's worst hand looks worse than a photograph's; ties count half.

    The head's probability alone gives the order; `verdicts` are those of the pictures' worst hands by all witnesses.
    """
    low, high = ({path: _worst(hands) for path, hands in group.items() if hands} for group in (normal, malformed))
    differences = np.subtract.outer(list(high.values()), list(low.values()))
    wins = (differences > 0).mean() + 0.5 * (differences == 0).mean()
    return {
        "name": "malformed pictures ranked worse than photographs",
        "ours": float(wins),
        "unit": "AUC",
        "malformed": {path.name: high.get(path) for path in malformed},
        "verdicts": {path.name: _worst_verdict(hands) for path, hands in malformed.items()},
    }


def _worst(hands: Sequence[HandScore]) -> float:
    """Greatest probability of being malformed among a picture's hands."""
    return max(1 - score.count.probabilities["normal"] for score in hands if score.count)


def _worst_verdict(hands: Sequence[HandScore]) -> Verdict | None:
    """A picture's worst verdict; None where no hand was found."""
    verdicts = {score.anatomy.verdict for score in hands}
    order: tuple[Verdict, ...] = ("implausible", "unknown", "plausible")
    return next((verdict for verdict in order if verdict in verdicts), None)


def _share(part: int, whole: int) -> dict[str, Any]:
    return {"ours": part / whole if whole else None, "unit": "of the hands", "part": part, "of": whole}


def _grouped(hands: Sequence[Judged]) -> Iterator[tuple[str, list[Judged]]]:
    for edit in BY_NAME:
        group = [hand for hand in hands if hand.edit == edit]
        if group:
            yield edit, group
