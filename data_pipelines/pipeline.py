"""The Apache Beam pipeline that makes shards: one element is one shard, written by the worker that made it.

Nothing but plans travels through Beam. So any runner serves whose workers see the folders, and what was finished when
a run ends, however it ends, is on disk.
"""

import contextlib
import logging
import os
import re
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from tqdm import tqdm

from data_pipelines.shards import Job, RecordMaker, Shard, count_done, make_shard
from handjax.errors import ConfigError, InputError

LOCAL_RUNNER = "DirectRunner"
_LOG = "workers.log"
_PIDS = "workers.pid"
_POLL_SECONDS = 0.5
_WORKER_ENVIRONMENT = {
    "NPROC": "1",  # XLA's sums depend on its number of threads, and records should not depend on the workers'
    "JAX_PLATFORMS": "cpu",  # workers cannot share an accelerator
}
_USER_ERROR = re.compile(r"^handjax\.errors\.\w+: (.*?)(?: \[while running .*)?$", re.MULTILINE)
_LOST_WORKER = "Worker subprocess exited"


class MakeShards(beam.DoFn):
    """Makes each shard that it is given."""

    def __init__(self, job: Job, folder: Path):
        self._job = job
        self._folder = folder

    def setup(self) -> None:
        self._make_records: RecordMaker = self._job.open()

    def process(self, shard: Shard) -> None:
        make_shard(shard, self._make_records, self._folder)


def run_pipeline(
    job: Job,
    shards: Sequence[Shard],
    folder: Path,
    done: int = 0,
    runner: str = LOCAL_RUNNER,
    workers: int = 1,
    options: Sequence[str] = (),
) -> None:
    """Makes shards and shows how it goes on stderr.

    Args:
      job: what to prepare.
      shards: those to make.
      folder: where to write them; every worker must see it and the job's inputs by the same path.
      done: number of inputs in shards that were kept, for the progress.
      runner: name of a Beam runner.
      workers: processes of the local runner; 1 works in this one.
      options: further options of Beam, as on its command line.

    Raises:
      ConfigError: no such runner, or an option that Beam does not know.
      InputError: a shard cannot be written, or a worker was killed; what is finished stays.
    """
    with _hold_back_logs():
        pipeline = _pipeline(runner, min(workers, len(shards)), folder, options)
        made = pipeline | "plan" >> beam.Create(list(shards)) | "spread" >> beam.Reshuffle()
        made | "make" >> beam.ParDo(MakeShards(job, folder))
        failure = _run(pipeline, shards, folder, done)
    if failure is None:
        return
    if told := _USER_ERROR.search("".join(traceback.format_exception_only(failure))):
        raise InputError(told[1]) from failure
    if runner == LOCAL_RUNNER:
        raise failure
    raise ConfigError(f"--runner {runner}: {str(failure).strip().splitlines()[-1]}") from failure


def _pipeline(runner: str, workers: int, folder: Path, options: Sequence[str]) -> beam.Pipeline:
    if runner != LOCAL_RUNNER:
        try:
            return beam.Pipeline(runner=runner, options=_options(options))
        except ValueError as error:
            raise ConfigError(f"--runner {runner}: {error}") from error
    # Beam's own DirectRunner would first try to download another runner
    if workers == 1:
        return beam.Pipeline(runner=FnApiRunner(), options=_options(options))
    local = FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(_worker_command(folder)))
    return beam.Pipeline(runner=local, options=_options([f"--direct_num_workers={workers}", *options]))


def _options(flags: Sequence[str]) -> PipelineOptions:
    options = PipelineOptions(list(flags))
    known = options.get_all_options()
    unknown = [flag for flag in flags if flag.removeprefix("--").partition("=")[0] not in known]
    if unknown:
        raise ConfigError(f"--beam {unknown[0].removeprefix('--')}: Beam has no such option; write NAME=VALUE")
    return options


def _worker_command(folder: Path) -> str:
    """Line by which a shell becomes a worker; the file of process ids tells whom to end when another one is lost."""
    variables = " ".join(f"{name}={value}" for name, value in _WORKER_ENVIRONMENT.items())
    pids, log, python = (shlex.quote(str(path)) for path in (folder / _PIDS, folder / _LOG, sys.executable))
    return f"echo $$ >>{pids}; exec env {variables} {python} -m apache_beam.runners.worker.sdk_worker_main 2>>{log}"


def _run(pipeline: beam.Pipeline, shards: Sequence[Shard], folder: Path, done: int) -> BaseException | None:
    """Runs the pipeline in another thread, because Beam waits for ever for a worker that was killed.

    Returns:
      What the pipeline failed by.

    Raises:
      InputError: a worker was killed.
    """
    failures: list[BaseException] = []
    thread = threading.Thread(target=_execute, args=(pipeline, failures), daemon=True)
    total = done + sum(len(shard.names) for shard in shards)
    with _watched_threads() as lost, tqdm(total=total, initial=done, desc="precompute", unit="input") as bar:
        thread.start()
        while thread.is_alive() and not lost:
            thread.join(_POLL_SECONDS)
            bar.update(done + count_done(shards, folder) - bar.n)
        if lost:
            _end_workers(folder / _PIDS)
            time.sleep(_POLL_SECONDS)  # Beam's other threads fail in their turn and have nothing more to tell
    if lost:
        raise InputError(
            f"{lost[0]} before its work was done (killed, or out of memory; see {folder / _LOG}); run the same command "
            "again, finished shards are kept"
        )
    for name in (_PIDS, _LOG):
        (folder / name).unlink(missing_ok=True)
    return failures[0] if failures else None


def _execute(pipeline: beam.Pipeline, failures: list[BaseException]) -> None:
    try:
        pipeline.run().wait_until_finish()
    except BaseException as error:  # told by the thread that waits
        failures.append(error)


@contextlib.contextmanager
def _watched_threads() -> Iterator[list[str]]:
    """Yields a list that receives what Beam's threads say of a worker that ended; other talk of theirs is held back."""
    lost: list[str] = []

    def note(arguments: threading.ExceptHookArgs) -> None:
        if str(arguments.exc_value).startswith(_LOST_WORKER):
            lost.append(str(arguments.exc_value))

    before, threading.excepthook = threading.excepthook, note
    try:
        yield lost
    finally:
        threading.excepthook = before


def _end_workers(pids: Path) -> None:
    for pid in map(int, pids.read_text().split()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _hold_back_logs() -> Iterator[None]:
    """Beam logs whole tracebacks of what it raises too."""
    logger = logging.getLogger("apache_beam")
    before, logger.level = logger.level, logging.CRITICAL + 1
    try:
        yield
    finally:
        logger.setLevel(before)
