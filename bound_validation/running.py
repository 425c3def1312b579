"""The one way to finish a run: tasks into part files, part files into one table, one summary, figures and a report.

Validation runs and custom sweeps both end in ``execute``. A run directory holds ``manifest.json`` (what is run, on
which versions), ``parts/`` (one atomic file per finished task), ``progress/`` (for ``icsmdp status``) and, at the end,
``results.parquet``, ``summary.json``, ``figures/`` and ``report.html``. An interrupted run resumed with the same
configuration gives the same table, bit for bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import html
import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bound_validation.axis import SETTINGS, resolved
from bound_validation.results import SCHEMA, Row, write_replicas, write_table
from bound_validation.tasks import Claim, Progress, Task, TaskResult
from icsmdp_jax.core.arguments import of_type, one_of, shown
from icsmdp_jax.devices.cores import usable_cores
from icsmdp_jax.io import check_folder, to_plain, write_json
from icsmdp_jax.runs import engine, provenance
from icsmdp_jax.runs.directory import FINISHED, TABLE
from icsmdp_jax.runs.worker import Worker

if TYPE_CHECKING:
    from icsmdp_jax.exact.constants import Analysis

MOST_AGENTS = 30  # whose handoff graph can be read
REPLICAS = "replicas.parquet"
PACKAGES = ("bound_validation",)  # whose sources decide about the numbers, besides icsmdp_jax


def run_command(args: argparse.Namespace) -> int:
    """Runs ``icsmdp validate``; returns 1 if any bound is violated."""
    from icsmdp_jax.devices import hosts
    from icsmdp_jax.devices.cache import set_compilation_cache

    check_folder(args.out)
    set_compilation_cache()
    hosts.join(args)
    summary = validate(Path(args.out), args.preset, args.model, args.behaviour, args.resume, args.overwrite,
                       args.replica_values, apart=True)  # fmt: skip
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
    _say_uncertified(summary["a6_uncertified_cells"], summary["cells"])
    return 0 if summary["bound_holds"] else 1


def _say_uncertified(uncertified: list[str], cells: int) -> None:
    """Says on stderr in which cells Theorems 2 and 3 do not apply, if there are any."""
    if uncertified:
        named = ", ".join(uncertified[:3]) + (", ..." if len(uncertified) > 3 else "")
        print(
            f"icsmdp: A6 is not certified in {len(uncertified)} of {cells} cells ({named}): Theorems 2 and 3 are not "
            "claimed there",
            file=sys.stderr,
        )


def verdict(summary: dict[str, Any]) -> str:
    """One line for the end of a run.

    Example:
      >>> import bound_validation as bv
      >>> import tempfile
      >>> sweep = bv.Sweep("gap", family="planted", axes={"gap": (0, 0.1)}, measure=["interface"])
      >>> summary = bv.run(sweep, tempfile.mkdtemp())
      >>> bv.verdict(summary)[:14]
      'The bound held'
    """
    if not isinstance(summary, Mapping) or "checks" not in summary:
        raise ValueError(f"summary = {shown(summary)}: expected what validate or run returned")
    checks, violations = summary["checks"], summary["violations"]
    undecided = [claim["name"] for claim in summary["claims"] if claim["undecided"]]
    passed = sum(claim["passed"] is True for claim in summary["claims"])
    failed = [claim["name"] for claim in summary["claims"] if claim["passed"] is False]
    judged = passed + len(failed) + len(undecided)
    claims = f"{passed} of {judged} judged claims passed" if judged else "no claim was judged"
    named = [f"{word}: {', '.join(names)}" for word, names in (("failed", failed), ("undecided", undecided)) if names]
    claims += f" ({'; '.join(named)})" if named else ""
    return (
        f"The bound held in {checks - violations} of {checks} checks over {summary['cells']} cells, "
        f"{summary['informative']} of these checks informative; {claims}."
    )


class Summary(dict[str, Any]):
    """What ``summary.json`` holds; shown as its verdict and the place of the report."""

    def __repr__(self) -> str:
        return f"Summary({verdict(self)} {self['report']})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(verdict(self))}</p><p><code>{html.escape(self['report'])}</code></p>"


def validate(
    out: str | os.PathLike[str],
    preset: str,
    model: str | os.PathLike[str] | None = None,
    behaviour: str = "uniform",
    resume: bool = False,
    overwrite: bool = False,
    replica_values: bool = False,
    apart: bool = False,
) -> Summary | None:
    """Runs a preset of every axis, on planted models or on a model file, and writes everything into ``out``.

    Args:
      out: run directory, made if it does not exist.
      preset: testing, quick or full.
      model: a model file, or None for the planted models.
      behaviour: with a model, ``uniform`` or a ``.npy`` file.
      resume: whether to keep what is finished in ``out``.
      overwrite: whether to start over whatever is in ``out``; with ``resume``, only if it is another run.
      replica_values: whether to write what single replicas gave to ``replicas.parquet``; part of the configuration.
      apart: whether tasks run in two or more processes where they can, as with the command; the same numbers, sooner.

    Returns:
      The summary, as written to ``summary.json``; None on all processes but the first one.

    Raises:
      ValueError: in one line, for bad input, or if ``out`` holds another run and neither option says what to do.

    Example:
      >>> import bound_validation as bv
      >>> summary = bv.validate("results/quick", "quick")  # doctest: +SKIP
      >>> print(bv.verdict(summary))  # doctest: +SKIP
    """
    import jax

    from bound_validation.axes import AXES

    one_of(SETTINGS, preset=preset)
    of_type(str | os.PathLike, "the name of a folder", out=out)
    of_type(str | os.PathLike | None, "the name of a model file", model=model)
    of_type(str | os.PathLike, "uniform or the name of a .npy file", behaviour=behaviour)
    if model is None and behaviour != "uniform":
        raise ValueError("behaviour: only with a model; planted models bring their own")
    settings = SETTINGS[preset]
    about: dict[str, Any] = {"preset": preset, "model": None}
    warnings: list[str] = []
    if model is not None:
        from icsmdp_jax.commands import read_behaviour, warned
        from icsmdp_jax.exact.constants import analyse
        from icsmdp_jax.learner.cautions import precision_warnings
        from icsmdp_jax.models.files import load_model

        known = analyse(load_model(model), read_behaviour(behaviour))
        warnings = warned(known.interface, precision_warnings(known))
        settings = dataclasses.replace(settings, known=known)
        about |= {"model": Path(model).name, "model_sha256": _sha256(model), "behaviour": "uniform"}
        if behaviour != "uniform":
            about["behaviour"] = _sha256(behaviour)
    accelerator = jax.default_backend() != "cpu"
    specs = {axis: axis.spec(preset, accelerator) for axis in AXES.values() if axis.given == (model is not None)}
    about["config"] = {"chunk": settings.chunk, "resamples": settings.resamples}
    about["config"] |= {axis.name: _plain(spec) for axis, spec in specs.items()}
    tasks = [task for axis, spec in specs.items() for task in resolved(axis.tasks)(spec, settings)]
    figures: Any = partial(figures_of_axes, columns=settings.columns)
    if settings.known is not None:
        figures = partial(figures_of_model, settings.known, columns=settings.columns)
    ending = dataclasses.replace(
        VALIDATION, summary={"warnings": warnings}, figures=figures, seconds=30.0 if settings.columns else 15.0
    )
    at_once = 1 if accelerator or model is not None else min(settings.at_once, usable_cores())
    return execute(out, tasks, about, resume, overwrite, ending, at_once, replica_values, apart)


def _plain(spec: Any) -> Any:
    return [_plain(one) for one in spec] if isinstance(spec, tuple) else dataclasses.asdict(spec)


def _sha256(path: str | os.PathLike[str]) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def claims_of_axes(rows: list[Row]) -> list[Claim]:
    """What only all rows of an axis together can say."""
    from bound_validation.axes import AXES

    out: list[Claim] = []
    for axis in AXES.values():
        here = [row for row in rows if row.axis == axis.name]
        if here and axis.claims is not None:
            out += resolved(axis.claims)(here)
    return out


def constants_of_models(rows: list[Row]) -> list[dict[str, Any]]:
    """One line of constants per distinct model and function class of the run."""
    seen: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(f"{value:.6g}" for value in row.constants.values())  # models that differ by rounding only are one
        setting = f", eta = {row.gap:g}" if math.isfinite(row.gap) and row.group != "sharp" else ""
        label = f"{row.axis}{', ' + row.group if row.group else ''}{setting}"
        if row.axis != "durations":
            seen.setdefault(key, {"model": label, **row.constants})
    return list(seen.values())


def figures_of_axes(
    rows: list[Row], summary: dict[str, Any], out: Path, worker: Worker | None = None, columns: bool = True
) -> Mapping[str, Path]:
    """The overview and the figure of each axis that has rows."""
    from bound_validation.report.figures import draw_all

    return draw_all(rows, summary, out, columns, worker)


def figures_of_model(
    known: Analysis,
    rows: list[Row],
    summary: dict[str, Any],
    out: Path,
    worker: Worker | None = None,
    columns: bool = True,
) -> Mapping[str, Path]:
    """The figures of the axes, and who hands to whom in a given model under its behaviour policy."""
    from icsmdp_jax.drawing.handoffs import handoff_figure
    from icsmdp_jax.drawing.style import house_style, save
    from icsmdp_jax.learner.diagnostics import exact_handoff_graph

    paths, model = dict(figures_of_axes(rows, summary, out, worker, columns)), known.interface.model
    if model.num_agents <= MOST_AGENTS:
        graph = exact_handoff_graph(model, known.interface.chain.behaviour, known.interface.moments)
        names = None if model.agent_name is None else list(map(str, model.agent_name))
        with house_style():
            paths["handoffs"] = save(handoff_figure(graph, names), out / "figures", "handoffs")
    return paths


@dataclasses.dataclass(frozen=True)
class Ending:
    """What differs between runs once all tasks are done; the defaults are those of a validation run.

    Attributes:
      arrange: gives the rows of all tasks the order, and what else they need, of the table.
      claims: what can be said of all rows together.
      constants: the lines of the table of constants.
      figures: draws into the run directory, with a worker's help if there is one; paths of the PNG files by name.
      summary: further keys of the summary.
      seconds: what all this takes, on one core, in the units of ``Task.seconds``.
    """

    arrange: Callable[[list[Row]], list[Row]] = list
    claims: Callable[[list[Row]], list[Claim]] = claims_of_axes
    constants: Callable[[list[Row]], list[dict[str, Any]]] = constants_of_models
    figures: Callable[[list[Row], dict[str, Any], Path, Worker | None], Mapping[str, Path]] = figures_of_axes
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float = 25.0


VALIDATION = Ending()


def execute(
    out: str | os.PathLike[str],
    tasks: list[Task],
    about: dict[str, Any],
    resume: bool = False,
    overwrite: bool = False,
    ending: Ending = VALIDATION,
    at_once: int = 1,
    replica_values: bool = False,
    apart: bool = False,
) -> Summary | None:
    """Runs tasks in a run directory and writes table, summary, figures and report.

    Args:
      out: run directory.
      tasks: what to run.
      about: plain data that decides what the tasks compute, with ``preset`` and ``model``.
      resume: as in ``validate``.
      overwrite: as in ``validate``.
      ending: what is made of the rows.
      at_once: tasks at once, see ``engine.run``.
      replica_values: whether to write ``replicas.parquet``.
      apart: as in ``validate``.

    Returns:
      The summary; None on all processes but the first one.
    """
    from bound_validation.report.page import write_report

    if replica_values:
        about = {**about, "replica_values": True}
    else:
        tasks = [dataclasses.replace(task, run=partial(_bare, task.run)) for task in tasks]
    manifest = {"schema": SCHEMA, "tasks": [t.name for t in tasks], **about, **provenance.record(PACKAGES)}
    out = Path(out)
    summary = Summary()

    def finish(done: engine.Finished) -> None:
        total = TaskResult()
        for content in done.contents:
            total.add(TaskResult.from_plain(content))
        total.rows = ending.arrange(total.rows)
        total.claims += ending.claims(total.rows)
        summary.update(summarise(total, manifest, done.seconds))
        summary.update({"constants": ending.constants(total.rows), "warnings": [], **ending.summary})
        write_table(out / TABLE, total.rows, {"icsmdp_jax": json.dumps(to_plain(manifest), sort_keys=True)})
        if replica_values:
            write_replicas(out / REPLICAS, total.rows)
        figures = ending.figures(total.rows, summary, out, done.worker)
        if done.worker is not None:
            done.worker.close()
        summary["report"] = str(write_report(total.rows, summary, figures, out))
        write_json(out / FINISHED, summary)

    done = engine.run(
        out, tasks, manifest, resume, overwrite, finish=finish, at_once=at_once,
        ending=ending.seconds * (at_once if not apart else max(1, at_once // 2)), apart=apart,
    )  # fmt: skip
    return summary if done.primary else None


def _bare(run: Callable[[Progress], Any], progress: Progress) -> TaskResult:
    return run(progress).without_values()


def summarise(total: TaskResult, manifest: dict[str, Any], run_s: float) -> dict[str, Any]:
    """What ``summary.json`` says of every run: verdicts, ratios, slopes, claims, versions."""
    import numpy as np

    rows = total.rows
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
    return {
        "preset": manifest["preset"],
        "model": manifest["model"],
        "cells": len({row.cell for row in rows}),
        "checks": len(checked),
        "violations": violations,
        "bound_holds": violations == 0,
        "worst_ratio": reduced(np.max),
        "median_ratio": reduced(np.median),
        "informative": sum(row.evidence for row in checked),
        "checks_per_term": {
            term: {
                "held": sum(row.holds == 1 for row in group),
                "checked": len(group),
                "informative": sum(row.evidence for row in group),
            }
            for term, group in terms.items()
        },
        "slopes": {
            name: {**vars(slope), "passed": slope.passed, "undecided": slope.undecided}
            for name, slope in total.slopes.items()
        },
        "claims": [to_plain(vars(claim)) for claim in total.claims],
        "a6_uncertified_cells": sorted({row.cell for row in rows if not row.certified}),
        "handoffs": total.handoffs,
        "compile_s": total.compile_s,
        "run_s": run_s,
        "versions": manifest["versions"],
        "device": provenance.device(),
    }
