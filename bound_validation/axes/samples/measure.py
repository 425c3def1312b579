"""The samples axis: the residual against the number of handoffs (P2, theorem B, T3+)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from bound_validation.axes.samples.spec import SCHEDULES, AxisSpec, PlainSpec, SamplesSpec
from bound_validation.axis import Settings
from bound_validation.cell import (
    ASYMPTOTIC_FROM,
    TIE,
    AnalysedCell,
    analysed,
    limit_rows,
    limit_run,
    plain_row,
    plain_run,
    residual_row,
    theorem_run,
)
from bound_validation.certificates import forecasts, step_size
from bound_validation.intervals import Slope, fitted_slope, resampled_spreads
from bound_validation.results import Row
from bound_validation.tasks import (
    KERNELS,
    MANY,
    STEP,
    Claim,
    Progress,
    Task,
    TaskResult,
    about,
    about_replicas,
    in_range,
    line_ratio,
)
from icsmdp_jax.envs.planted.model import planted_model
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.exact.fixed_point import whiten


def tasks(spec: AxisSpec, settings: Settings) -> list[Task]:
    """For each function class: the run of the central limit, the plain runs, and the projected ones."""
    out: list[Task] = []
    for one in spec.limits:
        work, lanes = one.replicas * max(one.limit_samples), len(one.limit_samples)
        seconds = about_replicas(work) + KERNELS * (work >= MANY and not one.width)  # tables come first
        out.append(Task(f"samples/{one.slug}/limit", partial(limit, one, settings), work, lanes, seconds=seconds))
    for two in spec.plain:
        lanes = len(two.samples) + 2
        work = two.replicas * max(two.samples) * lanes
        seconds = about(work, STEP * (sum(two.samples) + 2 * max(two.samples)))
        out.append(Task(f"samples/{two.slug}/plain", partial(plain, two), work, lanes, seconds=seconds))
    for three in spec.projected:
        lanes = len(three.theorem_samples) + 1
        work = three.theorem_replicas * max(three.theorem_samples) * lanes
        name = f"samples/{three.slug}/projected"
        out.append(Task(name, partial(bounds, three, settings), work, lanes, seconds=about(work)))
    return out


def known_of(spec: SamplesSpec | PlainSpec) -> Analysis:
    """The planted model of a spec with its function class."""
    known = analysed(spec.model)
    if spec.width == 0:
        return known
    raw, _ = planted_model(spec.model).draw_features(np.random.default_rng(spec.seed), spec.width)
    return known.with_features(whiten(raw, known.interface))


def place_of(spec: SamplesSpec | PlainSpec) -> dict[str, Any]:
    """Columns that all rows of a function class share."""
    return {"axis": "samples", "width": spec.width, "gap": spec.model.gap}


def limit(spec: SamplesSpec, settings: Settings, progress: Progress) -> TaskResult:
    """Spread, bias and RMSE of the tail average in one run, against the central-limit line."""
    return measure_limit(spec, known_of(spec), place_of(spec), settings, progress)[0]


def bounds(spec: SamplesSpec, settings: Settings, progress: Progress) -> TaskResult:
    """RMSE of the uniform average of projected runs under the two schedules of Theorem 3, against T3+."""
    return measure_bounds(spec, known_of(spec), place_of(spec), settings, progress, "projected")


def plain(spec: PlainSpec, progress: Progress) -> TaskResult:
    """RMSE of the uniform average of plain runs under every schedule, against prediction and certificate of theorem B.

    The constant step needs a lane for each K; the other schedules are looked at on the way.
    """
    known, counts = known_of(spec), spec.samples
    lanes = [("constant", k) for k in counts] + [(name, max(counts)) for name in SCHEDULES[1:]]
    learned = plain_run(
        [(known, step_size(name, k, known)) for name, k in lanes], counts, jax.random.key(spec.seed), spec.replicas,
        spec.chunk, progress,
    )  # fmt: skip
    rows: list[Row] = []
    found = forecasts([(known, counts, name) for name in SCHEDULES])
    for name, theories in zip(SCHEDULES, found, strict=True):
        for k, *theory in zip(counts, *theories, strict=True):
            lane = lanes.index((name, k if name == "constant" else max(counts)))
            cell = _cell(spec, known, place_of(spec), f"plain/{k}", k)
            rows.append(plain_row(cell, learned.tables(lane, k), k, f"{name}_plain", *theory))
    return TaskResult(rows, {}, [], learned.compile_s, learned.handoffs)


def _cell(
    spec: SamplesSpec | PlainSpec, known: Analysis, place: Mapping[str, Any], name: str, samples: int
) -> AnalysedCell:
    here = {"cell": f"{place['axis']}/{spec.slug}/{name}", "group": spec.label, "x_name": "handoffs", "x": samples}
    return AnalysedCell(known, {**place, **here})


def measure_limit(
    spec: SamplesSpec, known: Analysis, place: Mapping[str, Any], settings: Settings, progress: Progress
) -> tuple[TaskResult, np.ndarray]:
    """Rows, slope and claims of one tail-averaged run at log-spaced handoff counts (P2), and its last tables.

    The average at K covers the last half of the handoffs so far, so the counts are doubled from the first one on.
    """
    key = jax.random.key(spec.seed)
    learned = limit_run([known], key, spec.replicas, spec.limit_samples, settings.chunk, progress)
    tables = {k: learned.tables(0, k) for k in spec.limit_samples}
    rows = [row for k, table in tables.items() for row in limit_rows(_cell(spec, known, place, str(k), k), table, k)]
    slope = _last_two_decades(settings.resamples, spec, known, rows, tables)
    axis = str(place["axis"])
    claims = _claims(spec, axis, rows, slope, known)
    result = TaskResult(rows, {f"{axis}_spread_{spec.slug}": slope}, claims, learned.compile_s, learned.handoffs)
    return result, tables[max(tables)]


def _last_two_decades(
    resamples: int, spec: SamplesSpec, known: Analysis, rows: list[Row], tables: dict[int, np.ndarray]
) -> Slope:
    last = max(tables)
    late = [k for k in tables if k >= last / 100 * 0.999]
    weight = np.where(known.interface.mask, known.interface.pair_weight, 0.0)
    draws = resampled_spreads([tables[k] for k in late], weight, resamples, spec.seed)
    spreads = {row.samples: row.measured for row in rows if row.series == "spread"}
    claimed = known.limit.action_gap > TIE and last >= ASYMPTOTIC_FROM
    admitted = {"target_low": -0.55, "target_high": -0.45} if claimed else {}
    return fitted_slope(np.array(late, float), np.array([spreads[k] for k in late]), draws, target=-0.5, **admitted)


def _claims(spec: SamplesSpec, axis: str, rows: list[Row], slope: Slope, known: Analysis) -> list[Claim]:
    first, last = (next(r for r in order if r.series == "spread") for order in (rows, reversed(rows)))
    text = f"{spec.label}: the slope of the spread over the last two decades of handoffs is within 0.05 of -1/2."
    line = f"{axis}_limit_{spec.slug}"
    if not last.prediction > 0:
        why = f"{spec.label}: the limit law has no spread, so there is no central-limit line to compare with (spread)."
        return [Claim(line, why, last.measured, "not claimed", None)]
    ratio = last.measured / last.prediction
    if not known.limit.action_gap > TIE:
        why = f"{spec.label}: two options tie in the limit, so no central-limit line is claimed."
        return [Claim(line, why, ratio, "not claimed", None)]
    if last.samples < ASYMPTOTIC_FROM:
        why = f"{spec.label}: too few handoffs in this preset to claim the central-limit line (spread over line)."
        return [Claim(line, why, ratio, "not claimed", None)]
    biases = [r for r in rows if r.series == "bias"]
    return [
        in_range(f"{axis}_slope_{spec.slug}", text, slope.slope, -0.55, -0.45, ci_low=slope.ci_low,
                 ci_high=slope.ci_high),
        line_ratio(line, f"{spec.label}: the spread at {last.samples} handoffs over the central-limit line.", last,
                   0.9, 1.1),
        Claim(f"{axis}_bias_{spec.slug}", f"{spec.label}: bias over spread at {last.samples} handoffs (from "
              f"{biases[0].measured / first.measured:.2g} at {biases[0].samples}); shown apart, no line is claimed for "
              "it.", biases[-1].measured / last.measured, "reported", None),
    ]  # fmt: skip


def measure_bounds(
    spec: SamplesSpec,
    known: Analysis,
    place: Mapping[str, Any],
    settings: Settings,
    progress: Progress,
    name: str = "theorem",
) -> TaskResult:
    """One lane per K for the constant step (each needs a step of its own), one lane for the decaying step.

    Without A6 the runs are still made, but no bound is claimed for them.
    """
    counts = spec.theorem_samples
    lanes: list[tuple[Analysis, int | None]] = [(known, k) for k in counts]
    if known.a6_certified:  # the decaying step is made of 1 - kappa
        lanes.append((known, None))
    learned = theorem_run(lanes, jax.random.key(spec.seed + 1), spec.theorem_replicas, settings.chunk, progress)
    rows: list[Row] = []
    for index, k in enumerate(counts):
        cell = _cell(spec, known, place, f"{name}/{k}", k)
        rows.append(residual_row(cell, learned.tables(index, k), k, "constant_step"))
        if known.a6_certified:
            rows.append(residual_row(cell, learned.tables(len(counts), k), k, "decaying_step", decaying=True))
    return TaskResult(rows, {}, [], learned.compile_s, learned.handoffs)
