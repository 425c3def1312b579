"""What a marker, a line and a colour mean in the figures of the bound; the house style is that of the library.

Theory and measurement are told apart without colour: markers with error bars are measurements, a solid line is
guaranteed by a theorem, a dashed one is a sharp prediction, a dotted one stands beside it for comparison, a thin
dash-dotted one is a fit, and thin long dashes are a slope to compare with, through the first point.
"""

from __future__ import annotations

from typing import Any

from icsmdp_jax.drawing.style import (
    BLACK,
    BLUE,
    COLUMN_WIDTH,
    DPI,
    FULL_WIDTH,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    house_style,
    new_figure,
    save,
)

__all__ = [
    "ALARM",
    "BLACK",
    "BLUE",
    "COLUMN_WIDTH",
    "DPI",
    "FULL_WIDTH",
    "GREEN",
    "GREY",
    "LINE",
    "MEANING",
    "ORANGE",
    "PURPLE",
    "SKY",
    "TERM_COLOUR",
    "TERM_HATCH",
    "TERM_LETTER",
    "VERMILLION",
    "YELLOW",
    "house_style",
    "new_figure",
    "save",
]

ALARM = "#E00000"  # violated bounds only

TERM_COLOUR = {"residual": GREEN, "approximation": BLUE, "interface": VERMILLION, "total": BLACK}
TERM_HATCH = {"residual": "....", "approximation": "////", "interface": ""}
TERM_LETTER = {"residual": "R", "approximation": "A", "interface": "I"}

LINE: dict[str, dict[str, Any]] = {
    "bound": dict(linestyle="-", linewidth=1.4),
    "prediction": dict(linestyle=(0, (4.5, 1.8)), linewidth=1.2),
    "alternative": dict(linestyle=(0, (1, 1.4)), linewidth=1.2),
    "fit": dict(linestyle=(0, (5, 1.5, 1, 1.5)), linewidth=0.7),
    "reference": dict(linestyle=(0, (9, 3)), linewidth=0.6),
}
MEANING = {
    "measured": "measured, with 95 % interval",
    "bound": "bound (theorem)",
    "prediction": "sharp prediction",
    "alternative": "for comparison",
    "fit": "fitted slope",
    "reference": "reference slope (no bound)",
}
