"""A figure as a grid of panels, each a list of curves: the one way in which most figures are put together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bound_validation.drawing import labels
from bound_validation.drawing.curves import Curve, draw, values_to_show
from bound_validation.drawing.scales import dress, log_scale
from bound_validation.drawing.style import new_figure

Q_ERROR = r"error in $\|\cdot\|_d$ (reward units)"


@dataclasses.dataclass(frozen=True)
class Panel:
    """What one pair of axes shows.

    Attributes:
      title: a few words after the panel letter.
      x_label, y_label: with units.
      curves: in the order of drawing; direct labels are placed in this order too.
      ticks_at_points: whether the abscissae themselves get the ticks (few, chosen values), else powers of ten.
      y_log: whether the ordinate is logarithmic.
      head, foot, right: room beyond the data, as shares of the axis' length.
    """

    title: str
    x_label: str
    y_label: str
    curves: list[Curve]
    ticks_at_points: bool = False
    y_log: bool = True
    head: float = 0.08
    foot: float = 0.06
    right: float = 0.05


def compose(
    panels: list[Panel],
    columns: int,
    width: float,
    height: float,
    entries: Sequence[labels.Entry] = (),
    fill: bool = False,
) -> Figure | None:
    """The figure with these panels, empty ones left out; None if none is left.

    Args:
      panels: row by row.
      columns: of the grid.
      width: inches, whatever the number of panels.
      height: inches of one row of panels, without the key.
      entries: groups whose markers are explained above the panels.
      fill: whether the last panel takes what is left of its row.
    """
    panels = [panel for panel in panels if any(curve.kind not in ("fit", "note") for curve in panel.curves)]
    if not panels:
        return None
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(width, rows * height + 0.3)
    grid = figure.subplots(rows, columns, squeeze=False)
    if fill and len(panels) % columns:
        last = grid[-1, (len(panels) - 1) % columns]
        last.set_subplotspec(last.get_gridspec()[rows - 1, (len(panels) - 1) % columns :])
    jobs = []
    for index, axes in enumerate(grid.flat):
        if index >= len(panels):
            axes.set_axis_off()
            continue
        labels.letter(axes, index, panels[index].title)
        jobs.append(draw_panel(axes, panels[index]))
    if entries:
        labels.groups(figure, entries)
    finish(figure, jobs)
    return figure


def draw_panel(axes: Axes, panel: Panel) -> labels.Job:
    """Scales, curves and axis labels of one panel; its direct labels are left to ``finish``."""
    abscissae = np.concatenate([curve.x for curve in panel.curves if curve.kind not in ("fit", "note")])
    x_scale = log_scale(abscissae)
    dress(axes, "x", x_scale, abscissae if panel.ticks_at_points else None, head=panel.right)
    y_scale = None
    if panel.y_log:
        y_scale = log_scale(values_to_show(panel.curves), room=0.12)
        dress(axes, "y", y_scale, margin=panel.foot, head=panel.head)
    for curve in panel.curves:
        draw(axes, curve, x_scale, y_scale)
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    return labels.Job(axes, panel.curves, x_scale, y_scale)


def finish(figure: Figure, jobs: list[labels.Job]) -> None:
    """Adds the key and the direct labels."""
    curves = [curve for job in jobs for curve in job.curves]
    labels.key(
        figure,
        {str(curve.kind) for curve in curves},
        hollow=any(not curve.certified.all() for curve in curves),
        violated=any(curve.violated.any() for curve in curves),
        limit=any(curve.limit.any() for curve in curves),
    )
    labels.place(figure, jobs)
