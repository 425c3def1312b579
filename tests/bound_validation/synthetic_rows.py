"""Rows and a summary as a validation run leaves them: all axes, a given model, and what can go wrong."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from bound_validation.results import TERMS, Row, checked
from tests.bound_validation.axis_rows import (
    CONSTANTS,
    a_row,
    agents_rows,
    audit_rows,
    durations_rows,
    gap_rows,
    messages_rows,
    mixing_rows,
    neural_rows,
    returns_rows,
    samples_rows,
    total_rows,
    width_rows,
)


def _numbered(rows: list[Row]) -> list[Row]:
    """The rows with ids ``axis/n``, one number for each point of an axis."""
    seen: dict[str, dict[tuple, int]] = {}
    out = []
    for row in rows:
        points = seen.setdefault(row.axis, {})
        number = points.setdefault((row.group, row.x_name, row.x), len(points))
        out.append(dataclasses.replace(row, cell=f"{row.axis}/{number}"))
    return out


def full_rows(seed: int = 0) -> list[Row]:
    """All axes of a planted run."""
    rng = np.random.default_rng(seed)
    builders = (
        width_rows, gap_rows, samples_rows, mixing_rows, durations_rows, total_rows, agents_rows, returns_rows,
        messages_rows, audit_rows, neural_rows,
    )  # fmt: skip
    return _numbered([row for build in builders for row in build(rng)])


def model_rows(seed: int = 0) -> list[Row]:
    """What a run on somebody's own model leaves: the interface gap and the samples axis."""
    rng = np.random.default_rng(seed)
    bounds = {"gap": 556.0, "gap_mass_span": 470.0, "gap_value_aware": 398.0}
    rows = [
        a_row("model", name, "model", 0.0, measured=98.6, bound=bound, term="interface")
        for name, bound in bounds.items()
    ]
    rows.append(a_row("model", "policy_loss", "model", 0.0, measured=63.3, bound=795.0, term="interface"))
    return _numbered(rows + samples_rows(rng, "model", linear=False))


def uncertified(rows: list[Row], *axes: str) -> list[Row]:
    """The rows with A6 not certified on the given axes: no bound that needs it is claimed there."""
    needs = ("fixed_point", "constant_step", "decaying_step", "residual", "approximation", "total", "icq_error")
    out = []
    for row in rows:
        if row.axis in axes:
            row = dataclasses.replace(row, certified=False, kappa=1.12)
            if row.series in needs:
                row = dataclasses.replace(row, bound=math.nan, alternative=math.nan)
        out.append(checked(row))
    return out


def violated(rows: list[Row], *series: str) -> list[Row]:
    """The rows with the last one of each series pushed above its bound."""
    out = list(rows)
    for name in series:
        index = max(i for i, row in enumerate(out) if row.series == name and math.isfinite(row.bound))
        row = out[index]
        out[index] = checked(
            dataclasses.replace(row, measured=1.3 * row.bound, ci_low=1.2 * row.bound, ci_high=1.4 * row.bound)
        )
    return out


def make_summary(rows: list[Row], preset: str = "quick", model: str | None = None) -> dict[str, Any]:
    """The summary that goes with the rows (slopes and timings are invented)."""
    tests = [row for row in rows if row.holds >= 0]
    ratios = {term: [r.ratio for r in tests if r.term == term and math.isfinite(r.ratio)] for term in TERMS}
    counts = {
        term: {
            "held": sum(r.holds for r in tests if r.term == term),
            "checked": sum(r.term == term for r in tests),
            "informative": sum(r.evidence for r in tests if r.term == term),
        }
        for term in TERMS
    }

    def slope(value: float, half: float, target: float | None, width: float = 0.1) -> dict[str, Any]:
        low, high = (None, None) if target is None else (target - width, target + width)
        passed = None if low is None or high is None else low <= value <= high
        return dict(
            slope=value,
            ci_low=value - half,
            ci_high=value + half,
            target=target,
            target_low=low,
            target_high=high,
            passed=passed,
            undecided=False,
        )

    slopes = {"samples_spread_tabular": slope(-0.502, 0.011, -0.5)}
    if model is None:
        slopes |= {
            "samples_spread_linear": slope(-0.497, 0.014, -0.5),
            "gap": slope(1.0, 0.001, 1.0),
            "width_approximant": slope(-0.498, 0.02, -0.5),
            "width_projection": slope(-0.74, 0.03, None),
            "width_fixed_point": slope(-0.73, 0.03, None),
        }
    violations = sum(row.holds == 0 for row in rows)
    claims: list[dict[str, Any]] = [
        dict(
            name="bound_holds",
            text="measured <= bound in every check",
            value=violations,
            ci_low=None,
            ci_high=None,
            target="0 violations",
            passed=violations == 0,
            undecided=False,
        ),
        dict(
            name="spread_meets_central_limit",
            text="spread over replicas at the largest K meets P2",
            value=1.012,
            ci_low=0.95,
            ci_high=1.08,
            target="in [0.85, 1.15]",
            passed=True,
            undecided=False,
        ),
        dict(
            name="bias_slope",
            text="the bias falls faster than the spread",
            value=-0.97,
            ci_low=-1.1,
            ci_high=-0.8,
            target="below -0.5",
            passed=True,
            undecided=False,
        ),
        dict(
            name="trained_width",
            text="error of nets with a trained hidden layer",
            value=None,
            ci_low=None,
            ci_high=None,
            target="none",
            passed=None,
            undecided=False,
        ),
    ]
    constants = ("gamma", "gamma_bar", "kappa", "epsilon", "delta", "omega", "mixing_time", "clt_coefficient")
    return dict(
        preset=preset,
        cells=len({row.cell for row in rows}),
        checks=len(tests),
        violations=violations,
        bound_holds=violations == 0,
        worst_ratio={term: max(values, default=None) for term, values in ratios.items()},
        median_ratio={term: float(np.median(values)) if values else None for term, values in ratios.items()},
        checks_per_term=counts,
        informative=sum(r.evidence for r in tests),
        slopes=slopes,
        claims=claims,
        a6_uncertified_cells=sorted({row.cell for row in rows if not row.certified}),
        versions={"python": "3.11.2", "jax": "0.10.2", "numpy": "2.4.6", "icsmdp_jax": "0.1.0"},
        device={"platform": "cpu", "kind": "cpu", "count": 2},
        compile_s=41.2,
        run_s=183.5,
        handoffs=1_230_000_000,
        model=model,
        constants=[{"model": name, **{c: CONSTANTS.get(c, 0.1) for c in constants}} for name in ("planted", "sharp")],
    )
