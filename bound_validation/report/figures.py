"""The figures of a validation run: the overview, and that of each axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bound_validation.axes import AXES
from bound_validation.axis import resolved
from bound_validation.results import Row

NAMES = ("overview", *(name for name, axis in AXES.items() if axis.figure is not None))


def draw_all(rows: list[Row], summary: dict[str, Any], out: str | Path) -> dict[str, Path]:
    """Draws every figure for which there are rows, as PNG and PDF in ``out/figures``; same rows, same bytes.

    Args:
      rows: the results table.
      summary: what goes into ``summary.json``; the fitted slopes are read from it.
      out: folder of the run; ``figures`` is made in it.

    Returns:
      Paths of the PNG files by name, in the order of the report; the PDF lies beside each.
    """
    from bound_validation.report import overview
    from icsmdp_jax.drawing.style import house_style, save

    drawn = {"overview": overview.figure}
    drawn |= {name: resolved(axis.figure) for name, axis in AXES.items() if axis.figure is not None}
    paths = {}
    with house_style():
        for name, draw in drawn.items():
            figure = draw(rows, summary)
            if figure is not None:
                paths[name] = save(figure, Path(out) / "figures", name)
    return paths
