"""Painted hands, with a painter that paints what the test wants to be judged."""

import dataclasses
import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import handjax
from data_pipelines import painted
from data_pipelines.painted import (
    ELSEWHERE,
    MALFORMED,
    NOT_FOUND,
    OTHER_SIDE,
    HandPainter,
    PaintedJob,
    painted_records,
)
from data_pipelines.precompute import Failures
from data_pipelines.rendered import rendered_records
from data_pipelines.shards import plan_shards
from handjax.adapters.controlnet import ControlNet, ControlNetConfig, initial_controlnet
from handjax.adapters.files import save_controlnet
from handjax.conditions.crops import box_side
from handjax.diffusion.model import load_stable_diffusion
from handjax.errors import ConfigError, WeightsError
from handjax.images import read_image
from handjax.inference.generate import Generator
from handjax.inference.score import FingerCount
from handjax.perception import HandDetector
from launch.precompute import _controlnets

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

    def refuse(self, picture, keypoints, side):
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
    return image, hand.keypoints[:, :2], hand.side


def test_only_the_hand_that_was_asked_for_is_taken(photograph, monkeypatch):
    monkeypatch.setattr("data_pipelines.painted.SURE_OF_SIDE", 0.5)  # of this photograph the detector is less sure
    image, keypoints, side = photograph
    detector = HandDetector.load(max_hands=2)
    generator = object.__new__(Generator)
    painter = HandPainter(generator, (), detector, counter())
    assert painter.refuse(image, keypoints, side) is None
    tenth = 0.1 * box_side(keypoints) / np.sqrt(2)
    assert painter.refuse(image, keypoints + 0.5 * tenth, side) is None
    assert painter.refuse(image, keypoints + 1.5 * tenth, side) == ELSEWHERE
    assert painter.refuse(image, keypoints, {"left": "right", "right": "left"}[side]) == OTHER_SIDE
    assert painter.refuse(np.full_like(image, 128), keypoints, side) == NOT_FOUND
    strict = dataclasses.replace(painter, counter=counter("looks malformed"))
    assert strict.refuse(image, keypoints, side) == MALFORMED


@pytest.mark.slow
def test_the_embedded_model_paints_and_all_hands_are_accounted_for(tmp_path):
    """A ControlNet that was never trained: what comes out is no hand that was asked for, or is one by its detector."""
    unet = load_stable_diffusion("tiny_inpainting").unet.config
    network = ControlNet(ControlNetConfig(dataclasses.replace(unet, in_channels=4), (8, 8, 8)))
    save_controlnet(network, initial_controlnet(network, jax.random.key(0)), tmp_path / "net", np.dtype("float32"))
    job = PaintedJob(2, {"mesh": tmp_path / "net"}, steps=2)
    assert job.settings()["mesh_files"] and job.settings()["model_files"]
    painter = HandPainter.load(job)
    (record,) = rendered_records([0], 0, painter.size)
    mesh = painter._condition(record, "mesh")
    assert mesh.shape == (96, 96, 3) and mesh.min() >= 0 and 0.5 < mesh.max() <= 1
    failures = Failures()
    made = list(job.open()(["0", "1"], failures))
    assert len(made) + sum(failures.left_out.values()) == 2


def test_a_controlnet_of_another_condition_is_refused(tmp_path):
    unet = load_stable_diffusion("tiny_inpainting").unet.config
    config = ControlNetConfig(dataclasses.replace(unet, in_channels=4), (8, 8, 8), condition="depth")
    (tmp_path / "config.json").write_text(json.dumps(config.to_diffusers()))
    with pytest.raises(WeightsError, match="a ControlNet that follows depth would be given mesh; name another"):
        HandPainter.load(PaintedJob(2, {"mesh": tmp_path}))


def test_other_code_of_the_networks_paints_anew(tmp_path, monkeypatch):
    job = PaintedJob(3, {"mesh": tmp_path})
    before = [shard.fingerprint for shard in plan_shards(job)]
    assert before == [shard.fingerprint for shard in plan_shards(job)]
    hashed = []
    monkeypatch.setattr(painted, "maker_hash", lambda makers: hashed.extend(makers) or "of other code")
    assert not set(before) & {shard.fingerprint for shard in plan_shards(job)}
    root = Path(handjax.__file__).parent.parent
    assert "handjax/diffusion" in hashed and all((root / maker).exists() for maker in hashed)


def test_what_cannot_be_painted_is_said_at_once(tmp_path):
    known = {"mesh": tmp_path}
    for arguments, error, said in (
        ((3, {"mesh": tmp_path / "absent"}), WeightsError, "absent: no such file or folder"),
        ((3, known, "tiny_inpainting", 1024), ConfigError, "SEED at most 1023"),
        ((1 << 23, known), ConfigError, "COUNT is at most 4194304"),
    ):
        with pytest.raises(error, match=said):
            PaintedJob(*arguments)
    with pytest.raises(ConfigError, match="names a condition twice"):
        _controlnets(["mesh=a", "mesh=b"])


def test_conditions_that_records_lack_are_refused():
    for controlnets in ({}, {"normals": Path("x")}):
        with pytest.raises(ConfigError, match="ControlNets of depth, skeleton, mesh; name at least one of them, not"):
            PaintedJob(3, controlnets)
