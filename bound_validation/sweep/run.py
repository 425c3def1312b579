"""Running a sweep: parts become tasks, tasks part files, and these the table, summary, figures and report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bound_validation.axes.samples.measure import ASYMPTOTIC_FROM, TIE
from bound_validation.results import Row, to_plain, write_json, write_table
from bound_validation.run import PACKAGES, SCHEMA, summarise
from bound_validation.sweep.cells import run_part, work_of
from bound_validation.sweep.definition import SAMPLES, Cell, Sweep, value_text
from bound_validation.sweep.parts import Part, parts
from bound_validation.tasks import Claim, Task, TaskResult, in_range
from icsmdp_jax.runs import engine, provenance

CONSTANTS = (
    "gamma", "gamma_bar", "kappa", "certified", "epsilon", "delta", "value_norm", "omega", "mixing_time",
    "clt_coefficient", "clt_coefficient_iid", "reward_max", "radius", "action_gap", "q_norm",
)  # fmt: skip


def run_sweep(sweep: Sweep, out: Path, resume: bool = False, overwrite: bool = False) -> dict[str, Any] | None:
    """Runs a sweep and writes everything into ``out``.

    Args:
      sweep: what is run.
      out: run directory, made if it does not exist.
      resume: go on with what is in ``out``; of a finished run only figures and report are made again.
      overwrite: begin afresh whatever is in ``out``; with ``resume``, only if it is another run.

    Returns:
      The summary, as written to ``summary.json``; None on all processes but the first one.

    Raises:
      ValueError: in one line, for bad input, or if ``out`` holds a run that neither option allows to go on or to lose.
    """
    from bound_validation.report.page import write_report
    from bound_validation.sweep.figure import draw_all

    todo = tasks(sweep)
    manifest = {
        "schema": SCHEMA, "preset": "sweep", "model": sweep.source.name, "tasks": [task.name for task in todo],
        **sweep.manifest(), **provenance.record(PACKAGES),
    }  # fmt: skip
    out = Path(out)
    done = engine.run(out, todo, manifest, resume, overwrite)
    if not done.primary:
        return None
    total = TaskResult()
    for content in done.contents:
        total.add(TaskResult.from_plain(content))
    rows = placed(sweep, total.rows)
    total.claims += claims(sweep, rows)
    summary = summarise(rows, total, manifest, done.seconds)
    summary |= {"sweep": sweep.name, "axes": manifest["axes"], "constants": constants(rows)}
    write_table(out / "results.parquet", rows, {"icsmdp_jax": json.dumps(to_plain(manifest), sort_keys=True)})
    summary["report"] = str(write_report(rows, summary, draw_all(sweep, rows, out), out))
    write_json(out / "summary.json", summary)
    return summary


def tasks(sweep: Sweep) -> list[Task]:
    """One task for each part, named by the sweep and the number of the part."""

    def run_of(part: Part) -> Callable[[Callable[[int], None]], TaskResult]:
        return lambda progress: run_part(sweep, part, progress)

    return [
        Task(f"{sweep.name}/{part.index:05d}", run_of(part), work_of(sweep, part), len(part.cells), sweep.learns)
        for part in parts(sweep)
    ]


def placed(sweep: Sweep, rows: list[Row]) -> list[Row]:
    """The rows in the order of the cells, with abscissa and group from the figure settings.

    Parts know nothing of these settings, so that a finished run can be looked at in another way without computing it
    again.
    """
    cells = {cell.id: cell for cell in sweep.cells()}
    order = {name: place for place, name in enumerate(cells)}
    return [_placed(sweep, cells[row.cell], row) for row in sorted(rows, key=lambda row: order[row.cell])]


def _placed(sweep: Sweep, cell: Cell, row: Row) -> Row:
    x = sweep.figure.x
    words = [f"{name} = {value_text(value)}" for name, value in cell.coordinates.items() if name != x]
    if x != SAMPLES:
        if row.samples and len(sweep.samples) > 1:
            words.append(f"K = {row.samples}")
        assert x is not None
        return dataclasses.replace(row, group=", ".join(words), x_name=x, x=float(cell.coordinates[x]))
    name, here = ("handoffs", row.samples) if row.samples else ("sweep", 0)
    return dataclasses.replace(row, group=", ".join(words), x_name=name, x=float(here))


def claims(sweep: Sweep, rows: list[Row]) -> list[Claim]:
    """What can be said of the sweep as a whole."""
    cells = {row.cell: row for row in rows}
    certified = sum(row.certified for row in cells.values())
    text = f"A6 is certified in {certified} of {len(cells)} cells; elsewhere no Theorem 2 or 3 is claimed."
    out = [Claim("sweep_a6", text, float(certified), "reported", None)]
    last = sweep.samples[-1]
    spreads = [
        row.measured / row.prediction
        for row in rows
        if row.series == "spread" and row.samples == last and row.action_gap > TIE and row.prediction > 0
    ]
    spreads = [ratio for ratio in spreads if np.isfinite(ratio)]
    if spreads:
        middle = float(np.median(spreads))
        text = (
            f"Spread over central-limit line at {last} handoffs: median over {len(spreads)} cells "
            f"(from {min(spreads):.3g} to {max(spreads):.3g})"
        )
        if last < ASYMPTOTIC_FROM:
            out.append(Claim("sweep_limit", f"{text}; too few handoffs to claim it.", middle, "not claimed", None))
        else:
            out.append(in_range("sweep_limit", f"{text}.", middle, 0.9, 1.1))
    return out + _dominance(rows, last)


def _dominance(rows: list[Row], samples: int) -> list[Claim]:
    """Which measured term is the largest in how many cells at the last K."""
    terms = {"residual": "residual", "approximation": "approximation", "gap": "interface"}
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.series in terms and row.samples in (0, samples) and np.isfinite(row.measured):
            found.setdefault(row.cell, {})[terms[row.series]] = row.measured
    whole = [cell for cell in found.values() if {"residual", "interface"} <= set(cell)]
    if not whole:
        return []
    counts = {term: sum(max(cell, key=cell.__getitem__) == term for cell in whole) for term in terms.values()}
    text = ", ".join(f"{term} in {count}" for term, count in counts.items())
    line = f"Largest measured term at {samples} handoffs over {len(whole)} cells: {text}."
    return [Claim("sweep_dominance", line, float(sum(count > 0 for count in counts.values())), "reported", None)]


def constants(rows: list[Row]) -> list[dict[str, Any]]:
    """One line of constants for each cell."""
    seen = {row.cell: row for row in reversed(rows)}
    return [
        {"model": cell, **{name: _settled(getattr(row, name)) for name in CONSTANTS}}
        for cell, row in reversed(seen.items())
    ]


def _settled(value: Any) -> Any:
    """Zero for what is rounding noise of quantities of order one."""
    return 0.0 if isinstance(value, float) and abs(value) < 1e-12 else value
