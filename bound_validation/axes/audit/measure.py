"""The audit axis: certificates of learned tables against true errors, and how often certificates err (T5)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from scipy import stats

from bound_validation.axes.audit.spec import AuditSpec
from bound_validation.axis import Settings
from bound_validation.cell import AnalysedCell, analysed, limit_run
from bound_validation.intervals import root_interval
from bound_validation.results import Row, by_replica
from bound_validation.tasks import PROGRAM, Claim, Progress, Task, TaskResult, about, in_range
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.fixed_point import bellman, entrywise_bound
from icsmdp_jax.learner import networks
from icsmdp_jax.learner.audit import Audit, audit
from icsmdp_jax.learner.audit_limits import half_width
from icsmdp_jax.learner.experiment import stationary_env
from icsmdp_jax.learner.exploration import behaviour_table

MISSES = 0.05  # nominal, of the intervals of single entries
MISS_SERIES = {"miss_batch_means": "batch-means", "miss_random_scaling": "random-scaling"}
SERIES = ("certificate_over_error", "largest_missed", *MISS_SERIES)
LONG_ENOUGH = 32_000  # handoffs of an audit from which its coverage is claimed: batches of 1000


def tasks(spec: AuditSpec, settings: Settings) -> list[Task]:
    """One task: learning and audits of all models share their compilations."""
    models = len(spec.models)
    work = models * spec.replicas * (max(spec.samples) + len(spec.samples) * spec.handoffs)
    return [Task("audit", partial(measure, spec, settings), work, models, seconds=about(2 * work, PROGRAM))]


def measure(spec: AuditSpec, settings: Settings, progress: Progress) -> TaskResult:
    """Tail averages of tabular IC-Q on every model, and an audit of each of them."""
    lanes = [(group, config, analysed(config)) for group, config in spec.models]
    key = jax.random.key(spec.seed)
    known = [lane[2] for lane in lanes]
    learned = limit_run(known, key, spec.replicas, spec.samples, settings.chunk, progress)
    rows: list[Row] = []
    for lane, (group, config, model) in enumerate(lanes):
        place = {"axis": "audit", "group": group, "gap": config.gap, "x_name": "handoffs"}
        for index, k in enumerate(spec.samples):
            here = AnalysedCell(model, {**place, "cell": f"audit/{lane}/{index}", "x": k})
            tables = learned.tables(lane, k).astype(np.float32)
            found = audited(model, tables, jax.random.fold_in(key, lane * len(spec.samples) + index), spec.handoffs)
            rows += audit_rows(here, tables, found, k)
            progress(spec.replicas * spec.handoffs)
    return TaskResult(rows, {}, [], learned.compile_s, learned.handoffs)


def audited(known: Analysis, tables: np.ndarray, key: jax.Array, handoffs: int) -> Audit:
    """The audit of ``[replicas, Z, O]`` tables on their model, each with limits of its own."""
    env, params = stationary_env(known)
    interface = known.interface
    values = networks.tabular(*interface.mask.shape)
    return audit(
        env, params, values, None, tables, key, handoffs, behaviour=behaviour_table(interface.chain.behaviour),
        pairs=interface.mask, gamma=interface.model.gamma,
    )  # fmt: skip


def audit_rows(cell: AnalysedCell, tables: np.ndarray, found: Audit, samples: int) -> list[Row]:
    """Error against its certificate, without and with the model, and shares of intervals that miss (T5).

    Args:
      cell: the cell.
      tables: ``[replicas, Z, O]``, what was audited.
      found: their audit.
      samples: handoffs that they were learned from.
    """
    interface, q_phi = cell.known.interface, cell.known.q_phi_table
    z, o = found.pairs.T
    errors = np.abs(tables - q_phi)[:, z, o].max(axis=1)
    exact = np.stack([bellman(interface, np.asarray(table, np.float64)) - table for table in tables])[:, z, o]
    entrywise = np.zeros(len(tables))
    for index, limit in enumerate(found.limit):
        whole = np.zeros(interface.mask.shape)
        whole[z, o] = limit
        entrywise[index] = entrywise_bound(interface, whole).max() if np.isfinite(limit).all() else np.inf
    shared: Mapping[str, Any] = {"samples": samples, "tail_samples": samples - samples // 2, "replicas": len(tables),
                                 "step_rule": "polynomial"}  # fmt: skip
    below = found.limit.max(axis=1) < np.abs(exact).max(axis=1)
    further = {**shared, "samples": samples + found.handoffs, "tail_samples": found.handoffs}  # averages of the audit
    rows = [
        cell.row(
            "error", root_interval(errors**2), term="residual", bound=_root(found.error_bounds),
            alternative=_root(entrywise), trivial=float(np.abs(q_phi).max()), **shared,
            **by_replica("rms", errors),
        ),
        cell.row("certificate_over_error", _median_interval(found.error_bounds / errors), **further),
        cell.row("largest_missed", _share(int(below.sum()), len(below)), **further),
    ]  # fmt: skip
    for series, method in MISS_SERIES.items():
        width = half_width(found.errors, method, MISSES)
        missed = np.abs(found.residual - exact) > width
        shares = np.array([m[c].mean() if c.any() else np.nan for m, c in zip(missed, found.covered, strict=True)])
        rows.append(cell.row(series, _mean_interval(shares), prediction=MISSES, **further))
    return rows


def _root(values: np.ndarray) -> float:
    """Root mean square; NaN if some value is infinite, so that nothing is claimed."""
    return float(np.sqrt(np.mean(values**2))) if np.isfinite(values).all() else float("nan")


def _mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean share with a t-interval, cut off at 0 and 1; NaN ends where no replica or only one has a share."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan")
    mean, half = float(values.mean()), float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return mean, max(mean - half, 0.0), min(mean + half, 1.0)


def _median_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Median with its 95 % interval between two order statistics."""
    rank = int(stats.binom.ppf(0.025, len(values), 0.5))
    ordered = np.sort(values)
    return (
        float(np.median(values)),
        float(ordered[max(rank - 1, 0)]),
        float(ordered[min(len(values) - rank, len(values) - 1)]),
    )


def _share(happened: int, of: int) -> tuple[float, float, float]:
    """A share of independent replicas with its exact 95 % interval."""
    found = stats.binomtest(happened, of).proportion_ci(0.95)
    return happened / of, float(found.low), float(found.high)


def claims(rows: list[Row]) -> list[Claim]:
    """Coverage of single entries, pooled, and of the largest residual; size of the certificate (T5)."""
    mine = [row for row in rows if row.axis == "audit"]
    out: list[Claim] = []
    for group in dict.fromkeys(row.group for row in mine):
        here = {series: [r for r in mine if r.group == group and r.series == series] for series in SERIES}
        slug = group.replace(" ", "_")
        for series, method in MISS_SERIES.items():
            text = f"{group}: share of 95 % intervals by {method.replace('-', ' ')} that miss the exact residual."
            half = float(np.sqrt(np.mean([(r.ci_high - r.ci_low) ** 2 for r in here[series]]) / len(here[series]))) / 2
            value = float(np.mean([row.measured for row in here[series]]))
            out.append(_claim(f"audit_{series}_{slug}", text, here[series], (value, value - half, value + half), 0.02))
        missed = here["largest_missed"]
        text = f"{group}: share of audits whose upper limit is below the largest residual."
        count = sum(round(row.measured * row.replicas) for row in missed)
        found = _share(count, sum(row.replicas for row in missed))
        out.append(_claim(f"audit_largest_{slug}", text, missed, found, 0.0))
        ratios = here["certificate_over_error"]
        middle = sorted(ratios, key=lambda row: row.measured)[(len(ratios) - 1) // 2]
        text = f"{group}: certificate over true error, median (at {middle.x:g} handoffs learned from)."
        if missed[0].tail_samples < LONG_ENOUGH:
            why = f"{text} The audits of this preset are too short to claim it."
            out.append(Claim(f"audit_ratio_{slug}", why, middle.measured, "not claimed", None))
        else:
            out.append(in_range(f"audit_ratio_{slug}", text, middle.measured, 1, 6, middle.ci_low, middle.ci_high))
    return out


def _claim(name: str, text: str, rows: list[Row], value: tuple[float, float, float], low: float) -> Claim:
    """At most 8 % miss, which is 92 % coverage; not claimed of short audits."""
    if rows[0].tail_samples < LONG_ENOUGH:
        return Claim(
            name, f"{text} The audits of this preset are too short to claim it.", value[0], "not claimed", None
        )
    return in_range(name, text, value[0], low, 0.08, *value[1:])
