"""Draws sheets of painted hands, none of them chosen.

python -m launch.assets.sample_sheets tables docs/images/tables.jpg --workdir TABLES
python -m launch.assets.sample_sheets records docs/images/painted.jpg --records PAINTED PAINTED

Of a folder of `launch.tables`: held-out photographs in a row, and a row for each row of the tables, from the same
noise, but for HandRefiner's, which draws its own for each hand. Of painted records: the mesh that each was asked to
show, the picture, and the labels drawn over it.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data_pipelines.features import open_records
from handjax.errors import InputError
from handjax.hand.draw import draw_skeleton
from handjax.images import decode_image, read_image, resize, write_image
from handjax.record import HandRecord
from launch import command
from launch.paper_tables import rows as settings

SHOWN = (
    settings.MODEL_ALONE,
    settings.PLAIN,
    settings.SE,
    settings.SE_SF_AE,
    settings.SKELETON,
    settings.DEPTH,
    settings.HANDREFINER,
    settings.SGM_WITHOUT_KA,
    settings.SGM,
)
"""The rows of a sheet of the tables, under the photographs."""
COLUMNS = 11
Picture = UInt8[np.ndarray, "height width 3"]


def main() -> None:
    """Writes one of the sheets."""
    parser = argparse.ArgumentParser(
        prog="launch.assets.sample_sheets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["tables", "records"])
    parser.add_argument("out", type=Path, help="the picture to write")
    parser.add_argument("--workdir", type=Path, default=Path("tables"), metavar="DIR", help="of launch.tables")
    parser.add_argument("--records", nargs="+", default=[], metavar="DIR", help="painted records")
    arguments = parser.parse_args()
    drawn = sheet_of_tables(arguments.workdir) if arguments.what == "tables" else sheet_of_records(arguments.records)
    write_image(arguments.out, drawn)


def sheet_of_tables(workdir: Path) -> Picture:
    """Every so many of the pictures of the first test set, by all of `SHOWN`.

    Raises:
      InputError: the folder lacks a row's pictures.
    """
    folders = [workdir / "test0", *(workdir / "painted" / f"{setting.name}-test0-seed0" for setting in SHOWN)]
    names = sorted(path.name for path in folders[0].glob("*.png"))
    names = names[:: max(1, len(names) // COLUMNS)][:COLUMNS]
    if not names:
        raise InputError(f"{workdir}: no pictures of launch.tables; run it with --workdir {workdir}")
    return np.concatenate([np.concatenate([read_image(folder / name) for name in names], axis=1) for folder in folders])


def sheet_of_records(folders: Sequence[str]) -> Picture:
    """Mesh, picture and labels of painted records under each other, the folders' first ones.

    Raises:
      InputError: there are none, or they were not painted.
    """
    columns = list(itertools.islice(map(_column, _records(folders)), 2 * COLUMNS))
    if not columns:
        raise InputError(f"{' '.join(folders) or '--records'}: no records; name folders of painted ones")
    lines = [columns[: len(columns) // 2], columns[len(columns) // 2 :]] if len(columns) > COLUMNS else [columns]
    width = min(map(len, lines))
    return np.concatenate([np.concatenate(line[:width], axis=1) for line in lines])


def _records(folders: Sequence[str]) -> Iterator[HandRecord]:
    for folder, split in itertools.product(folders, ("train", "eval")):
        yield from open_records(folder, split) or ()


def _column(record: HandRecord) -> Picture:
    if record.mesh is None or record.keypoints_2d is None:
        raise InputError(f"{record.id}: neither mesh nor keypoints; name records that launch.generate painted")
    shown, mesh = (decode_image(data, record.id) for data in (record.image, record.mesh))
    picture = resize(shown, mesh.shape[:2])  # that of one of two hands is the part of their picture about it
    keypoints = record.keypoints_2d[:, :2] * len(mesh) / len(shown)
    bones = np.asarray(draw_skeleton(keypoints, *mesh.shape[:2]) * 255, np.uint8)
    return np.concatenate([mesh, picture, np.maximum(picture // 2, bones)])


if __name__ == "__main__":
    command.run(main)
