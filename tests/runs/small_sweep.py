"""A sweep of a few seconds with a task of every kind, run in processes of its own: ``python small_sweep.py OUT ...``.

Tables (three gaps, and groups of interfaces), linear features, and tasks that only compute on the host. Figures and
report are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from unittest import mock

from bound_validation.axes import AXES
from bound_validation.axes.gap import measure as gap
from bound_validation.axes.samples import measure as samples
from bound_validation.axes.samples.spec import AxisSpec
from bound_validation.axes.total import measure as total
from bound_validation.axis import Settings
from bound_validation.running import execute
from icsmdp_jax.devices import hosts
from icsmdp_jax.devices.cache import set_compilation_cache

TABULAR = ("gap", "total")


def tasks():
    """Three axes of the testing preset cut down: tasks that simulate and tasks that do not.

    Five replicas, so that most numbers of devices leave places empty.
    """
    settings = Settings(chunk=250, resamples=200)
    gaps = dataclasses.replace(AXES["gap"].spec("testing"), samples=500, replicas=5)
    linear = next(spec for spec in AXES["samples"].spec("testing").plain if spec.width)
    linear = dataclasses.replace(linear, samples=(500,), replicas=5, chunk=250)
    grid = dataclasses.replace(AXES["total"].spec("testing"), groups=(2,), samples=(200,), replicas=5)
    return [
        *gap.tasks(gaps, settings),
        *total.tasks(grid, settings),
        *samples.tasks(AxisSpec((), (linear,), ()), settings),
    ]


def main() -> None:
    """Runs it as one process of a run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--only", default="", help="the axis whose tasks are run; all if not given")
    hosts.add_arguments(parser)
    args = parser.parse_args()
    set_compilation_cache()
    hosts.join(args)
    with (
        mock.patch("bound_validation.report.figures.draw_all", lambda rows, summary, out, columns, worker: {}),
        mock.patch("bound_validation.report.page.write_report", lambda rows, summary, figures, out: ""),
    ):
        chosen = [task for task in tasks() if task.name.startswith(args.only)]
        execute(args.out, chosen, {"preset": "testing", "model": None}, args.resume)


if __name__ == "__main__":
    main()
