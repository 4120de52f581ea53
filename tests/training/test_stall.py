"""A process that does no step for too long ends itself and says where it was."""

import subprocess
import sys

import pytest

from handjax.training.stall import STALLED_STATUS

RUN = """
import sys, time
from handjax.training.stall import StallWatch
pauses = [float(word) for word in sys.argv[2:]]
with StallWatch(float(sys.argv[1])) as watch:
    for pause in pauses:
        def a_slow_step():
            time.sleep(pause)
        a_slow_step()
        watch.step_done()
time.sleep(0.6)
print("done")
"""


def _run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", RUN, *words], capture_output=True, text=True)


def test_a_step_that_hangs_ends_the_process():
    ended = _run("0.5", "0.1", "0.1", "600")
    assert ended.returncode == STALLED_STATUS and "done" not in ended.stdout
    assert ended.stderr.startswith("no step was done for 0.5 s") and "in a_slow_step" in ended.stderr


@pytest.mark.parametrize("words", [("0.5", *["0.2"] * 5), ("0", "0.6")])
def test_steps_in_time_and_the_end_are_no_stall(words):
    ended = _run(*words)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
