"""The forecast of a run: on a clock that the test sets, with compile times that JAX is made to report."""

from __future__ import annotations

import dataclasses
import threading

import jax
import pytest

from icsmdp_jax.runs import meter
from icsmdp_jax.runs.compile_clock import COMPILING
from icsmdp_jax.runs.meter import Meter, sentence
from icsmdp_jax.runs.tasks import Task


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tasks(*works: int) -> list[Task]:
    return [Task(f"t/{index}", lambda progress: None, work) for index, work in enumerate(works)]  # type: ignore[arg-type,return-value]


def compiles(clock: Clock, seconds: float) -> None:
    """The compiler works for so long."""
    clock.seconds += seconds
    jax.monitoring.record_event_duration_secs(COMPILING, seconds)


def test_a_short_run_is_not_said_to_take_hours(clock):
    """26 s in all, of which 20 s are compiled at the beginning: before, the first forecast was 6 hours."""
    listed = tasks(100_000, 100_000)
    run = Meter(listed, None, show=False, clock=clock)
    run.begin(listed[0])
    compiles(clock, 20.0)
    run.add(100)
    assert run.report().seconds_left is None and "left" not in sentence(run.report())
    clock.seconds += 0.003
    for _ in range(9):
        clock.seconds += 0.3
        run.add(10_000)
        report = run.report()
        if report.work_done < 20_000:
            assert report.seconds_left is None
        else:
            assert report.seconds_left == pytest.approx((200_000 - report.work_done) * 3e-5, rel=0.1)
    assert f"about {meter.duration(report.seconds_left)} left" in sentence(report)


def test_a_long_run_is_forecast_after_half_a_minute_of_measuring(clock):
    """Ten hours of work at a steady speed, compiled for a minute: the forecast leaves the minute out."""
    listed = tasks(36_000)
    run = Meter(listed, None, show=False, clock=clock)
    run.begin(listed[0])
    compiles(clock, 60.0)
    clock.seconds += 29.0
    run.add(720)  # 2 % of the work, but measured for too short a time
    assert run.report().seconds_left is None
    clock.seconds += 1.0
    assert run.report().seconds_left == pytest.approx((36_000 - 720) * 30 / 720)


def test_little_work_says_nothing_however_long_it_takes(clock):
    listed = tasks(1000)
    run = Meter(listed, None, show=False, clock=clock)
    run.begin(listed[0])
    clock.seconds += 3600.0
    run.add(9)
    assert run.report().seconds_left is None
    run.add(1)
    assert run.report().seconds_left == pytest.approx(990 * 360)


def test_compile_time_to_come_is_that_of_the_median_task(clock):
    """Of ten tasks three are done, which compiled for 5, 7 and 100 s; each simulates for 10 s."""
    listed = tasks(*[1000] * 10)
    run = Meter(listed, None, show=False, clock=clock)
    for task, compiling in zip(listed[:3], (5.0, 100.0, 7.0), strict=True):
        run.begin(task)
        compiles(clock, compiling)
        clock.seconds += 10.0
        run.add(400)
        run.end()
    assert run.report().seconds_left == pytest.approx(70.0 + 7 * 7.0)
    run.begin(listed[3])  # its own compile time is measured now, not forecast
    assert run.report().seconds_left == pytest.approx(70.0 + 6 * 7.0)


def test_parts_that_were_there_tell_nothing_about_speed(clock):
    listed = tasks(900, 100)
    run = Meter(listed, None, show=False, clock=clock)
    run.kept(listed[0])
    run.begin(listed[1])
    clock.seconds += 4.0
    run.add(9)
    assert run.report().seconds_left is None  # 9 % of what is left to do
    run.add(11)
    assert run.report().seconds_left == pytest.approx(80 * 4.0 / 20)
    run.add(80)
    assert run.report().seconds_left is None  # there is nothing left


def test_the_bar_on_a_terminal_has_no_forecast_of_its_own():
    assert "{remaining}" not in meter.BAR and "{postfix}" in meter.BAR


def test_tasks_that_say_how_long_they_take_are_forecast_by_that(clock):
    """Tasks of 10, 60 and 30 and an ending of 20, on a machine half as fast."""
    listed = [
        dataclasses.replace(task, seconds=s) for task, s in zip(tasks(100, 7, 1), (10.0, 60.0, 30.0), strict=True)
    ]
    run = Meter(listed, None, show=False, clock=clock, ending=20.0)
    run.begin(listed[0])
    clock.seconds += 10.0
    run.add(50)
    assert run.report().seconds_left is None  # 5 of 120
    compiles(clock, 10.0)  # is part of how long a task takes
    run.end()
    assert run.report().seconds_left is None
    run.begin(listed[1])
    clock.seconds += 120.0
    run.end()
    assert run.report().seconds_left == pytest.approx(2 * (30.0 + 20.0))
    run.begin(listed[2])
    clock.seconds += 60.0
    run.end()
    assert run.report().seconds_left == pytest.approx(40.0)
    clock.seconds += 30.0
    assert run.report().seconds_left == pytest.approx(10.0)
    clock.seconds += 11.0
    assert run.report().seconds_left is None  # it should have ended, and nobody knows when it will


def test_each_thread_counts_for_its_own_task(clock):
    listed = tasks(100, 100)
    run = Meter(listed, None, show=False, clock=clock)
    run.begin(listed[0])
    run.add(60)

    def other() -> None:
        run.begin(listed[1])
        run.add(70)
        run.add(70)  # more than it has
        run.end()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    report = run.report()
    assert (report.work_done, report.tasks_done, report.task) == (160, 1, "t/0")
    run.end()
    assert run.report().work_done == 200
