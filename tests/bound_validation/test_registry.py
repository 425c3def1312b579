"""The registry of axes: an axis of another package in one line, and records whose places are all there."""

from __future__ import annotations

import dataclasses
import json
from unittest import mock

import pytest

from bound_validation.axes import AXES, register
from bound_validation.axis import PRESETS, Axis, resolved
from bound_validation.results import Row, checked, read_table
from bound_validation.run import validate
from bound_validation.tasks import Task, TaskResult, in_range


@dataclasses.dataclass(frozen=True)
class CoinSpec:
    """How often a fair coin is thrown."""

    throws: tuple[int, ...]


def tasks(spec, settings):
    def run(progress):
        rows = [
            Row("coin", f"coin/{n}", "error", "throws", n, 0.5 * n**-0.5, term="residual", bound=n**-0.5)
            for n in spec.throws
        ]
        progress(settings.chunk)
        return TaskResult([checked(row) for row in rows])

    return [Task("coin", run, settings.chunk, joint=False)]


def claims(rows):
    return [in_range("coin_fair", "A coin is fair.", rows[0].measured * rows[0].x ** 0.5, 0.49, 0.51)]


def figure(rows, summary):
    from matplotlib.figure import Figure

    drawn = Figure()
    drawn.subplots().plot([row.x for row in rows], [row.measured for row in rows])
    return drawn


COIN = Axis("coin", {name: CoinSpec((100, 400)) for name in PRESETS}, tasks, claims, figure)


@pytest.fixture
def alone():
    """No other axis is there, and none of them is lost."""
    with mock.patch.dict(AXES, clear=True):
        yield


def test_an_axis_of_another_package_is_part_of_a_run(alone, tmp_path):
    register(COIN)
    summary = validate(tmp_path, "testing")
    assert summary is not None and (summary["cells"], summary["checks"], summary["violations"]) == (2, 2, 0)
    assert [(claim["name"], claim["passed"]) for claim in summary["claims"]] == [("coin_fair", True)]
    assert [(row.cell, row.holds) for row in read_table(tmp_path / "results.parquet")] == [
        ("coin/100", 1),
        ("coin/400", 1),
    ]
    assert (tmp_path / "figures" / "coin.png").exists()
    assert "coin/400" in (tmp_path / "report.html").read_text()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["config"] == {"chunk": 500, "resamples": 200, "coin": {"throws": [100, 400]}}


def test_a_name_is_taken_once_and_presets_are_complete(alone):
    register(COIN)
    with pytest.raises(ValueError, match="axis 'coin': is registered already"):
        register(COIN)
    with pytest.raises(ValueError, match="axis 'die': no preset 'full', expected all of testing, quick, full"):
        register(dataclasses.replace(COIN, name="die", presets={"testing": None, "quick": None}))


@pytest.mark.parametrize("name", AXES)
def test_every_place_of_a_record_is_there(name):
    axis = AXES[name]
    assert axis.name == name and set(axis.presets) == set(PRESETS)
    for place in (axis.tasks, axis.claims, axis.figure):
        assert place is None or callable(resolved(place))


def test_on_an_accelerator_only_the_longest_runs_grow():
    changed = {(name, preset) for name, axis in AXES.items() for preset in PRESETS
               if axis.spec(preset, accelerator=True) != axis.spec(preset)}  # fmt: skip
    assert changed == {("samples", "full")}
    longest = [max(spec.limit_samples) for spec in AXES["samples"].spec("full", accelerator=True).limits]
    assert min(longest) > 10**8
