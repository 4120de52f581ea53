"""Several processes that train as one job, each of them a child of a parent that says what became of it."""

import argparse
import os
import signal
import subprocess
import sys

import jax

from handjax.errors import ConfigError
from handjax.training.stall import STALLED_STATUS
from launch.command import INTERRUPTED_STATUS, PREEMPTED_STATUS, USER_ERROR_STATUS

PEER_TIMEOUT = 100
"""Seconds without a sign of life after which a process counts as dead or hung, and the others end."""
LOST_STATUS = STALLED_STATUS
"""A process was lost; the same command goes on."""
_CHILD = "HANDJAX_SUPERVISED"


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `join` reads."""
    group = parser.add_argument_group("several processes")
    add = group.add_argument
    add("--distributed", action="store_true", help="join the processes that Cloud TPU, Slurm, … or Open MPI started")
    add("--coordinator", metavar="HOST:PORT", help="where process 0 listens, in place of --distributed")
    add("--processes", type=int, metavar="N", help="how many there are, with --coordinator")
    add("--process", type=int, metavar="I", help="which of them this is, from 0, with --coordinator")
    add("--peer-timeout", type=int, default=PEER_TIMEOUT, metavar="S", help="end when one is silent for so long")


def is_one_of_several(arguments: argparse.Namespace) -> bool:
    """Whether flags ask for several processes.

    Raises:
      ConfigError: flags that do not fit each other.
    """
    numbers = (arguments.processes, arguments.process)
    if arguments.coordinator is None:
        if numbers != (None, None):
            raise ConfigError("--processes and --process say nothing without --coordinator HOST:PORT; give it too")
        return arguments.distributed
    if arguments.distributed or None in numbers:
        raise ConfigError("--coordinator goes with --processes and --process, and not with --distributed")
    if not 0 <= arguments.process < arguments.processes:
        raise ConfigError(f"--process is {arguments.process}; it must be from 0 to {arguments.processes - 1}")
    return True


def join(arguments: argparse.Namespace) -> None:
    """Waits for the other processes; from then on `jax.devices()` are those of all.

    Raises:
      ConfigError: the environment does not say who they are.
    """
    try:
        jax.distributed.initialize(
            arguments.coordinator,
            arguments.processes,
            arguments.process,
            heartbeat_timeout_seconds=arguments.peer_timeout,
            shutdown_timeout_seconds=arguments.peer_timeout,  # of a process that ends alone, by an error of its own
        )
    except ValueError as error:
        if arguments.coordinator:
            raise ConfigError(f"--coordinator {arguments.coordinator}: {error}; write HOST:PORT") from error
        raise ConfigError(
            "--distributed: no Cloud TPU, Slurm, Kubernetes or Open MPI is found; "
            "give --coordinator, --processes and --process"
        ) from error


def is_supervised() -> bool:
    """Whether this is the child."""
    return _CHILD in os.environ


def supervise(module: str) -> int:
    """Runs this very command as a child, hands signals on to it, and says in one line when a process was lost.

    Args:
      module: of the command.

    Returns:
      The child's status, or `LOST_STATUS`.
    """
    child = subprocess.Popen([sys.executable, "-m", module, *sys.argv[1:]], env=os.environ | {_CHILD: "1"})
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda number, frame: child.send_signal(number))
    status = child.wait()
    if status in (0, USER_ERROR_STATUS, PREEMPTED_STATUS, INTERRUPTED_STATUS):
        return status
    how = f"signal {-status}" if status < 0 else f"status {status}"
    print(
        f"error: a process of this job died or hung, and this one ended with it ({how}; a traceback above tells why); "
        "start all processes again with the same command, the run goes on from its newest checkpoint",
        file=sys.stderr,
    )
    return LOST_STATUS
