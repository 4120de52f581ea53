"""Draws the pictures of mesh recovery, of held-out records in their order, none left out.

python -m launch.assets.recovery_picture --data records --out docs/images

recovery.jpg has each hand beside the mesh that is read from the picture alone. recovery_ranks.jpg has the meshes of the
tokens of other ranks than the first (MMHMR Figs. 10, 17). recovery_points.jpg has the points of the feature maps that
the last layer of the synthesiser looks at, a column a finger, red for its first joint, yellow and white for the others
(Fig. 16).
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from handjax.hand.mano import load_hand
from handjax.images import write_image
from handjax.inference.explain import Explainer
from handjax.recovery.files import ASSET, load_recovery
from launch import command, evaluate_recovery
from launch.evaluate_recovery import held_out_batches

HANDS, ACROSS, FEW = 48, 8, 6
"""In the sheet, of which so many stand beside each other; in the other two pictures."""


def main() -> None:
    """Writes the three pictures."""
    parser = argparse.ArgumentParser(prog="launch.assets.recovery_picture", description=__doc__)
    parser.add_argument("--data", required=True, help="prepared records, of which the held-out split is shown")
    parser.add_argument("--model", type=Path, default=ASSET, metavar="DIR", help="exported weights of mmhmr.py")
    parser.add_argument("--hand-model", default="", metavar="FILE", help="MANO file of weights that know MANO")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the pictures")
    arguments = parser.parse_args()
    explainer = Explainer(load_recovery(arguments.model), load_hand(arguments.hand_model))
    batches, count = held_out_batches(explainer.model, explainer.fixed.hand, arguments.data, HANDS)
    needed = -(-count // evaluate_recovery.BATCH)
    images = np.concatenate([batch["image"] for batch in itertools.islice(batches, needed)])[:count]
    no_cue = np.zeros((count, 21, 3), np.float32)
    tiles = np.concatenate([explainer.plain(images), explainer.meshes(images, no_cue)], axis=2)
    write_image(arguments.out / "recovery.jpg", _grid(tiles, ACROSS // 2))
    write_image(arguments.out / "recovery_ranks.jpg", _grid(explainer.less_likely(images[:FEW], no_cue[:FEW]), 1))
    write_image(arguments.out / "recovery_points.jpg", _grid(explainer.looks(images[:FEW], no_cue[:FEW]), 1))


def _grid(tiles: UInt8[np.ndarray, "n height width 3"], across: int) -> UInt8[np.ndarray, "_ _ 3"]:
    """Rows of tiles; what does not fill a row is left out."""
    across = min(across, len(tiles))
    starts = range(0, len(tiles) - across + 1, across)
    return np.concatenate([np.concatenate(list(tiles[start : start + across]), axis=1) for start in starts])


if __name__ == "__main__":
    command.run(main)
