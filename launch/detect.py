"""Finds hands in pictures: side, score, box, 21 keypoints.

python -m launch.detect photo.jpg --json
python -m launch.detect photos/ --out overlays/
python -m launch.detect crowd.jpg --tiles
python -m launch.detect photo.jpg --box 120 80 260 300
python -m launch.detect wave.gif frames/ --video --out overlays/
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from handjax.errors import ConfigError, InputError
from handjax.images import find_images, read_frames, read_image, write_image
from handjax.perception import DetectedHand, HandDetector, HandTracker
from handjax.perception.detector import BACKENDS
from handjax.perception.hand_json import hand_item
from handjax.perception.overlay import draw_hands
from launch import command


def main() -> int:
    arguments = _parse_arguments()
    report = command.Report("detect", arguments.json)
    if arguments.video:
        _follow(arguments, report)
    else:
        _find(arguments, report)
    return report.finish()


def _find(arguments: argparse.Namespace, report: command.Report) -> None:
    """Finds hands in each picture by itself."""
    detector = HandDetector.load(arguments.backend, max_hands=arguments.max_hands, tiled=arguments.tiles)
    paths: list[Path] = []
    for source in arguments.images:
        try:
            paths += find_images([source])
        except InputError as error:
            report.error(source, error)
    outputs = command.output_paths(paths, arguments.out) if arguments.out else {}
    boxes = np.array(arguments.box, np.float32) if arguments.box else None
    for path in tqdm(paths, "detect", unit="picture", disable=None if arguments.json else True):
        try:
            image = read_image(path)
            with command.naming(path):
                hands = detector.detect(image) if boxes is None else detector.read(image, boxes)
        except InputError as error:
            report.error(str(path), error)
            continue
        if path in outputs:
            write_image(outputs[path], draw_hands(image, hands))
        height, width = image.shape[:2]
        item = {"input": str(path), "width": width, "height": height, "hands": [hand_item(hand) for hand in hands]}
        report.item(item, _lines(str(path), hands))
        if not hands:
            report.error(str(path), InputError(f"{path}: no hand found; show a whole hand, larger and in focus"))


def _follow(arguments: argparse.Namespace, report: command.Report) -> None:
    """Follows hands through each clip; an item a frame, with the hands' identities."""
    if arguments.backend != "flax" or arguments.tiles or arguments.box:
        raise ConfigError("--video follows hands by itself; leave --backend, --tiles and --box away")
    sources = [Path(source) for source in arguments.images]
    outputs = command.clip_folders(sources, arguments.out) if arguments.out else {}
    tracker = HandTracker.load(max_hands=arguments.max_hands, rate=arguments.rate)
    for source in sources:
        found = False
        try:
            for number, (image, hands) in enumerate(tracker.track(read_frames(source))):
                found |= bool(hands)
                if source in outputs:
                    drawn = draw_hands(image, list(hands.values()), [f"#{identity}" for identity in hands])
                    write_image(outputs[source] / f"{number:06}.png", drawn)
                height, width = image.shape[:2]
                items = [{"track": identity, **hand_item(hand)} for identity, hand in hands.items()]
                item = {"input": str(source), "frame": number, "width": width, "height": height, "hands": items}
                name = f"{source}  frame {number}"
                lines = [_lines(f"{name}  #{identity}", [hand]) for identity, hand in hands.items()]
                report.item(item, "\n".join(lines) or _lines(name, []))
            if not found:
                raise InputError(f"{source}: no hand found; show a whole hand, larger and in focus")
        except InputError as error:
            report.error(str(source), error)


def _lines(name: str, hands: list[DetectedHand]) -> str:
    if not hands:
        return f"{name}  no hand found"
    rows = []
    for hand in hands:
        box = " ".join(f"{edge:7.1f}" for edge in hand.box)
        rows.append(f"{name}  {hand.side:5}  score {hand.score:.2f}  box {box}")
    return "\n".join(rows)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.detect", description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="+", metavar="IMAGE|DIR", help="pictures, or folders of them")
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="flax", help="mediapipe: the official library")
    parser.add_argument("--max-hands", type=int, default=2, help="hands to find in a picture at most")
    parser.add_argument("--tiles", action="store_true", help="look for hands down to 24 pixels, slowly")
    parser.add_argument(
        "--box",
        nargs=4,
        type=float,
        action="append",
        metavar=("X0", "Y0", "X1", "Y1"),
        help="read the hand in this box, pixels, instead of looking for hands; repeat for more",
    )
    parser.add_argument("--video", action="store_true", help="inputs are clips: animated pictures, folders of frames")
    parser.add_argument("--rate", type=float, default=30.0, help="frames of a clip a second")
    parser.add_argument("--out", type=command.output_folder, help="folder for pictures with the hands drawn in")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    return parser.parse_args()


if __name__ == "__main__":
    command.run(main)
