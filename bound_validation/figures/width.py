"""Width: the error of m features against C m^(-1/2), and of the projected fixed point against T2."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from bound_validation.figures.curves import fitted, line, measured, same_line
from bound_validation.figures.panels import Q_ERROR, Panel, compose
from bound_validation.figures.style import BLUE, FULL_WIDTH, GREY, ORANGE, PURPLE
from bound_validation.results import Row
from bound_validation.views import fit_of, select

X_LABEL = "features per agent $m$"


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
            *measured(select(rows, "width", "trained"), "trained nets (no bound)", GREY, "^"),
        ],
        ticks_at_points=True,
    )
    return compose([span, learned], 2, FULL_WIDTH, 2.7)
