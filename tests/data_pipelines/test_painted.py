"""Painted hands, with a painter that paints what the test wants to be judged."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import handjax
from data_pipelines.painted import ELSEWHERE, MALFORMED, NOT_FOUND, HandPainter, PaintedJob, painted_records
from data_pipelines.precompute import Failures
from data_pipelines.rendered import rendered_records
from handjax.conditions.crops import box_side
from handjax.errors import ConfigError
from handjax.images import read_image
from handjax.inference.generate import Generator
from handjax.inference.score import FingerCount
from handjax.perception import HandDetector

PHOTO = Path(handjax.__file__).parent / "assets" / "photos" / "nocurl.jpg"
SIZE = 64


class Painter(HandPainter):
    """Paints a grey picture of the hand's number, and refuses some."""

    size = SIZE

    def __init__(self, reasons=()):
        self.__dict__.update(reasons=dict(reasons), calls=[])

    def __call__(self, records, prompts, seeds):
        self.calls.append((prompts, seeds))
        return [np.full((SIZE, SIZE, 3), 10 * (seed % 16), np.uint8) for seed in seeds]

    def refuse(self, picture, keypoints):
        return self.reasons.get(int(picture[0, 0, 0]) // 10)


def pixels(record):
    return np.asarray(Image.open(io.BytesIO(record.image)))


def test_labels_are_those_of_the_rendered_hands():
    painter, failures = Painter({3: NOT_FOUND, 5: MALFORMED, 7: MALFORMED}), Failures()
    records = list(painted_records(range(10), 2, painter, failures, licence="CC0-1.0"))
    assert dict(failures.left_out) == {NOT_FOUND: 1, MALFORMED: 2}
    kept = [0, 1, 2, 4, 6, 8, 9]
    assert [record.id for record in records] == [f"painted-2-{number:07d}" for number in kept]
    for number, record in zip(kept, records, strict=True):
        assert abs(int(pixels(record)[0, 0, 0]) - 10 * number) <= 2 and pixels(record).shape == (SIZE, SIZE, 3)
    for record, truth in zip(records, rendered_records(kept, 2, SIZE), strict=True):
        for field in ("keypoints_2d", "keypoints_3d", "pose", "betas", "translation", "camera"):
            np.testing.assert_allclose(getattr(record, field), getattr(truth, field), atol=1e-6)
        assert (record.depth, record.mesh, record.side) == (truth.depth, truth.mesh, truth.side)
        assert record.caption == truth.caption.replace("a rendered photo", "a photo")
        assert record.licence == "CC0-1.0" and record.source == "painted:2"


def test_noise_is_of_hand_and_seed():
    """In any company, and not the same for another seed."""
    seeds = {}
    for seed, numbers in ((0, range(3)), (0, [2]), (1, range(3))):
        painter = Painter()
        list(painted_records(numbers, seed, painter, Failures()))
        seeds[seed, len(numbers)] = [each for _, called in painter.calls for each in called]
    assert seeds[0, 3][2:] == seeds[0, 1] and not set(seeds[0, 3]) & set(seeds[1, 3])
    assert max(sum(seeds.values(), [])) < 2**32


def counter(*complaints):
    return lambda image, hand: FingerCount(5, {}, complaints)


@pytest.fixture(scope="module")
def photograph():
    image = read_image(PHOTO)
    (hand,) = HandDetector.load(max_hands=1).detect(image)
    return image, hand.keypoints[:, :2]


def test_only_the_hand_that_was_asked_for_is_taken(photograph):
    image, keypoints = photograph
    detector = HandDetector.load(max_hands=2)
    generator = object.__new__(Generator)
    painter = HandPainter(generator, (), detector, counter())
    assert painter.refuse(image, keypoints) is None
    side = box_side(keypoints)
    assert painter.refuse(image, keypoints + 0.05 * side / np.sqrt(2)) is None
    assert painter.refuse(image, keypoints + 0.15 * side / np.sqrt(2)) == ELSEWHERE
    assert painter.refuse(np.full_like(image, 128), keypoints) == NOT_FOUND
    strict = dataclasses.replace(painter, counter=counter("looks malformed"))
    assert strict.refuse(image, keypoints) == MALFORMED


def test_conditions_that_records_lack_are_refused():
    for controlnets in ({}, {"normals": Path("x")}):
        with pytest.raises(ConfigError, match="ControlNets of depth, skeleton, mesh; name at least one of them, not"):
            PaintedJob(3, controlnets)
