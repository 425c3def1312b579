"""The mixing axis: how slow mixing enters, with the gap open and closed (T3's t_mix, P2, P2.1)."""

from __future__ import annotations

import jax
import numpy as np

from bound_validation import theorem
from bound_validation.axes.gap.measure import analysed
from bound_validation.axes.samples.measure import ASYMPTOTIC_FROM
from bound_validation.measure import Progress, Target, lane_average, limit_run, root_interval, theorem_run
from bound_validation.results import Row, checked
from bound_validation.sweeps import Preset
from bound_validation.tasks import Claim, Task, TaskResult, in_range
from icsmdp_jax.learner.experiment import measure_errors


def tasks(preset: Preset) -> list[Task]:
    """One task for the central limit, one for Theorem 3; lanes are redraw probabilities times gaps."""
    spec = preset.mixing
    lanes = 2 * len(spec.flips)
    return [
        Task("mixing/limit", lambda p: limit(preset, p), lanes * spec.replicas * spec.samples, lanes),
        Task(
            "mixing/theorem",
            lambda p: bounds(preset, p),
            lanes * spec.theorem_replicas * spec.theorem_samples,
            lanes,
        ),
    ]


def _lanes(preset: Preset) -> list[tuple[int, str, float, Target]]:
    spec = preset.mixing
    return [
        (index, label, eta, Target(analysed(spec.model.replace(hidden_flip=flip, gap=eta))))
        for label, eta in (("gap open", spec.open_gap), ("gap closed", 0.0))
        for index, flip in enumerate(spec.flips)
    ]


def limit(preset: Preset, progress: Progress) -> TaskResult:
    """Spread of the tail average at a fixed K against mixing time, with and without the Poisson terms."""
    spec = preset.mixing
    lanes = _lanes(preset)
    k, tail = spec.samples, spec.samples - spec.samples // 2
    run = limit_run(
        [t for *_, t in lanes], jax.random.key(spec.seed), spec.replicas, [k // 2, k], preset.chunk, progress
    )
    rows: list[Row] = []
    for lane, (index, label, eta, target) in enumerate(lanes):
        table = target.tables(lane_average(run, lane, 1, k // 2))
        errors = measure_errors(target.known.interface, table, target.fixed.q)
        value, low, high = root_interval(errors.deviations, degrees_lost=1)
        row = Row(
            axis="mixing", cell=f"mixing/{label.split()[1]}/{index}", series="spread", group=label,
            x_name="mixing time", x=target.known.clock(0.25), gap=eta, measured=value, ci_low=low, ci_high=high,
            prediction=theorem.central_limit_spread(target.limit.coefficient, tail),
            alternative=theorem.central_limit_spread(target.limit.coefficient_iid, tail),
            replicas=spec.replicas, samples=k, tail_samples=tail, **target.constants(),
        )  # fmt: skip
        rows.append(checked(row))
    opened = [r for r in rows if r.group == "gap open"]
    closed = [r for r in rows if r.group == "gap closed"]
    slowest = max(opened, key=lambda r: r.mixing_time)
    flat = max(r.prediction for r in closed) / min(r.prediction for r in closed)
    with_poisson = slowest.measured / slowest.prediction
    if k < ASYMPTOTIC_FROM:
        why = "Too few handoffs in this preset to claim the central-limit line of slow chains (spread over line)."
        claims = [Claim("mixing_limit", why, with_poisson, "not claimed", None)]
    else:
        claims = _poisson_claims(slowest)
    claims += [
        Claim("mixing_closed", "Gap closed: with and without Poisson terms the line is the same (largest relative "
              "difference; P2.1).", max(abs(r.prediction / r.alternative - 1) for r in closed), "below 1e-6",
              all(abs(r.prediction / r.alternative - 1) < 1e-6 for r in closed)),
        Claim("mixing_flat", f"Gap closed: the predicted spread changes by a factor {flat:.3g} over mixing times from "
              f"{min(r.x for r in closed):g} to {max(r.x for r in closed):g}.", flat, "reported", None),
    ]  # fmt: skip
    return TaskResult(rows, {}, claims, run.compile_s, run.handoffs)


def _poisson_claims(slowest: Row) -> list[Claim]:
    """Claims at the slowest chain with an open gap, where the Poisson terms matter most."""
    with_poisson = slowest.measured / slowest.prediction
    without = slowest.measured / slowest.alternative
    return [
        in_range("mixing_limit", f"Gap open, slowest chain (t_mix = {slowest.mixing_time:g}): spread over the "
                 "central-limit line.", with_poisson, 0.85, 1.15, ci_low=slowest.ci_low / slowest.prediction,
                 ci_high=slowest.ci_high / slowest.prediction),
        Claim("mixing_poisson", "Leaving out the Poisson terms is visibly worse there: the spread over the line "
              "without them.", without, "off by over twice as much, and by over 0.15",
              bool(abs(without - 1) > max(0.15, 2 * abs(with_poisson - 1))),
              slowest.ci_low / slowest.alternative, slowest.ci_high / slowest.alternative),
    ]  # fmt: skip


def bounds(preset: Preset, progress: Progress) -> TaskResult:
    """RMSE under the constant step of Theorem 3 against mixing time, beside the bound with its t_mix factor."""
    spec = preset.mixing
    lanes = _lanes(preset)
    k = spec.theorem_samples
    run = theorem_run(
        [(t, k) for *_, t in lanes], jax.random.key(spec.seed + 1), spec.theorem_replicas, [k], preset.chunk, progress
    )  # fmt: skip
    rows: list[Row] = []
    for lane, (index, label, eta, target) in enumerate(lanes):
        table = target.tables(lane_average(run, lane, 0))
        errors = measure_errors(target.known.interface, table, target.fixed.q)
        value, low, high = root_interval(np.asarray(errors.squares))
        row = Row(
            axis="mixing", cell=f"mixing/{label.split()[1]}/{index}", series="constant_step", group=label,
            term="residual", x_name="mixing time", x=target.known.clock(0.25), gap=eta, measured=value, ci_low=low,
            ci_high=high, bound=target.residual_bound(k), replicas=spec.theorem_replicas, samples=k, tail_samples=k,
            **target.constants(),
        )  # fmt: skip
        rows.append(checked(row))
    return TaskResult(rows, {}, [], run.compile_s, run.handoffs)
