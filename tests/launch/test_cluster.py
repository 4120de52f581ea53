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
from launch.distributed import LOST_STATUS

FOLDER = Path(launch.__file__).parent / "cluster"
TRAIN = """#!/usr/bin/env bash
echo "$@" > "$HERE/asked"
trap 'exit 75' TERM
touch "$HERE/running"
[ -e "$HERE/finish" ] && exit 0
for status in 2 70 143; do [ -e "$HERE/$status" ] && exit $status; done
while true; do sleep 0.05; done
"""


@pytest.fixture
def slurm(tmp_path):
    """A folder with a `python` that trains until it is asked to end, and a `scontrol` that writes down what it does."""
    for name, text in (
        ("python", TRAIN),
        ("srun", '#!/usr/bin/env bash\ntouch "$HERE/several"\nexec "$@"\n'),
        ("scontrol", '#!/usr/bin/env bash\necho "$@" > "$HERE/scontrol.log"\n'),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_NAME": "hands", "SLURM_JOB_ID": "17", "HERE": str(tmp_path)}
    environment = os.environ | job | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def start(*arguments, nodes="1"):
        script = ["bash", str(FOLDER / "slurm.sbatch"), *arguments]
        return subprocess.Popen(
            script, env=environment | {"SLURM_NNODES": nodes}, cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )

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


@pytest.mark.parametrize(("file", "status"), [("finish", 0), (str(USER_ERROR_STATUS), USER_ERROR_STATUS)])
def test_slurm_does_not_queue_again_what_is_done_or_wrong(slurm, file, status):
    folder, start = slurm
    (folder / file).touch()
    assert start("sgm.py").wait(20) == status
    assert not (folder / "scontrol.log").exists()


@pytest.mark.parametrize("status", [LOST_STATUS, 128 + signal.SIGTERM])
def test_slurm_queues_again_what_lost_a_node_or_was_ended_early(slurm, status):
    folder, start = slurm
    (folder / str(status)).touch()
    assert start("sgm.py").wait(20) == status
    assert (folder / "scontrol.log").read_text() == "requeue 17\n"


def test_slurm_starts_a_process_a_node(slurm):
    folder, start = slurm
    (folder / "finish").touch()
    assert start("sgm.py", "--config.steps=5", nodes="4").wait(20) == 0
    assert (folder / "several").exists()
    asked = "-m launch.train --config sgm.py --workdir runs/hands-17 --config.steps=5 --distributed\n"
    assert (folder / "asked").read_text() == asked


def test_slurm_wants_a_recipe(slurm):
    _, start = slurm
    job = start()
    assert "give a recipe" in job.communicate()[1] and job.returncode == 1


EARLY = 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("file", "ignored"),
    [
        ("kubernetes.yaml", (PREEMPTED_STATUS, EARLY)),
        ("kubernetes_nodes.yaml", (LOST_STATUS, PREEMPTED_STATUS, EARLY)),
    ],
)
def test_the_kubernetes_jobs_are_valid(file, ignored):
    *services, job = yaml.safe_load_all((FOLDER / file).read_text())
    for document in (*services, job):
        validate.validate(document, "1.31", strict=True)
    rules = {
        tuple(rule["onExitCodes"]["values"]): rule["action"]
        for rule in job["spec"]["podFailurePolicy"]["rules"]
        if "onExitCodes" in rule
    }
    assert rules == {ignored: "Ignore", (USER_ERROR_STATUS,): "FailJob"}
    del job["spec"]["template"]["spec"]["containers"][0]["name"]
    with pytest.raises(validate.ValidationError):
        validate.validate(job, "1.31", strict=True)


def test_the_processes_of_several_nodes_find_each_other():
    service, job = yaml.safe_load_all((FOLDER / "kubernetes_nodes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    host, port = arguments[arguments.index("--coordinator") + 1].split(":")
    # an indexed job names its pods JOB-INDEX, the service gives them addresses
    assert host == f"{job['metadata']['name']}-0.{pod['subdomain']}" and pod["subdomain"] == service["metadata"]["name"]
    assert (
        service["spec"]["selector"] == {"job-name": job["metadata"]["name"]} and service["spec"]["clusterIP"] == "None"
    )
    assert pod["containers"][0]["ports"] == [{"containerPort": int(port)}]
    assert (
        int(arguments[arguments.index("--processes") + 1]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    )
