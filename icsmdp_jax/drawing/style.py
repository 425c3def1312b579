"""House style of all figures: sizes, colours, fonts, and files that do not depend on the date.

Colours are distinct for all common kinds of colour vision, but nothing is shown by colour alone: markers, line styles,
widths and labels say the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox

from icsmdp_jax.io import atomic_write

FULL_WIDTH = 6.9  # inches: both columns of a page
COLUMN_WIDTH = 3.3
DPI = 200
PLACES = 9  # decimal places of where panels are, in units of the figure
SMALL = 7.0  # points: no text of a figure should be smaller in print

# Okabe and Ito's palette: distinct for all common kinds of colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#6B6B6B"
NODE = "#DCE9F5"  # fill of agents in graphs

# Colour, marker and dashes of the first, second, ... method.
LOOKS: tuple[tuple[str, str, Any], ...] = (
    (BLUE, "o", "-"),
    (VERMILLION, "s", (0, (4.5, 1.6))),
    (GREEN, "^", (0, (1, 1.2))),
    (PURPLE, "D", (0, (6, 1.5, 1, 1.5))),
    (ORANGE, "v", (0, (2.5, 1.2))),
    (SKY, "P", (0, (4, 1.2, 1, 1.2, 1, 1.2))),
    (BLACK, "X", (0, (8, 2))),
    (GREY, "*", (0, (1, 2.4))),
)

SETTINGS: dict[str, Any] = {
    "font.family": "STIXGeneral",  # ships with Matplotlib: the same glyphs everywhere
    "mathtext.fontset": "stix",
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7.8,
    "ytick.labelsize": 7.8,
    "legend.fontsize": 7.8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelpad": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.6,
    "ytick.minor.size": 1.6,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "legend.frameon": False,
    "legend.borderpad": 0.1,
    "legend.handlelength": 2.2,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.3,
    "hatch.linewidth": 0.5,
    "lines.dash_capstyle": "butt",
    "lines.solid_capstyle": "round",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "text.parse_math": True,
    "text.hinting": "no_hinting",  # letters stand as close in a PNG as in its PDF, and as ``text_size`` says
}


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's own defaults plus ``SETTINGS``, whatever the user's matplotlibrc says."""
    parameters: Any = matplotlib.rcParams  # its keys are a closed set of literals in newer stubs
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        parameters.update(SETTINGS)
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches that lays itself out and needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.045, wspace=0.05, hspace=0.05)  # type: ignore[union-attr, call-arg]
    return figure


def letter(axes: Axes, index: int | None, title: str) -> None:
    """``(a) what this panel is about`` above the upper left corner; without a letter if it is the only one."""
    axes.set_title(title if index is None else lettered(index, title), loc="left", pad=5)


def lettered(index: int, title: str) -> str:
    """The title of the panel with that number: ``(a) title`` for the first."""
    return rf"$\bf{{({chr(ord('a') + index)})}}$ {title}"


@lru_cache(maxsize=4096)
def text_size(text: str, size: float) -> tuple[float, float]:
    """Width and height in points of a text, mathematics included, in the typeface of the figures."""
    font = FontProperties(family=SETTINGS["font.family"], size=size)
    width, height, _ = text_to_path.get_text_width_height_descent(text, font, is_math_text(text))
    return float(width), float(height)


def legend_columns(names: Sequence[str], room: float, handle_length: float = SETTINGS["legend.handlelength"]) -> int:
    """Columns of the lowest legend with these names that is at most ``room`` points wide."""
    size = SETTINGS["legend.fontsize"]
    handle = size * (handle_length + SETTINGS["legend.handletextpad"])
    gap = size * SETTINGS["legend.columnspacing"]
    widths = [handle + text_size(name, size)[0] for name in names]
    for rows in range(1, len(names)):
        columns = -(-len(names) // rows)  # filled column by column, each as wide as its widest entry
        if sum(max(part) + gap for part in np.array_split(widths, columns)) - gap <= room:
            return columns
    return 1


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Writes ``name.pdf`` and ``name.png`` atomically, without dates: the same figure gives the same bytes.

    Returns:
      Path of the PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    canvas = FigureCanvasAgg(figure)
    _lay_out(figure)
    with atomic_write(folder / f"{name}.png") as stream:
        canvas.print_png(stream, metadata={"Software": None, "Title": name})
    save_pdf(figure, folder, name)
    return folder / f"{name}.png"


def _lay_out(figure: Figure) -> None:
    """Lays a figure out, once for all its files, and rounds the places found.

    The solver goes through its unknowns in the order of their addresses, so that last digits differ from run to run,
    and with them, where there are many panels, the shade of a few pixels.
    """
    figure.set_dpi(DPI)
    engine = figure.get_layout_engine()
    if engine is None or isinstance(engine, PlaceHolderLayoutEngine):
        return
    engine.execute(figure)
    figure.set_layout_engine("none")
    parts = list(figure.subfigs)
    while parts:
        part = parts.pop()
        parts += part.subfigs
        part.bbox_relative.set_points(part.bbox_relative.get_points().round(PLACES))  # type: ignore[attr-defined]
    for axes in figure.axes:
        axes.set_position(Bbox(axes.get_position(original=True).get_points().round(PLACES)))


def save_pdf(figure: Figure, folder: Path, name: str) -> None:
    """Writes ``name.pdf`` as ``save`` does."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    folder.mkdir(parents=True, exist_ok=True)
    _lay_out(figure)
    # The canvases themselves, because Figure.savefig draws everything twice for each format.
    with atomic_write(folder / f"{name}.pdf") as stream:
        FigureCanvasPdf(figure).print_pdf(stream, metadata={"CreationDate": None, "Title": name})
