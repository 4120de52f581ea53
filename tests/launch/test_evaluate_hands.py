"""The suite on pictures whose hands a stand-in detector reads from their pixels."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from handjax.images import write_image
from handjax.metrics.features import FeatureExtractor
from handjax.perception import DetectedHand
from launch import evaluate, evaluate_hands

SIDE = 64
SHAPE = np.random.default_rng(3).uniform(0, 20, (21, 3)).astype(np.float32)


def detect(image):
    """A hand right of and below each white pixel."""
    places = np.argwhere((image == 255).all(axis=-1))
    return [
        DetectedHand.from_landmarks("right", 0.8, SHAPE + np.float32([x, y, 0]), SHAPE / 100)
        for y, x in places.tolist()
    ]


@pytest.fixture
def run(monkeypatch, capsys):
    extractor = FeatureExtractor("Mean", lambda image: image, lambda images: images.mean(axis=(1, 2)))
    monkeypatch.setattr(evaluate_hands, "make_extractor", lambda name, weights: extractor)
    monkeypatch.setattr(evaluate_hands.HandDetector, "load", lambda backend, most: SimpleNamespace(detect=detect))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["launch.evaluate", "--suite", "hands", *map(str, arguments)])
        return evaluate.main(), capsys.readouterr()

    return run


@pytest.fixture
def folders(tmp_path):
    """Forty pairs; a hand is moved by (3, 4) pixels in the first thirty and missing in the others."""
    rng = np.random.default_rng(0)
    for number in range(40):
        x, y = rng.integers(5, 30, 2)
        for name, place in (("real", (y, x)), ("made", (y + 4, x + 3))):
            image = rng.integers(0, 200, (SIDE, SIDE, 3), np.uint8)
            if name == "real" or number < 30:
                image[place] = 255
            write_image(tmp_path / name / f"{number:02}.png", image)
    return tmp_path / "made", tmp_path / "real"


def test_figures_of_hands_and_of_their_crops(run, folders, tmp_path):
    made, real = folders
    write_image(made / "alone.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    for folder, side in ((made, SIDE), (real, SIDE // 2)):
        write_image(folder / "resized.png", np.zeros((side, side, 3), np.uint8))
    status, output = run("--data", made, "--reference", real, "--json", "--out", tmp_path / "out")
    document = json.loads(output.out)
    assert status == 2
    alone, resized = (error["error"] for error in document["errors"])
    assert "no picture of this name" in alone and "64x64 and 32x32" in resized
    figures = {item["name"]: item for item in document["items"]}
    assert figures["detection_rate"]["value"] == figures["hand_probability"]["value"] == 0.75
    assert figures["mpjpe_2d_px_self"]["value"] == pytest.approx(5)
    assert figures["mse_3d_cm2_self"]["value"] == 0
    assert figures["hand_confidence_misses_0"]["value"] == pytest.approx(0.6)
    assert figures["FD-H (Mean)"]["pictures"] == 40 and {"FD-H (Mean)", "KID-H (Mean)"} < set(figures)
    assert {item["unusable"] for item in document["items"]} == {2}
    assert json.loads((tmp_path / "out/figures.json").read_text())["figures"] == document["items"]


def test_each_found_hand_is_that_of_one_wanted_hand(run, folders):
    """Two hands are wanted and one is there, closer to the second; then both, the other way round."""
    _, real = folders
    for path in list(real.iterdir()):
        number = int(path.stem)
        wanted, made = (np.random.default_rng(9).integers(0, 200, (SIDE, SIDE, 3), np.uint8) for _ in range(2))
        wanted[5, 5] = wanted[5, 35] = 255
        made[5, 36] = 255
        if number % 2:
            made[5, 8] = 255
        write_image(real.parent / "two" / path.name, wanted)
        write_image(real.parent / "one" / path.name, made)
    _, output = run("--data", real.parent / "one", "--reference", real.parent / "two", "--json")
    figures = {item["name"]: item["value"] for item in json.loads(output.out)["items"]}
    assert figures["detection_rate"] == 0.75 and figures["hand_probability"] == 1
    assert figures["mpjpe_2d_px_self"] == pytest.approx((1 + 1 + 3) / 3)


def test_pictures_are_paired_below_their_folders_and_masks_left_out(run, folders):
    made, real = folders
    for folder in (made, real):
        for path in list(folder.iterdir()):
            for below in ("a", "b"):
                write_image(folder / below / path.name, evaluate_hands.read_image(path))
                write_image(folder / below / f"{path.stem}_mask.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    status, output = run("--data", made, "--reference", real, "--json")
    document = json.loads(output.out)
    assert status == 0 and not document["errors"]
    assert {item["name"]: item.get("pictures") for item in document["items"]}["hand_probability"] == 120


def test_crops_are_cut_at_the_references_hands(run, folders):
    """Pictures that differ outside the hands only have crops at no distance, whichever hands the pictures show."""
    _, real = folders
    for path in list(real.iterdir()):
        image = evaluate_hands.read_image(path).copy()
        image[60:, 60:] = 0
        write_image(real.parent / "copy" / path.name, image)
    _, output = run("--data", real.parent / "copy", "--reference", real, "--json")
    figures = {item["name"]: item["value"] for item in json.loads(output.out)["items"]}
    assert figures["FD-H (Mean)"] == pytest.approx(0, abs=1e-3) and figures["mpjpe_2d_px_self"] == 0


def test_lines_for_people(run, folders):
    made, real = folders
    _, output = run("--data", made, "--reference", real)
    lines = output.out.splitlines()
    assert lines[0].startswith("detection_rate") and lines[0].endswith("of 40 hands")
    assert lines[-1].startswith("KID-H (Mean)")


def test_too_few_hands_for_a_distance_have_their_other_figures(run, folders, tmp_path):
    made, real = folders
    for path in list(real.iterdir())[5:]:
        path.unlink()
    status, output = run("--data", made, "--reference", real, "--json", "--out", tmp_path / "out")
    document = json.loads(output.out)
    assert status == 2 and "5 readable pictures are too few" in document["errors"][-1]["error"]
    figures = {item["name"]: item for item in document["items"]}
    assert not any("-H" in name for name in figures) and figures["hand_probability"]["pictures"] == 5
    assert {item["unusable"] for item in document["items"]} == {35}
    settings = json.loads((tmp_path / "out/figures.json").read_text())["settings"]
    assert (settings["crop_scale"], settings["margin"], settings["backend"]) == (1.6, 0.25, "flax")
