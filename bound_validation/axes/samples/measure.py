"""The samples axis: the residual against the number of handoffs (T3, T3.1, P2)."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from bound_validation import theorem
from bound_validation.axes.gap.measure import analysed
from bound_validation.measure import (
    Progress,
    Slope,
    Target,
    fitted_slope,
    lane_average,
    limit_run,
    resampled_spreads,
    root_interval,
    theorem_run,
)
from bound_validation.results import Row, checked
from bound_validation.sweeps import Preset, SamplesSpec
from bound_validation.tasks import Claim, Task, TaskResult, in_range
from icsmdp_jax.envs.planted.model import planted_model
from icsmdp_jax.exact.fixed_point import whiten
from icsmdp_jax.learner.experiment import measure_errors

TIE = 1e-9  # lead of the best option below which the limit law of P2 is not claimed
ASYMPTOTIC_FROM = 100_000  # handoffs from which the central-limit line and the slope -1/2 are claimed


def tasks(preset: Preset) -> list[Task]:
    """For each function class: the run of the central limit, and the runs of the two theorems."""
    out: list[Task] = []
    for spec in preset.samples:
        limits, theorems = len(spec.limit_samples), len(spec.theorem_samples)
        limit_work = spec.replicas * max(spec.limit_samples)
        theorem_work = spec.theorem_replicas * max(spec.theorem_samples) * (theorems + 1)
        out += [
            Task(f"samples/{spec.slug}/limit", partial(limit, preset, spec), limit_work, limits),
            Task(f"samples/{spec.slug}/theorem", partial(bounds, preset, spec), theorem_work, theorems),
        ]
    return out


def target_of(spec: SamplesSpec) -> Target:
    """The planted model of a spec with its function class."""
    known = analysed(spec.model)
    if spec.width == 0:
        return Target(known)
    planted = planted_model(spec.model)
    raw, _ = planted.draw_features(np.random.default_rng(spec.seed), spec.width)
    return Target(known, whiten(raw, known.interface))


def limit(preset: Preset, spec: SamplesSpec, progress: Progress) -> TaskResult:
    """Spread, bias and RMSE of the tail average in one run, beside the central-limit line."""
    return measure_limit(spec, target_of(spec), "samples", preset.chunk, preset.resamples, progress)[0]


def measure_limit(
    spec: SamplesSpec, target: Target, axis: str, chunk: int, resamples: int, progress: Progress
) -> tuple[TaskResult, np.ndarray]:
    """Rows, slope and claims of one tail-averaged run at log-spaced handoff counts (P2), and its last tables.

    The average at K covers the last half of the handoffs so far, so the counts are doubled from the first one on.
    """
    counts = sorted(set(spec.limit_samples) | {k // 2 for k in spec.limit_samples})
    run = limit_run([target], jax.random.key(spec.seed), spec.replicas, counts, chunk, progress)
    interface, limit_law = target.known.interface, target.limit
    shared = {**target.constants(), "replicas": spec.replicas, "width": spec.width, "gap": spec.model_gap}
    rows: list[Row] = []
    tables, kept = [], []
    for k in spec.limit_samples:
        tail = k - k // 2
        table = target.tables(lane_average(run, 0, counts.index(k), k // 2))
        errors = measure_errors(interface, table, target.fixed.q)
        spread = root_interval(errors.deviations, degrees_lost=1)
        total = root_interval(errors.squares)
        noise = errors.spread / np.sqrt(spec.replicas)  # what is left of the spread in the replicas' mean
        predicted = theorem.central_limit_spread(limit_law.coefficient, tail)
        independent = theorem.central_limit_spread(limit_law.coefficient_iid, tail)
        tables.append(table)
        kept.append(k)
        for series, (value, low, high), prediction, alternative in (
            ("spread", spread, predicted, independent),
            (
                "bias",
                (errors.bias, max(errors.raw_bias - 2 * noise, 0.0), errors.raw_bias + 2 * noise),
                np.nan,
                np.nan,
            ),
            ("rmse", total, np.nan, np.nan),
        ):
            row = Row(
                axis=axis, cell=f"{axis}/{spec.slug}/{k}", series=series, group=spec.label, x_name="handoffs", x=k,
                measured=value, ci_low=low, ci_high=high, prediction=prediction, alternative=alternative,
                samples=k, tail_samples=tail, **shared,
            )  # fmt: skip
            rows.append(checked(row))
    slopes = {f"{axis}_spread_{spec.slug}": _last_two_decades(resamples, spec, target, rows, tables, kept)}
    claims = _claims(spec, axis, rows, slopes[f"{axis}_spread_{spec.slug}"], target)
    return TaskResult(rows, slopes, claims, run.compile_s, run.handoffs), tables[-1]


def _last_two_decades(
    resamples: int,
    spec: SamplesSpec,
    target: Target,
    rows: list[Row],
    tables: list[np.ndarray],
    kept: list[int],
) -> Slope:
    late = [i for i, k in enumerate(kept) if k >= kept[-1] / 100 * 0.999]
    interface = target.known.interface
    weight = np.where(interface.mask, interface.pair_weight, 0.0)
    draws = resampled_spreads([tables[i] for i in late], weight, resamples, spec.seed)
    spreads = [r.measured for r in rows if r.series == "spread"]
    admitted = {"target_low": -0.55, "target_high": -0.45} if _asymptotic(target, kept[-1]) else {}
    return fitted_slope(
        np.array([kept[i] for i in late], float), np.array([spreads[i] for i in late]), draws,
        target=-0.5, **admitted,
    )  # fmt: skip


def _asymptotic(target: Target, samples: int) -> bool:
    return target.limit.action_gap > TIE and samples >= ASYMPTOTIC_FROM


def _claims(spec: SamplesSpec, axis: str, rows: list[Row], slope: Slope, target: Target) -> list[Claim]:
    last = next(r for r in reversed(rows) if r.series == "spread")
    text = f"{spec.label}: the spread over the last two decades of handoffs falls with slope -1/2."
    name = f"{axis}_slope_{spec.slug}"
    if not last.prediction > 0:
        why = f"{spec.label}: the limit law has no spread, so there is no central-limit line to compare with (spread)."
        return [Claim(f"{axis}_limit_{spec.slug}", why, last.measured, "not claimed", None)]
    if not target.limit.action_gap > TIE:
        why = f"{spec.label}: two options tie in the limit, so no central-limit line is claimed."
        return [Claim(f"{axis}_limit_{spec.slug}", why, last.measured / last.prediction, "not claimed", None)]
    if last.samples < ASYMPTOTIC_FROM:
        why = f"{spec.label}: too few handoffs in this preset to claim the central-limit line (spread over line)."
        return [Claim(f"{axis}_limit_{spec.slug}", why, last.measured / last.prediction, "not claimed", None)]
    interval = {"ci_low": last.ci_low / last.prediction, "ci_high": last.ci_high / last.prediction}
    biases = [r for r in rows if r.series == "bias"]
    share = biases[-1].measured / last.measured
    return [
        in_range(name, text, slope.slope, -0.55, -0.45, ci_low=slope.ci_low, ci_high=slope.ci_high),
        in_range(f"{axis}_limit_{spec.slug}", f"{spec.label}: the spread at {last.samples} handoffs over the "
                 "central-limit line.", last.measured / last.prediction, 0.9, 1.1, **interval),
        Claim(f"{axis}_bias_{spec.slug}", f"{spec.label}: bias over spread at {last.samples} handoffs (from "
              f"{biases[0].measured / next(r.measured for r in rows if r.series == 'spread'):.2g} at "
              f"{biases[0].samples}); shown apart, no line is claimed for it.", share, "reported", None),
    ]  # fmt: skip


def bounds(preset: Preset, spec: SamplesSpec, progress: Progress) -> TaskResult:
    """RMSE of the uniform average under the two schedules of Theorem 3, beside the theorem."""
    return measure_bounds(spec, target_of(spec), "samples", preset.chunk, progress)


def measure_bounds(spec: SamplesSpec, target: Target, axis: str, chunk: int, progress: Progress) -> TaskResult:
    """One lane per K for the constant step (each needs a step of its own), one lane for the decaying step.

    Without A6 the runs are still made, but no bound is claimed beside them.
    """
    counts = list(spec.theorem_samples)
    lanes: list[tuple[Target, int | None]] = [(target, k) for k in counts]
    schedules: list[tuple[str, int | None]] = [("constant_step", None)]
    if target.known.a6_certified:  # the decaying step is made of 1 - kappa
        lanes.append((target, None))
        schedules.append(("decaying_step", len(counts)))
    key = jax.random.key(spec.seed + 1)
    run = theorem_run(lanes, key, spec.theorem_replicas, counts, chunk, progress)
    shared = {
        **target.constants(),
        "replicas": spec.theorem_replicas,
        "width": spec.width,
        "gap": spec.model_gap,
    }
    rows: list[Row] = []
    for index, k in enumerate(counts):
        for series, fixed_lane in schedules:
            lane = index if fixed_lane is None else fixed_lane
            table = target.tables(lane_average(run, lane, index))
            value, low, high = root_interval(measure_errors(target.known.interface, table, target.fixed.q).squares)
            row = Row(
                axis=axis, cell=f"{axis}/{spec.slug}/theorem/{k}", series=series, group=spec.label, term="residual",
                x_name="handoffs", x=k, measured=value, ci_low=low, ci_high=high, samples=k, tail_samples=k,
                bound=target.residual_bound(k, decaying=lane == len(counts)), **shared,
            )  # fmt: skip
            rows.append(checked(row))
    return TaskResult(rows, {}, [], run.compile_s, run.handoffs)
