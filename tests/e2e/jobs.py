"""Jobs of several processes on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from launch.distributed import LOST_STATUS

DEVICES = 2
PEER_TIMEOUT = 10


class Job:
    """`count` processes of as many devices each, which train into one folder."""

    def __init__(self, workdir: Path, count: int, *fields: str, devices: int = DEVICES):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        command = ["--coordinator", address, "--processes", str(count), "--peer-timeout", str(PEER_TIMEOUT)]
        self.processes = [start(workdir, devices, *command, "--process", str(k), *fields) for k in range(count)]

    def wait(self) -> list[int]:
        return [process.wait(120) for process in self.processes]


def start(workdir: Path, devices: int, *more: str) -> subprocess.Popen:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags}
    command = [sys.executable, "-m", "launch.train", "--config", "tests/training/toy_config.py:slow"]
    command += ["--workdir", str(workdir), *more]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def until_saved(workdir: Path, process: subprocess.Popen) -> None:
    while not any(path.name.isdecimal() for path in workdir.glob("checkpoints/*")):
        assert process.poll() is None
        time.sleep(0.05)


def lose_a_process(workdir: Path) -> None:
    """SIGKILL to one of two: both parents end in time with one line, the other's child included."""
    job = Job(workdir, 2, "--config.steps=4000", "--config.eval_every=0", "--config.preview_every=0")
    until_saved(workdir, job.processes[0])
    children = subprocess.run(["pgrep", "-P", str(job.processes[1].pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[0]), signal.SIGKILL)
    start_of_end = time.monotonic()
    assert job.wait() == [LOST_STATUS] * 2
    assert time.monotonic() - start_of_end < 3 * PEER_TIMEOUT
    last = job.processes[0].stderr.read().strip().splitlines()[-1]
    assert last.startswith("error: a process of this job died or hung") and "newest checkpoint" in last
