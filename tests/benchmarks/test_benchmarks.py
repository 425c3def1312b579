"""Every benchmark runs and prints what it promises; what it measures is never asserted."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import common, run, table
from benchmarks.common import Size, Timing, race, record

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "benchmarks" / "results" / "cpu-2core.jsonl"
KEYS = {
    "benchmark", "case", "variant", "unit", "value", "low", "high", "repetitions", "wall_s", "cpu_s", "compile_s",
    "extra", "machine",
}  # fmt: skip
COMPARED = {"against", "ratio", "ratio_low", "ratio_high", "ratio_cpu"}
MACHINE = {
    "cpu", "cores", "blas_threads", "platform", "device", "devices", "python", "jax", "jaxlib", "numpy", "scipy",
    "date",
}  # fmt: skip
VARIANTS = {
    "learner_throughput": {"plain loop, one replica", "tabular", "linear", "environment only"},
    "numba_twin": {"numba", "xla", "Numba twin", "Numba twin, tabulated steps"},
    "dispatch": {
        "one network for all agents", "a network for each agent", "the same, every agent on every row",
        "the same, weights copied to each row",
    },
    "peers_training": {"IC-Q", "rejax DQN"},
    "environments": {"ours"},  # and what the extra "rivals" brings, where it is installed
    "random_numbers": {"random_words ahead", "jax.random.bits ahead"},
    "solver": {"plain value iteration", "modified policy iteration", "exact policy iteration"},
    "exact_analysis": {
        "the same by hand", "whole analysis", "interface model", "solutions", "interface gap", "certificate",
        "mixing time", "central limit", "Poisson constants",
    },
    "large_models": {"dense analysis", "sparse analysis"},
    "devices": {"1 host device", "2 host devices"},
    "scaling": {"1 device", "2 devices", "program for 8 devices"},
    "growth": {
        "handoffs", "replicas", "cells", "agents", "states of an exact analysis", "width of a network",
    },
    "runtime": {"act, table", "act, table on disk", "act, linear", "act, mlp", "absorb, table on disk"},
}  # fmt: skip


RIVALS = {"QuantEcon, modified policy iteration"}  # measured where the extra "rivals" is installed


def check(line: dict) -> None:
    assert set(line) - COMPARED == KEYS
    assert COMPARED <= set(line) or not COMPARED & set(line)
    assert set(line["machine"]) == MACHINE
    assert line["unit"] in {"s", "handoffs/s", "bytes per device"}
    assert 0 < line["low"] <= line["value"] <= line["high"] < math.inf
    assert line["repetitions"] >= 1 and line["case"]


def test_the_command_knows_the_benchmarks(capsys):
    assert set(run.NAMES) == set(VARIANTS) == {name for name, _, _ in table.SECTIONS}
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    device = {"device", "device_page", "device_stages"}
    assert scripts == {*run.NAMES, "__init__", "analysis_by_hand", "common", "run", "table"} | device
    run.main(["--list"])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(run.NAMES)
    for name, line in zip(run.NAMES, printed, strict=True):
        assert line.startswith(f"{name}: ") and line.endswith("?")


def test_what_needs_a_missing_library_is_left_out(capsys, monkeypatch):
    """Asked for by name it is an error; among all it is passed over, with a word."""
    monkeypatch.setitem(sys.modules, "benchmarks.numba_twin", None)
    with pytest.raises(SystemExit):
        run.main(["numba_twin"])
    assert "numba_twin is not installed" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr(run, "NAMES", ("numba_twin",))
    run.main([])
    said = capsys.readouterr()
    assert said.out == "" and "left out" in said.err


SLOW = (  # many programs, or processes
    "devices", "dispatch", "environments", "growth", "large_models", "learner_throughput", "numba_twin",
    "peers_training", "random_numbers",
    "scaling",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in run.NAMES]
)
def test_each_prints_json_lines(name, capsys, tmp_path):
    """In a size of a second or two, most of it compilation."""
    if name == "peers_training":
        pytest.importorskip("rejax")
    out = tmp_path / "results" / "lines.jsonl"
    run.main([name, "--tiny", "--out", str(out)])
    printed = capsys.readouterr().out
    assert out.read_text() == printed
    lines = [json.loads(line) for line in printed.splitlines()]
    for line in lines:
        check(line)
        assert line["benchmark"] == name
    assert {line["variant"] for line in lines} - {"rival", *RIVALS} == VARIANTS[name]
    assert any("against" in line for line in lines) or name == "growth"
    tables = table.render(out)
    assert tables.count("|---|") == 1 + bool(table.peers(lines)) and f"(`{name}`)" in tables
    if name == "solver":
        for line in lines:
            assert line["extra"]["difference"] <= 2 * max(other["extra"]["certified_error"] for other in lines)
    if name == "dispatch":
        shared, *own = (line["extra"]["squared_error"] for line in lines)
        np.testing.assert_allclose(own, own[0], rtol=1e-3)  # the same learning, which that of the shared net is not
        assert abs(shared - own[0]) > 0.01 * own[0]
    if name == "devices":
        assert [line["machine"]["devices"] for line in lines] == [1, 2]
        assert all(line["extra"]["same_bits"] for line in lines)


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        run.main(["solver", "solvers"])
    assert stop.value.code == 2 and "'solvers': expected one of" in capsys.readouterr().err


def test_variants_take_turns():
    order: list[str] = []
    times = race({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [times[name].wall.shape for name in "ab"] == [(3,), (3,)]


def test_rates_and_ratios_by_hand():
    slow = Timing(np.array([4.0, 2.0, 8.0]), np.array([3.0, 3.0, 3.0]))
    fast = Timing(np.array([1.0, 1.0, 2.0]), np.array([2.0, 1.0, 0.5]))
    line = record("x", {"n": 1}, "fast", fast, ("slow", slow, 10.0), 20.0, "handoffs/s", 0.5, why="shown")
    assert (line["value"], line["low"], line["high"]) == (20.0, 10.0, 20.0)
    assert (line["ratio"], line["ratio_low"], line["ratio_high"]) == (8.0, 4.0, 8.0)
    assert line["ratio_cpu"] == 6.0 and line["compile_s"] == 0.5 and line["extra"] == {"why": "shown"}
    once = record("x", {"n": 1}, "fast", fast, ("slow", Timing(np.array([3.0]), np.array([3.0])), 1.0))
    assert once["value"] == 1.0 and (once["ratio_low"], once["ratio_high"]) == (1.5, 3.0)
    check(once)


def test_the_plain_loop_learns_what_the_learner_learns():
    """Its table nears the exact solution: at a thousand visits per pair it is within a fifth of the largest value."""
    from benchmarks.learner_throughput import plain_loop

    known = common.bench_model()
    found, exact = plain_loop(known, 100_000), known.q_phi.q
    assert np.abs(found - exact).mean() < 0.2 * np.abs(exact).max()
    assert Size.FULL.pick(1, 2, 3) == 3


def test_recorded_numbers_are_whole_and_the_page_shows_them():
    lines = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    for line in lines:
        check(line)
    assert {line["benchmark"] for line in lines} | {"peers_training"} == set(run.NAMES)  # whose libraries few have
    assert all(line["extra"]["same_bits"] for line in lines if line["benchmark"] == "devices")
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.embed(page, table.render(RECORDED)) == page


def test_a_page_without_a_place_for_tables_is_refused():
    with pytest.raises(ValueError, match="expected one"):
        table.embed("no place", "tables")
