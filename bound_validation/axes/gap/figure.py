"""Interface gap: the exact gap and policy loss against T1 to T1.3, IC-Q's error, and the sharp family of T1.4."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from bound_validation.drawing.curves import Curve, fitted, line, measured
from bound_validation.drawing.panels import ERROR, Panel, compose
from bound_validation.results import Row
from bound_validation.theorem import sharp_gap
from bound_validation.views import fit_of, select
from icsmdp_jax.drawing.style import BLACK, BLUE, FULL_WIDTH, GREY, ORANGE, PURPLE, SKY, VERMILLION

ETA = r"interface gap $\eta$"
BOUNDS = (("gap", "T1", VERMILLION), ("gap_mass_span", "T1.2", ORANGE), ("gap_value_aware", "T1.1", PURPLE))


def gap_curves(rows: list[Row], summary: dict[str, Any]) -> list[Curve]:
    """The exact gap with every bound that the rows hold on it."""
    found = {series: select(rows, "gap", series) for series, *_ in BOUNDS}
    points = next((rows for rows in found.values() if rows), [])
    # A violation of a sharper form has to show even though the marker is shared.
    crossed = [row for rows in found.values() for row in rows if row.holds == 0]
    return [
        *(curve for series, label, colour in BOUNDS for curve in line(found[series], "bound", label, colour)),
        *line(points, "prediction", "closed form", GREY),
        *measured(points, r"$\|Q_\phi - Q^{\star}\|_\infty$", BLACK, "o"),
        *measured(crossed, "", BLACK, "o"),
        *fitted(points, fit_of(summary, "gap")),
    ]


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


def mixing_scale(sharp: list[Row]) -> tuple[list[float], list[str]] | None:
    """The mixing times of some points along the upper edge: what comes near to the bound mixes slowly."""
    known = [row for row in sharp if math.isfinite(row.mixing_time)]
    if not known:
        return None
    known = known[:: max(1, math.ceil(len(known) / 6))]
    times = [f"{row.mixing_time:.4g}" for row in known]
    return [row.x for row in known], [rf"$t_{{\rm mix}} = {times[0]}$", *times[1:]]


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Four panels: gap, policy loss, IC-Q's error against the oracle, sharp family."""
    rows = [row for row in rows if row.axis == "gap"]  # a given model has one gap: the overview shows it
    loss, error, sharp = (select(rows, "gap", name) for name in ("policy_loss", "icq_error", "sharp_family"))
    gap = r"$\|Q_\phi - Q^{\star}\|_\infty$ (reward units)"
    policy = [*line(loss, "bound", "T1.3", BLUE), *measured(loss, r"$\max_s\, V^{\star} - V^\pi$", BLUE, "o")]
    learned = [
        *line(error, "bound", r"T3+$^{1/2}$ + T1.1", BLACK),
        *line(error, "trivial", "table of zeros", GREY),
        *measured(error, r"RMSE of $Q_{\rm avg}$ to $Q^{\star}$", BLACK, "o"),
    ]
    family = [
        *line(sharp, "bound", r"T1: $\varepsilon/(1-\bar\gamma)$", VERMILLION),
        *closed_form(sharp),
        *measured(sharp, "exact gap", BLACK, "o"),
    ]
    flips = "flip probability $p$ (per handoff)"
    panels = [
        Panel("what the interface hides", ETA, gap, gap_curves(rows, summary), ticks=True),
        Panel("what acting on it costs", ETA, "policy loss (reward units)", policy, ticks=True),
        Panel("IC-Q against the oracle", ETA, ERROR, learned, ticks=True),
        Panel("sharp family (T1.4)", flips, f"gap {gap}", family, top=mixing_scale(sharp)),
    ]
    return compose(panels, 2, FULL_WIDTH, 2.7)
