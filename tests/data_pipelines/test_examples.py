"""Augmented examples: what changes and what does not, missing keypoints, damaged records, any number of processes."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from data_pipelines.examples import ExampleMaker
from data_pipelines.loader import make_loader
from data_pipelines.options import LoaderConfig
from handjax.adapters.losses import keypoint_mask
from handjax.errors import ConfigError, InputError
from handjax.hand.draw import draw_skeleton
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.words import told_by
from handjax.training.config import load_config
from tests.data_pipelines.conftest import make_record

SIZE = 32
SPEC = {
    "image": jax.ShapeDtypeStruct((SIZE, SIZE, 3), np.float32),
    "mask": jax.ShapeDtypeStruct((SIZE, SIZE, 1), np.float32),
    "depth": jax.ShapeDtypeStruct((SIZE, SIZE, 1), np.float32),
    "skeleton": jax.ShapeDtypeStruct((SIZE, SIZE, 3), np.float32),
    "keypoints": jax.ShapeDtypeStruct((21, 2), np.float32),
    "keypoints_valid": jax.ShapeDtypeStruct((), np.bool_),
    "keypoints_known": jax.ShapeDtypeStruct((21,), np.bool_),
    "keypoints_confidence": jax.ShapeDtypeStruct((21,), np.float32),
    "keypoints_weight": jax.ShapeDtypeStruct((21,), np.float32),
    "box_side": jax.ShapeDtypeStruct((), np.float32),
    "is_right": jax.ShapeDtypeStruct((), np.bool_),
}
COLORS = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1}
WINDOW = np.arange(3)
ANY = jax.ShapeDtypeStruct((), np.float32)
EVERYTHING = COLORS | {"occlusion_prob": 0.7, "keypoint_noise": 0.04}


def loader(path, split="train", seed=0, batch=8, spec=SPEC, process=(0, 1), **options):
    config = FrozenConfigDict({"path": str(path), "image_size": SIZE, **options})
    return iter(make_loader(config, spec, batch, seed, split, *process))


def without(batch, *names):
    return {name: value for name, value in batch.items() if name not in names}


def example(record, seed=0, spec=SPEC, **options):
    names = {name: value for name, value in spec.items() if name != "skeleton"}
    options = {"crop_scale": (1.3, 1.9), "image_size": SIZE} | options
    maker = ExampleMaker(LoaderConfig(path="", **options), names, training=True)
    return maker(record, np.random.default_rng(seed))


def test_words_on_hands_are_marked_and_captions_without_any_are_counted(caplog):
    spec = {"hand_tokens": jax.ShapeDtypeStruct((77,), np.float32)}
    names = load_config("sesahand.py:tiny").model + "/tokenizer"
    maker = ExampleMaker(LoaderConfig(path="", image_size=SIZE, tokenizer=names), spec, training=False)
    captions = ["a red fist", *(f"tree {number}" for number in range(12)), "tree 3"]
    records = [dataclasses.replace(make_record(1), caption=caption) for caption in captions]
    rows = [maker(record, np.random.default_rng(0))["hand_tokens"] for record in records]
    assert rows[0].tolist() == [0, 0, 0, 1, *[0] * 73] and not np.any(rows[1:])
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"captions without a word on hands (by {told_by()}), which get no bias: {count}, as 'tree {count - 1}'"
        for count in (1, 10)
    ]


def test_captions_whose_end_is_cut_off_are_counted(caplog):
    spec = {"input_ids": jax.ShapeDtypeStruct((77,), np.int32)}
    names = load_config("sesahand.py:tiny").model + "/tokenizer"
    maker = ExampleMaker(LoaderConfig(path="", image_size=SIZE, tokenizer=names), spec, training=False)
    whole, cut = "a " * 74 + "hand", [f"{number} " + "a " * 80 for number in range(10)]
    for caption in [whole, *cut, cut[3], "a hand"]:
        made = maker(dataclasses.replace(make_record(1), caption=caption), np.random.default_rng(0))
        assert made["input_ids"].shape == (77,)
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"captions of more than 75 tokens, whose end is lost: {count}, as {cut[count - 1]!r}" for count in (1, 10)
    ]


def test_captions_of_a_file_take_the_place_of_the_records_own(tmp_path):
    (tmp_path / "captions.json").write_text(json.dumps({"hand-1": "a right fist"}))
    spec = {"input_ids": jax.ShapeDtypeStruct((77,), np.int32)}
    tokenizer = load_config("sesahand.py:tiny").model + "/tokenizer"

    def ids(record, flip, **options):
        options = {"path": "", "image_size": SIZE, "tokenizer": tokenizer, "flip_prob": flip} | options
        maker = ExampleMaker(LoaderConfig(**options), spec, training=True)
        return maker(record, np.random.default_rng(0))["input_ids"].tolist()

    captions, own = {"captions": str(tmp_path / "captions.json")}, make_record(1)
    told = dataclasses.replace(own, caption="a right fist")
    assert ids(own, 0.0, **captions) == ids(told, 0.0) != ids(own, 0.0)
    assert ids(own, 1.0, **captions) == ids(dataclasses.replace(own, caption="a left fist"), 0.0)
    assert ids(make_record(2), 0.0, **captions) == ids(make_record(2), 0.0)
    for text in ("{", "[]", json.dumps({"hand-1": None})):
        (tmp_path / "captions.json").write_text(text)
        with pytest.raises(InputError, match=r"data\.captions=.*give JSON, captions by record id"):
            ids(own, 0.0, **captions)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_any_number_of_processes_sees_the_same_augmented_batches(prepared_few, processes):
    expected = loader(prepared_few, **EVERYTHING)
    parts = [loader(prepared_few, process=(p, processes), read_threads=p + 1, **EVERYTHING) for p in range(processes)]
    for _ in range(3):
        batches = [next(part) for part in parts]
        together = jax.tree.map(lambda *shares: np.concatenate(shares), *batches)
        batch = next(expected)
        jax.tree.map(np.testing.assert_array_equal, without(together, "skeleton"), without(batch, "skeleton"))
        np.testing.assert_allclose(together["skeleton"], batch["skeleton"], atol=1e-5)  # XLA rounds by batch size


def test_the_seed_decides_everything(prepared_few):
    first, again, other = (next(loader(prepared_few, seed=seed, **EVERYTHING)) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert all((first[name] != other[name]).any() for name in ("image", "keypoints", "mask"))


def test_evaluation_and_plain_training_ignore_it(prepared, prepared_few):
    for path, split, plain in ((prepared, "eval", {}), (prepared_few, "train", {"augment": False})):
        batches = [next(loader(path, split, **plain, **options)) for options in ({}, EVERYTHING)]
        jax.tree.map(np.testing.assert_array_equal, *batches)


def test_colours_change_the_photo_alone(prepared_few):
    plain, colored = next(loader(prepared_few)), next(loader(prepared_few, **COLORS))
    jax.tree.map(np.testing.assert_array_equal, without(plain, "image"), without(colored, "image"))
    assert (np.abs(plain["image"] - colored["image"]).max(axis=(1, 2, 3)) > 0.01).all()


def test_a_patch_hides_part_of_the_photo_and_the_keypoints_under_it(prepared_few):
    options = {"batch": 40, "flip_prob": 0.0}
    plain, hidden = next(loader(prepared_few, **options)), next(loader(prepared_few, occlusion_prob=1.0, **options))
    changes = ("image", "keypoints_confidence")
    jax.tree.map(np.testing.assert_array_equal, without(plain, *changes), without(hidden, *changes))
    covered = (plain["image"] != hidden["image"]).any(axis=-1)
    assert 0.01 < covered.mean() < 0.3 and covered.any(axis=(1, 2)).all()
    for row in range(40):
        x, y = np.floor(hidden["keypoints"][row]).astype(int).T
        inside = (x >= 0) & (x < SIZE) & (y >= 0) & (y < SIZE)
        np.testing.assert_array_equal(plain["keypoints_confidence"][row], inside)
        # a pixel's middle decides for the photo, the point itself for the keypoint: at the patch's edge they differ
        around = np.pad(covered[row], 1, "edge")[
            y[inside, None, None] + WINDOW[:, None], x[inside, None, None] + WINDOW
        ]
        sure, under = around.all(axis=(1, 2)) | ~around.any(axis=(1, 2)), around[:, 1, 1]
        seen = hidden["keypoints_confidence"][row, inside] > 0
        np.testing.assert_array_equal(seen[sure], ~under[sure])
    assert (hidden["keypoints_confidence"].sum(axis=1) < plain["keypoints_confidence"].sum(axis=1)).all()


def test_noise_moves_keypoints_and_their_skeleton_alone(prepared_few):
    options = {"batch": 60, "max_rotation": 0.0}  # a turned hand has another box
    plain, noisy = (next(loader(prepared_few, keypoint_noise=noise, **options)) for noise in (0.0, 0.05))
    changes = ("keypoints", "skeleton")
    jax.tree.map(np.testing.assert_array_equal, without(plain, *changes), without(noisy, *changes))
    moves = (noisy["keypoints"] - plain["keypoints"]) / plain["box_side"][:, None, None]
    assert moves.std() == pytest.approx(0.05, rel=0.05) and abs(moves.mean()) < 0.005
    for row in range(3):
        expected = draw_skeleton(noisy["keypoints"][row], SIZE, SIZE)
        np.testing.assert_allclose(noisy["skeleton"][row], expected, atol=1e-5)


def test_a_mirrored_left_hand_is_a_right_one(prepared_few):
    for flip_prob, right in ((0.0, False), (1.0, True)):
        assert (next(loader(prepared_few, flip_prob=flip_prob))["is_right"] == right).all()
    nameless = dataclasses.replace(make_record(3), side=None)
    with pytest.raises(InputError, match="record hand-3 has no side"):
        example(nameless, spec={"is_right": SPEC["is_right"]})


def with_missing(record, missing):
    keypoints = record.keypoints_2d.copy()
    keypoints[missing, :2] = np.nan
    return dataclasses.replace(record, keypoints_2d=keypoints)


@pytest.mark.parametrize("options", [{}, EVERYTHING])
def test_keypoints_that_are_nan_are_missing(options):
    record = make_record(3)
    missing = np.array([2, 8, 11, 12])
    whole, holed = example(record, **options), example(with_missing(record, missing), **options)
    assert all(np.isfinite(value).all() for value in holed.values())
    np.testing.assert_array_equal(np.flatnonzero(~holed["keypoints_known"]), missing)
    np.testing.assert_array_equal(holed["keypoints_weight"], holed["keypoints_known"])  # also under a patch
    assert holed["keypoints_valid"] and (holed["keypoints_confidence"][missing] == 0).all()
    kept = np.setdiff1d(np.arange(21), missing)
    if not options:  # a patch depends on the places
        np.testing.assert_array_equal(holed["keypoints_confidence"][kept], whole["keypoints_confidence"][kept])
    np.testing.assert_array_equal(holed["keypoints"][kept], whole["keypoints"][kept])
    # where the joint before them is, so that nothing new is drawn
    np.testing.assert_array_equal(holed["keypoints"][[2, 8, 11, 12]], holed["keypoints"][[1, 7, 10, 10]])
    only_known = np.where(np.isin(np.arange(21), kept)[:, None], holed["keypoints"], -SIZE)
    discs = [
        keypoint_mask(jnp.asarray(p[None]), jnp.full(1, 20.0), SIZE, SIZE) for p in (holed["keypoints"], only_known)
    ]
    np.testing.assert_array_equal(*discs)


def test_confidence_that_is_nan_is_none():
    record = make_record(3)
    record.keypoints_2d[5, 2] = np.nan
    made = example(record, max_shift=0.0, crop_scale=(2.0, 2.0), max_rotation=0.0)
    for name in ("keypoints_confidence", "keypoints_weight"):
        np.testing.assert_array_equal(made[name], np.arange(21) != 5)
    assert made["keypoints_known"].all()


def test_a_missing_wrist_is_amid_the_others_and_a_hand_without_any_is_not_valid():
    record = make_record(3)
    made = example(with_missing(record, [0]))
    np.testing.assert_allclose(made["keypoints"][0], made["keypoints"][1:].mean(axis=0), atol=1e-4)
    none = example(with_missing(record, np.arange(21)), **EVERYTHING)
    assert not none["keypoints_valid"] and (none["keypoints"] == SIZE / 2).all()
    assert (none["keypoints_confidence"] == 0).all() and none["mask"].any()


def test_a_damaged_picture_names_its_record():
    record = make_record(3)
    for field in ("image", "depth"):
        damaged = dataclasses.replace(record, **{field: getattr(record, field)[:60]})
        with pytest.raises(InputError, match="record hand-3: a picture of it is damaged .*; prepare"):
            example(damaged)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"brightness": 1.5}, r"data.brightness is 1.5; it must be from 0 to 1"),
        ({"hue": 0.6}, r"data.hue is 0.6; it must be from 0 to 0.5"),
        ({"saturation": -0.1}, r"from 0 to 1"),
        ({"contrast": float("nan")}, r"data.contrast is nan"),
        ({"occlusion_prob": 2.0}, r"from 0 to 1"),
        ({"occlusion_size": (0.5, 0.2)}, r"data.occlusion_size is .*two numbers from 0.01 to 2, the smaller first"),
        ({"crop_scale": (1.0,)}, r"data.crop_scale .*two numbers from 0.1 to 2"),
        ({"crop_scale": (0.0, 1.0)}, r"data.crop_scale"),
        ({"keypoint_noise": 1.1}, r"data.keypoint_noise .*from 0 to 1"),
        ({"max_rotation": 200.0}, r"from 0 to 180"),
        ({"flip_prob": 1.1}, r"from 0 to 1"),
    ],
)
def test_values_out_of_their_range_are_named(prepared_few, change, text):
    with pytest.raises(ConfigError, match=text):
        loader(prepared_few, **change)


@pytest.mark.parametrize("side", ["left", "right"])
def test_meshes_turn_with_their_pictures_into_right_hands(side):
    """Posing the right hand gives the places in space, which seen from afar are the places in the picture."""
    rng = np.random.default_rng(0)
    pose, betas = rng.normal(0, 0.5, (16, 3)).astype(np.float32), rng.normal(size=10).astype(np.float32)
    points = np.asarray(pose_hand(load_open_hand(side), pose, betas, np.zeros(3)).keypoints)
    places = 100 * points[:, :2] + 40
    record = dataclasses.replace(
        make_record(3),
        side=side,
        hand_model="open_hand",
        pose=pose,
        betas=betas,
        keypoints_2d=np.column_stack([places, np.ones(21)]).astype(np.float32),
        keypoints_3d=np.column_stack([points + 1, np.ones(21)]).astype(np.float32),
    )
    names = ("pose", "betas", "mesh_known", "keypoints_3d", "keypoints_3d_known", "keypoints", "is_right")
    spec, right = dict.fromkeys(names, ANY), load_open_hand("right")
    for seed in range(4):
        made = example(record, seed, spec, only_right=True, max_rotation=90.0)
        assert made["is_right"] and made["mesh_known"] and made["keypoints_3d_known"].all()
        posed = np.asarray(pose_hand(right, made["pose"], made["betas"], np.zeros(3)).keypoints)
        np.testing.assert_allclose(posed - posed[0], made["keypoints_3d"], atol=1e-5)
        seen, flat = made["keypoints"] - made["keypoints"][0], made["keypoints_3d"][:, :2]
        np.testing.assert_allclose(seen, flat * np.linalg.norm(seen) / np.linalg.norm(flat), atol=1e-2)
    other = example(record, 0, spec, only_right=True, hand_model="mano")
    assert not other["mesh_known"]


def test_a_hand_beside_the_axis_is_posed_as_its_crop_sees_it():
    """Seen from afar, places in the window are those in space of a camera that looks at the hand."""
    rng, focal, place = np.random.default_rng(0), 2000.0, np.array([2.0, -1.5, 20.0])
    pose, betas = rng.normal(0, 0.5, (16, 3)).astype(np.float32), np.zeros(10, np.float32)
    points = np.asarray(pose_hand(load_open_hand("right"), pose, betas, np.zeros(3)).keypoints)
    center = 40 - focal * place[:2] / place[2]
    places = focal * (points + place)[:, :2] / (points + place)[:, 2:] + center
    record = dataclasses.replace(
        make_record(3),
        side="right",
        hand_model="open_hand",
        pose=pose,
        betas=betas,
        camera=np.array([focal, focal, *center], np.float32),
        keypoints_2d=np.column_stack([places, np.ones(21)]).astype(np.float32),
        keypoints_3d=np.column_stack([points + place, np.ones(21)]).astype(np.float32),
    )
    names = ("pose", "betas", "keypoints_3d", "keypoints")
    made = example(record, 0, dict.fromkeys(names, ANY), only_right=True, max_rotation=90.0)
    posed = np.asarray(pose_hand(load_open_hand("right"), made["pose"], made["betas"], np.zeros(3)).keypoints)
    np.testing.assert_allclose(posed - posed[0], made["keypoints_3d"], atol=1e-5)
    seen, flat = made["keypoints"] - made["keypoints"][0], made["keypoints_3d"][:, :2]
    misses = np.linalg.norm(seen - flat * np.linalg.norm(seen) / np.linalg.norm(flat), axis=1)
    assert misses.max() < 0.02 * np.ptp(seen, axis=0).max()


def test_records_without_a_mesh_say_so():
    names = ("pose", "betas", "mesh_known", "keypoints_3d", "keypoints_3d_known")
    made = example(make_record(3), 0, dict.fromkeys(names, ANY))
    assert not made["mesh_known"] and not made["keypoints_3d_known"].any()
    assert not any(made[name].any() for name in ("pose", "betas", "keypoints_3d"))
