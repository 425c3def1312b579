"""A given model: every constant and term, the samples axis, and the width axis where features are given."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from bound_validation import theorem
from bound_validation.axes.model.spec import ModelSpec
from bound_validation.axes.samples.measure import measure_bounds, measure_limit
from bound_validation.axes.samples.spec import SamplesSpec
from bound_validation.axis import Settings
from bound_validation.cell import TIE, AnalysedCell, feature_errors, interface_rows
from bound_validation.intervals import fitted_slope, resampled_roots, root_interval
from bound_validation.results import NAN, Row, checked
from bound_validation.tasks import Claim, Progress, Task, TaskResult
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.learner.experiment import random_relu

WORK = 10_000  # progress units that the analysis, or one feature draw, is worth


def tasks(spec: ModelSpec, settings: Settings) -> list[Task]:
    """The tasks that apply to a model: Theorem 1 always, samples always, Theorem 3 under A6, width with features."""
    known = settings.known
    assert known is not None
    learners = (spec, known, settings)
    limits, theorems = len(spec.limit_samples), len(spec.theorem_samples)
    out = [
        Task("model/interface", partial(interface_terms, known), WORK, joint=False),
        Task("model/limit", partial(limit, *learners), spec.replicas * max(spec.limit_samples), limits),
    ]
    if known.a6_certified:
        work = spec.theorem_replicas * max(spec.theorem_samples) * (theorems + 1)
        out.append(Task("model/theorem", partial(bounds, *learners), work, theorems))
    if known.interface.model.features is not None:
        count = len(widths_for(known))
        out.append(Task("model/width", partial(width, *learners), WORK * spec.draws * count, count, joint=False))
    return out


def place_of(known: Analysis) -> dict[str, Any]:
    """Columns that all rows share."""
    note = f"A6 not certified (kappa = {known.kappa:.4g}): no Theorem 2 or 3 claimed"
    return {"axis": "model", "gap": NAN, "note": "" if known.a6_certified else note}


def samples_of(spec: ModelSpec) -> SamplesSpec:
    """The spec as the samples axis has it."""
    theorem_runs = (spec.theorem_samples, spec.theorem_replicas)
    return SamplesSpec("tabular", "tabular", spec.limit_samples, spec.replicas, *theorem_runs, seed=spec.seed)


def interface_terms(known: Analysis, progress: Progress) -> TaskResult:
    """The interface gap with all forms of Theorem 1, and whether A6 is certified (T1, P1)."""
    place = {**place_of(known), "cell": "model/interface", "x_name": "model", "x": 0.0}
    rows = interface_rows(AnalysedCell(known, place))
    progress(WORK)
    if known.a6_certified:
        text = "A6 is certified for this model under this behaviour policy, so Theorems 2 and 3 apply (kappa)."
    else:
        text = "A6 is not certified for this model (kappa is not below 1): no Theorem 2 or 3 is claimed."
    return TaskResult(rows, {}, [Claim("model_a6", text, known.kappa, "below 1", True if known.a6_certified else None)])


def limit(spec: ModelSpec, known: Analysis, settings: Settings, progress: Progress) -> TaskResult:
    """Spread, bias and RMSE of tail-averaged tabular IC-Q, and whether its greedy options are best ones."""
    result, tables = measure_limit(samples_of(spec), known, place_of(known), settings, progress)
    result.claims.append(greedy_claim(known, tables, spec.limit_samples[-1]))
    return result


def bounds(spec: ModelSpec, known: Analysis, settings: Settings, progress: Progress) -> TaskResult:
    """RMSE of the uniform average under Theorem 3's schedules."""
    return measure_bounds(samples_of(spec), known, place_of(known), settings, progress)


def greedy_claim(known: Analysis, tables: np.ndarray, samples: int) -> Claim:
    """In how many replicas IC-Q's greedy option is one of the best options of ``Q_phi`` at every interface.

    Args:
      known: the model.
      tables: ``[replicas, Z, O]`` learned values.
      samples: handoffs behind them.
    """
    mask = known.interface.mask
    decides = mask.any(axis=1)
    q = np.where(mask, known.q_phi_table, -np.inf)[decides]
    best = q.max(axis=1)
    chosen = np.where(mask, tables, -np.inf)[:, decides].argmax(axis=2)
    value = np.take_along_axis(np.broadcast_to(q, (len(chosen), *q.shape)), chosen[:, :, None], axis=2)[:, :, 0]
    right = value >= best - TIE * (1 + np.abs(best))
    text = (
        f"IC-Q's greedy option is a best option of Q_phi at {100 * right.mean():.4g} % of interfaces on average; "
        f"at every interface in this many of {len(tables)} replicas ({samples} handoffs each)."
    )
    return Claim("model_greedy", text, float(right.all(axis=1).sum()), "reported", None)


def widths_for(known: Analysis) -> list[int]:
    """Feature counts 2, 4, ... below the largest number of interfaces of one agent, at least one width."""
    owners = known.interface.model.interface_agent
    largest = int(np.bincount(owners[owners >= 0]).max())
    return [2**i for i in range(1, max(1, math.ceil(math.log2(max(largest, 2)))) + 1)]


def width(spec: ModelSpec, known: Analysis, settings: Settings, progress: Progress) -> TaskResult:
    """Projection error and ``||Q_m - Q_phi||_d`` of random ReLU features of the model's own features (T2)."""
    interface, q_phi = known.interface, known.q_phi_table
    x = interface.model.features
    assert x is not None
    rows: list[Row] = []
    widths = widths_for(known)
    squares: list[np.ndarray] = []
    for index, m in enumerate(widths):
        projected, fixed = [], []
        for draw in range(spec.draws):
            rng = np.random.default_rng([spec.seed, index, draw])
            raw = random_relu(x, interface.model.interface_agent, m, rng)
            near, far = feature_errors(interface, raw, q_phi, max_iterations=3000)
            projected.append(near)
            fixed.append(far)
            progress(WORK)
        squares.append(np.array(projected))
        best = root_interval(np.array(projected))
        settled = np.array(fixed)[np.isfinite(fixed)]
        shared: dict[str, Any] = {
            "cell": f"model/width/{index}", "x_name": "features per agent", "x": m, "width": m,
            "function_class": "linear",
            "replicas": spec.draws, "certified": known.a6_certified, "kappa": known.kappa,
            "gamma_bar": interface.gamma_bar, **place_of(known),
        }  # fmt: skip
        rows.append(checked(Row(series="projection", measured=best[0], ci_low=best[1], ci_high=best[2], **shared)))
        if len(settled) == spec.draws:
            value, low, high = root_interval(settled)
            bound = theorem.approximation_bound(best[0], known.kappa) if known.a6_certified else NAN
            rows.append(checked(Row(
                series="fixed_point", measured=value, ci_low=low, ci_high=high, bound=bound,
                trivial=interface.norm(q_phi) if known.a6_certified else NAN,
                term="approximation" if known.a6_certified else "", **shared,
            )))  # fmt: skip
    slopes = {}
    values = np.array([r.measured for r in rows if r.series == "projection"])
    positive = values > 1e-9
    if positive.sum() >= 2:
        draws = resampled_roots(
            [s for s, keep in zip(squares, positive, strict=True) if keep], settings.resamples, spec.seed
        )
        slopes["model_width_projection"] = fitted_slope(
            np.array(widths, float)[positive], values[positive], np.maximum(draws, 1e-12)
        )  # fmt: skip
    return TaskResult(rows, slopes, [])
