"""Direct labels beside their curves where nothing is covered, panel letters, and the key to markers and lines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from bound_validation.drawing.curves import Curve
from bound_validation.drawing.scales import LogScale
from bound_validation.drawing.style import ALARM, GREY, LINE, MEANING
from bound_validation.results import ROUNDING

SIDES = np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)])
CLEARANCE = 1.5  # points between a label's box and whatever must not be covered


class Job(NamedTuple):
    """Direct labels of one panel, to be placed once the layout is known."""

    axes: Axes
    curves: list[Curve]
    x_scale: LogScale
    y_scale: LogScale | None


class Entry(NamedTuple):
    """A marker that means a group throughout the figure, e.g. a duration law."""

    name: str
    colour: str
    marker: str


def letter(axes: Axes, index: int, title: str) -> None:
    """``(a) what this panel is about`` above the upper left corner."""
    axes.set_title(rf"$\bf{{({chr(ord('a') + index)})}}$ {title}", loc="left", pad=5)


def key(figure: Figure, kinds: set[str], hollow: bool, violated: bool, limit: bool) -> None:
    """The meaning of markers and lines, below all panels; only what occurs."""
    handles: list[Any] = []
    names: list[str] = []
    for kind, text in MEANING.items():
        if kind not in kinds:
            continue
        if kind == "measured":
            handles.append((_stroke("|", 9, 0.8), _stroke("o", 4.2, 0.8)))
        else:
            handles.append(Line2D([], [], color=GREY, **LINE[kind]))
        names.append(text)
    if limit:
        handles.append(_stroke(r"$\downarrow$", 7, 0.2))
        names.append("estimate 0: upper end of interval")
    if hollow:
        handles.append(_stroke("o", 4.2, 0.8, markerfacecolor="white"))
        names.append("A6 not certified")
    if violated:
        handles.append(_stroke("x", 8, 2.0, color=ALARM))
        names.append("bound violated")
    if handles:
        figure.legend(
            handles,
            names,
            loc="outside lower center",
            ncols=_columns(figure, names),
            handlelength=2.4,
            columnspacing=1.6,
            borderpad=0.1,
        )


def _columns(figure: Figure, names: list[str]) -> int:
    """Most columns with which the key is not wider than the figure; rows are filled evenly."""
    room = figure.get_figwidth() * 72 - 12
    widths = [45 + 3.7 * len(name) for name in names]
    for rows in range(1, len(names) + 1):
        columns = math.ceil(len(names) / rows)
        # A legend fills column by column, and a column is as wide as its widest entry.
        if sum(max(widths[i * rows : (i + 1) * rows], default=0) for i in range(columns)) <= room:
            return columns
    return 1


def groups(figure: Figure, entries: Sequence[Entry]) -> None:
    """The meaning of marker shapes and colours, above all panels."""
    handles = [_stroke(entry.marker, 4.2, 0.8, color=entry.colour) for entry in entries]
    names = [entry.name for entry in entries]
    columns = next(n for n in (8, 7, 6, 5, 4) if len(names) >= n or n == 4)
    style: dict[str, Any] = dict(handletextpad=0.1, columnspacing=1.2, borderpad=0.1)
    figure.legend(handles, names, loc="outside upper center", ncols=columns, **style)


def _stroke(marker: str, size: float, edge: float, **changes: str) -> Line2D:
    """A lone marker for the key."""
    style: dict[str, Any] = dict(color=GREY, marker=marker, markersize=size, markeredgewidth=edge, linestyle="none")
    return Line2D([], [], **{**style, **changes})


def darker(colour: str) -> tuple[float, ...]:
    """The colour as text wears it: thin strokes need more contrast than lines."""
    red, green, blue = to_rgb(colour)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return tuple(channel * min(1.0, 0.36 / max(luminance, 1e-9)) ** 0.7 for channel in (red, green, blue))


def place(figure: Figure, jobs: list[Job]) -> None:
    """Puts every label beside its curve, where it covers least; the layout is frozen first."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for job in jobs:
        _place_panel(figure, job)


def _pixels(job: Job, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """``[n, 2]`` points of the curve in pixels, and what of it must not be covered, as a dense cloud of pixels."""
    x = job.x_scale.place(curve.x)

    def shown(values: np.ndarray) -> np.ndarray:
        return job.axes.transData.transform(
            np.column_stack([x, values if job.y_scale is None else job.y_scale.place(values)])
        )

    unit = job.axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]  # pixels in a point
    points = shown(np.where(curve.limit, curve.high, curve.y))
    if curve.kind == "note":
        return points, points[:0]
    if curve.kind != "measured":
        strokes = points[curve.x <= ROUNDING] if len(points) > 1 else points
        ends = [strokes + unit * np.array([offset, 0.0]) for offset in (-6.5, -3, 0, 3, 6.5)]
        return points, np.concatenate([_dense(points[curve.x > ROUNDING]), *ends])
    dense = []
    for point, low, high, violated in zip(points, shown(curve.low), shown(curve.high), curve.violated, strict=True):
        around = unit * (5.5 if violated else 2.6) * SIDES
        bar = np.array([low, point, high])
        bar = bar[~np.isnan(bar).any(axis=1)]  # a lower end of 0 may have no place on the axis
        bar[:, 1] = np.maximum(bar[:, 1], job.axes.bbox.y0)
        dense += [point + around, _dense(bar)]
    return points, np.concatenate(dense)


def _dense(points: np.ndarray, step: float = 3.0) -> np.ndarray:
    """Points every few pixels along the polyline."""
    if len(points) < 2:
        return points
    pieces = []
    for start, end in zip(points[:-1], points[1:], strict=True):
        count = max(2, int(np.hypot(*(end - start)) / step))
        pieces.append(start + np.linspace(0, 1, count)[:, None] * (end - start))
    return np.concatenate(pieces)


def _place_panel(figure: Figure, job: Job) -> None:
    axes = job.axes
    scale = figure.dpi / 72
    frame = axes.get_window_extent()
    obstacles = [_pixels(job, curve) for curve in job.curves]
    everything = np.concatenate([dense for _, dense in obstacles])
    taken: list[np.ndarray] = []
    for curve, (points, _) in zip(job.curves, obstacles, strict=True):
        positive = points[curve.x > ROUNDING] if (curve.x > ROUNDING).any() else points
        if not curve.label or not len(positive):
            continue
        text = axes.text(
            0, 0, curve.label, color=darker(curve.colour), fontsize=7.6, ha="center", va="center", zorder=8
        )
        text.set_path_effects([patheffects.withStroke(linewidth=1.6, foreground="white")])
        text.set_in_layout(False)
        size = _size(figure, text)
        best = _best(positive, size, everything, taken, np.asarray(frame.extents), scale)
        taken.append(_box(best, size))
        text.set_transform(axes.transAxes)
        text.set_position(tuple(axes.transAxes.inverted().transform(best)))


def _size(figure: Figure, text: Text) -> np.ndarray:
    extent = text.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    return np.array([extent.width, extent.height])


def _box(centre: np.ndarray, size: np.ndarray) -> np.ndarray:
    return np.concatenate([centre - size / 2, centre + size / 2])


def _candidates(points: np.ndarray, size: np.ndarray, scale: float) -> Iterator[tuple[np.ndarray, float]]:
    """Centres for the label with what each costs by itself: behind the last point, before the first, above, below."""
    for lift in (0.0, 2.5, -2.5, 4.0, -4.0):
        shift = np.array([size[0] / 2 + 4 * scale, lift * scale])
        yield points[-1] + shift, 0.2 * abs(lift)
        yield points[0] - shift, 1.0 + 0.2 * abs(lift)
    for step, anchor in enumerate(_dense(points, 12.0 * scale)[::-1]):
        for side in (1.0, -1.0):
            for far in (0.0, 3.0, 6.0, 10.0):
                for lean in (0.0, -0.5, 0.5):
                    shift = np.array([lean * size[0], side * (size[1] / 2 + 3.2 * scale + far * scale)])
                    yield anchor + shift, 1.0 + 0.15 * step + 0.6 * far + 0.4 * abs(lean)


def _best(
    points: np.ndarray,
    size: np.ndarray,
    obstacles: np.ndarray,
    taken: list[np.ndarray],
    frame: np.ndarray,
    scale: float,
) -> np.ndarray:
    """The cheapest centre: covering data costs most, then leaving the panel or touching another label."""
    clear = CLEARANCE * scale
    pad = np.array([-clear, -clear / 3, clear, clear / 3])  # a text's box is taller than most of its letters
    best, least = points[-1], np.inf
    for candidate, price in _candidates(points, size, scale):
        left, right = frame[0] + size[0] / 2 + clear, frame[2] - size[0] / 2
        centre = np.array([np.clip(candidate[0], left, max(left, right)), candidate[1]])
        box = _box(centre, size) + pad
        inside = (obstacles[:, 0] > box[0]) & (obstacles[:, 0] < box[2])
        inside &= (obstacles[:, 1] > box[1]) & (obstacles[:, 1] < box[3])
        cost = price + 4.0 * inside.sum() + 0.8 * abs(candidate[0] - centre[0]) / size[0]
        cost += sum(200.0 for other in taken if _overlap(box, other))
        cost += 500.0 * (box[1] < frame[1] or box[3] > frame[3] + 4 * scale)
        if cost < least:
            best, least = centre, cost
    return best


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])
