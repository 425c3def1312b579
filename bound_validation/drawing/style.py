"""What a marker, a line and a colour mean in the figures of the bound; sizes, fonts and colours are the library's.

Theory and measurement are told apart without colour. Markers with error bars are measurements. A solid line is
guaranteed by a theorem, a dashed one is a sharp prediction, and a dotted one is there for comparison. A thin
dash-dotted line is a fit; thin long dashes are a reference slope through the first point.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from icsmdp_jax.drawing.style import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION

ALARM = "#E00000"  # violated bounds only

# Colour and marker of the first, second, ... group of a figure.
GROUPS = ((BLACK, "o"), (BLUE, "s"), (VERMILLION, "D"), (GREEN, "^"), (PURPLE, "v"), (ORANGE, "P"), (SKY, "X"))

TERM_COLOUR = {"residual": GREEN, "approximation": BLUE, "interface": VERMILLION, "total": BLACK}
TERM_MARKER = {"residual": "o", "approximation": "s", "interface": "^", "total": "D"}

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
HOLLOW = "A6 not certified"
CROSSED = "bound violated"
VACUOUS = "vacuous: the bound is no better than trivial"
ARROW = "estimate 0: upper end of interval"

_NARROW = ContextVar("narrow", default=False)


@contextmanager
def single_column() -> Iterator[None]:
    """Figures drawn inside are as wide as one column of a page, their panels below each other."""
    token = _NARROW.set(True)
    try:
        yield
    finally:
        _NARROW.reset(token)


def narrow() -> bool:
    """Whether figures are being drawn for a single column."""
    return _NARROW.get()
