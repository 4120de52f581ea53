"""Rows of speed, by a scorer that says what it is told; nothing is started."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from handjax.errors import InputError
from handjax.images import read_image
from launch import bench_anatomy_speed as speed

SECONDS = 0.02


class Here:
    """A pool of this process."""

    def __init__(self, cores, start):
        start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def map(self, function, files, chunksize):
        return [function(file) for file in files]


@pytest.fixture
def scored(monkeypatch):
    """Files that were scored, each in `SECONDS`, with the status that their folder is named after."""
    files = []

    def score(file):
        files.append(file)
        assert read_image(file).shape == (speed.SIDE, speed.SIDE, 3)
        time.sleep(SECONDS)
        return [{"status": file.parent.name}]

    monkeypatch.setattr(speed, "ROUNDS", dict.fromkeys(speed.ROUNDS, 1))
    monkeypatch.setattr(speed, "_scorer", lambda: SimpleNamespace(score=score))
    monkeypatch.setattr(speed.multiprocessing, "get_context", lambda _: SimpleNamespace(Pool=Here))
    monkeypatch.setenv("NPROC", os.environ.get("NPROC", "1"))
    return files


def test_files_with_and_without_a_hand_are_timed_after_a_first_time(scored):
    items = {item["name"]: item for item in speed.bench_speed(runs=2)}
    assert [name.partition(", ")[2] for name in items] == [
        f"{status}, {words}" for status in ("scored", "no hand found") for words in ("one process", "a process a core")
    ]
    assert all(0 < item["ours"] < 1 / SECONDS and item["runs"] == 2 for item in items.values())
    pictures = {Path(file.parent.name) / file.name for file in scored}
    assert len(scored) == 3 * 2 * len(pictures)  # first and two runs, of both ways


def test_pictures_of_another_status_give_no_speed(scored, monkeypatch):
    monkeypatch.setattr(speed, "_scorer", lambda: SimpleNamespace(score=lambda file: [{"status": "scored"}]))
    with pytest.raises(InputError, match="whose status is 'no hand found'; these have others"):
        list(speed.bench_speed(runs=1))
