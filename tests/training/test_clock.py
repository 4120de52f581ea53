"""The clock, by made-up time."""

import pytest

from handjax.training.clock import Clock


class Time:
    """Passes when it is told to."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def _steps(clock: Clock, time: Time, count: int, wait: float, work: float) -> None:
    for _ in range(count):
        with clock.waiting():
            time.seconds += wait
        time.seconds += work
        clock.step_done()


def test_time_is_divided_into_steps_waiting_and_the_rest():
    time = Time()
    clock = Clock(16, now=time, wall=time)
    _steps(clock, time, 1, 3.0, 27.0)  # the first step compiles
    assert clock.report() == {}
    clock.first_step_done(at_peak=0.05)
    _steps(clock, time, 5, 0.1, 0.3)
    with clock.aside():
        time.seconds += 8.0
    assert clock.report() == pytest.approx(
        {
            "step_seconds": 0.4,
            "examples_per_second": 40.0,
            "data_wait": 0.25,
            "goodput": 1.5 / 40.0,
            "mfu": 0.125,
        }
    )
    assert clock.report() == {}
    _steps(clock, time, 10, 0.0, 0.2)
    second = clock.report()
    assert (second["step_seconds"], second["data_wait"]) == (pytest.approx(0.2), 0.0)
    assert second["goodput"] == pytest.approx(3.5 / 42.0)


def test_goodput_goes_through_a_restart_and_lost_steps_do_not_count():
    time = Time()
    clock = Clock(1, now=time, wall=time)
    clock.first_step_done()
    _steps(clock, time, 10, 0.0, 1.0)
    clock.report()
    kept = clock.get_state()
    _steps(clock, time, 5, 0.0, 1.0)  # lost: after the checkpoint
    time.seconds += 75.0  # no machine
    again = Clock(1, now=time, wall=time)
    again.set_state(kept)
    again.first_step_done()
    _steps(again, time, 10, 0.0, 1.0)
    assert again.report()["goodput"] == pytest.approx(20 / 100)


def test_what_a_checkpoint_keeps_counts_the_steps_since_the_last_report():
    time = Time()
    clock = Clock(1, now=time, wall=time)
    clock.first_step_done()
    _steps(clock, time, 4, 0.5, 1.0)
    with clock.aside():
        time.seconds += 10.0
    assert clock.get_state() == {"started": 100.0, "productive": 4.0}


def test_no_use_of_chips_without_their_figures():
    time = Time()
    clock = Clock(1, now=time, wall=time)
    clock.first_step_done()
    _steps(clock, time, 1, 0.0, 1.0)
    assert "mfu" not in clock.report()
