"""The figures of a validation run: the overview, and that of each axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bound_validation.axes import AXES, BUILT_IN
from bound_validation.axis import resolved
from bound_validation.results import Row
from icsmdp_jax.runs.worker import Unable, Worker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("overview", *(name for name, axis in AXES.items() if axis.figure is not None))


def draw_all(
    rows: list[Row], summary: dict[str, Any], out: str | Path, columns: bool = True, worker: Worker | None = None
) -> dict[str, Path]:
    """Draws every figure for which there are rows, as PNG and PDF in ``out/figures``; same rows, same bytes.

    Next to each lie ``NAME.json``, its data for a page, and ``NAME-column.pdf``, the same for a single column of a
    page; an axis from outside has one if its figure is then as narrow.

    Args:
      rows: the results table.
      summary: what goes into ``summary.json``; the fitted slopes are read from it.
      out: folder of the run; ``figures`` is made in it.
      columns: whether to draw those for a single column as well.
      worker: a process that draws every other figure, if there is one.

    Returns:
      Paths of the wide PNG files by name, in the order of the report; each has its PDF next to it.
    """
    names, what = list(_drawn()), (rows, summary, out, columns)
    if worker is None:
        return _draw(names, *what)
    there = [name for name in names[1::2] if name in BUILT_IN]  # which another process knows as well
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(worker.call, partial(_sent, there, *what), lambda done: None)
        try:
            paths = _draw([name for name in names if name not in there], *what)
            paths |= second.result()
        except Unable:
            paths |= _draw(there, *what)
        except BaseException:
            worker.end()
            raise
    return {name: paths[name] for name in names if name in paths}


def _drawn() -> dict[str, Callable[..., Figure | None]]:
    """What draws each figure, in the order of the report."""
    from bound_validation.report import overview

    drawn: dict[str, Callable[..., Figure | None]] = {"overview": overview.figure}
    return drawn | {name: resolved(axis.figure) for name, axis in AXES.items() if axis.figure is not None}


def _draw(
    names: Sequence[str], rows: list[Row], summary: dict[str, Any], out: str | Path, columns: bool
) -> dict[str, Path]:
    """Draws these, one after the other."""
    from bound_validation.drawing.style import single_column
    from icsmdp_jax.drawing.interactive import save_data
    from icsmdp_jax.drawing.style import COLUMN_WIDTH, house_style, save, save_pdf

    drawn, paths = _drawn(), {}
    with house_style():
        for name in names:
            figure = drawn[name](rows, summary)
            if figure is not None:
                paths[name] = save(figure, Path(out) / "figures", name)
                save_data(figure, Path(out) / "figures", name)
                if columns:
                    with single_column():
                        column = drawn[name](rows, summary)
                    if column is not None and column.get_figwidth() <= COLUMN_WIDTH:
                        save_pdf(column, Path(out) / "figures", f"{name}-column")
    return paths


def _sent(
    names: Sequence[str], rows: list[Row], summary: dict[str, Any], out: str | Path, columns: bool, _: Any
) -> dict[str, Path]:
    return _draw(names, rows, summary, out, columns)
