"""Apache Beam runs the shards: the same bytes on any runner, a lost worker loses nothing."""

import sys
from pathlib import Path

import pytest

from data_pipelines import shards as sharding
from data_pipelines.pipeline import run_pipeline
from data_pipelines.shards import finish, keep_finished, plan_shards
from handjax.errors import ConfigError, InputError

WORKERS = Path(__file__).parent / "workers"
sys.path.insert(0, str(WORKERS))
from toy_job import ToyJob  # noqa: E402

COUNT = 60
KILLED = "n-40"


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(sharding, "SHARD_SIZE", 10)
    monkeypatch.setenv("PYTHONPATH", f"{WORKERS}:{Path.cwd()}")


def run(job, folder, **settings):
    shards = plan_shards(job)
    run_pipeline(job, keep_finished(shards, folder, folder / "none"), folder, **settings)
    return finish(job, shards, folder)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one worker makes, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "SHARD_SIZE", 10)
        return run(ToyJob(COUNT), tmp_path_factory.mktemp("alone"))


def test_two_workers_write_the_same_bytes_as_one(tmp_path, alone, capfd):
    assert run(ToyJob(COUNT), tmp_path, workers=2) == alone
    assert {path.name for path in tmp_path.iterdir()} == {
        name for shard in alone["shards"] for name in (shard["file"], f"{shard['file']}.json")
    } | {"dataset_info.json", "features.json"}
    told = capfd.readouterr().err
    assert f"{COUNT}/{COUNT}" in told and "Traceback" not in told and "INFO" not in told


def test_another_runner_writes_the_same_bytes(tmp_path, alone):
    options = ["--job_endpoint=embed", "--environment_type=LOOPBACK"]
    assert run(ToyJob(COUNT), tmp_path, runner="PortableRunner", options=options) == alone


def test_a_killed_worker_ends_the_run_and_the_next_run_completes_it(tmp_path, alone):
    marker = tmp_path / "kill"
    marker.touch()
    job, folder = ToyJob(COUNT, killed_by=marker), tmp_path / "work"
    with pytest.raises(InputError, match="return code -9 .*run the same command again"):
        run(job, folder, workers=2)
    (lost,) = [shard.file for shard in plan_shards(job) if KILLED in shard.names]
    assert not (folder / lost).exists()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*-of-?????.json")}
    assert run(job, folder, workers=2) == alone
    assert before.items() <= {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}.items()


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_worker_cannot_do_is_told_in_its_own_line(tmp_path, workers, capfd):
    with pytest.raises(InputError) as told:
        run(ToyJob(COUNT, broken=True), tmp_path, workers=workers)
    assert str(told.value) == "toy.bin: no such weights; make them"
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"runner": "NoSuchRunner"}, "--runner NoSuchRunner: Unexpected pipeline runner"),
        ({"options": ["--no_such=1"]}, "--beam no_such=1: Beam has no such option"),
    ],
)
def test_runners_and_options_that_beam_does_not_know_are_refused(tmp_path, settings, text):
    with pytest.raises(ConfigError, match=text):
        run(ToyJob(COUNT), tmp_path, **settings)
