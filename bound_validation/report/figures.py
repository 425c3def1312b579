"""Figures of a validation run, one module for each: measured points, bounds and sharp predictions from the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bound_validation.results import Row

NAMES = ("overview", "width", "gap", "samples", "mixing", "durations", "total", "agents", "returns", "messages")


def draw_all(rows: list[Row], summary: dict[str, Any], out: str | Path) -> dict[str, Path]:
    """Draws every figure for which there are rows, as PNG and PDF in ``out/figures``; same rows, same bytes.

    Args:
      rows: the results table.
      summary: what goes into ``summary.json``; the fitted slopes are read from it.
      out: folder of the run; ``figures`` is made in it.

    Returns:
      Paths of the PNG files by name, in the order of the report; the PDF lies beside each.
    """
    from bound_validation.axes.agents import figure as agents
    from bound_validation.axes.durations import figure as durations
    from bound_validation.axes.gap import figure as gap
    from bound_validation.axes.messages import figure as messages
    from bound_validation.axes.mixing import figure as mixing
    from bound_validation.axes.returns import figure as returns
    from bound_validation.axes.samples import figure as samples
    from bound_validation.axes.total import figure as total
    from bound_validation.axes.width import figure as width
    from bound_validation.drawing.style import house_style, save
    from bound_validation.report import overview

    drawn = (overview, width, gap, samples, mixing, durations, total, agents, returns, messages)
    modules = dict(zip(NAMES, drawn, strict=True))
    paths = {}
    with house_style():
        for name, module in modules.items():
            figure = module.figure(rows, summary)
            if figure is not None:
                paths[name] = save(figure, Path(out) / "figures", name)
    return paths
