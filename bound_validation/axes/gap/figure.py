"""Interface gap: the exact gap and policy loss against T1 to T1.3, IC-Q's error, and the sharp family of T1.4."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bound_validation.drawing.curves import Curve, fitted, line, measured, note
from bound_validation.drawing.panels import Q_ERROR, Panel, compose
from bound_validation.drawing.style import BLACK, BLUE, FULL_WIDTH, GREY, ORANGE, PURPLE, SKY, VERMILLION
from bound_validation.results import Row
from bound_validation.theorem import sharp_gap
from bound_validation.views import fit_of, select

ETA = r"interface gap $\eta$"
BOUNDS = (("gap", "T1", VERMILLION), ("gap_mass_span", "T1.2", ORANGE), ("gap_value_aware", "T1.1", PURPLE))


def gap_curves(rows: list[Row], summary: dict[str, Any], fit: bool = True) -> list[Curve]:
    """The exact gap with every bound that the rows hold on it."""
    curves: list[Curve] = []
    points: list[Row] = []
    for series, label, colour in BOUNDS:
        found = select(rows, "gap", series)
        curves += line(found, "bound", label, colour)
        points = points or found
    prediction = line(points, "prediction", "closed form", GREY)
    # A violation of a sharper form has to show even though the marker is shared.
    worst = [row for series, *_ in BOUNDS for row in select(rows, "gap", series) if row.holds == 0]
    shown = measured(points, r"$\|Q_\phi - Q^{\star}\|_\infty$", BLACK, "o")
    crossed = measured(worst, "", BLACK, "o")
    return [*curves, *prediction, *shown, *crossed, *(fitted(points, fit_of(summary, "gap")) if fit else [])]


def closed_form(sharp: list[Row]) -> list[Curve]:
    """T1.4 as a smooth line where all points belong to one family, else through the points."""
    label = r"$\varepsilon/(1-\bar\gamma(1-2p))$"
    if not sharp:
        return []
    epsilon, gamma_bar = sharp[0].epsilon, sharp[0].gamma_bar
    known = math.isfinite(epsilon) and 0 <= gamma_bar < 1 and all(0 < row.x < 1 for row in sharp)
    if not known or not all(math.isclose(row.prediction, sharp_gap(epsilon, gamma_bar, row.x)) for row in sharp):
        return line(sharp, "prediction", label, SKY)
    flips = np.geomspace(min(row.x for row in sharp), max(row.x for row in sharp), 60)
    smooth = [replace(sharp[0], x=p, prediction=sharp_gap(epsilon, gamma_bar, p)) for p in flips]
    return line(smooth, "prediction", label, SKY)


def mixing_notes(sharp: list[Row]) -> list[Curve]:
    """The mixing time beside the first, the middle and the last point: what comes near to the bound mixes slowly."""
    known = [row for row in sharp if math.isfinite(row.mixing_time)]
    chosen = sorted({0, len(known) // 2, len(known) - 1}) if known else []
    return [
        curve
        for i in chosen
        for curve in note([known[i].x], [known[i].measured], rf"$t_{{\rm mix}} = {known[i].mixing_time:.4g}$")
    ]


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Four panels: gap, policy loss, IC-Q's error against the oracle, sharp family."""
    rows = [row for row in rows if row.axis == "gap"]  # a given model has one gap: the overview shows it
    loss, error = select(rows, "gap", "policy_loss"), select(rows, "gap", "icq_error")
    sharp = select(rows, "gap", "sharp_family")
    exact = Panel(
        "what the interface hides",
        ETA,
        r"$\|Q_\phi - Q^{\star}\|_\infty$ (reward units)",
        gap_curves(rows, summary),
        ticks_at_points=True,
        right=0.1,
    )
    policy = Panel(
        "what acting on it costs",
        ETA,
        "policy loss (reward units)",
        [
            *line(loss, "bound", "T1.3", BLUE),
            *measured(loss, r"$\max_s\, V^{\star} - V^\pi$", BLUE, "o"),
        ],
        ticks_at_points=True,
    )
    learned = Panel(
        "IC-Q against the oracle",
        ETA,
        Q_ERROR,
        [
            *line(error, "bound", r"T3$^{1/2}$ + T1", BLACK),
            *measured(error, r"RMSE of $Q_{\rm avg}$ to $Q^{\star}$", BLACK, "o"),
        ],
        ticks_at_points=True,
    )
    family = Panel(
        "sharp family (T1.4)",
        "flip probability $p$ (per handoff)",
        r"gap $\|Q_\phi - Q^{\star}\|_\infty$ (reward units)",
        [
            *mixing_notes(sharp),
            *line(sharp, "bound", r"T1: $\varepsilon/(1-\bar\gamma)$", VERMILLION),
            *closed_form(sharp),
            *measured(sharp, "exact gap", BLACK, "o"),
        ],
        head=0.18,
        foot=0.14,
    )
    return compose([exact, policy, learned, family], 2, FULL_WIDTH, 2.55)
