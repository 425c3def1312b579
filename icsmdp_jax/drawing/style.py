"""House style of all figures: sizes, colours, fonts, and files that do not depend on the day.

Colours are distinct for all common kinds of colour vision, but nothing is told by colour alone: markers, line styles,
widths and labels say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from icsmdp_jax.io import atomic_write

FULL_WIDTH = 7.0  # inches: both columns of a page
COLUMN_WIDTH = 3.4
DPI = 200

# Okabe and Ito's palette: distinct for all common kinds of colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#6B6B6B"

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
    "hatch.linewidth": 0.5,
    "lines.dash_capstyle": "butt",
    "lines.solid_capstyle": "round",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "text.parse_math": True,
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


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Writes ``name.pdf`` and ``name.png`` atomically, without dates: the same figure gives the same bytes.

    Returns:
      Path of the PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / f"{name}.pdf") as stream:
        figure.savefig(stream, format="pdf", metadata={"CreationDate": None, "Title": name})
    with atomic_write(folder / f"{name}.png") as stream:
        figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None, "Title": name})
    return folder / f"{name}.png"
