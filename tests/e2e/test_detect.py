import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from handjax.perception.detector import TASK_FILE

PHOTO = TASK_FILE.parent / "photos" / "nocurl.jpg"


def _detect(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "launch.detect", *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_a_batch_with_bad_pictures_goes_on_and_exits_with_2(tmp_path):
    damaged, empty = tmp_path / "damaged.jpg", tmp_path / "empty.png"
    damaged.write_bytes(PHOTO.read_bytes()[:3000])
    empty.touch()
    Image.fromarray(np.full((50, 80, 3), 127, np.uint8)).save(tmp_path / "grey.png")
    result = _detect(tmp_path / "absent.jpg", tmp_path, PHOTO, "--json", "--out", tmp_path / "out")
    assert result.returncode == 2
    document = json.loads(result.stdout)
    assert document["command"] == "detect"
    assert [error["input"] for error in document["errors"]] == [
        str(tmp_path / "absent.jpg"),
        str(damaged),
        str(empty),
        str(tmp_path / "grey.png"),
    ]
    grey, photo = document["items"]
    assert grey == {"input": str(tmp_path / "grey.png"), "width": 80, "height": 50, "hands": []}
    assert (photo["width"], photo["height"]) == Image.open(PHOTO).size
    (hand,) = photo["hands"]
    assert hand["side"] in ("left", "right") and 0.5 <= hand["score"] <= 1
    assert np.shape(hand["box"]) == (4,) and np.shape(hand["keypoints"]) == np.shape(hand["world"]) == (21, 3)
    assert result.stderr.count("error: ") == 4 and "Traceback" not in result.stderr
    overlay = next((tmp_path / "out").rglob("nocurl.jpg.png"))
    assert Image.open(overlay).size == Image.open(PHOTO).size


def test_lines_for_people(tmp_path):
    result = _detect(PHOTO)
    assert result.returncode == 0
    assert result.stdout.startswith(str(PHOTO)) and "score" in result.stdout


@pytest.mark.slow
def test_clips_are_followed_and_drawn_frame_by_frame(tmp_path):
    photo = Image.open(PHOTO).convert("RGB").resize((240, 320))
    frames = [photo.transform(photo.size, Image.Transform.AFFINE, (1, 0, -3 * i, 0, 1, 0)) for i in range(4)]
    frames[0].save(tmp_path / "clip.webp", save_all=True, append_images=frames[1:], quality=90)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames[:2]):
        frame.save(tmp_path / "frames" / f"{number}.png")
    sources = tmp_path / "clip.webp", tmp_path / "frames"
    result = _detect(*sources, tmp_path / "absent.gif", "--video", "--json", "--out", tmp_path / "out")
    assert result.returncode == 2 and result.stderr.count("error: ") == 1
    items = json.loads(result.stdout)["items"]
    assert [item["frame"] for item in items] == [0, 1, 2, 3, 0, 1]
    assert [[hand["track"] for hand in item["hands"]] for item in items] == [[0]] * 6
    assert len(list((tmp_path / "out" / "clip.webp").glob("*.png"))) == 4
    assert len(list((tmp_path / "out" / "frames").glob("*.png"))) == 2


def test_a_box_overrides_detection():
    result = _detect(PHOTO, "--json", "--box", 217, 107, 373, 559)
    (hand,) = json.loads(result.stdout)["items"][0]["hands"]
    np.testing.assert_allclose(hand["box"], [217, 107, 373, 559], atol=45)
    result = _detect(PHOTO, "--box", 5, 5, 5, 5)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
