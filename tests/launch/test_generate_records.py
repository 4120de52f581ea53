"""`launch.generate --condition mesh` from the command line to the records; the painter is told what to paint."""

import json
import os
import shlex
import sys

import numpy as np
import pytest

from data_pipelines.features import open_records
from data_pipelines.painted import ELSEWHERE, HandPainter
from data_pipelines.rendered import rendered_records
from handjax.errors import ConfigError, InputError
from launch import generate, precompute
from tests.data_pipelines.conftest import prepare

SIZE = 64


class GreyPainter(HandPainter):
    """Paints grey pictures, and finds that every third hand is elsewhere."""

    size = SIZE

    def __init__(self):
        self.__dict__.update(painted=0)

    def __call__(self, pictures, prompts):
        return [np.full((SIZE, SIZE, 3), 128, np.uint8) for _ in pictures]

    def refuse(self, picture, asked):
        self.__dict__["painted"] += 1
        return ELSEWHERE if self.painted % 3 == 0 else None


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command, and in its place the one that it becomes; returns what was printed."""

    def become(program, words):
        assert program == words[0] == sys.executable and words[1:3] == ["-m", "launch.precompute"]
        sys.argv = ["precompute", *words[3:], "--workers", "1"]
        sys.exit(precompute.main())

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["generate", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            generate.main()
        return ended.value.code, capsys.readouterr()

    monkeypatch.setattr(os, "execv", become)
    monkeypatch.setattr(HandPainter, "load", lambda job: GreyPainter())
    (tmp_path / "net").mkdir()
    monkeypatch.chdir(tmp_path)
    return run


def records_of(folder):
    return [record for split in ("train", "eval") for record in open_records(folder, split) or ()]


def test_random_poses_become_records(run, tmp_path):
    status, printed = run("--condition", "mesh", "--poses", "6:3", "--controlnet", "net", "--out", "out", "--json")
    manifest = json.loads(printed.out)["items"][0]
    assert status == 0 and manifest["failures"]["counts"] == {ELSEWHERE: 2} and manifest["pictures"] == 6
    assert sum(manifest["records"].values()) == len(records_of(tmp_path / "out")) == 4
    assert all(record.id.startswith("painted-3-") and record.pose is not None for record in records_of("out"))
    words = shlex.split(printed.err.splitlines()[0])
    assert words[3:] == ["launch.precompute", "painted:6:3", "--output", "out", "--controlnet", "mesh=net", "--json"]


def test_poses_of_records_become_records_of_the_same_splits(run, tmp_path):
    hands = tuple(rendered_records(range(3), 1, SIZE))
    prepare(tmp_path / "hands", train=hands[:2], eval=hands[2:])
    words = ("--condition", "mesh", "--controlnet", "net", "--condition", "depth", "--controlnet", "net")
    numbers = ("--steps", 7, "--control-scale", 0.5, "--guidance-scale", 7.5)
    status, printed = run(*words, "--poses", "hands", "--out", "out", *numbers)
    assert status == 0 and printed.out.splitlines()[-1] == f"out  2 train records, 1 {ELSEWHERE}"
    settings = json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]
    assert (settings["steps"], settings["control_scale"], settings["guidance_scale"]) == (7, 0.5, 7.5)
    assert settings["controlnet"] == ["mesh=net", "depth=net"]
    assert [record.id for record in open_records("out", "train")] == [f"painted-{hand.id}" for hand in hands[:2]]


def test_pictures_of_two_hands_become_two_records_each(run, tmp_path):
    words = ("--condition", "mesh", "--controlnet", "net", "--hands", "2")
    status, printed = run(*words, "--poses", "3:4", "--out", "out", "--json")
    manifest = json.loads(printed.out)["items"][0]
    assert status == 0 and manifest["pictures"] == 3 and manifest["failures"]["counts"] == {ELSEWHERE: 1}
    records = records_of("out")
    assert len(records) == 4 and {record.id[-2:]: record.side for record in records} == {"#0": "right", "#1": "left"}
    assert {record.id[:-2] for record in records} < {f"painted-pair-4-{number:07d}" for number in range(3)}
    for record in records:
        points, camera = record.keypoints_3d[:, :3], record.camera
        seen = camera[:2] * points[:, :2] / points[:, 2:] + camera[2:]
        np.testing.assert_allclose(record.keypoints_2d[:, :2], seen, atol=1e-3)


MESH = ("--condition", "mesh")


@pytest.mark.parametrize(
    "words, said",
    [
        ((*MESH, "--poses", "3"), "--condition mesh: give --controlnet for each condition; there are 0"),
        ((*MESH, "--controlnet", "net"), "--condition mesh: give --poses, COUNT or COUNT:SEED"),
        (("--poses", "3", "--controlnet", "net"), "--poses 3: name what the ControlNet follows, such as --condition"),
        ((*MESH, "--poses", "3", "--controlnet", "net", "--seed", "0"), "which takes no --seed; leave it out"),
        (("--hands", "2", "--controlnet", "net"), "--hands 2: name what the ControlNet follows, such as --condition"),
        (("a fist", *MESH, "--poses", "3", "--controlnet", "net", "--lora", "x"), "takes no prompt, --lora; leave"),
        ((*MESH, "--poses", "3", "--controlnet", "net", "--prompts", "x"), "takes no --prompts; leave it out"),
        (("--condition", "hue", "--poses", "3", "--controlnet", "net"), "name at least one of them, not hue"),
    ],
)
def test_what_does_not_go_together_is_said(run, words, said):
    with pytest.raises(ConfigError, match=said):
        run(*words, "--out", "out")


def test_records_that_are_not_there_or_have_no_poses_are_refused(run, tmp_path):
    words = (*MESH, "--controlnet", "net", "--out", "out", "--poses")
    with pytest.raises(InputError, match="--input nowhere: no such folder"):
        run(*words, "nowhere")
    with pytest.raises(ConfigError, match="--hands 2: is for random poses, COUNT"):
        run(*words, prepare(tmp_path / "posed", train=(3, 4)), "--hands", "2")
    with pytest.raises(InputError, match="write painted:COUNT"):
        run(*words, "0")
    with pytest.raises(InputError, match="no record has a pose of the open hand"):
        run(*words, prepare(tmp_path / "unposed", train=(3, 4)))
