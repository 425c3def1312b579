"""Width: m features against C m^(-1/2), the projected fixed point against T2, and nets with a trained hidden layer."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from matplotlib.figure import Figure

from bound_validation.drawing.curves import fitted, line, measured, reference, same_line
from bound_validation.drawing.panels import ERROR, Panel, compose
from bound_validation.results import Row
from bound_validation.views import fit_of, limited_by_width, select
from icsmdp_jax.drawing.style import BLACK, BLUE, FULL_WIDTH, GREEN, GREY, ORANGE, PURPLE, SKY

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
    span = [
        *guarantee,
        *exact,
        *measured(sampled, "sampled approximant", ORANGE, "s"),
        *measured(projected, r"projection, $\|\Pi Q_\phi - Q_\phi\|_d$", BLUE, "o"),
        *fitted(projected, fit_of(summary, "width_projection", "model_width_projection")),
    ]
    learned = [
        *line(fixed, "alternative", r"$C\,m^{-1/2}(1-\kappa^2)^{-1/2}$", GREY),
        *line(fixed, "bound", "T2", PURPLE),
        *measured(fixed, r"$\|Q_m - Q_\phi\|_d$", PURPLE, "D"),
        *fitted(fixed, fit_of(summary, "width_fixed_point")),
    ]
    panels = [
        Panel("what $m$ features can represent", X_LABEL, ERROR, span, ticks=True),
        Panel("where IC-Q with them converges", X_LABEL, ERROR, learned, ticks=True),
        *trained_panel(rows, summary),
    ]
    return compose(panels, 2, FULL_WIDTH, 2.8, fill=True)


def trained_panel(rows: list[Row], summary: dict[str, Any]) -> list[Panel]:
    """Trained nets and frozen features, with the slopes of lazy-training analyses; empty without such rows."""
    nets, spread, fixed = (select(rows, "width", name) for name in ("trained", "trained_spread", "fixed_point"))
    if not nets:
        return []
    curves = [
        curve
        for (name, slope), colour in zip(REFERENCES.items(), (ORANGE, BLUE), strict=True)
        for curve in reference(nets, float(slope), f"reference slope \N{MINUS SIGN}{abs(slope)} ({name})", colour)
    ]
    curves += [
        *line(fixed, "alternative", r"frozen features, $C\,m^{-1/2}(1-\kappa^2)^{-1/2}$", BLACK),
        *measured(nets, "hidden layer trained", GREEN, "^"),
        *measured(fixed, r"frozen features, $\|Q_m - Q_\phi\|_d$", PURPLE, "D"),
        *measured(spread, "spread of these nets between two runs from one start", SKY, "v"),
        *fitted(limited_by_width(nets, spread), fit_of(summary, "width_trained_limited")),
    ]
    title = "nets trained by IC-Q: no bound is claimed"
    return [Panel(title, X_TRAINED, ERROR, curves, ticks=True)]
