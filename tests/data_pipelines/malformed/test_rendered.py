import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import FrozenConfigDict
from PIL import Image

from configs.tiny_inpainting import get_config
from data_pipelines.examples import ExampleMaker
from data_pipelines.malformed.edits import BY_NAME, describe
from data_pipelines.malformed.frozen import check_frozen, fingerprint, recipe_hash
from data_pipelines.malformed.rendered import MalformedJob, malformed_records
from data_pipelines.options import LoaderConfig
from data_pipelines.precompute import Failures
from handjax.diffusion.model import find_model
from handjax.diffusion.tokenizer import Tokenizer
from handjax.errors import InputError

SETS = Path(__file__).parents[3] / "docs" / "benchmarks" / "anatomy_sets.json"
SIZE = 64
NAMES = [f"eval:{number}" for number in range(32)]


@pytest.fixture(scope="module")
def made():
    failures = Failures()
    return list(malformed_records(NAMES, seed=3, size=SIZE, failures=failures)), failures


@pytest.mark.slow
def test_every_hand_is_a_record_or_counted_as_out_of_sight(made):
    records, failures = made
    assert len(records) + failures.left_out["edit out of sight"] == len(NAMES)
    assert len(records) > 0.6 * len(NAMES)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_in_any_company(made):
    records, _ = made
    wanted = records[5]
    name = wanted.id.removeprefix("malformed-3-").replace("-", ":")
    again = next(malformed_records([name], seed=3, size=SIZE, failures=Failures()))
    assert again.id == wanted.id and again.image == wanted.image and again.caption == wanted.caption
    other = next(malformed_records(["train:0", "train:1", "train:2"], seed=3, size=SIZE, failures=Failures()))
    assert other.image not in {record.image for record in records}


@pytest.mark.slow
def test_keypoints_lie_on_the_mask_that_is_mirrored_with_them(made):
    records, _ = made
    assert {record.side for record in records} == {"left", "right"}
    inside = []
    for record in records:
        mask = np.asarray(Image.open(io.BytesIO(record.mask)))
        if record.edit not in ("missing_finger", "extra_joint"):
            columns, rows = np.clip(record.keypoints_2d[:, :2].astype(int), 0, SIZE - 1).T
            inside.append((mask[rows, columns] > 100).mean())
    assert np.mean(inside) > 0.9


@pytest.mark.slow
def test_depth_is_of_the_hand_and_nearer_is_brighter(made):
    """Keypoints in space, which are not made of the picture, tell how near each place is."""
    correlations = []
    for record in made[0]:
        depth, mask = (np.asarray(Image.open(io.BytesIO(png))) for png in (record.depth, record.mask))
        assert depth.max() == 255 and depth[depth > 0].min() == 51
        assert (mask[depth > 0] > 0).all() and (depth > 0).sum() < (mask > 0).sum()
        columns, rows = record.keypoints_2d[:, :2].astype(int).clip(0, SIZE - 1).T
        on_hand = depth[rows, columns] > 0
        if on_hand.sum() > 10 and record.edit not in ("missing_finger", "extra_joint"):
            correlations.append(np.corrcoef(depth[rows, columns][on_hand], record.keypoints_3d[on_hand, 2])[0, 1])
    assert len(correlations) > 10 and np.median(correlations) < -0.8


@pytest.mark.slow
def test_the_tiny_model_can_learn_from_them(made):
    """An example has every field that is encoded, and a caption that says what is wrong."""
    options = LoaderConfig.from_config(FrozenConfigDict({"path": "", **get_config().data, "image_size": SIZE}))
    fields = ("image", "mask", "depth", "keypoints", "keypoints_valid", "box_side", "input_ids")
    make = ExampleMaker(options, dict.fromkeys(fields, jax.ShapeDtypeStruct((), np.float32)), training=True)
    examples = [make(record, np.random.default_rng(number)) for number, record in enumerate(made[0])]
    assert all(example["image"].shape == (SIZE, SIZE, 3) and example["depth"].max() > 0.8 for example in examples)
    captions = [record.caption for record in made[0] if record.edit != "none"]
    assert len(captions) > 10 and all(" with " in caption or " whose " in caption for caption in captions)


def test_no_caption_is_too_long_for_the_tiny_model():
    """The longest that each edit can have: three fingers, of the longest names."""
    config = get_config()
    tokenizer = Tokenizer(str(find_model(config.data.tokenizer)), config.data.max_length)
    captions = [f"a rendered photo of {describe(edit, 'right', (1, 2, 3), 6)}" for edit in BY_NAME.values()]
    longest = max(len(tokenizer.bare(caption)) for caption in captions)
    assert 15 < longest <= config.data.max_length - 2
    assert len(np.unique(tokenizer(captions), axis=0)) == len({edit.words for edit in BY_NAME.values()})


@pytest.mark.slow
def test_records_say_what_they_show(made):
    records, _ = made
    for record in records:
        edit = BY_NAME[record.edit]
        if edit.name in ("extra_finger", "missing_finger", "second_thumb"):
            assert record.fingers in (3, 4, 6, 7)
        elif edit.kind in ("fused",):
            assert record.fingers is None
        else:
            assert record.fingers in (5, None)
        assert record.side in record.caption


def test_the_test_set_has_the_committed_recipe():
    frozen = json.loads(SETS.read_text())
    assert recipe_hash() == frozen["rendered"]["recipe_sha256"]
    assert recipe_hash(seed=1) != recipe_hash()


def test_training_and_testing_share_no_hand():
    splits = MalformedJob(100).splits()
    assert len(splits["train"]) == 100 and not set(splits["train"]) & set(splits["eval"])
    assert MalformedJob(100, only=("eval",)).splits() == {"eval": splits["eval"]}
    with pytest.raises(InputError, match="no split 'test'; they have train, eval"):
        MalformedJob(100, only=("test",)).splits()


@pytest.mark.slow
def test_other_labels_are_refused_and_other_pixels_told(made, tmp_path):
    records, _ = made
    found = fingerprint(records)
    assert found == fingerprint(reversed(records)) and found["records"] == len(records)
    table = tmp_path / "sets.json"
    table.write_text(json.dumps({"rendered": found}))
    assert check_frozen(found, table, "rendered")
    assert not check_frozen(found | {"pictures_sha256": ""}, table, "rendered")
    with pytest.raises(InputError, match="not the"):
        check_frozen(fingerprint(records[1:]), table, "rendered")
