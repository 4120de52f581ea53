"""Training under faults: `python -m tests.e2e.faults --kills 50 --terms 10`, in short form a test.

A run is killed at random times, also while it saves, and asked to end; a checkpoint is cut short, a disk is full. Every
time it must go on, repeat at most one interval, and end with the very bits of the run that was left alone. Of two
processes one is lost: the other ends as well, with a clear line.
"""

import argparse
import dataclasses
import json
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from handjax.files import write_json
from handjax.tasks import make_task
from handjax.training.checkpoints import restore_params
from handjax.training.config import load_config
from launch import command
from launch.command import PREEMPTED_STATUS, USER_ERROR_STATUS
from tests.e2e.jobs import lose_a_process
from tests.training.reports import read_reports

FAULTS = ("killed", "killed while saving", "asked to end", "cut short")
SMALLEST_FILE = 200_000
"""Bytes that a file may have where the disk is full: numbers fit, the weights of `FULL` do not."""
FULL = ["--config.features=400", "--config.preview_every=0"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained."""

    config: str
    fields: list[str]
    every: int

    @classmethod
    def toy(cls, steps: int, every: int = 20) -> "Recipe":
        fields = [f"--config.steps={steps}", f"--config.checkpoint.every={every}", "--config.log_every=1"]
        return cls("tests/training/toy_config.py:slow", [*fields, "--config.eval_every=0"], every)

    def command(self, workdir: Path, *more: str) -> list[str]:
        command = [sys.executable, "-m", "launch.train", "--config", self.config, "--workdir", str(workdir)]
        return [*command, *self.fields, *more]


class FaultyRun:
    """One run and all that happens to it.

    Args:
      recipe: what is trained.
      workdir: where.
      moments: when.
    """

    def __init__(self, recipe: Recipe, workdir: Path, moments: random.Random):
        self.recipe, self.workdir, self.moments = recipe, workdir, moments
        self.faults = Counter(dict.fromkeys(FAULTS, 0))
        self.repeated = 0
        self._reported = 0
        workdir.mkdir()

    def kill(self, longest: float) -> None:
        """SIGKILL up to `longest` seconds after the next checkpoint, or in the middle of one."""
        saving = self.moments.random() < 0.5
        log = self._strike(signal.SIGKILL, -signal.SIGKILL, saving, self.moments.uniform(0, longest))
        self._resumed(log)
        self.faults["killed while saving" if saving else "killed"] += 1

    def ask_to_end(self, longest: float) -> None:
        """SIGTERM: saves, and says with its status that it did."""
        log = self._strike(signal.SIGTERM, PREEMPTED_STATUS, False, self.moments.uniform(0, longest))
        self._resumed(log)
        said = re.search(r"step (\d+) is saved", log)
        assert said and int(said[1]) == newest(self.workdir), log[-500:]
        self.faults["asked to end"] += 1

    def cut_short(self) -> None:
        """The newest checkpoint loses half of each of its files of weights; the run goes on from the one before."""
        *_, before, last = saved(self.workdir)
        for path in (self.workdir / "checkpoints" / str(last) / "params").rglob("*"):
            if path.is_file():
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        self._reported = before
        self.faults["cut short"] += 1

    def finish(self) -> None:
        """Lets the run come to its end."""
        done = subprocess.run(self.recipe.command(self.workdir), stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        self._resumed(done.stderr)

    def _strike(self, number: signal.Signals, status: int, saving: bool, delay: float) -> str:
        before, log = self._written(), self.workdir / "log"
        with log.open("w") as stream:
            process = subprocess.Popen(self.recipe.command(self.workdir), stderr=stream)

            def until(ready: Callable[[], bool]) -> None:
                while not ready():
                    assert process.poll() is None, log.read_text()[-2000:]
                    time.sleep(0.002)

            until(lambda: self._written() != before and newest(self.workdir) >= before[0])
            if saving:
                until(lambda: any((self.workdir / "checkpoints").glob("*tmp*")))
            else:
                time.sleep(delay)
            process.send_signal(number)
            assert process.wait() == status, log.read_text()[-2000:]
        return log.read_text()

    def _written(self) -> tuple[int, int]:
        """The newest checkpoint and when it was written; one that was cut short is written again."""
        step = newest(self.workdir)
        folder = self.workdir / "checkpoints" / str(step)
        return step, folder.stat().st_mtime_ns if step else 0

    def _resumed(self, log: str) -> None:
        """At most one interval is repeated; the newest checkpoint may be one step ahead of the last report."""
        found = re.search(r"resuming from step (\d+)", log)
        resumed = int(found[1]) if found else 0
        if self._reported:
            assert resumed > 0 and self._reported - self.recipe.every <= resumed <= self._reported + 1, log[-500:]
            self.repeated = max(self.repeated, self._reported - resumed)
        self._reported = max(reported(self.workdir))


def newest(workdir: Path) -> int:
    """The step of the newest checkpoint that is whole; 0 without."""
    return max(saved(workdir), default=0)


def saved(workdir: Path) -> list[int]:
    """The steps of the checkpoints that are whole."""
    return sorted(int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdecimal())


def reported(workdir: Path) -> list[int]:
    """The steps in metrics.jsonl."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def fill_disk(recipe: Recipe, workdir: Path) -> None:
    """A run that cannot write its second checkpoint says so in one line; with room it goes on from the first."""
    first = dataclasses.replace(recipe, fields=[*recipe.fields, *FULL])
    process = subprocess.Popen(first.command(workdir), stderr=subprocess.PIPE, text=True)
    while newest(workdir) == 0:
        assert process.poll() is None
        time.sleep(0.01)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (SMALLEST_FILE, resource.RLIM_INFINITY))
    log = process.communicate()[1]
    assert process.returncode == USER_ERROR_STATUS, log[-2000:]
    said = re.findall("error: (.*)", log)  # perhaps behind the progress bar, which ends no line
    assert len(said) == 1 and "a checkpoint cannot be written (File too large)" in said[0], log[-2000:]
    whole = newest(workdir)
    done = subprocess.run(first.command(workdir), stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and f"resuming from step {whole}" in done.stderr, done.stderr[-2000:]


def check_same(recipe: Recipe, *workdirs: Path) -> None:
    """All runs ended at the last step with the same bits, and reported the same steps."""
    config = load_config(recipe.config, recipe.fields)
    like, _ = make_task(config).init(jax.random.key(0))
    ends = [restore_params(workdir, like) for workdir in workdirs]
    assert [step for step, _ in ends] == [config.steps] * len(workdirs)
    jax.tree.map(np.testing.assert_array_equal, *(params for _, params in ends))
    first, *others = (read_reports(workdir) for workdir in workdirs)
    assert all(other == first for other in others)


def check_faults(recipe: Recipe, folder: Path, kills: int, terms: int, longest: float) -> dict[str, int]:
    """Does everything to one run; returns how often what was done, and the most steps that were repeated."""
    seed = random.randrange(2**32)
    print(f"moments of the faults: seed {seed}", flush=True)
    alone, faulty = folder / "alone", FaultyRun(recipe, folder / "faulty", random.Random(seed))
    subprocess.run(recipe.command(alone), check=True)
    for number in range(kills + terms):
        if number * terms // (kills + terms) != (number + 1) * terms // (kills + terms):
            faulty.ask_to_end(longest)
        else:
            faulty.kill(longest)
        if number == (kills + terms) // 2:
            faulty.cut_short()
    faulty.finish()
    check_same(recipe, alone, faulty.workdir)
    return dict(faulty.faults) | {"most steps repeated": faulty.repeated}


def main() -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--terms", type=int, default=10)
    parser.add_argument("--out", type=Path, help="JSON file for the counts, machine and versions")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        steps = 40 * (arguments.kills + arguments.terms + 2)
        recipe = Recipe.toy(steps)
        counts = check_faults(recipe, Path(folder), arguments.kills, arguments.terms, longest=0.8)
        fill_disk(Recipe.toy(steps=100), Path(folder) / "full")
        lose_a_process(Path(folder) / "lost")
    counts |= {"disk full": 1, "lost process": 1}
    print(json.dumps(counts))
    if arguments.out:
        write_json(arguments.out, {"counts": counts, "steps": steps, **command.environment("orbax-checkpoint")})


if __name__ == "__main__":
    main()
