"""Draws the pictures of MGHanD.

python -m launch.assets.mghand_picture sheet docs/images/mghand.jpg
python -m launch.assets.mghand_picture sweeps docs/images/mghand_sweeps.png --figures docs/benchmarks/mghand_sweeps.json

The sheet has the embedded model's pictures from the same noise, a row for each: unguided, visual guidance, textual
guidance, both, and the mask of both over the picture, the darker the later a pixel joined it. The frame is what
MediaPipe's own runtime says of the hand: green is plausible, red implausible, grey no hand or unknown. Seeds in order,
none left out.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure

from handjax.errors import InputError
from handjax.images import write_image
from handjax.perception import HandDetector
from launch import command
from launch.assets.guide_picture import FRAME, framed, judge
from launch.bench_guidance import make_pictures
from launch.bench_mghand import VARIANTS, draw_wishes, load_pair, make, with_settings
from launch.guidance_plot import draw_log

ROWS, ACROSS = 12, 2
SHOWN = ("visual", "textual", "both")
MASK_COLOR = np.array([0, 120, 255])
FIGURES = {"change of confidence": "change of confidence", "implausible (keypoints)": "implausible by keypoints"}
SWEPT = {
    "textual": "v (textual alone)",
    "visual": "w (visual alone)",
    "threshold": "detector threshold",
    "cap": "cap of the mask",
    "every": "n",
}


def main() -> None:
    """Writes one of the pictures."""
    parser = argparse.ArgumentParser(
        prog="launch.assets.mghand_picture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["sheet", "sweeps"])
    parser.add_argument("out", type=Path, help="the picture to write")
    parser.add_argument("--figures", type=Path, metavar="FILE", help="of launch.bench mghand_sweeps")
    parser.add_argument("--rows", type=int, default=ROWS, help="of the sheet")
    arguments = parser.parse_args()
    if arguments.what == "sheet":
        write_image(arguments.out, draw_sheet(arguments.rows))
    else:
        draw_sweeps(read_figures(arguments.figures, "mghand_sweeps"), arguments.out)


def draw_sheet(rows: int) -> UInt8[np.ndarray, "height width 3"]:
    """Pictures of the first wishes of the benchmark, two of them beside each other."""
    plain, guided = load_pair()
    wishes, detector = draw_wishes(rows * ACROSS), HandDetector.load("mediapipe", max_hands=1)
    columns = [[framed(image, judge(image, detector)) for image in make_pictures(plain, wishes, "none")]]
    for name in SHOWN:
        made = make(with_settings(guided, **VARIANTS[name]), wishes, name)
        columns.append([framed(one.image, judge(one.image, detector)) for one in made])
    columns.append([masked(one.image, one.seen) for one in made])
    tiles = [np.concatenate(tile, axis=1) for tile in zip(*columns, strict=True)]
    return np.concatenate([np.concatenate(tiles[n : n + ACROSS], axis=1) for n in range(0, len(tiles), ACROSS)])


def masked(image: UInt8[np.ndarray, "side side 3"], seen: Int[np.ndarray, "side side"]) -> UInt8[np.ndarray, "_ _ 3"]:
    """The mask in colour over a picture; pixels that were in it longest are lightest."""
    late = 1 - seen / max(seen.max(), 1)
    weight = np.where(seen > 0, 0.25 + 0.5 * late, 0)[..., None]
    mixed = np.round((1 - weight) * image + weight * MASK_COLOR).astype(np.uint8)
    return np.pad(mixed, ((FRAME, FRAME), (FRAME, FRAME), (0, 0)), constant_values=255)


def read_figures(path: Path | None, benchmark: str) -> dict[str, dict[str, Any]]:
    """Items of a benchmark by name.

    Raises:
      InputError: the file is missing or another.
    """
    try:
        return {item["name"]: item for item in json.loads(Path(path or "").read_text())["items"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no figures of launch.bench {benchmark} ({error}); name them with --figures"
        ) from error


def draw_sweeps(items: dict[str, dict[str, Any]], path: Path) -> None:
    """Draws the change of confidence and implausible hands over each setting, and the guide's log over the steps.

    Dashed is the unguided: no change, and its implausible hands.
    """
    figure = Figure(figsize=(18, 6.4), layout="constrained")
    axes = figure.subplots(2, len(SWEPT) + 1)
    for column, (setting, label) in enumerate(SWEPT.items()):
        for row, (figures, words) in enumerate(FIGURES.items()):
            found = sorted(
                (float(name.partition("=")[2].partition(",")[0]), item)
                for name, item in items.items()
                if name.startswith(f"mghand {setting}=") and name.endswith(figures) and item["ours"] is not None
            )
            values, points = zip(*found, strict=True)
            middle = [item["ours"] for item in points]
            bars = np.abs(np.array([item["interval_95"] for item in points]).T - middle)
            axes[row, column].errorbar(values, middle, bars, marker="o", capsize=3)
            unguided = 0.0 if figures == "change of confidence" else items[f"mghand none, {figures}"]["ours"]
            axes[row, column].axhline(unguided, color="grey", linestyle="--")
            axes[row, column].set(xlabel=label, ylabel=words)
    draw_log(axes[:, -1], items["mghand both, by step"])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    command.run(main)
