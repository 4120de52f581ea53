"""The table of `launch.score`: one row a hand, and one for each picture without."""

import csv
from collections.abc import Iterable
from pathlib import Path

from handjax.files import atomic_write
from handjax.inference.score_pictures import Item

_PICTURE = ("input", "frame", "status", "error", "width", "height", "found_by")
_HAND = ("track", "side", "score", "s_anat", "verdict", "paper_verdict", "fingers")
COLUMNS = ("set", *_PICTURE, "hand", *_HAND, "x0", "y0", "x1", "y1", "violations", "notes")


def write_csv(path: Path, items: Iterable[tuple[str, Item]]) -> None:
    """Writes the name of its set and each item, row by row, atomically."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        for name, item in items:
            picture = {"set": name} | {column: item[column] for column in _PICTURE if column in item}
            if not item["hands"]:
                writer.writerow(picture | {"notes": "; ".join(item["notes"])})
            for number, hand in enumerate(item["hands"]):
                row = {column: hand[column] for column in _HAND if column in hand}
                row |= dict(zip(("x0", "y0", "x1", "y1"), hand["box"], strict=True))
                row["violations"] = "; ".join(hand["violations"])
                row["notes"] = "; ".join([*hand["notes"], *item["notes"]])
                writer.writerow(picture | {"hand": number} | row)
