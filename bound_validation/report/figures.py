"""The figures of a validation run: the overview, and that of each axis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bound_validation.axes import AXES
from bound_validation.axis import resolved
from bound_validation.results import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("overview", *(name for name, axis in AXES.items() if axis.figure is not None))


def draw_all(rows: list[Row], summary: dict[str, Any], out: str | Path, columns: bool = True) -> dict[str, Path]:
    """Draws every figure for which there are rows, as PNG and PDF in ``out/figures``; same rows, same bytes.

    Next to each lie ``NAME.json``, its data for a page, and ``NAME-column.pdf``, the same for a single column of a
    page; an axis from outside has one if its figure is then as narrow.

    Args:
      rows: the results table.
      summary: what goes into ``summary.json``; the fitted slopes are read from it.
      out: folder of the run; ``figures`` is made in it.
      columns: whether to draw those for a single column as well.

    Returns:
      Paths of the wide PNG files by name, in the order of the report; each has its PDF next to it.
    """
    from bound_validation.drawing.style import single_column
    from bound_validation.report import overview
    from icsmdp_jax.drawing.interactive import save_data
    from icsmdp_jax.drawing.style import COLUMN_WIDTH, house_style, save, save_pdf

    drawn: dict[str, Callable[..., Figure | None]] = {"overview": overview.figure}
    drawn |= {name: resolved(axis.figure) for name, axis in AXES.items() if axis.figure is not None}
    paths = {}
    with house_style():
        for name, draw in drawn.items():
            figure = draw(rows, summary)
            if figure is not None:
                paths[name] = save(figure, Path(out) / "figures", name)
                save_data(figure, Path(out) / "figures", name)
                if columns:
                    with single_column():
                        column = draw(rows, summary)
                    if column is not None and column.get_figwidth() <= COLUMN_WIDTH:
                        save_pdf(column, Path(out) / "figures", f"{name}-column")
    return paths
