"""Draws the picture of malformed hands: a column an edit, rendered hands above photographs.

python -m launch.assets.malformed_picture docs/images/malformed.jpg --rendered RECORDS --photos RECORDS
"""

import argparse
import itertools

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from data_pipelines.features import open_records
from data_pipelines.malformed.edits import EDITS
from handjax.errors import InputError
from handjax.images import decode_image, resize, write_image
from launch import command

SIDE, LABEL, ROWS = 120, 14, 2

Picture = UInt8[np.ndarray, "height width 3"]


def main() -> None:
    """Writes the picture: the first hands of each edit in the test sets."""
    parser = argparse.ArgumentParser(prog="launch.assets.malformed_picture", description=__doc__)
    parser.add_argument("out", help="the picture to write")
    parser.add_argument("--rendered", required=True, help="prepared records of malformed:COUNT")
    parser.add_argument("--photos", required=True, help="prepared records of malformed-photos:FOLDER")
    arguments = parser.parse_args()
    blocks = [examples(data) for data in (arguments.rendered, arguments.photos)]
    columns = [column(edit.name, blocks) for edit in EDITS]
    half = len(columns) // 2
    write_image(
        arguments.out, np.concatenate([np.concatenate(row, axis=1) for row in (columns[:half], columns[half:])])
    )


def examples(data: str) -> dict[str, list[Picture]]:
    """The first pictures of each edit in a test set."""
    records = open_records(data, "eval")
    if records is None:
        raise InputError(f"{data}: no held-out records; prepare some with launch.precompute")
    found: dict[str, list[Picture]] = {edit.name: [] for edit in EDITS}
    for record in records:
        pictures = found[record.edit or "none"]
        if len(pictures) < ROWS:
            pictures.append(resize(decode_image(record.image, record.id), (SIDE, SIDE)))
    return found


def column(name: str, blocks: list[dict[str, list[Picture]]]) -> Picture:
    """One edit: its name over its pictures; grey where a set has none."""
    label = Image.new("RGB", (SIDE, LABEL))
    ImageDraw.Draw(label).text((3, 1), name.replace("_", " "), fill="white")
    empty = np.full((SIDE, SIDE, 3), 64, np.uint8)
    pictures = [([*block[name], empty, empty])[:ROWS] for block in blocks]
    return np.concatenate([np.asarray(label), *itertools.chain.from_iterable(pictures)])


if __name__ == "__main__":
    command.run(main)
