"""`launch.commitment` as a user runs it, on a model of a few numbers and a detector whose findings are written down."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from handjax.diffusion.samplers import DDIM
from handjax.diffusion.schedules import NoiseSchedule
from handjax.errors import ConfigError
from handjax.images import read_image
from handjax.inference.commitment import Commitment
from handjax.inference.generate import Generator, Wish
from handjax.perception import DetectedHand
from launch import commitment
from tests.diffusion.sd_tiny import tiny_model

SIZE, STEPS = (16, 32), 20
HAND = np.random.default_rng(0).uniform(0, 16, (21, 3)).astype(np.float32)
SCHEDULE = NoiseSchedule()
ALPHAS = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)  # Stable Diffusion's "scaled_linear"


def decibels(t):
    return 10 * np.log10(ALPHAS[int(t)] / (1 - ALPHAS[int(t)]))


class Script:
    """Finds a hand that jumps once before step 8 of the first picture, before step 15 of the second, none then."""

    def __init__(self):
        self.seen = 0

    def detect(self, picture):
        number, step = divmod(self.seen, STEPS)
        self.seen += 1
        jumps = (8, 15, None)[number]
        if jumps is None:
            return []
        return [DetectedHand.from_landmarks("left", 0.9, HAND + 3 * (step >= jumps), HAND)]


def tiny_generator(arguments):
    model = tiny_model()
    return Generator(model, DDIM(model.schedule, arguments.steps), SIZE, 3.0, arguments.batch), {"model": "tiny"}


def known_generator(arguments):
    """One that makes nothing."""
    return SimpleNamespace(model=SimpleNamespace(schedule=SCHEDULE), sampler=DDIM(SCHEDULE, STEPS)), {"model": "tiny"}


def known_commitments(generator, detector, wishes):
    """What `find_commitments` says of `Script`."""
    timesteps = generator.sampler.trajectory().timesteps
    for wish, jumps in zip(wishes, (8, 15, None), strict=True):
        estimates = np.zeros((STEPS, *SIZE, 3), np.uint8)
        points = [] if jumps is None else [float(timesteps[jumps])]
        yield Commitment(wish, estimates, [len(points)] * STEPS, points)


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Runs the command; gives its exit status, what it printed, and the lines of its plot, left and right."""
    drawn = []

    def save(figure, path, **options):
        drawn.extend(axes.lines[0].get_xydata() for axes in figure.axes)
        return kept(figure, path, **options)

    kept = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", save)
    monkeypatch.setattr(commitment.HandDetector, "load", lambda *_: Script())

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["commitment", "a fist", "--out", str(tmp_path / "out"), *words])
        return commitment.main(), capsys.readouterr().out, drawn

    return call


@pytest.mark.parametrize("model", ["known", pytest.param("tiny", marks=pytest.mark.slow)])
def test_a_run_writes_figures_pictures_and_plot(run, tmp_path, monkeypatch, model):
    monkeypatch.setattr(commitment, "load_generator", tiny_generator if model == "tiny" else known_generator)
    if model == "known":
        monkeypatch.setattr(commitment, "find_commitments", known_commitments)
    status, said, (share, ratio) = run("--count", "3", "--steps", str(STEPS), "--batch", "3", "--seed", "5")
    assert status == 0
    timesteps = DDIM(SCHEDULE, STEPS).trajectory().timesteps
    points = [float(timesteps[8]), float(timesteps[15])]

    document = json.loads((tmp_path / "out" / "commitment.json").read_text())
    figures = document["figures"]
    assert (figures["pictures"], figures["hands"], figures["without_hand"]) == (3, 2, 1)
    assert (figures["t"], figures["t_std"]) == (np.mean(points), np.std(points))
    assert figures["snr_db"] == pytest.approx(np.mean([decibels(t) for t in points]), abs=2e-3)
    assert figures["window"] == [max(figures["t"] - 100, 0), figures["t"] + 100]
    hands = [picture["hands"] for picture in document["pictures"]]
    assert [[hand["t"] for hand in found] for found in hands] == [[points[0]], [points[1]], []]
    assert hands[1][0]["snr_db"] == pytest.approx(decibels(points[1]), abs=2e-3)
    assert [picture["seed"] for picture in document["pictures"]] == [5, 6, 7]
    assert [picture["found_in"] for picture in document["pictures"]] == [STEPS, STEPS, 0]
    assert document["settings"]["model"] == "tiny" and "jax" in document["versions"]

    assert f"'a fist', seed 5: t* {points[0]:.0f} ({decibels(points[0]):.2f} dB)" in said
    assert "seed 7: no hand at the end" in said and "2 hands in 3 pictures, 1 without a hand" in said
    assert f"hands   {figures['t']:.0f} ± {figures['t_std']:.0f} " in said

    np.testing.assert_array_equal(share[:, 0], timesteps)
    np.testing.assert_array_equal(share[:, 1], [np.mean([p >= t for p in points]) for t in timesteps])
    np.testing.assert_allclose(ratio[:, 1], [decibels(t) for t in timesteps], atol=2e-3)
    assert (np.diff(ratio[:, 1]) > 0).all()  # more signal with every step
    assert read_image(tmp_path / "out" / "commitment.png").shape == (408, 720, 3)
    sheet = read_image(tmp_path / "out" / "estimates.png")
    assert sheet.shape == (3 * SIZE[0], commitment.SHEET_COLUMNS * SIZE[1], 3)


def test_the_sheet_has_a_row_a_picture_from_the_first_step_to_the_last():
    estimates = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    found = [Commitment(Wish("a", seed=number), estimates + 100 * number, [0] * 30, []) for number in range(2)]
    sheet = commitment.sheet(found)
    assert sheet.shape == (4, 20, 3)
    np.testing.assert_array_equal(sheet[0, ::2, 0], [0, 3, 6, 10, 13, 16, 19, 23, 26, 29])
    np.testing.assert_array_equal(sheet[2, ::2, 0], sheet[0, ::2, 0] + 100)


def test_without_hands_the_table_is_their_number():
    assert commitment.table({"hands": 0, "pictures": 4, "without_hand": 4}) == "0 hands in 4 pictures, 4 without a hand"


def test_guidance_is_refused(run):
    with pytest.raises(ConfigError, match="--guidance moves what is measured here"):
        run("--guidance", "anatomy")
