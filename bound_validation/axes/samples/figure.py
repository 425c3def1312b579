"""Samples: tail averages against the central limit (P2), average iterates against theorem B and T3+ in finite time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure

from bound_validation.drawing.curves import Curve, fitted, line, measured
from bound_validation.drawing.panels import ERROR, RMSE, Panel, compose
from bound_validation.results import Row
from bound_validation.views import Fit, fit_of, groups_of, select
from icsmdp_jax.drawing.style import BLACK, BLUE, FULL_WIDTH, GREEN, GREY, ORANGE, PURPLE, SKY

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


LOOKS = {"constant": (BLUE, "o"), "harmonic": (ORANGE, "D"), "polynomial": (PURPLE, "^")}  # by schedule


def plain_curves(rows: list[Row], group: str, schedules: Iterable[str] = LOOKS) -> list[Curve]:
    """RMSE of the average iterate of plain runs, with prediction and certificate of theorem B."""
    curves: list[Curve] = []
    for schedule in schedules:
        found, (colour, marker) = select(rows, "samples", f"{schedule}_plain", group), LOOKS[schedule]
        named = any(curve.kind == "bound" for curve in curves)
        curves += line(found, "bound", "" if named else "B of each", colour)
        curves += line(found, "prediction", "", colour)
        curves += measured(found, f"{schedule} step", colour, marker)
    return curves


def projected_curves(rows: list[Row], group: str) -> list[Curve]:
    """The same of projected runs, with T3+ and, for comparison, T3 and T3.1."""
    constant, decaying = (select(rows, "samples", name, group) for name in ("constant_step", "decaying_step"))
    return [
        *line(constant, "trivial", "table of zeros", BLACK),
        *line(constant, "alternative", r"T3$^{1/2}$", GREEN),
        *line(decaying, "alternative", r"T3.1$^{1/2}$", SKY),
        *line(decaying, "bound", r"T3.1+$^{1/2}$", SKY),
        *line(constant, "bound", r"T3+$^{1/2}$", GREEN),
        *measured(decaying, "decaying step", SKY, "s"),
        *measured(constant, r"constant step $K^{-1/2}$", GREEN, "o"),
    ]


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Tail averages with their central limit; average iterates of plain and of projected runs in finite time.

    Tables on the left, linear features on the right.
    """
    upper, middle, lower = [], [], []
    for group in _groups(rows, "spread"):
        spread, bias, rmse = (select(rows, "samples", name, group) for name in ("spread", "bias", "rmse"))
        curves = [
            *spread_curves(spread, fit_of_group(summary, group)),
            *measured(rmse, "RMSE", BLACK, "+"),
            *measured(bias, "bias", ORANGE, "s"),
        ]
        upper.append(Panel(f"tail average: {_name(group)}", X_LABEL, ERROR, curves))
    for group in _groups(rows, "constant_plain"):
        middle.append(Panel(f"plain runs: {_name(group)}", X_LABEL, RMSE, plain_curves(rows, group)))
    for group in _groups(rows, "constant_step", "decaying_step"):
        lower.append(Panel(f"projected runs: {_name(group)}", X_LABEL, RMSE, projected_curves(rows, group)))
    return compose(upper + middle + lower, 2, FULL_WIDTH, 2.9)


def _groups(rows: list[Row], *series: str) -> list[str]:
    """Groups that have rows of a series, tables first."""
    found = [row for name in series for row in select(rows, "samples", name)]
    return groups_of(sorted(found, key=lambda row: (row.width, row.group)))


def _name(group: str) -> str:
    return re.sub(r"(m ?= ?\d+)", r"$\1$", group) or "tabular"
