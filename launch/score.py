"""Scores the anatomy of the hands in pictures: `python -m launch.score PICTURE… | FOLDER`.

Says of each hand whether it is plausible, and if not, what is wrong with it. Pictures in which no hand is found are
counted apart, never scored.
"""

import argparse
from collections import Counter
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from handjax.anatomy.features import hand_frame_is_defined, measure, projection_misfit
from handjax.anatomy.limits import MOST_MISFIT
from handjax.anatomy.scores import UNKNOWN, AnatomyScore, judge
from handjax.errors import InputError
from handjax.images import find_images, read_image
from handjax.metrics.intervals import wilson_interval
from handjax.perception import DetectedHand, HandDetector
from launch import command
from launch.detect import hand_item

SURE_OF_SIDE = 0.9

_measure = jax.jit(measure)


def main() -> int:
    """Scores every hand; prints a line a picture and the share of implausible hands."""
    arguments = _parse_arguments()
    report = command.Report("score", arguments.json)
    detector = HandDetector.load(max_hands=arguments.max_hands, tiled=arguments.tiles)
    verdicts: Counter[str] = Counter()
    for path in tqdm(find_images(arguments.images), "score", unit="picture", disable=None):
        try:
            image = read_image(path)
        except InputError as error:
            report.error(str(path), error)
            continue
        hands = detector.detect(image)
        scores = [score_hand(hand) for hand in hands]
        height, width = image.shape[:2]
        items = [hand_item(hand) | score_item(score) for hand, score in zip(hands, scores, strict=True)]
        item = {"input": str(path), "width": width, "height": height, "hands": items}
        verdicts.update(score.verdict for score in scores)
        verdicts["no hand found"] += not hands
        report.item(item, f"{path}: " + ("; ".join(map(describe, scores)) or "no hand found"))
    if not arguments.json:
        print(summarise(verdicts))
    return report.finish()


def score_hand(hand: DetectedHand) -> AnatomyScore:
    """The anatomy score of a hand that was found; its fingers are not counted.

    It is unknown where the detector's keypoints in space contradict those in the picture. Where the detector is not
    sure which hand it is, the hand counts as the one that has fewer violations: taken for the other, it is bent
    backwards in every joint.
    """
    if not hand_frame_is_defined(hand.world) or projection_misfit(hand.world, hand.keypoints) > MOST_MISFIT:
        return UNKNOWN
    side = hand.side == "right"
    sides = [side] if hand.score >= SURE_OF_SIDE else [side, not side]
    scores = [judge(jax.device_get(_measure(hand.world, np.array(right)))) for right in sides]
    return min(scores, key=lambda score: len(score.violations))


def score_item(score: AnatomyScore) -> dict[str, Any]:
    """What the JSON contract adds to a hand of `launch.detect`."""
    return {
        "s_anat": None if score.s_anat is None else round(score.s_anat, 4),
        "verdict": score.verdict,
        "fingers": score.fingers,
        "violations": list(score.violations),
    }


def describe(score: AnatomyScore) -> str:
    """One hand in words."""
    if score.s_anat is None:
        return score.verdict
    reasons = f" ({', '.join(score.violations)})" if score.violations else ""
    return f"{score.verdict}, {score.s_anat:.2f}{reasons}"


def summarise(verdicts: Counter[str]) -> str:
    """The share of implausible hands, with its 95 % interval, and what could not be judged."""
    implausible = verdicts["implausible"]
    judged = implausible + verdicts["plausible"]
    rest = f"{verdicts['unknown']} hands unknown, {verdicts['no hand found']} pictures without a hand"
    if not judged:
        return f"no hand was judged; {rest}"
    low, high = wilson_interval(implausible, judged)
    return f"{implausible} of {judged} hands implausible ({implausible / judged:.1%} [{low:.1%}, {high:.1%}]); {rest}"


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", help="pictures, or folders of them")
    parser.add_argument("--max-hands", type=int, default=2, help="per picture")
    parser.add_argument("--tiles", action="store_true", help="look for small hands too; slow")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
