"""What a restart keeps and what it makes again, and that nothing half-written is ever taken for finished."""

import collections
import dataclasses
import math
import resource
import sys
from pathlib import Path

import pytest

from data_pipelines import shards as sharding
from data_pipelines.features import open_records
from data_pipelines.shards import count_done, file_hash, finish, keep_finished, make_shard, plan_shards, read_sidecar
from handjax.errors import InputError

sys.path.insert(0, str(Path(__file__).parent / "workers"))
from toy_job import ToyJob  # noqa: E402

COUNT = 60
SEVENS = {f"n-{number}" for number in range(COUNT) if number % 10 == 7}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(sharding, "SHARD_SIZE", 10)


def make(job, work, output):
    """Prepares a data set as the command does, in this process; returns what was made now, and the results."""
    shards = plan_shards(job)
    todo = keep_finished(shards, work, output)
    for shard in todo:
        make_shard(shard, job.open(), work)
    return {shard.file for shard in todo}, finish(job, shards, work)


def inodes(folder):
    """What tells a file from one that was written anew under its name; an inode alone may be used again."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("toy-*")}


def with_change(job, name):
    """The job after a change of one input, and the file that the input is in."""
    (shard,) = [shard for shard in plan_shards(job) if name in shard.names]
    return dataclasses.replace(job, changed=name), shard.file


def test_every_input_is_in_one_shard_and_shards_are_alike_in_size():
    shards = plan_shards(ToyJob(2000))
    names = collections.Counter(name for shard in shards for name in shard.names)
    assert len(names) == 2000 and set(names.values()) == {1}
    for split, members in ToyJob(2000).splits().items():
        lengths = [len(shard.names) for shard in shards if shard.split == split]
        assert len(lengths) == math.ceil(len(members) / 10)
        assert max(lengths) < 30  # 10 and six times the deviation of a Poisson distribution
    assert len({shard.fingerprint for shard in shards}) == len(shards)
    assert plan_shards(ToyJob(2000)) == shards


def test_another_input_concerns_the_shard_that_it_falls_into_only():
    few, more = ({s.file: s for s in plan_shards(ToyJob(count))} for count in (COUNT, COUNT + 1))
    assert few.keys() == more.keys(), "choose a COUNT at which the number of shards stays"
    changed = [file for file in few if few[file] != more[file]]
    assert len(changed) == 1 and f"n-{COUNT}" in more[changed[0]].names


def test_readers_find_all_records_and_the_results_tell_what_became_of_every_input(tmp_path):
    _, results = make(ToyJob(COUNT), tmp_path / "work", tmp_path / "none")
    records = [record for split in ("train", "eval") for record in open_records(tmp_path / "work", split)]
    assert {record.id for record in records} == {f"n-{number}" for number in range(COUNT)} - SEVENS
    assert {record.id: record.caption for record in records}["n-12"] == "number 12"
    assert results["pictures"] == COUNT and sum(results["records"].values()) == len(records)
    assert results["failures"]["counts"] == {"a seven": len(SEVENS)}
    assert {failure["input"] for failure in results["failures"]["items"]} == SEVENS
    for shard in results["shards"]:
        path = tmp_path / "work" / shard["file"]
        assert (file_hash(path), path.stat().st_size) == (shard["sha256"], shard["bytes"])
    assert not list((tmp_path / "work").glob("*.progress"))


def test_a_split_of_which_nothing_is_left_is_not_there(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Refused(ToyJob):
        def splits(self):
            return {"train": ["n-1", "n-2"], "eval": ["n-7", "n-17"]}

    work = tmp_path / "work"
    _, results = make(Refused(COUNT), work, tmp_path / "none")
    assert results["records"] == {"train": 2} and results["pictures"] == 4
    assert results["failures"]["counts"] == {"a seven": 2}
    assert [shard["split"] for shard in results["shards"]] == ["train"]
    assert open_records(work, "eval") is None and len(open_records(work, "train")) == 2


def test_a_restart_makes_what_is_missing_damaged_or_half_written_and_keeps_the_rest(tmp_path):
    job, work = ToyJob(COUNT), tmp_path / "work"
    _, whole = make(job, work, tmp_path / "none")
    files = [shard["file"] for shard in whole["shards"]]
    (work / files[0]).unlink()
    (work / files[1]).write_bytes((work / files[1]).read_bytes()[:-1] + b"?")
    (work / f"{files[2]}.json").write_text('{"fingerprint": ')
    (work / f".{files[3]}.left").mkdir()
    before = inodes(work)
    made, again = make(job, work, tmp_path / "none")
    assert made == set(files[:3]) and again == whole
    after = inodes(work)
    assert {name for name in after if after[name] == before.get(name)} == {
        name for file in files[3:] for name in (file, f"{file}.json")
    }
    assert not list(work.glob(".*"))


def test_after_a_change_only_the_shards_that_it_concerns_are_made_again(tmp_path):
    job, output, work = ToyJob(COUNT), tmp_path / "output", tmp_path / "work"
    _, first = make(job, output, tmp_path / "none")
    changed, file = with_change(job, "n-33")
    made, _ = make(changed, work, output)
    assert made == {file}
    kept = {name: inode for name, inode in inodes(work).items() if not name.startswith(file)}
    assert kept == {name: inode for name, inode in inodes(output).items() if not name.startswith(file)}
    assert len(kept) == 2 * (len(first["shards"]) - 1)
    brighter, _ = make(dataclasses.replace(job, level=50), tmp_path / "work2", output)
    assert brighter == {shard["file"] for shard in first["shards"]}


def test_other_code_makes_other_records(tmp_path, monkeypatch):
    job = ToyJob(COUNT)
    make(job, tmp_path / "work", tmp_path / "none")
    monkeypatch.setattr(sharding, "maker_hash", lambda: "of other code")
    assert len(keep_finished(plan_shards(job), tmp_path / "work", tmp_path / "none")) == len(plan_shards(job))


def test_progress_counts_finished_shards_and_those_in_the_making(tmp_path):
    job = ToyJob(COUNT)
    first, second, *_ = shards = plan_shards(job)
    make_shard(first, job.open(), tmp_path)

    def interrupted(names, failures):
        for number, _ in enumerate(names):
            if number == 3:
                raise KeyboardInterrupt
        yield from ()

    with pytest.raises(KeyboardInterrupt):
        make_shard(second, interrupted, tmp_path)
    assert count_done(shards, tmp_path) == len(first.names) + 3
    assert read_sidecar(second, tmp_path) is None and not (tmp_path / second.file).exists()


def test_a_full_disk_is_told_in_one_line_and_leaves_finished_shards_alone(tmp_path):
    job, work = ToyJob(COUNT), tmp_path / "work"
    first, second, *_ = plan_shards(job)
    work.mkdir()
    make_shard(first, job.open(), work)
    before = inodes(work)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # what any user can do; the system says "File too large"
    try:
        with pytest.raises(InputError, match="cannot be written .*File too large.*finished shards are kept") as told:
            make_shard(second, job.open(), work)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(told.value)
    assert {path.name for path in work.iterdir()} - set(before) == {f"{second.file}.progress"}
    made, _ = make(job, work, tmp_path / "none")
    assert first.file not in made and second.file in made
    assert before.items() <= inodes(work).items()


def test_a_shard_that_no_worker_wrote_here_is_missed(tmp_path):
    job = ToyJob(COUNT)
    with pytest.raises(InputError, match="was not made"):
        finish(job, plan_shards(job), tmp_path)
