"""Painted hands, with a painter that paints what the test wants to be judged."""

import dataclasses
import io
import json
import os
import pickle
import shutil
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
    MISSING,
    MORE,
    NOT_FOUND,
    OTHER_SIDE,
    HandPainter,
    PaintedJob,
    painted_records,
)
from data_pipelines.painted_poses import NO_POSE, RandomPoses, RecordPoses
from data_pipelines.precompute import Failures
from data_pipelines.prepared import PreparedRecords
from data_pipelines.rendered import rendered_records
from data_pipelines.shards import plan_shards
from data_pipelines.shared_pictures import PlacedHand
from handjax.adapters.controlnet import ControlNet, ControlNetConfig, initial_controlnet
from handjax.adapters.files import save_controlnet
from handjax.conditions.crops import box_side
from handjax.diffusion.model import load_stable_diffusion
from handjax.errors import ConfigError, InputError, WeightsError
from handjax.images import decode_image, read_image
from handjax.inference.generate import Generator
from handjax.inference.score import FingerCount
from handjax.perception import HandDetector
from handjax.perception.margin import detect_with_margin
from handjax.record import HandRecord
from launch.precompute import _controlnets
from tests.data_pipelines.conftest import prepare

PHOTO = Path(handjax.__file__).parent / "assets" / "photos" / "nocurl.jpg"
SIZE = 64


class Painter(HandPainter):
    """Paints a grey picture of the hand's number, and refuses some."""

    size = SIZE

    def __init__(self, reasons=()):
        self.__dict__.update(reasons=dict(reasons), calls=[])

    def __call__(self, pictures, prompts):
        seeds = [picture.seed for picture in pictures]
        self.calls.append((prompts, seeds))
        return [np.full((SIZE, SIZE, 3), 10 * (seed % 16), np.uint8) for seed in seeds]

    def refuse(self, picture, asked):
        return self.reasons.get(int(picture[0, 0, 0]) // 10)


def pixels(record):
    return np.asarray(Image.open(io.BytesIO(record.image)))


def test_labels_are_those_of_the_rendered_hands():
    painter, failures = Painter({3: NOT_FOUND, 5: MALFORMED, 7: MALFORMED}), Failures()
    names = [str(number) for number in range(10)]
    records = list(painted_records(names, RandomPoses(10, 2), painter, failures, licence="CC0-1.0"))
    assert dict(failures.left_out) == {NOT_FOUND: 1, MALFORMED: 2}
    kept = [0, 1, 2, 4, 6, 8, 9]
    assert [record.id for record in records] == [f"painted-2-{number:07d}" for number in kept]
    for number, record in zip(kept, records, strict=True):
        assert abs(int(pixels(record)[0, 0, 0]) - 10 * number) <= 2 and pixels(record).shape == (SIZE, SIZE, 3)
    for record, truth in zip(records, rendered_records(kept, (1 << 30) + 2, SIZE), strict=True):
        for field in ("keypoints_2d", "keypoints_3d", "pose", "betas", "translation", "camera"):
            np.testing.assert_allclose(getattr(record, field), getattr(truth, field), atol=1e-6)
        assert (record.depth, record.mesh, record.side) == (truth.depth, truth.mesh, truth.side)
        assert record.caption == truth.caption.replace("a rendered photo", "a photo")
        assert record.licence == "CC0-1.0" and record.source == "painted:2"


def test_records_of_two_hands_are_cut_from_their_picture():
    """Both or none: one that is refused takes the other with it."""
    painter, failures = Painter({1: MORE}), Failures()
    poses = RandomPoses(3, 2, hands=2)
    records = list(painted_records("012", poses, painter, failures, licence="CC0-1.0"))
    assert dict(failures.left_out) == {MORE: 1}
    assert [record.id for record in records] == [f"painted-pair-2-{n:07d}#{hand}" for n in (0, 2) for hand in (0, 1)]
    assert [record.side for record in records] == ["right", "left"] * 2
    ((prompts, seeds),) = painter.calls
    assert seeds == [number + (2 << 22) for number in range(3)]
    for prompt, (right, left) in zip((prompts[0], prompts[2]), (records[:2], records[2:]), strict=True):
        assert prompt == f"{right.caption} and {left.caption.removeprefix('a photo of ')}"
        assert "right hand" in right.caption and "left hand" in left.caption and "left" not in right.caption
        assert right.source == left.source == "painted:2" and right.licence == "CC0-1.0"
    for number, record in zip((0, 0, 2, 2), records, strict=True):
        side = 2 * np.ptp(record.keypoints_2d[:, :2], axis=0).max()
        assert pixels(record).shape == (np.ceil(side), np.ceil(side), 3)
        assert abs(int(pixels(record)[0, 0, 0]) - 10 * number) <= 2
    assert poses.settings() != RandomPoses(3, 2).settings()


def test_poses_are_not_those_of_rendered_hands():
    """Or pictures to train on would show held-out rendered hands again."""
    pictures = RandomPoses(6).render("012345", SIZE, Failures())
    painted_hands = [hand.record for picture in pictures for hand in picture.hands]
    rendered = list(rendered_records(range(6), 0, SIZE))
    apart = [[np.abs(mine.pose - other.pose).max() for other in rendered] for mine in painted_hands]
    assert np.min(apart) > 0.3
    assert min(np.abs(mine.betas - other.betas).max() for mine in painted_hands for other in rendered) > 0.3


def test_noise_is_of_hand_and_seed():
    """In any company, and not the same for another seed."""
    seeds = {}
    for seed, names in ((0, "012"), (0, "2"), (1, "012")):
        painter = Painter()
        list(painted_records(names, RandomPoses(3, seed), painter, Failures()))
        seeds[seed, len(names)] = [each for _, called in painter.calls for each in called]
    assert seeds[0, 3][2:] == seeds[0, 1] and not set(seeds[0, 3]) & set(seeds[1, 3])
    assert max(sum(seeds.values(), [])) < 2**32


@pytest.fixture(scope="module")
def posed(tmp_path_factory):
    """Records 10 to 14 of rendered hands, number 12 with a mesh of MANO; 14 is held out."""
    records = list(rendered_records(range(10, 15), 7, SIZE))
    records[2] = dataclasses.replace(records[2], hand_model="mano")
    folder = prepare(tmp_path_factory.mktemp("posed"), train=tuple(records[:4]), eval=tuple(records[4:]))
    return folder, {record.id: record for record in records}


def test_hands_of_records_are_painted_as_these_see_them(posed):
    """Side, mesh, place and camera are the record's; a picture of the same size has the same conditions."""
    folder, originals = posed
    poses, failures, painter = RecordPoses(PreparedRecords(folder)), Failures(), Painter()
    assert {split: len(names) for split, names in poses.splits().items()} == {"train": 4, "eval": 1}
    names = [name for each in poses.splits().values() for name in each]
    records = list(painted_records(names, poses, painter, failures))
    assert dict(failures.left_out) == {NO_POSE: 1}
    assert [seed for _, called in painter.calls for seed in called] == [
        poses.records.number(name) for name in names if poses.records[name].hand_model == "open_hand"
    ]
    assert {record.side for record in records} == {"left", "right"} and len(records) == 4
    for record in records:
        original = originals[record.id.removeprefix("painted-")]
        assert record.source == f"painted:{original.id}" and record.side == original.side
        for field in ("keypoints_2d", "keypoints_3d", "pose", "betas", "translation", "camera"):
            np.testing.assert_allclose(getattr(record, field), getattr(original, field), atol=2e-4, err_msg=field)
        seen, before = (decode_image(each.mesh, "mesh").astype(int) for each in (record, original))
        assert np.abs(seen - before).mean() < 0.1 < before.mean()
        assert record.image != original.image and record.caption.startswith("a photo of a")


def test_labels_are_those_of_the_mesh_where_it_was_fitted(posed, tmp_path):
    """And not the keypoints of the photograph, which the mesh meets only nearly."""
    (original, *_) = posed[1].values()
    off = dataclasses.replace(original, keypoints_2d=original.keypoints_2d + 3, keypoints_3d=None, caption="a fist")
    poses = RecordPoses(PreparedRecords(prepare(tmp_path, train=(off,))))
    (record,) = painted_records(["train:0"], poses, Painter(), Failures())
    np.testing.assert_allclose(record.keypoints_2d, original.keypoints_2d, atol=2e-4)
    np.testing.assert_allclose(record.keypoints_3d, original.keypoints_3d, atol=1e-5)
    assert record.caption != "a fist"


def test_records_without_poses_of_the_open_hand_are_refused(prepared):
    with pytest.raises(InputError, match="no record has a pose of the open hand; prepare it without --mano"):
        RecordPoses(PreparedRecords(prepared))


def test_other_records_are_painted_anew(posed, tmp_path):
    folder, originals = posed
    shutil.copytree(folder, tmp_path / "copy")
    job = PaintedJob(RecordPoses(PreparedRecords(tmp_path / "copy")), {"mesh": tmp_path})
    before = {shard.fingerprint for shard in plan_shards(job)}
    assert before == {shard.fingerprint for shard in plan_shards(job)} and len(before) == 2
    (file,) = (tmp_path / "copy").rglob("*train.array_record*")
    os.utime(file, (0, 0))
    assert not before & {shard.fingerprint for shard in plan_shards(job)}
    assert pickle.loads(pickle.dumps(job)) == job  # and no open files travel
    assert set(vars(pickle.loads(pickle.dumps(job.poses.records)))) == {"folder", "limit"}


def counter(*complaints):
    return lambda image, hand: FingerCount(5, {}, complaints)


def placed(keypoints, side, corner=(0, 0)):
    """A hand at these pixels of a picture, in a record whose square begins at `corner`."""
    x, y = corner
    labels = np.column_stack([keypoints - corner, np.ones(21)])
    return PlacedHand(HandRecord("asked", b"", labels, side=side), np.array([x, y, x + SIZE, y + SIZE]))


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

    def refuse(image, keypoints, side, painter=painter):
        return painter.refuse(image, [placed(keypoints, side)])

    assert refuse(image, keypoints, side) is None
    tenth = 0.1 * box_side(keypoints) / np.sqrt(2)
    assert refuse(image, keypoints + 0.5 * tenth, side) is None
    assert refuse(image, keypoints + 1.5 * tenth, side) == ELSEWHERE
    assert refuse(image, keypoints, {"left": "right", "right": "left"}[side]) == OTHER_SIDE
    assert refuse(np.full_like(image, 128), keypoints, side) == NOT_FOUND
    assert refuse(np.concatenate([image, image], axis=1), keypoints, side) == MORE
    assert refuse(image, keypoints, side, dataclasses.replace(painter, counter=counter("looks malformed"))) == MALFORMED


def test_each_of_two_hands_is_judged(monkeypatch):
    """Of a picture beside its mirror image, as the detector finds its hands."""
    monkeypatch.setattr("data_pipelines.painted.SURE_OF_SIDE", 0.5)
    image, detector = read_image(PHOTO.with_name("fullcurl.jpg")), HandDetector.load(max_hands=3)
    both = np.concatenate([image, image[:, ::-1]], axis=1)
    left, right = sorted(detect_with_margin(detector, both), key=lambda hand: hand.side)
    assert (left.side, right.side) == ("left", "right")
    keypoints, mirrored = left.keypoints[:, :2], right.keypoints[:, :2]
    one, two = placed(keypoints, "left", (7, 11)), placed(mirrored, "right", (480, 0))

    def likes(image, hand):
        return FingerCount(5, {}, normal=True)

    def likes_the_left(image, hand):
        return likes(image, hand) if hand.side == "left" else FingerCount(5, {}, ("looks malformed",))

    painter = HandPainter(object.__new__(Generator), (), detector, likes)
    assert painter.refuse(both, [one, two]) is None and painter.refuse(both, [two, one]) is None
    off = 0.15 * box_side(keypoints) / np.sqrt(2)
    assert painter.refuse(both, [one, placed(mirrored + off, "right")]) == ELSEWHERE
    assert painter.refuse(both, [one, placed(mirrored, "left")]) == OTHER_SIDE
    assert painter.refuse(image, [one, two]) == MISSING
    assert painter.refuse(both, [one, one]) == MISSING  # one that is found is not both
    closer = image[200:, 80:430]
    three = np.concatenate([closer, closer[:, ::-1], closer], axis=1)
    found = [placed(hand.keypoints[:, :2], hand.side) for hand in detect_with_margin(detector, three)]
    assert len(found) == 3 and painter.refuse(three, found[:2]) == MORE
    assert dataclasses.replace(painter, counter=likes_the_left).refuse(both, [one, two]) == MALFORMED


@pytest.mark.slow
@pytest.mark.parametrize("hands", [1, 2])
def test_the_embedded_model_paints_and_all_hands_are_accounted_for(tmp_path, hands):
    """A ControlNet that was never trained: what comes out is no hand that was asked for, or is one by its detector."""
    unet = load_stable_diffusion("tiny_inpainting").unet.config
    network = ControlNet(ControlNetConfig(dataclasses.replace(unet, in_channels=4), (8, 8, 8)))
    save_controlnet(network, initial_controlnet(network, jax.random.key(0)), tmp_path / "net", np.dtype("float32"))
    job = PaintedJob(RandomPoses(2, hands=hands), {"mesh": tmp_path / "net"}, steps=2)
    assert job.settings()["mesh_files"] and job.settings()["model_files"]
    painter = HandPainter.load(job)
    (picture,) = job.poses.render(["0"], painter.size, Failures())
    mesh = painter._condition(picture, "mesh")
    assert mesh.shape == (96, 96, 3) and mesh.min() >= 0 and 0.5 < mesh.max() <= 1
    failures = Failures()
    made = list(job.open()(["0", "1"], failures))
    assert len(made) / hands + sum(failures.left_out.values()) == 2


def test_a_controlnet_of_another_condition_is_refused(tmp_path):
    unet = load_stable_diffusion("tiny_inpainting").unet.config
    config = ControlNetConfig(dataclasses.replace(unet, in_channels=4), (8, 8, 8), condition="depth")
    (tmp_path / "config.json").write_text(json.dumps(config.to_diffusers()))
    with pytest.raises(WeightsError, match="a ControlNet that follows depth would be given mesh; name another"):
        HandPainter.load(PaintedJob(RandomPoses(2), {"mesh": tmp_path}))


def test_other_code_of_the_networks_paints_anew(tmp_path, monkeypatch):
    job = PaintedJob(RandomPoses(3), {"mesh": tmp_path})
    before = [shard.fingerprint for shard in plan_shards(job)]
    assert before == [shard.fingerprint for shard in plan_shards(job)]
    hashed = []
    monkeypatch.setattr(painted, "maker_hash", lambda makers: hashed.extend(makers) or "of other code")
    assert not set(before) & {shard.fingerprint for shard in plan_shards(job)}
    root = Path(handjax.__file__).parent.parent
    assert "handjax/diffusion" in hashed and all((root / maker).exists() for maker in hashed)


def test_what_cannot_be_painted_is_said_at_once(tmp_path):
    with pytest.raises(WeightsError, match="absent: no such file or folder"):
        PaintedJob(RandomPoses(3), {"mesh": tmp_path / "absent"})
    with pytest.raises(ConfigError, match="SEED at most 1023"):
        RandomPoses(3, 1024)
    with pytest.raises(ConfigError, match="COUNT is at most 4194304"):
        RandomPoses(1 << 23)
    with pytest.raises(ConfigError, match="names a condition twice"):
        _controlnets(["mesh=a", "mesh=b"])


def test_conditions_that_records_lack_are_refused():
    for controlnets in ({}, {"normals": Path("x")}):
        with pytest.raises(ConfigError, match="ControlNets of depth, skeleton, mesh; name at least one of them, not"):
            PaintedJob(RandomPoses(3), controlnets)
