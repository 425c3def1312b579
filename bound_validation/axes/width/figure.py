"""Width: m features against C m^(-1/2), the projected fixed point against T2, and nets with a trained hidden layer."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from matplotlib.figure import Figure

from bound_validation.drawing.curves import fitted, line, measured, reference, same_line
from bound_validation.drawing.panels import Q_ERROR, Panel, compose
from bound_validation.drawing.style import BLACK, BLUE, FULL_WIDTH, GREEN, GREY, ORANGE, PURPLE, SKY
from bound_validation.results import Row
from bound_validation.views import fit_of, limited_by_width, select

X_LABEL = "features per agent $m$"
X_TRAINED = "units per agent and option, or features per agent, $m$"
REFERENCES = {"Cai et al. 2019": Fraction(-1, 4), "Xu and Gu 2020": Fraction(-1, 6)}  # powers of m, lazy training


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Sampled approximant and projection (T2.1), and the fixed point ``Q_m`` (T2)."""
    sampled, projected, fixed = (select(rows, "width", name) for name in ("approximant", "projection", "fixed_point"))
    guarantee = line(projected, "bound", r"$C\,m^{-1/2}$ (T2.1)", BLUE)
    exact = line(sampled, "prediction", r"$C\,m^{-1/2}$ (T2.1)", ORANGE)
    if same_line(guarantee, exact):  # one line says both: exact for the approximant, a bound for the projection
        exact = []
    span = Panel(
        "what $m$ features can represent",
        X_LABEL,
        Q_ERROR,
        [
            *guarantee,
            *exact,
            *measured(sampled, "sampled approximant", ORANGE, "s"),
            *measured(projected, r"projection, $\|\Pi Q_\phi - Q_\phi\|_d$", BLUE, "o"),
            *fitted(projected, fit_of(summary, "width_projection", "model_width_projection")),
        ],
        ticks_at_points=True,
    )
    learned = Panel(
        "where IC-Q with them converges",
        X_LABEL,
        Q_ERROR,
        [
            *line(fixed, "alternative", r"$C\,m^{-1/2}(1-\kappa^2)^{-1/2}$", GREY),
            *line(fixed, "bound", "T2", PURPLE),
            *measured(fixed, r"$\|Q_m - Q_\phi\|_d$", PURPLE, "D"),
            *fitted(fixed, fit_of(summary, "width_fixed_point", "model_width_fixed_point")),
        ],
        ticks_at_points=True,
    )
    return compose([span, learned, *trained_panel(rows, summary)], 2, FULL_WIDTH, 2.7, fill=True)


def trained_panel(rows: list[Row], summary: dict[str, Any]) -> list[Panel]:
    """Trained nets beside frozen features, with the slopes of lazy-training analyses; empty without such rows."""
    nets, spread, fixed = (select(rows, "width", name) for name in ("trained", "trained_spread", "fixed_point"))
    if not nets:
        return []
    curves = [
        curve
        for name, slope in REFERENCES.items()
        for curve in reference(nets, float(slope), f"reference slope \N{MINUS SIGN}{abs(slope)} ({name})")
    ]
    curves += [
        *line(fixed, "alternative", r"frozen features, $C\,m^{-1/2}(1-\kappa^2)^{-1/2}$", BLACK),
        *measured(nets, "hidden layer trained", GREEN, "^"),
        *measured(fixed, r"frozen features, $\|Q_m - Q_\phi\|_d$", PURPLE, "D"),
        *measured(spread, "of this, undecided by the data", SKY, "v"),
        *fitted(limited_by_width(nets, spread), fit_of(summary, "width_trained_limited")),
    ]
    title = "nets trained by IC-Q: no bound is claimed"
    return [Panel(title, X_TRAINED, Q_ERROR, curves, ticks_at_points=True, right=0.26)]
