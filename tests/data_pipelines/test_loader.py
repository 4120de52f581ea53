import jax
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from data_pipelines.loader import make_loader
from handjax.errors import ConfigError, InputError
from handjax.hand.draw import draw_skeleton
from tests.data_pipelines.conftest import NO_KEYPOINTS, prepare

SIZE = 32
SPEC = {
    "image": jax.ShapeDtypeStruct((SIZE, SIZE, 3), np.float32),
    "mask": jax.ShapeDtypeStruct((SIZE, SIZE, 1), np.float32),
    "depth": jax.ShapeDtypeStruct((SIZE, SIZE, 1), np.float32),
    "skeleton": jax.ShapeDtypeStruct((SIZE, SIZE, 3), np.float32),
    "keypoints": jax.ShapeDtypeStruct((21, 2), np.float32),
    "keypoints_valid": jax.ShapeDtypeStruct((), np.bool_),
    "box_side": jax.ShapeDtypeStruct((), np.float32),
}
IMAGE = {"image": SPEC["image"]}


def loader(path, spec, split="train", seed=0, batch=4, **options):
    processes = {name: options.pop(name) for name in ("process_index", "process_count") if name in options}
    config = FrozenConfigDict({"path": str(path), "image_size": SIZE, **options})
    return iter(make_loader(config, spec, batch, seed, split, **processes))


def levels(batch):
    """The grey level of each example's picture, which names its record."""
    return np.round((batch["image"].mean(axis=(1, 2, 3)) + 1) * 12.75).astype(int)


def test_batches_hold_what_the_task_asks_for(prepared):
    batch = next(loader(prepared, SPEC, "eval"))
    assert set(batch) == set(SPEC)
    for name, spec in SPEC.items():
        assert batch[name].shape == (4, *spec.shape) and batch[name].dtype == spec.dtype, name
    assert set(np.unique(batch["mask"])) <= {0.0, 1.0}
    np.testing.assert_allclose(batch["box_side"], SIZE / 1.6, atol=1e-4)
    np.testing.assert_allclose(np.unique(batch["depth"]), [0.0, 0.6])
    np.testing.assert_allclose(batch["skeleton"][0], draw_skeleton(batch["keypoints"][0], SIZE, SIZE), atol=1e-6)


def test_every_pass_sees_every_record_once_in_an_order_of_its_own(prepared):
    data = loader(prepared, IMAGE, batch=23)
    first, second = levels(next(data)), levels(next(data))
    assert sorted(first) == sorted(second) == list(range(23))
    assert (first != second).any()
    assert (first == levels(next(loader(prepared, IMAGE, batch=23)))).all()
    assert (first != levels(next(loader(prepared, IMAGE, batch=23, seed=1)))).any()
    np.testing.assert_array_equal(levels(next(loader(prepared, IMAGE, batch=23, shuffle=False))).sum(), 22 * 23 // 2)


def test_any_number_of_processes_sees_the_same_global_batches(prepared):
    whole = loader(prepared, IMAGE, batch=6)
    parts = [loader(prepared, IMAGE, batch=6, process_index=p, process_count=3) for p in range(3)]
    for _ in range(5):
        together = np.concatenate([next(part)["image"] for part in parts])
        np.testing.assert_array_equal(together, next(whole)["image"])


def test_state_replays_exactly(prepared):
    data = loader(prepared, SPEC, "eval")
    for _ in range(3):
        next(data)
    state, expected = data.get_state(), [next(data) for _ in range(3)]
    other = loader(prepared, SPEC, "eval")
    other.set_state(state)
    for batch in expected:
        jax.tree.map(np.testing.assert_array_equal, next(other), batch)


def test_augmented_training_state_replays_exactly(prepared):
    data = loader(prepared, IMAGE | {"keypoints": SPEC["keypoints"]})
    next(data)
    state, expected = data.get_state(), next(data)
    next(data)
    data.set_state(state)
    jax.tree.map(np.testing.assert_array_equal, next(data), expected)


def test_records_without_keypoints_are_marked(prepared):
    spec = {name: SPEC[name] for name in ("image", "keypoints", "keypoints_valid", "skeleton")}
    batch = next(loader(prepared, spec, batch=23))
    without = np.flatnonzero(levels(batch) == 0)
    np.testing.assert_array_equal(np.flatnonzero(~batch["keypoints_valid"]), without)
    assert np.isfinite(batch["keypoints"]).all()
    assert batch["skeleton"][without].max() == 0 and batch["skeleton"].max() > 0.5


def test_full_masks_come_as_often_as_asked_and_never_in_evaluation(prepared, prepared_few):
    def share_of_full(split, path, probability):
        options = {"batch": 100, "full_mask_prob": probability, "augment": False}
        masks = next(loader(path, {"mask": SPEC["mask"]}, split, **options))["mask"]
        return masks.min(axis=(1, 2, 3)).mean()

    assert share_of_full("train", prepared_few, 0.3) == pytest.approx(0.3, abs=0.1)
    assert share_of_full("train", prepared_few, 0.0) == 0
    assert share_of_full("eval", prepared, 1.0) == 0


def test_data_sets_are_mixed_by_size_and_weight(prepared, prepared_few):
    def share_of_few(path):
        return (levels(next(loader(path, IMAGE, batch=100))) >= 23).mean()

    assert share_of_few(f"{prepared},{prepared_few}") == pytest.approx(2 / 25, abs=0.01)
    assert share_of_few(f"{prepared}, {prepared_few}@5") == pytest.approx(10 / 33, abs=0.01)
    assert share_of_few(f"{prepared}@0,{prepared_few}") == 1
    with pytest.raises(ConfigError, match="weight"):
        loader(f"{prepared}@often", IMAGE)


def test_held_out_records_come_from_the_data_sets_that_have_some(prepared, prepared_few):
    assert len(next(loader(f"{prepared},{prepared_few}", IMAGE, "eval"))["image"]) == 4
    with pytest.raises(InputError, match="'eval' split"):
        loader(prepared_few, IMAGE, "eval")


def test_captions_become_tokens_and_mirrored_ones_change_sides(prepared):
    spec = {"input_ids": jax.ShapeDtypeStruct((16,), np.int32)}
    options = {"tokenizer": "tiny_inpainting/tokenizer", "max_length": 16, "augment": True}
    plain = next(loader(prepared, spec, "train", batch=23, shuffle=False, flip_prob=0.0, **options))["input_ids"]
    mirrored = next(loader(prepared, spec, "train", batch=23, shuffle=False, flip_prob=1.0, **options))["input_ids"]
    changed = (plain != mirrored).sum(axis=1)
    # the record without a caption stays as it is, all others change the one word
    assert sorted(set(changed)) == [0, 1] and (changed == 0).sum() == 1


@pytest.mark.parametrize(
    "change, split, error, text",
    [
        ({"path": ""}, "train", InputError, "data.path"),
        ({"path": "missing"}, "train", InputError, "no prepared data set"),
        ({}, "test", InputError, "'test' split"),
        ({"colour": 1}, "train", ConfigError, "data.colour"),
        ({"image_size": 48}, "train", ConfigError, "data.image_size"),
    ],
)
def test_what_does_not_fit_is_one_line(prepared, change, split, error, text):
    with pytest.raises(error, match=text):
        loader(**({"path": prepared, "spec": IMAGE, "split": split} | change))


def test_fields_that_records_lack_are_named(prepared):
    with pytest.raises(ConfigError, match="'flow'"):
        loader(prepared, {"flow": SPEC["depth"]})
    with pytest.raises(InputError, match="only a picture has no depth"):
        next(loader(prepared, {"depth": SPEC["depth"]}, batch=23))
    with pytest.raises(ConfigError, match="3 processes"):
        loader(prepared, IMAGE, batch=4, process_index=0, process_count=3)


def test_a_record_without_keypoints_is_trained_on_without_them(tmp_path):
    prepare(tmp_path, train=(NO_KEYPOINTS,))
    spec = {name: SPEC[name] for name in ("mask", "depth", "keypoints_valid")}
    batch = next(loader(tmp_path, spec, batch=1, augment=False))
    assert not batch["keypoints_valid"][0]
    rows, columns = np.nonzero(batch["mask"][0, ..., 0])
    hand = np.nonzero(batch["depth"][0, ..., 0])
    assert rows.min() < hand[0].min() and columns.max() > hand[1].max()
