"""The scheduler's files: valid by their schema, and run against a scheduler that is made up."""

import os
import signal
import subprocess
import time
from pathlib import Path

import kubernetes_validate as validate
import pytest
import yaml

import launch
from launch.command import PREEMPTED_STATUS, USER_ERROR_STATUS

FOLDER = Path(launch.__file__).parent / "cluster"
TRAIN = """#!/usr/bin/env bash
echo "$@" > "$HERE/asked"
trap 'exit 75' TERM
touch "$HERE/running"
[ -e "$HERE/finish" ] && exit 0
[ -e "$HERE/fail" ] && exit 2
while true; do sleep 0.05; done
"""


@pytest.fixture
def slurm(tmp_path):
    """A folder with a `python` that trains until it is asked to end, and a `scontrol` that writes down what it does."""
    for name, text in (("python", TRAIN), ("scontrol", '#!/usr/bin/env bash\necho "$@" > "$HERE/scontrol.log"\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_NAME": "hands", "SLURM_JOB_ID": "17", "HERE": str(tmp_path)}
    environment = os.environ | job | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def start(*arguments):
        script = ["bash", str(FOLDER / "slurm.sbatch"), *arguments]
        return subprocess.Popen(script, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    return tmp_path, start


def test_slurm_hands_on_the_signal_and_queues_the_job_again(slurm):
    folder, start = slurm
    job = start("sgm.py", "--config.steps=5")
    while not (folder / "running").exists():
        assert job.poll() is None
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    assert job.wait(20) == PREEMPTED_STATUS
    assert (folder / "scontrol.log").read_text() == "requeue 17\n"
    asked = "-m launch.train --config sgm.py --workdir runs/hands-17 --config.steps=5\n"
    assert (folder / "asked").read_text() == asked


@pytest.mark.parametrize(("file", "status"), [("finish", 0), ("fail", USER_ERROR_STATUS)])
def test_slurm_does_not_queue_again_what_is_done_or_wrong(slurm, file, status):
    folder, start = slurm
    (folder / file).touch()
    assert start("sgm.py").wait(20) == status
    assert not (folder / "scontrol.log").exists()


def test_slurm_wants_a_recipe(slurm):
    _, start = slurm
    job = start()
    assert "give a recipe" in job.communicate()[1] and job.returncode == 1


def test_the_kubernetes_job_is_valid():
    job = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    validate.validate(job, "1.31", strict=True)
    rules = {
        tuple(rule["onExitCodes"]["values"]): rule["action"]
        for rule in job["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert rules == {(PREEMPTED_STATUS,): "Ignore", (USER_ERROR_STATUS,): "FailJob"}
    del job["spec"]["template"]["spec"]["containers"][0]["name"]
    with pytest.raises(validate.ValidationError):
        validate.validate(job, "1.31", strict=True)
