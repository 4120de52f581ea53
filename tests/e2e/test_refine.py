"""`launch.refine` as a user runs it, on the embedded model."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import handjax
import launch.refine
from handjax.errors import UserError
from handjax.images import read_image, write_image
from launch.refine import unique_names

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"
QUICK = ("--steps", "3", "--candidates", "1")


def refine(*arguments):
    words = [sys.executable, "-m", "launch.refine", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_batch_with_bad_pictures_goes_on(tmp_path):
    write_image(tmp_path / "blank.png", np.full((90, 70, 3), 200, np.uint8))
    (tmp_path / "text.jpg").write_text("no picture")
    out = tmp_path / "out"
    pictures = (tmp_path / "absent", tmp_path / "text.jpg", tmp_path / "blank.png", PHOTOS / "nocurl.jpg")
    result = refine(*pictures, "--out", out, "--json", *QUICK)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    document = json.loads(result.stdout)
    assert document["command"] == "refine"
    assert [Path(error["input"]).name for error in document["errors"]] == ["absent", "text.jpg", "blank.png"]

    blank, photo = document["items"]
    assert blank["output"] is None and blank["hands"][0]["status"] == "not_found"
    assert photo["hands"][0]["status"] in ("fixed", "failed") and len(photo["hands"][0]["box"]) == 4
    before, after = read_image(PHOTOS / "nocurl.jpg"), read_image(photo["output"])
    mask = read_image(photo["mask"])[..., 0] > 0
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert mask.any() == any(hand["status"] == "fixed" for hand in photo["hands"])
    assert sorted(path.name for path in out.iterdir()) == ["nocurl.png", "nocurl_mask.png"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--model", "nowhere"), "nowhere: no model_index.json"),
        (("--adapter", "nowhere"), "nowhere: no config.json"),
        (("--steps", "0"), "--steps is 0"),
        (("--method", "handrefiner"), "--method handrefiner needs --adapter"),
        (
            ("--method", "controlnet", "--condition", "skeleton"),
            "--method controlnet needs --adapter: a ControlNet of s",
        ),
        (("--method", "controlnet"), "--method controlnet needs --condition depth or skeleton"),
        (("--method", "handrefiner", "--condition", "skeleton"), "which no other method takes"),
        (("--control-scale", "0.5"), "--control-scale is of no use to --method sgm"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_any_work(tmp_path, monkeypatch, arguments, words):
    command = ["launch.refine", str(PHOTOS / "nocurl.jpg"), "--out", str(tmp_path / "out"), *arguments]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(UserError, match=re.escape(words)) as refused:
        launch.refine.main()
    assert "\n" not in str(refused.value) and not (tmp_path / "out").exists()


def test_a_picture_is_never_replaced_by_its_result(tmp_path):
    shutil.copy(PHOTOS / "nocurl.jpg", tmp_path / "photo.jpg")
    picture = tmp_path / "photo.png"
    write_image(picture, read_image(PHOTOS / "nocurl.jpg")[::4, ::4])
    before = picture.read_bytes()
    result = refine(picture, "--out", tmp_path, *QUICK)
    assert result.returncode == 2 and "its result would replace it" in result.stderr
    assert picture.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


def test_results_that_would_share_a_name_are_numbered():
    paths = [Path(name) for name in ("a.jpg", "a.png", "a-2.jpg", "x.jpg", "x_mask.jpg")]
    assert unique_names(paths) == ["a", "a-2", "a-2-2", "x", "x_mask-2"]
