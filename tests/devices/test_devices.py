"""Any number of devices and processes gives the table of one device; a new process compiles nothing again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bound_validation.results import Row
from icsmdp_jax.runs.meter import read_reports
from tests.runs.processes import SMALL, finish, joined, rows, start
from tests.runs.small_sweep import TABULAR

CLOSE = 1e-5  # relative, where products of matrices may be batched differently


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """A compilation cache that all processes of this file share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, cache) -> Path:
    """The run on one device, every program compiled in it."""
    place = tmp_path_factory.mktemp("one")
    finish(start([*SMALL, place], cache=cache))
    return place


def same_table(found: list[Row], wanted: list[Row]) -> None:
    """Tabular and exact cells bit for bit, others to ``CLOSE``."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        if one.axis in TABULAR:
            assert repr(one) == repr(other)
            continue
        for field in dataclasses.fields(Row):
            a, b = getattr(one, field.name), getattr(other, field.name)
            if isinstance(a, float):
                np.testing.assert_allclose(a, b, rtol=CLOSE, atol=0, err_msg=f"{one.cell} {one.series} {field.name}")
            else:
                assert a == b


@pytest.mark.slow  # in the fast suite two processes share the work, with a device each
@pytest.mark.parametrize("devices", [2, 8])
def test_more_devices_give_the_same_table(tmp_path, one_device, cache, devices):
    finish(start([*SMALL, tmp_path], devices, cache))
    same_table(rows(tmp_path), rows(one_device))


@pytest.mark.slow
def test_two_processes_give_the_same_table(tmp_path, one_device, cache):
    """Joined by ``jax.distributed``; each wrote parts of its own, and process 0 the table."""
    both = joined([*SMALL, tmp_path], 2, cache)
    for process in both:
        finish(process)
    same_table(rows(tmp_path), rows(one_device))
    reports = read_reports(tmp_path)
    assert [(report.process, report.state) for report in reports] == [(0, "finished"), (1, "finished")]
    simulated = [report.handoffs for report in reports]
    assert simulated[0] == simulated[1] > 0  # every program ran on the devices of both


@pytest.mark.slow
def test_a_process_of_another_run_is_turned_away(tmp_path, cache):
    """Nobody waits for a process that does not take part."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "thesis.txt").write_text("mine")
    first, second = joined([*SMALL, tmp_path], 2, cache)
    said = [finish(first, 1), finish(second, 1)]
    assert "contains a folder parts but no manifest.json" in said[0]
    assert "refused by another process of this run" in said[1]
    assert (tmp_path / "parts" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("axes", ["gap", pytest.param("", marks=pytest.mark.slow)])
def test_a_new_process_compiles_nothing(tmp_path, axes):
    """Every program comes from the persistent cache, and the table is the same, bit for bit."""
    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        finish(start([*SMALL, place, f"--only={axes}"], cache=tmp_path / "cache"))
    (first,), (second,) = map(read_reports, places)
    assert first.programs_compiled > 5
    assert second.programs_compiled == 0 and second.programs_loaded == first.programs_compiled + first.programs_loaded
    assert len({(place / "results.parquet").read_bytes() for place in places}) == 1
