"""How fast pictures are scored, as `launch.score` does it: from the file to the item of its JSON document."""

import json
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from handjax.anatomy.head import HandHead
from handjax.errors import InputError
from handjax.images import resize, write_image
from handjax.inference.score import HeadCounter
from handjax.inference.score_pictures import NO_HAND, SCORED, Item, PictureScorer, ScoreOptions
from launch.bench_hands import carried_pictures
from launch.timing import seconds

SIDE, LEAST_SPEED = 512, 12.0
ROUNDS = {SCORED: 16, NO_HAND: 2}
"""How often each carried photograph is among the pictures; those without a hand take many times as long."""
PATCH = 32
"""Side of the patches that pictures are cut into and shuffled by, so that no hand is left in them."""

Picture = UInt8[np.ndarray, "side side 3"]


def bench_speed(runs: int) -> Iterator[dict[str, Any]]:
    """Pictures a second at 512², with one hand and with none, by one process and by one a core.

    Pictures in which no hand is found are looked at again, turned, in tiles and with a lower threshold, and so take
    longer than others.
    """
    scorer, cores = _scorer(), os.cpu_count() or 1
    os.environ.setdefault("NPROC", "1")  # for the JAX of other processes, which read it when they start
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(cores, _start_scorer) as pool,
    ):
        for status, pictures in ((SCORED, _with_hand()), (NO_HAND, _without_hand())):
            pictures = pictures * ROUNDS[status]
            files = [Path(folder) / status / f"{number}.jpg" for number in range(len(pictures))]
            for file, picture in zip(files, pictures, strict=True):
                write_image(file, picture)
            works = {
                "one process": lambda files=files: [_score(scorer, file) for file in files],
                "a process a core": lambda files=files: pool.map(_score_here, files, chunksize=2),
            }
            for words, work in works.items():
                if {item["status"] for items in work() for item in items} != {status}:  # warms up, too
                    raise InputError(f"speed is measured of pictures whose status is {status!r}; these have others")
                speed = len(files) / statistics.median(seconds(work) for _ in range(runs))
                item = {"name": f"files of 512², {status}, {words}", "ours": speed, "unit": "a second"}
                yield item | {"wanted": LEAST_SPEED, "runs": runs, "cores": cores}


def _with_hand() -> list[Picture]:
    return [resize(picture, (SIDE, SIDE)) for picture in carried_pictures()]


def _without_hand() -> list[Picture]:
    """The same pictures, their patches shuffled."""
    cells = SIDE // PATCH
    order = np.random.default_rng(0).permutation(cells**2)
    return [_joined(_patches(picture, cells)[order], cells) for picture in _with_hand()]


def _patches(picture: Picture, cells: int) -> UInt8[np.ndarray, "patches patch patch 3"]:
    return picture.reshape(cells, PATCH, cells, PATCH, 3).swapaxes(1, 2).reshape(-1, PATCH, PATCH, 3)


def _joined(patches: UInt8[np.ndarray, "patches patch patch 3"], cells: int) -> Picture:
    return patches.reshape(cells, cells, PATCH, PATCH, 3).swapaxes(1, 2).reshape(SIDE, SIDE, 3)


def _scorer() -> PictureScorer:
    return PictureScorer(ScoreOptions(), HeadCounter(HandHead.load()))


def _score(scorer: PictureScorer, file: Path) -> list[Item]:
    """The items of a file, written as JSON, too."""
    items = scorer.score(file)
    json.dumps(items)
    return items


_here: PictureScorer


def _start_scorer() -> None:
    global _here
    _here = _scorer()


def _score_here(file: Path) -> list[Item]:
    return _score(_here, file)
