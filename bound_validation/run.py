"""A validation run: tasks into part files, part files into one table, one summary, figures and a report.

A run directory holds ``manifest.json`` (what is run, on which versions), ``parts/`` (one atomic file per finished
task), ``progress/`` (for ``icsmdp status``) and, at the end, ``results.parquet``, ``summary.json``, ``figures/`` and
``report.html``. An interrupted run resumed with the same configuration gives the same table, bit for bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bound_validation.results import Row, write_table
from bound_validation.tasks import Task, TaskResult
from icsmdp_jax.io import to_plain, write_json
from icsmdp_jax.runs import engine, provenance

SCHEMA = 2
PACKAGES = ("bound_validation",)  # whose sources decide about the numbers, besides icsmdp_jax


def run_command(args: argparse.Namespace) -> int:
    """Runs ``icsmdp validate``; returns 1 if any bound is violated."""
    from icsmdp_jax.devices import hosts
    from icsmdp_jax.devices.cache import set_compilation_cache

    set_compilation_cache()
    hosts.join(args)
    summary = validate(Path(args.out), args.preset, args.model, args.behaviour, args.resume, args.overwrite)
    return report(summary, args.json)


def report(summary: dict[str, Any] | None, as_json: bool) -> int:
    """Prints what a finished run found, on the process that knows; 1 if any bound is violated."""
    if summary is None:
        return 0
    if as_json:
        print(json.dumps(to_plain(summary), allow_nan=False))
    else:
        print(verdict(summary), file=sys.stderr)
        print(summary["report"])
    return 0 if summary["bound_holds"] else 1


def verdict(summary: dict[str, Any]) -> str:
    """One line for the end of a run."""
    checks, violations = summary["checks"], summary["violations"]
    judged = [claim for claim in summary["claims"] if claim["passed"] is not None]
    failed = [claim["name"] for claim in judged if not claim["passed"]]
    claims = f"{len(judged) - len(failed)} of {len(judged)} judged claims passed" if judged else "no claim was judged"
    if failed:
        claims += f" (failed: {', '.join(failed)})"
    return f"The bound held in {checks - violations} of {checks} checks over {summary['cells']} cells; {claims}."


def validate(
    out: Path,
    preset: str,
    model: str | None = None,
    behaviour: str = "uniform",
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any] | None:
    """Runs a preset, on planted models or on a model file, and writes everything into ``out``.

    Args:
      out: run directory, made if it does not exist.
      preset: testing, quick or full.
      model: a model file, or None for the planted models.
      behaviour: with a model, ``uniform`` or a ``.npy`` file.
      resume: whether to go on with what is in ``out``.
      overwrite: whether to begin afresh whatever is in ``out``; with ``resume``, only if it is another run.

    Returns:
      The summary, as written to ``summary.json``; None on all processes but the first one.

    Raises:
      ValueError: in one line, for bad input, or if ``out`` holds a run that neither option allows to go on or to lose.
    """
    if model is None and behaviour != "uniform":
        raise ValueError("--behaviour: only with --model; planted models bring their own")
    tasks, about = _plan(preset, model, behaviour)
    return execute(out, tasks, {"preset": preset, **about}, resume, overwrite)


def execute(
    out: Path, tasks: list[Task], about: dict[str, Any], resume: bool = False, overwrite: bool = False
) -> dict[str, Any] | None:
    """Runs tasks in a run directory and writes table, summary, figures and report.

    Args:
      out: run directory.
      tasks: what to run.
      about: plain data that decides what the tasks compute, with ``preset`` and ``model``.
      resume: as in ``validate``.
      overwrite: as in ``validate``.

    Returns:
      The summary; None on all processes but the first one.
    """
    manifest = {"schema": SCHEMA, "tasks": [t.name for t in tasks], **about, **provenance.record(PACKAGES)}
    done = engine.run(out, tasks, manifest, resume, overwrite)
    if not done.primary:
        return None
    results = [TaskResult.from_plain(content) for content in done.contents]
    rows = [row for result in results for row in result.rows]
    total = TaskResult()
    for result in results:
        total.add(result)
    if any(row.axis == "total" for row in rows):
        from bound_validation.axes.total.measure import dominance

        total.claims += dominance(rows)
    summary = summarise(rows, total, manifest, done.seconds)
    metadata = {"icsmdp_jax": json.dumps(to_plain(manifest), sort_keys=True)}
    write_table(out / "results.parquet", rows, metadata)
    from bound_validation.report.figures import draw_all
    from bound_validation.report.page import write_report

    figures = draw_all(rows, summary, out)
    summary["report"] = str(write_report(rows, summary, figures, out))
    write_json(out / "summary.json", summary)
    return summary


def _plan(preset: str, model: str | None, behaviour: str) -> tuple[list[Task], dict[str, Any]]:
    from bound_validation.sweeps import preset_for

    if model is None:
        import jax

        from bound_validation.axes.agents import measure as agents
        from bound_validation.axes.durations import measure as durations
        from bound_validation.axes.gap import measure as gap
        from bound_validation.axes.messages import measure as messages
        from bound_validation.axes.mixing import measure as mixing
        from bound_validation.axes.returns import measure as returns
        from bound_validation.axes.samples import measure as samples
        from bound_validation.axes.total import measure as total
        from bound_validation.axes.width import measure as width

        chosen = preset_for(preset, jax.default_backend() != "cpu")
        axes = (width, gap, samples, mixing, durations, total, agents, returns, messages)
        tasks = [task for axis in axes for task in axis.tasks(chosen)]
        return tasks, {"model": None, "config": dataclasses.asdict(chosen)}
    from bound_validation.axes.model import measure as own
    from icsmdp_jax.commands import read_behaviour
    from icsmdp_jax.exact.constants import analyse
    from icsmdp_jax.models.files import load_model

    known = analyse(load_model(model), read_behaviour(behaviour))
    about: dict[str, Any] = {"model": Path(model).name, "model_sha256": _sha256(Path(model)), "behaviour": "uniform"}
    if behaviour != "uniform":
        about["behaviour"] = _sha256(Path(behaviour))
    about["config"] = dataclasses.asdict(own.SPECS[preset])
    return own.tasks(known, own.SPECS[preset]), about


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def summarise(rows: list[Row], total: TaskResult, manifest: dict[str, Any], run_s: float) -> dict[str, Any]:
    """The content of ``summary.json``: verdicts, ratios, slopes, claims, versions."""
    import numpy as np

    checked = [row for row in rows if row.holds >= 0]
    terms: dict[str, list[Row]] = {}
    for row in checked:
        if row.term:
            terms.setdefault(row.term, []).append(row)

    def reduced(function: Callable[[Any], Any]) -> dict[str, float | None]:
        out: dict[str, float | None] = {}
        for term, group in terms.items():
            ratios = np.array([row.ratio for row in group])
            ratios = ratios[np.isfinite(ratios)]
            out[term] = float(function(ratios)) if len(ratios) else None
        return out

    violations = sum(row.holds == 0 for row in checked)
    slopes = {
        name: {
            "slope": s.slope, "ci_low": s.ci_low, "ci_high": s.ci_high, "intercept": s.intercept, "target": s.target,
            "target_low": s.target_low, "target_high": s.target_high, "passed": s.passed,
        }
        for name, s in total.slopes.items()
    }  # fmt: skip
    return {
        "preset": manifest["preset"],
        "model": manifest["model"],
        "cells": len({row.cell for row in rows}),
        "checks": len(checked),
        "violations": violations,
        "bound_holds": violations == 0,
        "worst_ratio": reduced(np.max),
        "median_ratio": reduced(np.median),
        "checks_per_term": {
            term: {"held": sum(row.holds == 1 for row in group), "checked": len(group)} for term, group in terms.items()
        },
        "slopes": slopes,
        "claims": [to_plain(vars(claim)) for claim in total.claims],
        "a6_uncertified_cells": sorted({row.cell for row in rows if not row.certified}),
        "handoffs": total.handoffs,
        "compile_s": total.compile_s,
        "run_s": run_s,
        "versions": manifest["versions"],
        "device": provenance.device(),
        "constants": _constants(rows),
    }


def _rounded(value: float) -> float:
    """Zero for what is rounding noise of quantities of order one."""
    return 0.0 if abs(value) < 1e-12 else value


def _constants(rows: list[Row]) -> list[dict[str, Any]]:
    """One line of constants per distinct model and function class of the run."""
    names = (
        "gamma", "gamma_bar", "kappa", "certified", "epsilon", "delta", "value_norm", "omega", "mixing_time",
        "width_constant", "clt_coefficient", "clt_coefficient_iid", "reward_max", "radius", "action_gap", "q_norm",
    )  # fmt: skip
    seen: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        values = {name: _rounded(getattr(row, name)) for name in names}
        key = tuple(f"{v:.6g}" for v in values.values())  # models that differ by rounding only are one
        setting = f", eta = {row.gap:g}" if math.isfinite(row.gap) and row.group != "sharp" else ""
        label = f"{row.axis}{', ' + row.group if row.group else ''}{setting}"
        if key not in seen and row.axis != "durations":
            seen[key] = {"model": label, **values}
    return list(seen.values())
