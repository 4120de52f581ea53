import json
import subprocess
import sys

import numpy as np
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
