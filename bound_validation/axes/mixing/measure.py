"""The mixing axis: how slow mixing enters, with the gap open and closed (T3+, P2, P2.1)."""

from __future__ import annotations

from functools import partial

import jax

from bound_validation.axes.mixing.spec import MixingSpec
from bound_validation.axis import Settings
from bound_validation.cell import (
    ASYMPTOTIC_FROM,
    AnalysedCell,
    analysed,
    limit_rows,
    limit_run,
    residual_row,
    theorem_run,
)
from bound_validation.results import Row
from bound_validation.tasks import Claim, Progress, Task, TaskResult, about, about_replicas, line_ratio, outside


def tasks(spec: MixingSpec, settings: Settings) -> list[Task]:
    """One task for the central limit, one for Theorem 3; lanes are redraw probabilities times gaps."""
    lanes = 2 * len(spec.flips)
    runs, work = lanes * spec.replicas * spec.samples, lanes * spec.theorem_replicas * spec.theorem_samples
    return [
        Task("mixing/limit", partial(limit, spec, settings), runs, lanes, seconds=about_replicas(runs)),
        Task("mixing/theorem", partial(bounds, spec, settings), work, lanes, seconds=about(work)),
    ]


def cells(spec: MixingSpec, projected: bool = False) -> list[AnalysedCell]:
    """The planted model at every redraw probability, with the gap open and closed."""
    out = []
    model, below = (spec.finite_model, "projected/") if projected else (spec.model, "")
    for label, eta in (("open", spec.open_gap), ("closed", 0.0)):
        for index, flip in enumerate(spec.flips):
            known = analysed(model.replace(hidden_flip=flip, gap=eta))
            place = {
                "axis": "mixing", "cell": f"mixing/{below}{label}/{index}", "group": f"gap {label}", "gap": eta,
                "x_name": "mixing time", "x": known.clock(0.25),
            }  # fmt: skip
            out.append(AnalysedCell(known, place))
    return out


def limit(spec: MixingSpec, settings: Settings, progress: Progress) -> TaskResult:
    """Spread of the tail average at a fixed K against mixing time, with and without the Poisson terms."""
    lanes, k = cells(spec), spec.samples
    key = jax.random.key(spec.seed)
    learned = limit_run([cell.known for cell in lanes], key, spec.replicas, [k], settings.chunk, progress)
    rows = [row for lane, cell in enumerate(lanes) for row in limit_rows(cell, learned.tables(lane, k), k, ("spread",))]
    opened = [r for r in rows if r.group == "gap open"]
    closed = [r for r in rows if r.group == "gap closed"]
    slowest = max(opened, key=lambda r: r.mixing_time)
    flat = max(r.prediction for r in closed) / min(r.prediction for r in closed)
    if k < ASYMPTOTIC_FROM:
        why = "Too few handoffs in this preset to claim the central-limit line of slow chains (spread over line)."
        claims = [Claim("mixing_limit", why, slowest.measured / slowest.prediction, "not claimed", None)]
    else:
        claims = _poisson_claims(slowest)
    claims += [
        Claim("mixing_closed", "Gap closed: with and without Poisson terms the line is the same (largest relative "
              "difference; P2.1).", max(abs(r.prediction / r.alternative - 1) for r in closed), "below 1e-6",
              all(abs(r.prediction / r.alternative - 1) < 1e-6 for r in closed)),
        Claim("mixing_flat", f"Gap closed: the predicted spread changes by a factor {flat:.3g} over mixing times from "
              f"{min(r.x for r in closed):g} to {max(r.x for r in closed):g}.", flat, "reported", None),
    ]  # fmt: skip
    return TaskResult(rows, {}, claims, learned.compile_s, learned.handoffs)


def _poisson_claims(slowest: Row) -> list[Claim]:
    """Claims at the slowest chain with an open gap, where the Poisson terms matter most."""
    return [
        line_ratio("mixing_limit", f"Gap open, slowest chain (t_mix = {slowest.mixing_time:g}): spread over the "
                   "central-limit line.", slowest, 0.85, 1.15),
        outside("mixing_poisson", "Leaving out the Poisson terms is visibly worse there: the spread over the line "
                "without them.", slowest.measured / slowest.alternative, 0.85, 1.15,
                slowest.ci_low / slowest.alternative, slowest.ci_high / slowest.alternative),
    ]  # fmt: skip


def bounds(spec: MixingSpec, settings: Settings, progress: Progress) -> TaskResult:
    """RMSE under the constant step of Theorem 3 against mixing time, with T3+ and, unchecked, T3 with its t_mix."""
    lanes, k = cells(spec, projected=True), spec.theorem_samples
    key = jax.random.key(spec.seed + 1)
    learned = theorem_run([(cell.known, k) for cell in lanes], key, spec.theorem_replicas, settings.chunk, progress)
    rows = [residual_row(cell, learned.tables(lane, k), k, "constant_step") for lane, cell in enumerate(lanes)]
    return TaskResult(rows, {}, [], learned.compile_s, learned.handoffs)
