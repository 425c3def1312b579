"""Durations: error amplification against mean duration, with 1/(1-gamma_bar) and, beside it, the wrong 1/(1-gamma)."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from bound_validation.drawing.curves import Curve, Kind, line, measured, note
from bound_validation.drawing.labels import Entry
from bound_validation.drawing.panels import Panel, compose
from bound_validation.drawing.style import BLACK, BLUE, FULL_WIDTH, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION
from bound_validation.results import Row
from bound_validation.views import groups_of, select

X_LABEL = "mean duration (primitive steps)"
LOOKS = ((BLACK, "o"), (BLUE, "s"), (VERMILLION, "D"), (GREEN, "^"), (PURPLE, "v"), (ORANGE, "P"), (SKY, "X"))


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Amplification on the sharp family, the measured modulus, and the planted model; a marker for each law."""
    del summary  # no slope is fitted here
    series = {name: select(rows, "durations", name) for name in ("amplification", "contraction", "planted_ratio")}
    laws = groups_of([row for found in series.values() for row in found])
    looks = {law: LOOKS[i % len(LOOKS)] for i, law in enumerate(laws)}

    def curves(name: str, right: str, wrong: str) -> list[Curve]:
        out = line(series[name], "alternative", wrong, GREY)
        known: list[Curve] = []
        for law in laws:
            here = [row for row in series[name] if row.group == law]
            colour, marker = looks[law]
            kind: Kind = "prediction" if name == "amplification" else "bound"
            theory = line(here, "bound", "", colour, kind=kind)
            known = known or theory
            out += [*theory, *measured(here, "", colour, marker)]
        return [*out, *(note(known[0].x, known[0].y, right, BLACK) if known else [])]

    horizon, wrong = r"$1/(1-\bar\gamma)$", r"$1/(1-\gamma)$"
    panels = [
        Panel(
            "sharp family",
            X_LABEL,
            r"amplification gap$/\varepsilon$",
            curves("amplification", horizon, wrong),
        ),
        Panel(
            "one Bellman backup",
            X_LABEL,
            "contraction modulus",
            curves("contraction", r"$\bar\gamma$", r"$\gamma$"),
        ),
        Panel("planted model", X_LABEL, r"gap$/\beta$", curves("planted_ratio", horizon, wrong)),
    ]
    entries = [Entry(law.replace("_", " "), *looks[law]) for law in laws]
    return compose(panels, 3, FULL_WIDTH, 2.4, entries=entries)
