"""What the figures of `launch.bench anatomy` are measured on: frozen sets, and photographs of normal hands."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines.features import open_records
from data_pipelines.malformed.frozen import fingerprint
from data_pipelines.malformed.photos import session
from handjax.errors import InputError
from handjax.images import write_image
from launch import bench_anatomy, stages
from tests.data_pipelines.conftest import prepare


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Folder of three records to test on."""
    return prepare(tmp_path_factory.mktemp("set") / "photos", train=(1,), eval=(100, 101, 102))


@pytest.fixture
def freeze(tmp_path, monkeypatch):
    """Writes the table of frozen sets, with these changes to what the three records are."""
    monkeypatch.setattr(bench_anatomy, "FROZEN", tmp_path / "sets.json")

    def write(folder, **changes):
        found = open_records(folder, "eval")
        table = fingerprint(found[number] for number in range(len(found))) | changes
        (tmp_path / "sets.json").write_text(json.dumps({"rendered": table, "photos": table}))

    return write


@pytest.mark.parametrize("name", ["rendered", "photos"])
def test_a_test_set_is_the_frozen_one_by_its_labels(records, freeze, name):
    freeze(records, pictures_sha256="of another machine")
    assert len(bench_anatomy.test_set(records, "not made", name)) == 3
    freeze(records, labels_sha256="0" * 64)
    with pytest.raises(InputError, match=f"{name}: 3 hands with labels [0-9a-f]+, not the 3 with 0{{12}} of"):
        bench_anatomy.test_set(records, "not made", name)


def test_records_without_a_test_set_are_told(tmp_path):
    folder = prepare(tmp_path / "set", train=(1, 2))
    with pytest.raises(InputError, match="has no test set; remove it, and it is made again"):
        bench_anatomy.test_set(folder, "not made", "photos")


@pytest.mark.parametrize(
    ("name", "source", "only"),
    [("rendered", "malformed:1", ["--splits", "eval"]), ("photos", "malformed-photos:x", [])],
)
def test_a_test_set_that_is_missing_is_made_without_rounding(
    tmp_path, records, freeze, monkeypatch, name, source, only
):
    freeze(records)
    called = []

    def precompute(*words, rounded):
        called.append([*map(str, words), rounded])
        prepare(tmp_path / name, eval=(100, 101, 102))

    monkeypatch.setattr(stages, "run", precompute)
    for _ in range(2):  # the second time it is there
        assert len(bench_anatomy.test_set(tmp_path / name, source, name)) == 3
    assert called == [["precompute", source, *only, "--output", str(tmp_path / name), False]]


def _score(verdict, paper="plausible", complaints=()):
    anatomy = SimpleNamespace(verdict=verdict, paper_verdict=paper, violations=())
    return SimpleNamespace(anatomy=anatomy, count=SimpleNamespace(complaints=complaints), notes=())


def test_false_alarms_are_of_hands_and_apart_for_sessions_that_training_did_not_see(tmp_path):
    paths = [tmp_path / f"{number}/IMG_{number}{shot:02}.JPG" for number in range(10, 30) for shot in range(2)]
    for path in paths:
        write_image(path, np.zeros((8, 8, 3), np.uint8))
    bad, good = _score("implausible", "implausible", ("fused fingers",)), _score("plausible")
    hands = [[bad, good], [_score("unknown"), good], [_score("implausible")], [], [good]]
    photos = {path: hands[number % len(hands)] for number, path in enumerate(paths)}
    items = {item["name"]: item for item in bench_anatomy.bench_false_alarms(tmp_path, photos)}
    strict, paper = items["false alarms, strict"], items["false alarms, paper"]
    # 40 photographs are eight times the five kinds
    assert (strict["part"], strict["of"], strict["unknown"], strict["by_head"]) == (16, 48, 8, 8)
    assert (paper["part"], paper["of"], paper["unknown"], paper["photos_without_hand"]) == (8, 48, 0, 8)
    assert strict["ours"] == pytest.approx(1 / 3) and strict["bound"] == 0.05
    unseen = items["false alarms, strict, photographs that training did not see"]
    sides = bench_anatomy.MalformedPhotoJob(tmp_path).splits()
    held_out = [tmp_path / name.partition(":")[2] for name in sides["eval"]]
    assert 0 < len(held_out) < len(paths) and len({session(path.name) for path in held_out}) == len(held_out) / 2
    assert unseen["of"] == sum(len(photos[path]) for path in held_out)
    assert unseen["part"] == sum(score.anatomy.verdict == "implausible" for path in held_out for score in photos[path])
