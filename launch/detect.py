"""Finds hands in pictures: side, score, box, 21 keypoints.

python -m launch.detect photo.jpg --json
python -m launch.detect photos/ --out overlays/
"""

import argparse
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

from handjax.errors import InputError
from handjax.images import find_images, read_image, write_image
from handjax.perception import DetectedHand, HandDetector
from handjax.perception.detector import BACKENDS
from handjax.perception.overlay import draw_hands
from launch import command


def main() -> int:
    arguments = _parse_arguments()
    report = command.Report("detect", arguments.json)
    detector = HandDetector.load(arguments.backend, max_hands=arguments.max_hands)
    paths: list[Path] = []
    for source in arguments.images:
        try:
            paths += find_images([source])
        except InputError as error:
            report.error(source, error)
    outputs = _output_paths(paths, arguments.out) if arguments.out else {}
    for path in tqdm(paths, "detect", unit="picture", disable=None if arguments.json else True):
        try:
            image = read_image(path)
        except InputError as error:
            report.error(str(path), error)
            continue
        hands = detector.detect(image)
        if path in outputs:
            write_image(outputs[path], draw_hands(image, hands))
        height, width = image.shape[:2]
        item = {"input": str(path), "width": width, "height": height, "hands": [hand_item(hand) for hand in hands]}
        report.item(item, _lines(path, hands))
        if not hands:
            report.error(str(path), InputError(f"{path}: no hand found; show a whole hand, larger and in focus"))
    return report.finish()


def hand_item(hand: DetectedHand) -> dict[str, Any]:
    """A hand as the JSON contract has it (DESIGN)."""
    return {
        "side": hand.side,
        "score": round(hand.score, 4),
        "box": hand.box.astype(float).round(2).tolist(),
        "keypoints": hand.keypoints.astype(float).round(2).tolist(),
        "world": hand.world.astype(float).round(5).tolist(),
    }


def _lines(path: Path, hands: list[DetectedHand]) -> str:
    if not hands:
        return f"{path}  no hand found"
    rows = []
    for hand in hands:
        box = " ".join(f"{edge:7.1f}" for edge in hand.box)
        rows.append(f"{path}  {hand.side:5}  score {hand.score:.2f}  box {box}")
    return "\n".join(rows)


def _output_paths(paths: list[Path], folder: Path) -> dict[Path, Path]:
    """Overlays keep the pictures' places below their common folder, so that no two share a name."""
    if not paths:
        return {}
    common = os.path.commonpath([path.resolve().parent for path in paths])
    return {path: folder / path.resolve().relative_to(common).with_name(path.name + ".png") for path in paths}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.detect", description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", metavar="IMAGE|DIR", help="pictures, or folders of them")
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="flax", help="mediapipe: the official library")
    parser.add_argument("--max-hands", type=int, default=2, help="hands to find in a picture at most")
    parser.add_argument("--out", type=Path, help="folder for pictures with the hands drawn in")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
