"""A validation run: tasks into part files, part files into one table, one summary, figures and a report.

A run directory holds ``manifest.json`` (what is run, on which versions), ``parts/`` (one atomic file per finished
task), and, at the end, ``results.parquet``, ``summary.json``, ``figures/`` and ``report.html``. An interrupted run
resumed with the same configuration gives the same table, bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bound_validation.results import Row, to_plain, write_json, write_table
from bound_validation.tasks import Task, TaskResult

PACKAGES = ("icsmdp-jax", "jax", "jaxlib", "flax", "optax", "chex", "numpy", "scipy", "matplotlib", "pyarrow")
SCHEMA = 1


def run_command(args: argparse.Namespace) -> int:
    """Runs ``icsmdp validate``; returns 1 if any bound is violated."""
    from icsmdp_jax.cli import set_compilation_cache

    set_compilation_cache()
    summary = validate(Path(args.out), args.preset, args.model, args.behaviour, args.resume)
    if args.json:
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
    out: Path, preset: str, model: str | None = None, behaviour: str = "uniform", resume: bool = False
) -> dict[str, Any]:
    """Runs a preset, on planted models or on a model file, and writes everything into ``out``.

    Args:
      out: run directory, made if it does not exist.
      preset: testing, quick or full.
      model: a model file, or None for the planted models.
      behaviour: with a model, ``uniform`` or a ``.npy`` file.
      resume: whether to go on with what is in ``out``.

    Returns:
      The summary, as written to ``summary.json``.

    Raises:
      ValueError: in one line, for bad input, or if ``out`` holds another run and ``resume`` is asked for.
    """
    if model is None and behaviour != "uniform":
        raise ValueError("--behaviour: only with --model; planted models bring their own")
    tasks, about = _plan(preset, model, behaviour)
    manifest = {"schema": SCHEMA, "preset": preset, "tasks": [t.name for t in tasks], **about, "versions": versions()}
    manifest["code"] = code_digest()
    parts = _prepare(out, manifest, resume)
    started = time.perf_counter()
    results = _run_tasks(tasks, parts)
    rows = [row for result in results for row in result.rows]
    total = TaskResult()
    for result in results:
        total.add(result)
    if model is None:
        from bound_validation.axes.total import dominance

        total.claims += dominance(rows)
    summary = summarise(rows, total, manifest, time.perf_counter() - started)
    metadata = {"icsmdp_jax": json.dumps(manifest, sort_keys=True)}
    write_table(out / "results.parquet", rows, metadata)
    from bound_validation.figures import draw_all
    from bound_validation.report import write_report

    figures = draw_all(rows, summary, out)
    summary["report"] = str(write_report(rows, summary, figures, out))
    write_json(out / "summary.json", summary)
    return summary


def _plan(preset: str, model: str | None, behaviour: str) -> tuple[list[Task], dict[str, Any]]:
    from bound_validation.sweeps import PRESETS

    if model is None:
        from bound_validation.axes import durations, gap, messages, mixing, returns, samples, total, width

        chosen, axes = PRESETS[preset], (width, gap, samples, mixing, durations, total, returns, messages)
        return [task for axis in axes for task in axis.tasks(chosen)], {"model": None}
    from bound_validation.axes import model as own
    from icsmdp_jax.commands import read_behaviour
    from icsmdp_jax.exact.constants import analyse
    from icsmdp_jax.tabular_io import load_model

    known = analyse(load_model(model), read_behaviour(behaviour))
    about: dict[str, Any] = {"model": Path(model).name, "model_sha256": _sha256(Path(model)), "behaviour": "uniform"}
    if behaviour != "uniform":
        about["behaviour"] = _sha256(Path(behaviour))
    return own.tasks(known, own.SPECS[preset]), about


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _prepare(out: Path, manifest: dict[str, Any], resume: bool) -> Path:
    """Makes the run directory; keeps finished parts only when resuming the very same run."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"--out {out}: is a file, expected a directory") from None
    if not os.access(out, os.W_OK):
        raise ValueError(f"--out {out}: cannot be written to")
    place, parts = out / "manifest.json", out / "parts"
    if resume and place.exists():
        try:
            found = json.loads(place.read_text())
        except (ValueError, OSError):
            found = None
        if not isinstance(found, dict):
            raise ValueError(f"{place}: cannot be read as a manifest, so the run cannot be resumed")
        differs = [key for key in manifest if found.get(key) != to_plain(manifest[key])]
        if differs:
            raise ValueError(
                f"{place}: {differs[0]} is {found.get(differs[0])!r} there, but {manifest[differs[0]]!r} now; "
                "a run can only be resumed as it was started"
            )
    elif parts.exists():
        if not place.exists() and any(parts.iterdir()):
            raise ValueError(f"--out {out}: holds a folder parts but no manifest.json, so it is no run directory")
        shutil.rmtree(parts)
    parts.mkdir(exist_ok=True)
    for left in parts.glob(".*.part"):  # of a process that was killed while it wrote
        left.unlink()
    write_json(place, manifest)
    return parts


def _part(parts: Path, task: Task) -> Path:
    return parts / (task.name.replace("/", "-") + ".json")


def _load_part(path: Path) -> TaskResult:
    """Reads a part file back.

    Raises:
      ValueError: in one line that names the file, if it is damaged.
    """
    try:
        envelope = json.loads(path.read_text())
        content = envelope["content"]
        if envelope["sha256"] != _digest(content):
            raise ValueError("checksum does not match")
        return TaskResult.from_plain(content)
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: damaged part file ({reason}); delete it to compute it again") from None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _run_tasks(tasks: list[Task], parts: Path) -> list[TaskResult]:
    results = []
    with _progress(sum(task.work for task in tasks)) as bar:
        for task in tasks:
            place = _part(parts, task)
            bar.set_description(task.name, refresh=False)
            if place.exists():
                results.append(_load_part(place))
                bar.update(task.work)
                continue
            counted = [0]

            def step(amount: int, counted: list[int] = counted, limit: int = task.work) -> None:
                amount = min(amount, limit - counted[0])
                counted[0] += amount
                bar.update(amount)

            result = task.run(step)
            bar.update(task.work - counted[0])
            content = result.plain()
            write_json(place, {"sha256": _digest(content), "content": content})
            # What was just computed goes through the same door as what is resumed, so both give the same bits.
            results.append(TaskResult.from_plain(content))
    return results


def _progress(total: int) -> Any:
    from tqdm import tqdm

    interactive = sys.stderr.isatty()
    return tqdm(
        total=total, unit=" handoffs", unit_scale=True, file=sys.stderr, delay=2,
        mininterval=0.2 if interactive else 10, smoothing=0.05, dynamic_ncols=interactive,
    )  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def code_digest() -> str:
    """SHA-256 of the sources of both packages: a run can only be resumed by the code that started it."""
    import icsmdp_jax

    digest = hashlib.sha256()
    for folder in (Path(icsmdp_jax.__file__).parent, Path(__file__).parent):
        for source in sorted(folder.rglob("*.py")):
            digest.update(source.relative_to(folder).as_posix().encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()


def device() -> dict[str, Any]:
    """The device that simulated."""
    import jax

    first = jax.devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "count": jax.device_count(), "cores": os.cpu_count()}


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
        "device": device(),
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
