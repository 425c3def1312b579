"""The results table as figures and report look at it: series of an axis, groups, shares of the total error."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from bound_validation.results import ROUNDING, Row

PARTS = (
    "residual",
    "approximation",
    "interface",
)  # the terms whose sum is the bound of T4, as they are stacked
MOSTLY = 0.5  # share of the spread in a trained net's squared error below which its width counts as what limits it


class Fit(NamedTuple):
    """A fitted slope with its interval; ``low`` and ``high`` are NaN where no interval was computed."""

    slope: float
    low: float
    high: float


class Share(NamedTuple):
    """The total error of one cell of the grid, measured and guaranteed, taken apart (T4).

    Attributes:
      group: readable name of the cell without its samples.
      width: features per agent, 0 for tabular.
      gap: eta.
      samples: handoffs per replica.
      measured: residual, approximation and interface error as measured, in the order of ``PARTS``.
      bound: the same three terms of the bound; NaN where A6 is not certified.
    """

    group: str
    width: int
    gap: float
    samples: int
    measured: tuple[float, ...]
    bound: tuple[float, ...]

    @property
    def dominant(self) -> str:
        """Name of the largest measured term."""
        return PARTS[max(range(len(PARTS)), key=lambda i: self.measured[i])]

    @property
    def dominant_bound(self) -> str | None:
        """Name of the largest term of the bound; None if the bound is not claimed."""
        if not all(math.isfinite(value) for value in self.bound):
            return None
        return PARTS[max(range(len(PARTS)), key=lambda i: self.bound[i])]


def normalised(parts: tuple[float, ...]) -> tuple[float, ...]:
    """Shares that sum to 1; NaN where a part is not finite or all of them are 0."""
    total = sum(parts)
    if not math.isfinite(total) or total <= 0:
        return tuple(math.nan for _ in parts)
    return tuple(part / total for part in parts)


def select(rows: list[Row], axis: str, series: str, group: str | None = None) -> list[Row]:
    """Rows of one series, sorted by abscissa; those of a run on a given model count for every axis."""
    found = [
        row
        for row in rows
        if row.axis in (axis, "model")
        and row.series == series
        and (group is None or row.group == group)
        and math.isfinite(row.x)
    ]
    return sorted(found, key=lambda row: (row.group, row.x, row.cell))


def limited_by_width(nets: list[Row], spreads: list[Row]) -> list[Row]:
    """The trained nets most of whose squared error is not spread between runs from one start."""
    spread = {row.x: row.measured for row in spreads}
    return [row for row in nets if spread.get(row.x, math.inf) ** 2 < MOSTLY * row.measured**2]


def groups_of(rows: list[Row]) -> list[str]:
    """Names of the groups in the order of their first row."""
    return list(dict.fromkeys(row.group for row in rows))


def fit_of(summary: dict[str, Any], *names: str) -> Fit | None:
    """The slope in the summary under the first of these names that it has; None if it was not fitted."""
    slopes = summary.get("slopes") or {}
    entry = next((slopes[name] for name in names if slopes.get(name)), None)
    if not entry or entry.get("slope") is None or not math.isfinite(entry["slope"]):
        return None
    ends = (entry.get("ci_low"), entry.get("ci_high"))
    low, high = (math.nan if end is None else float(end) for end in ends)
    return Fit(float(entry["slope"]), low, high)


def shares(rows: list[Row]) -> list[Share]:
    """One entry for each cell of the grid that has all three terms, sorted by width, gap and samples (T4)."""
    cells: dict[tuple[int, float, str, float], dict[str, Row]] = {}
    for row in rows:
        if row.axis == "total" and row.series in PARTS:
            cells.setdefault((row.width, row.gap, row.group, row.x), {})[row.series] = row
    out = []
    for (width, gap, group, x), parts in sorted(cells.items()):
        if set(parts) != set(PARTS):
            continue
        measured = tuple(_settled(parts[name].measured) for name in PARTS)
        bound = tuple(_settled(parts[name].bound) for name in PARTS)
        out.append(Share(group, width, gap, int(x), measured, bound))
    return out


def _settled(value: float) -> float:
    """Rounding noise is 0, so that it gets no share."""
    return 0.0 if abs(value) <= ROUNDING else value
