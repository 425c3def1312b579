"""Samples: spread, bias and RMSE against the central-limit line (P2), and the two step rules against T3 and T3.1."""

from __future__ import annotations

import re
from typing import Any

from matplotlib.figure import Figure

from bound_validation.drawing.curves import Curve, fitted, line, measured
from bound_validation.drawing.panels import ERROR, RMSE, Panel, compose
from bound_validation.results import Row
from bound_validation.views import Fit, fit_of, groups_of, select
from icsmdp_jax.drawing.style import BLACK, BLUE, FULL_WIDTH, GREEN, GREY, ORANGE, PURPLE

X_LABEL = "samples $K$ (handoffs)"


def fit_of_group(summary: dict[str, Any], group: str) -> Fit | None:
    """The fitted slope of the spread in a group such as ``tabular`` or ``linear, m = 16``."""
    kind = "linear" if group.startswith("linear") else "tabular"
    return fit_of(summary, f"samples_spread_{kind}", f"model_spread_{kind}")


def spread_curves(spread: list[Row], fit: Fit | None) -> list[Curve]:
    """The spread with its central-limit line, with and without the Poisson terms."""
    return [
        *fitted(spread, fit),
        *line(spread, "alternative", "without Poisson terms", GREY),
        *line(spread, "prediction", "central limit (P2)", PURPLE),
        *measured(spread, "spread", PURPLE, "o"),
    ]


def residual_curves(rows: list[Row], axis: str, group: str) -> list[Curve]:
    """RMSE of the average iterate under the two step rules, with their guarantees."""
    constant = select(rows, axis, "constant_step", group)
    decaying = select(rows, axis, "decaying_step", group)
    return [
        *line(decaying, "bound", r"T3.1$^{1/2}$", BLUE),
        *line(constant, "bound", r"T3$^{1/2}$", GREEN),
        *measured(decaying, "decaying step", BLUE, "s"),
        *measured(constant, r"constant step $K^{-1/2}$", GREEN, "o"),
    ]


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """One column for each group; the sharp predictions above, the guarantees below."""
    spreads = select(rows, "samples", "spread")
    steps = select(rows, "samples", "constant_step") + select(rows, "samples", "decaying_step")
    groups = groups_of(sorted(spreads + steps, key=lambda row: (row.width, row.group)))
    upper, lower = [], []
    for group in groups:
        spread, bias, rmse = (select(rows, "samples", name, group) for name in ("spread", "bias", "rmse"))
        curves = [
            *spread_curves(spread, fit_of_group(summary, group)),
            *measured(rmse, "RMSE", BLACK, "+"),
            *measured(bias, "bias", ORANGE, "s"),
        ]
        name = re.sub(r"(m ?= ?\d+)", r"$\1$", group) or "tabular"
        upper.append(Panel(f"{name}: tail average", X_LABEL, ERROR, curves))
        curves = residual_curves(rows, "samples", group)
        lower.append(Panel(f"{name}: average iterate", X_LABEL, RMSE, curves))
    return compose(upper + lower, 2, FULL_WIDTH, 2.9)
