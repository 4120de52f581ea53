import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.malformed.edits import BY_NAME
from data_pipelines.malformed.frozen import check_frozen, fingerprint, recipe_hash
from data_pipelines.malformed.rendered import MalformedJob, malformed_records
from data_pipelines.precompute import Failures
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
