"""A published data set goes through the pipeline as photos do."""

import dataclasses
import json
import os
import pickle

import pytest

from data_pipelines.datasets.job import DatasetJob
from data_pipelines.precompute import Failures
from data_pipelines.shards import Job, plan_shards
from handjax.errors import InputError
from tests.data_pipelines.datasets.test_rhd import write_rhd


@pytest.fixture
def job(tmp_path):
    write_rhd(tmp_path)
    return DatasetJob("rhd", str(tmp_path))


def test_workers_get_settings_and_read_the_rest_themselves(job):
    assert isinstance(job, Job) and job.citation.startswith("@")
    plan = plan_shards(job)
    sent = pickle.loads(pickle.dumps(job))
    assert sent == job and "_chosen" in vars(job) and set(vars(sent)) == {f.name for f in dataclasses.fields(job)}
    assert plan_shards(sent) == plan
    assert {shard.split: sorted(shard.names) for shard in plan} == {
        "train": ["train:training/00000", "train:training/00001"],
        "eval": ["eval:evaluation/00000"],
    }
    failures = Failures()
    ids = [record.id for record in sent.open()(["train:training/00001"], failures)]
    assert ids == ["training/00001#1"] and failures.counts() == {"too few keypoints are seen": 1}
    assert failures.items == []


def test_a_picture_that_changes_is_made_again(job, tmp_path):
    before = {shard.split: shard.fingerprint for shard in plan_shards(job)}
    os.utime(tmp_path / "training" / "color" / "00001.png", ns=(1, 1))
    after = {shard.split: shard.fingerprint for shard in plan_shards(dataclasses.replace(job))}
    assert after["eval"] == before["eval"] and after["train"] != before["train"]


def test_captions_of_pictures_go_before_the_data_sets_own(job, tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text(json.dumps({"input": "training/color/00001.png", "caption": "A hand waves."}) + "\n")
    captioned = dataclasses.replace(job, captions=path)
    (record,) = captioned.open()(["train:training/00001"], Failures())
    assert record.caption == "A hand waves."
    before, after = ({shard.split: shard.fingerprint for shard in plan_shards(one)} for one in (job, captioned))
    assert before["train"] != after["train"] and before["eval"] == after["eval"]


def test_captions_of_other_pictures_are_refused(job, tmp_path):
    path = tmp_path / "captions.jsonl"
    path.write_text(json.dumps({"input": "../elsewhere/1.jpg", "caption": "A hand waves."}) + "\n")
    with pytest.raises(InputError, match=r"captions.jsonl: has no caption of a photo in"):
        plan_shards(dataclasses.replace(job, captions=path))
