"""Several processes on one machine train as one, end together, and say why."""

import argparse
import signal

import numpy as np
import pytest

from handjax.errors import ConfigError
from handjax.images import read_image
from launch.command import PREEMPTED_STATUS, USER_ERROR_STATUS
from launch.distributed import LOST_STATUS, add_process_arguments, is_one_of_several
from tests.e2e.faults import newest
from tests.e2e.jobs import DEVICES, Job, lose_a_process, start, until_saved
from tests.training.reports import read_reports


# weights of 400 x 400 are cut over "fsdp", which spans the processes
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_train_as_one(tmp_path, count):
    fields = ["--config.features=400", "--config.parallel.data=1", f"--config.parallel.fsdp={count * DEVICES}"]
    job = Job(tmp_path / "several", count, *fields)
    assert job.wait() == [0] * count
    one = start(tmp_path / "one", count * DEVICES, *fields)
    assert one.wait(120) == 0
    together, alone = (read_reports(tmp_path / name) for name in ("several", "one"))
    assert [line["step"] for line in together] == [0, *range(5, 41, 5)]
    for line, expected in zip(together, alone, strict=True):
        assert line == close_to(expected)
    pictures = [
        read_image(tmp_path / name / "previews" / "step_000040_weights.png").astype(int) for name in ("several", "one")
    ]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def close_to(line):
    """Sums go another way; the guard's counts and the number of the step are whole numbers."""
    return pytest.approx(line, rel=2e-5, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(2, 1), (1, 4, 2)])
def test_another_number_of_processes_goes_on(tmp_path, counts):
    common = ["--config.features=400", "--config.parallel.data=1"]
    for number, count in enumerate(counts):
        devices = 2 * DEVICES // count if count > 1 else DEVICES
        fields = [*common, f"--config.steps={10 * (number + 1)}", f"--config.parallel.fsdp={count * devices}"]
        job = Job(tmp_path / "moved", count, *fields, devices=devices)
        assert job.wait() == [0] * count, job.processes[0].stderr.read()[-2000:]
        assert (f"resuming from step {10 * number}" in job.processes[0].stderr.read()) == bool(number)
    alone = start(tmp_path / "alone", 1, *common, f"--config.steps={10 * len(counts)}")
    assert alone.wait(120) == 0
    moved, expected = (read_reports(tmp_path / name) for name in ("moved", "alone"))
    assert [line["step"] for line in moved] == [line["step"] for line in expected]
    for line, same in zip(moved, expected, strict=True):
        assert {name: line[name] for name in same} == close_to(same)


@pytest.mark.slow
def test_all_end_when_one_is_asked_to_and_go_on_together(tmp_path):
    fields = ["--config.steps=400", "--config.eval_every=0", "--config.preview_every=0"]
    job = Job(tmp_path / "run", 2, *fields)
    until_saved(tmp_path / "run", job.processes[0])
    job.processes[1].send_signal(signal.SIGTERM)
    assert job.wait() == [PREEMPTED_STATUS] * 2
    saved = newest(tmp_path / "run")
    assert f"step {saved} is saved" in job.processes[0].stderr.read()
    again = Job(tmp_path / "run", 2, f"--config.steps={saved + 5}", *fields[1:])
    assert again.wait() == [0, 0]
    assert f"resuming from step {saved}" in again.processes[0].stderr.read()


@pytest.mark.slow
def test_a_dead_process_ends_the_others(tmp_path):
    lose_a_process(tmp_path / "run")


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--processes", "2"], "--coordinator"),
        (["--coordinator", "localhost:1", "--processes", "2"], "--process"),
        (["--coordinator", "localhost:1", "--processes", "2", "--process", "2"], "from 0 to 1"),
        (["--coordinator", "localhost:1", "--distributed"], "not with --distributed"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, what):
    parser = argparse.ArgumentParser()
    add_process_arguments(parser)
    with pytest.raises(ConfigError, match=what):
        is_one_of_several(parser.parse_args(flags))


def test_a_job_that_nobody_started_is_one_line(tmp_path):
    process = start(tmp_path, 1, "--distributed")
    error = process.communicate(timeout=60)[1].strip()
    assert process.returncode == USER_ERROR_STATUS
    assert error.startswith("error: ") and "no Cloud TPU" in error and "\n" not in error


@pytest.mark.slow
def test_a_hung_process_ends_all(tmp_path):
    hang = tmp_path / "hang"
    fields = ["--config.steps=4000", "--config.eval_every=0", "--config.preview_every=0", "--config.stall_after=15"]
    job = Job(tmp_path / "run", 2, *fields, f"--config.data.hang={hang}")
    until_saved(tmp_path / "run", job.processes[0])
    hang.touch()  # the loaders stand still, the signs of life go on: what a file system that does not answer looks like
    assert job.wait() == [LOST_STATUS] * 2
    for process in job.processes:
        said = process.stderr.read()
        assert "no step was done for 15 s" in said
        assert said.strip().splitlines()[-1].startswith("error: a process of this job died or hung")
