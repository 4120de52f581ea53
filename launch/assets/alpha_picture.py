"""Draws what SesaHand's bias α changes, from the figures of `launch.bench sesahand_alpha`.

python -m launch.assets.alpha_picture docs/images/sesahand_alpha.png --figures docs/benchmarks/sesahand_alpha.json

Each figure over α with its 95 % interval; below it the change from no bias, picture by picture.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from launch import command
from launch.assets.mghand_picture import read_figures
from launch.bench_sesahand_alpha import ALPHAS

ROWS = (
    {
        "hands found": "hands found",
        "confidence, misses 0": "confidence, misses 0",
        "implausible (whole)": "implausible, of judged",
        "mpjpe_2d_px_self": "MPJPE, px",
    },
    {
        "change of hands found": "change",
        "change of confidence": "change",
        "reduction of implausible hands (whole)": "fewer, of judged both times",
        "change of mpjpe_2d_px_self": "change, px",
    },
)


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(prog="launch.assets.alpha_picture", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the picture to write")
    parser.add_argument("--figures", type=Path, metavar="FILE", help="of launch.bench sesahand_alpha")
    arguments = parser.parse_args()
    draw(read_figures(arguments.figures, "sesahand_alpha"), arguments.out)


def draw(items: dict[str, dict[str, Any]], path: Path) -> None:
    """Draws the panels; a figure that is not known is left out."""
    figure = Figure(figsize=(13, 6), layout="constrained")
    for axes, figures in zip(figure.subplots(2, len(ROWS[0])), ROWS, strict=True):
        for panel, (name, label) in zip(axes, figures.items(), strict=True):
            found = [(alpha, items.get(f"alpha={alpha:g}, {name}", {"ours": None})) for alpha in ALPHAS]
            known = [(alpha, item["ours"], *item["interval_95"]) for alpha, item in found if item["ours"] is not None]
            alphas, values, low, high = np.array(known).reshape(-1, 4).T
            panel.errorbar(alphas, values, (values - low, high - values), marker="o", capsize=3)
            panel.set(xlabel="α", ylabel=label)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    command.run(main)
