"""The suite on pictures whose hands a stand-in detector reads from their pixels."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from handjax.images import find_images, read_image, write_image
from handjax.metrics.features import FeatureExtractor
from handjax.perception import DetectedHand, HandDetector
from handjax.perception.detector import TASK_FILE
from handjax.recovery.files import save_recovery
from launch import evaluate, evaluate_hands
from tests.recovery.tiny_models import random_model

ASSETS = TASK_FILE.parent

SIDE = 64
SHAPE = np.random.default_rng(3).uniform(0, 20, (21, 3)).astype(np.float32)


def detect(image):
    """A hand right of and below each white pixel."""
    places = np.argwhere((image == 255).all(axis=-1))
    return [
        DetectedHand.from_landmarks("right", 0.8, SHAPE + np.float32([x, y, 0]), SHAPE / 100)
        for y, x in places.tolist()
    ]


def read(image, boxes):
    """The shape at a box, moved by what the picture's corner pixel says: a reading that needs no hand."""
    x, y = boxes[0, :2] - SHAPE[:, :2].min(axis=0) + image[0, 0, :2]
    return [DetectedHand.from_landmarks("right", 0.6, SHAPE + np.float32([x, y, 0]), SHAPE / 100)]


@pytest.fixture
def run(monkeypatch, capsys):
    extractor = FeatureExtractor("Mean", lambda image: image, lambda images: images.mean(axis=(1, 2)))
    monkeypatch.setattr(evaluate_hands, "make_extractor", lambda name, weights: extractor)
    monkeypatch.setattr(evaluate_hands.HandDetector, "load", lambda *_: SimpleNamespace(detect=detect, read=read))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["launch.evaluate", "--suite", "hands", *map(str, arguments)])
        return evaluate.main(), capsys.readouterr()

    return run


@pytest.fixture
def folders(tmp_path):
    """Forty pairs; a hand is moved by (3, 4) pixels in the first thirty and missing in the others.

    In the box of the photograph's hand, what is read is off by twice that, by (6, 8) pixels, whatever is to be seen.
    """
    rng = np.random.default_rng(0)
    for number in range(40):
        x, y = rng.integers(5, 30, 2)
        for name, place in (("real", (y, x)), ("made", (y + 4, x + 3))):
            image = rng.integers(0, 200, (SIDE, SIDE, 3), np.uint8)
            if name == "real" or number < 30:
                image[place] = 255
            image[0, 0] = 0 if name == "real" else (6, 8, 0)
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
    assert figures["mpjpe_2d_px_self"]["value"] == pytest.approx(10) and figures["mpjpe_2d_px_self"]["hands"] == 40
    assert figures["mpjpe_2d_box_self"]["value"] == pytest.approx(10 / np.ptp(SHAPE[:, :2], axis=0).max())
    assert figures["mse_2d_px2_self"]["value"] == pytest.approx((9 + 16) / 2)
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
    assert figures["mse_2d_px2_self"] == pytest.approx((1 + 1 + 9) / 3 / 2)


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


def test_position_errors_are_those_of_two_readings_in_one_box():
    """Each judge has its own error in every keypoint; the box of the wanted hand is all that both are told."""
    picture, reference = np.random.default_rng(0).integers(0, 9, (2, SIDE, SIDE, 3), np.uint8)
    hand = DetectedHand.from_landmarks("left", 0.8, SHAPE + 7, SHAPE)
    told, moves = [], np.random.default_rng(1).normal(size=(2, 21, 2))

    def reader(move):
        def read(image, place):
            told.append((image is picture, place))
            return place.keypoints[:, :2] + move * image[0, 0, 0]

        return read

    readers = {"self": reader(moves[0]), "mesh": reader(moves[1])}
    errors = evaluate_hands.read_errors(readers, (picture, reference), hand)
    apart = float(picture[0, 0, 0]) - float(reference[0, 0, 0])
    for name, move in zip(readers, moves, strict=True):
        wanted = sum(np.hypot(*(point * apart)) for point in move) / 21
        assert errors[name] == pytest.approx(wanted, rel=1e-6) and apart
    assert told == [(False, hand), (True, hand)] * 2


@pytest.mark.slow
def test_the_landmark_network_reads_a_moved_hand_as_moved():
    """A photograph moved by a tenth of the hand's box and read in the box where it was; readings tremble."""
    (photo, *_) = find_images([ASSETS / "photos"])
    image = read_image(photo)
    hand = max(HandDetector.load().detect(image), key=lambda hand: hand.score)
    side = max(hand.box[2:] - hand.box[:2])
    down, right = (round(share * float(side)) for share in (0.08, 0.06))
    moved = np.pad(image, ((down, 0), (right, 0), (0, 0)), mode="edge")[: len(image), : image.shape[1]]
    readers = evaluate_hands.make_readers()
    assert evaluate_hands.read_errors(readers, (image, image), hand) == {"self": 0}
    error = evaluate_hands.read_errors(readers, (moved, image), hand)["self"]
    assert error == pytest.approx(np.hypot(down, right), abs=0.05 * float(side))


def test_a_network_of_meshes_judges_without_being_told_keypoints(tmp_path):
    """It sees what is in the square, whose middle and side the keypoints give, and nothing else of them."""
    save_recovery(random_model(), tmp_path)
    read = evaluate_hands.make_readers(tmp_path)["mesh"]
    image = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    hand = DetectedHand.from_landmarks("right", 0.8, SHAPE + 20, SHAPE)
    inner = hand.keypoints.copy()
    least, most = inner[:, :2].argmin(axis=0), inner[:, :2].argmax(axis=0)
    inner[[number for number in range(21) if number not in {*least, *most}], :2] = inner[:, :2].mean(axis=0)
    others = DetectedHand.from_landmarks("right", 0.8, inner, SHAPE)
    assert (hand.box == others.box).all() and (hand.keypoints != others.keypoints).sum() > 30
    keypoints = read(image, hand)
    np.testing.assert_array_equal(keypoints, read(image, others))
    assert keypoints.shape == (21, 2) and np.abs(keypoints - read(255 - image, hand)).max() > 1e-3


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
    assert settings["detection_threshold"] == 0.5 and "score of the side" in settings["hand_confidence"]
