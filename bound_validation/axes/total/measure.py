"""The grid of groups of interfaces, gap and samples: the whole bound, its three terms, and who dominates where (T4)."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import numpy as np

from bound_validation import theorem
from bound_validation.axes.total.groups import group_means, grouped
from bound_validation.axes.total.spec import TotalSpec
from bound_validation.axis import Settings
from bound_validation.bounds import interface_bound, oracle_norm, value_width
from bound_validation.cell import AnalysedCell, analysed, oracle_squares, plain_run
from bound_validation.certificates import forecasts, step_size
from bound_validation.intervals import root_interval
from bound_validation.results import NAN, Row, by_replica
from bound_validation.tasks import STEP, Claim, Progress, Task, TaskResult, about, dominance
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.learner.experiment import measure_errors

SCHEDULE = "polynomial"
FALL = 10.0  # factor by which the error of the best cell should fall along K
JUDGED_FROM = 4000  # handoffs from which claims about the grid are made


def tasks(spec: TotalSpec, settings: Settings) -> list[Task]:
    """One task for each number of groups, because each is one compilation; K is looked at on the way."""
    del settings  # the grid has a chunk of its own
    lanes = len(spec.gaps)
    work = lanes * spec.replicas * max(spec.samples)
    seconds = about(work, 0.5 * STEP * lanes * max(spec.samples))
    return [
        Task(f"total/groups{groups}", partial(measure, spec, groups), work, lanes, seconds=seconds)
        for groups in spec.groups
    ]


def measure(spec: TotalSpec, groups: int, progress: Progress) -> TaskResult:
    """All cells of one number of groups: a lane for each gap, plain runs with polynomial steps (theorem B)."""
    fine = [analysed(spec.model.replace(gap=eta)) for eta in spec.gaps]
    coarse = [grouped(known, groups) for known in fine]
    last = max(spec.samples)
    lanes = [(known, step_size(SCHEDULE, last, known)) for known, _ in coarse]
    learned = plain_run(lanes, spec.samples, jax.random.key(spec.seed), spec.replicas, spec.chunk, progress)
    rows: list[Row] = []
    theories = forecasts([(joined, spec.samples, SCHEDULE) for joined, _ in coarse])
    for lane, (eta, known, (joined, group)) in enumerate(zip(spec.gaps, fine, coarse, strict=True)):
        for k, prediction, certificate in zip(spec.samples, *theories[lane], strict=True):
            place = {
                "axis": "total", "cell": f"total/groups{groups}/eta{eta:g}/K{k}", "x_name": "handoffs", "x": k,
                "group": f"{groups} {'groups' if groups > 1 else 'group'}, eta = {eta:g}", "width": groups, "gap": eta,
                "samples": k, "tail_samples": k, "function_class": "aggregated",
            }  # fmt: skip
            tables = learned.tables(lane, k)[:, group]
            limit = joined.q_phi_table[group]
            rows += _rows(AnalysedCell(known, place), tables, limit, group, prediction, certificate)
    return TaskResult(rows, {}, [], learned.compile_s, learned.handoffs)


def _rows(
    cell: AnalysedCell, tables: np.ndarray, limit: np.ndarray, group: np.ndarray, prediction: float, certificate: float
) -> list[Row]:
    """The three terms and their sum, all in ``||.||_d``.

    Args:
      cell: the model with its own interfaces.
      tables: ``[replicas, Z, O]`` average iterates.
      limit: ``[Z, O]`` ``Q_m``.
      group: ``[Z]`` int.
      prediction: RMSE to ``Q_m`` (theorem B).
      certificate: its bound.
    """
    known = cell.known
    interface, q = known.interface, known.q_phi_table
    approximation, hidden = _approximation_bound(known, group), interface_bound(known)
    residual = measure_errors(interface, tables, limit).squares
    whole = NAN if np.isnan(approximation) else theorem.total_bound(certificate, approximation, hidden)
    whole_squares = oracle_squares(known, tables)
    replicas = {"replicas": len(tables), "step_rule": SCHEDULE}
    return [
        cell.row("residual", root_interval(residual), term="residual", bound=certificate, prediction=prediction,
                 trivial=interface.norm(limit), **replicas, **by_replica("rms", np.sqrt(residual))),
        cell.row("approximation", interface.norm(limit - q), term="approximation", bound=approximation,
                 trivial=interface.norm(q)),
        cell.row("interface", interface.state_norm(interface.lift(q) - known.q_star.q), term="interface", bound=hidden,
                 trivial=value_width(known), function_class=""),
        cell.row("total", root_interval(whole_squares), term="total", bound=whole,
                 trivial=oracle_norm(known), **replicas, **by_replica("rms", np.sqrt(whole_squares))),
    ]  # fmt: skip


def _approximation_bound(known: Analysis, group: np.ndarray) -> float:
    """T2 for tables that are constant on groups; NaN if A6 is not certified."""
    if not known.a6_certified:
        return NAN
    q = known.q_phi_table
    nearest = group_means(known.interface, q, group)
    return float(theorem.approximation_bound(known.interface.norm(nearest - q), known.kappa))


def claims(rows: list[Row]) -> list[Claim]:
    """Which measured term is the largest in how many cells, and how far the error falls along K in the best ones."""
    found = dominance("total_dominance", "over the {} cells of the grid", rows)
    totals = [row for row in rows if row.series == "total"]
    if not totals or max(row.samples for row in totals) < JUDGED_FROM:
        return found
    found = [dataclasses.replace(claim, target="3: each source somewhere", passed=claim.value == 3) for claim in found]
    finest, least = max(row.width for row in totals), min(row.gap for row in totals)
    best = sorted((row for row in totals if (row.width, row.gap) == (finest, least)), key=lambda row: row.samples)
    first, last = best[0], best[-1]
    ends = (first.ci_low / last.ci_high, first.ci_high / last.ci_low)
    text = f"With {finest} groups and eta = {least:g} the error falls from K = {first.samples} to {last.samples}"
    return [
        *found,
        Claim("total_fall", f"{text} by this factor (judged on the lower end of its interval).",
              first.measured / last.measured, f"at least {FALL:g}", bool(ends[0] >= FALL), *ends),
    ]  # fmt: skip
