import functools
import importlib.util
import json
import sys

import numpy as np
import pytest
from scipy import linalg

from handjax.errors import BackendError, ConfigError, InputError
from handjax.images import write_image
from handjax.metrics.features import FeatureExtractor
from handjax.metrics.inception_score import inception_score
from handjax.metrics.streaming import FeatureStream
from launch import evaluate, evaluate_distance


@pytest.fixture
def folders(tmp_path):
    """Thirty and forty pictures of other noise, one file in each that is no picture."""
    rng = np.random.default_rng(0)
    for name, count, most in (("made", 30, 200), ("real", 40, 256)):
        for number in range(count):
            write_image(tmp_path / name / f"{number:02}.png", rng.integers(0, most, (64, 48, 3), np.uint8))
        (tmp_path / name / "broken.png").write_bytes(b"no picture")
    return tmp_path / "made", tmp_path / "real"


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["launch.evaluate", *map(str, arguments)])
        status = evaluate.main()
        return status, capsys.readouterr()

    return run


def _mean_colours(images):
    return images.reshape(len(images), -1, 3).mean(axis=1)


@pytest.fixture
def small_extractor(monkeypatch):
    extractor = FeatureExtractor("Mean", lambda image: image[:48, :48], _mean_colours)
    monkeypatch.setattr(evaluate_distance, "make_extractor", lambda name, weights: extractor)


def test_figures_counts_and_file(folders, run, small_extractor, tmp_path):
    made, real = folders
    flags = "--suite", "distance", "--data", made, "--reference", real, "--seed", 3, "--out", tmp_path / "out"
    status, output = run(*flags, "--json")
    assert status == 2 and output.err.count("error: ") == 2
    document = json.loads(output.out)
    assert [error["input"] for error in document["errors"]] == [str(made / "broken.png"), str(real / "broken.png")]
    fd, kid = document["items"]
    rng = np.random.default_rng(0)
    x, y = (
        np.stack([rng.integers(0, most, (64, 48, 3), np.uint8)[:48].mean(axis=(0, 1)) for _ in range(count)])
        for count, most in ((30, 200), (40, 256))
    )
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    step = x.mean(axis=0) - y.mean(axis=0)
    assert fd["name"] == "FD (Mean)" and kid["name"] == "KID (Mean)"
    assert fd["value"] == pytest.approx(step @ step + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real), rel=1e-6)
    for item in (fd, kid):
        low, high = item["interval_95"]
        assert low < item["value"] < high and low > 0.9 * item["value"]
        counts = {name: item[name] for name in ("pictures", "reference_pictures", "unreadable", "reference_unreadable")}
        assert list(counts.values()) == [30, 40, 1, 1]
    kept = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert kept["figures"] == document["items"] and kept["settings"]["seed"] == 3
    assert json.loads(run(*flags, "--json")[1].out)["items"] == document["items"]


def test_of_a_large_folder_a_sample_is_kept_and_fd_is_of_all(folders, run, small_extractor, monkeypatch):
    made, real = folders
    flags = "--suite", "distance", "--data", made, "--reference", real, "--json"
    fd, kid = json.loads(run(*flags)[1].out)["items"]
    assert (fd["sampled"], fd["reference_sampled"]) == (30, 40)
    monkeypatch.setattr(evaluate_distance, "FeatureStream", functools.partial(FeatureStream, most=35))
    sampled_fd, sampled_kid = json.loads(run(*flags)[1].out)["items"]
    assert (sampled_fd["sampled"], sampled_fd["reference_sampled"], sampled_fd["reference_pictures"]) == (30, 35, 40)
    assert sampled_fd["value"] == fd["value"] and sampled_kid["value"] != kid["value"]


def test_inception_scores_of_an_extractor_with_classes(folders, run, monkeypatch):
    made, real = folders
    classes = np.eye(3, 4) / 50
    extractor = FeatureExtractor("Mean", lambda image: image[:48, :48], _mean_colours, "FID", classes)
    monkeypatch.setattr(evaluate_distance, "make_extractor", lambda name, weights: extractor)
    _, output = run("--suite", "distance", "--data", made, "--reference", real, "--json")
    fid, kid, score, of_reference = json.loads(output.out)["items"]
    assert [fid["name"], kid["name"], score["name"]] == ["FID (Mean)", "KID (Mean)", "IS (Mean)"]
    rng = np.random.default_rng(0)
    means = np.stack([rng.integers(0, 200, (64, 48, 3), np.uint8)[:48].mean(axis=(0, 1)) for _ in range(30)])
    assert (score["value"], score["deviation"]) == pytest.approx(inception_score(means @ classes), rel=1e-5)
    assert of_reference["name"] == "IS of reference (Mean)" and of_reference["reference_pictures"] == 40
    _, output = run("--suite", "distance", "--data", made, "--reference", real)
    assert output.out.splitlines()[0].startswith("FID (Mean) ") and "deviation of 10 parts" in output.out


@pytest.mark.parametrize(
    "flags", [("--extractor", "inception:clean-fid"), ("--inception-weights", "inception.pth")], ids=["none", "unused"]
)
def test_inception_goes_with_its_weights(folders, run, flags):
    made, real = folders
    with pytest.raises(ConfigError, match="Inception-v3, and nothing else, needs --inception-weights FILE"):
        run("--suite", "distance", "--data", made, "--reference", real, *flags)


def test_lines_for_people(folders, run, small_extractor):
    made, real = folders
    (made / "broken.png").unlink()
    status, output = run("--suite", "distance", "--data", made, "--reference", real, "--limit", 25)
    assert status == 0
    fd, kid = output.out.splitlines()
    assert fd.startswith("FD (Mean) ") and kid.startswith("KID (Mean) ")
    assert fd.endswith("of 25 pictures, 25 of reference, 0 unreadable")
    item = {"name": "FD (Mean)", "value": 1.0, "interval_95": (0.5, 1.5)}
    for count, few in ((64, True), (65, False)):
        line = evaluate_distance.describe(item | {"pictures": count, "reference_pictures": 900, "features": 64}, 3)
        assert "3 unreadable" in line
        assert ("compare it only with FD of as many pictures" in line) == few


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--suite", "distance", "--data", "a"], "the following arguments are required: --reference"),
        (["--suite", "inpainting", "--data", "a", "--reference", "b"], "unrecognized arguments: --reference b"),
        (["--suite", "distance", "--data", "a", "--reference", "b", "--steps", "3"], "unrecognized arguments: --steps"),
        (["--data", "a"], "--suite is missing; give clip or distance or downstream or hands or "),
    ],
)
def test_a_suite_takes_its_own_flags_only(run, capsys, flags, message):
    with pytest.raises(SystemExit, match="2"):
        run(*flags)
    assert message in capsys.readouterr().err


def test_what_it_cannot_measure_it_says_in_a_line(folders, run, small_extractor):
    made, real = folders
    with pytest.raises(InputError, match="made: 19 readable pictures are too few .* at least 20"):
        run("--suite", "distance", "--data", made, "--reference", real, "--limit", 19)
    for path in made.iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="made: 0 readable pictures are too few"):
        run("--suite", "distance", "--data", made, "--reference", real)


def test_without_the_weights_nothing_is_read(folders, run, monkeypatch):
    made, real = folders
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"pip install 'handjax\[metrics\]'$"):
        run("--suite", "distance", "--data", made, "--reference", real)


@pytest.mark.slow
def test_the_network_tells_changed_pictures_from_the_same(folders, run):
    made, real = folders
    _, output = run("--suite", "distance", "--data", real, "--reference", real, "--json")
    same = {item["name"]: item["value"] for item in json.loads(output.out)["items"]}
    _, output = run("--suite", "distance", "--data", made, "--reference", real, "--json")
    other = {item["name"]: item["value"] for item in json.loads(output.out)["items"]}
    assert list(same) == ["FD (EffNet-Lite0)", "KID (EffNet-Lite0)"]
    assert abs(same["FD (EffNet-Lite0)"]) < 1e-6 * other["FD (EffNet-Lite0)"]
    assert same["KID (EffNet-Lite0)"] < 0 < other["KID (EffNet-Lite0)"]
