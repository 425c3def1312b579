"""Durations: error amplification against mean duration, with 1/(1-gamma_bar) and the wrong 1/(1-gamma)."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from bound_validation.drawing.curves import Curve, Kind, line, measured
from bound_validation.drawing.legends import Entry
from bound_validation.drawing.panels import Panel, compose
from bound_validation.drawing.style import GROUPS
from bound_validation.results import Row
from bound_validation.views import groups_of, select
from icsmdp_jax.drawing.style import FULL_WIDTH, GREY

X_LABEL = "mean duration (primitive steps)"


def figure(rows: list[Row], summary: dict[str, Any]) -> Figure | None:
    """Amplification on the sharp family, the measured modulus, and the planted model; a marker for each law."""
    del summary  # no slope is fitted here
    series = {name: select(rows, "durations", name) for name in ("amplification", "contraction", "planted_ratio")}
    laws = groups_of([row for found in series.values() for row in found])
    looks = {law: GROUPS[i % len(GROUPS)] for i, law in enumerate(laws)}

    def curves(name: str, kind: Kind, right: str, wrong: str) -> list[Curve]:
        out = line(series[name], "alternative", wrong, GREY)
        for law in laws:
            here = [row for row in series[name] if row.group == law]
            colour, marker = looks[law]
            theory = line(here, "bound", right, colour, kind)
            right = "" if theory else right  # the first line is named for all
            out += [*theory, *measured(here, "", colour, marker)]
        return out

    horizons, moduli = (
        (r"$1/(1-\bar\gamma)$ of each law", r"$1/(1-\gamma)$"),
        (r"$\bar\gamma$ of each law", r"$\gamma$"),
    )
    sharp = curves("amplification", "prediction", *horizons)
    backup, planted = curves("contraction", "bound", *moduli), curves("planted_ratio", "bound", *horizons)
    panels = [
        Panel("sharp family", X_LABEL, r"amplification gap$/\varepsilon$", sharp),
        Panel("one Bellman backup", X_LABEL, "contraction modulus", backup),
        Panel("planted model", X_LABEL, r"gap$/\beta$", planted),
    ]
    return compose(panels, 3, FULL_WIDTH, 2.6, [Entry(law.replace("_", " "), *looks[law]) for law in laws])
