"""What a figure shows as data of plotly.js: ``NAME.json`` next to ``NAME.png``, for pages on which one can explore it.

Panels that know their series say so (``describe``); others are read off their Matplotlib artists: lines, markers, error
bars, bands and bars, named by the legends in which they occur.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from icsmdp_jax.io import atomic_write, to_plain

Trace = dict[str, Any]
SYMBOLS = {
    "o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "<": "triangle-left",
    ">": "triangle-right", "P": "cross", "X": "x", "*": "star", "+": "cross-thin-open", "x": "x-thin-open",
    "|": "line-ns-open", "_": "line-ew-open", "1": "y-down-open", "2": "y-up-open", r"$\downarrow$": "arrow-down",
}  # fmt: skip
SIGNS = {
    "phi": "φ", "gamma": "γ", "eta": "η", "kappa": "κ", "delta": "δ", "pi": "π", "beta": "β", "Pi": "Π", "infty": "∞",
    "varepsilon": "ε", "epsilon": "ε",
    "star": "⋆", "cdot": "·", "times": "×", "|": "‖", ",": "\u202f", "downarrow": "↓",
    "leq": "≤", "geq": "≥", "alpha": "α", "tau": "τ", "omega": "ω", "mu": "μ", "sigma": "σ",
    "theta": "θ", "lambda": "λ",
}  # fmt: skip
HOLLOW = ("none", "white", "#ffffff")
_KNOWN: WeakKeyDictionary[Axes, Callable[[], list[Trace]]] = WeakKeyDictionary()


def describe(axes: Axes, traces: Callable[[], list[Trace]]) -> None:
    """Says what a panel shows, so that nothing is read off its artists; called only if the data is wanted."""
    _KNOWN[axes] = traces


def trace(name: str, x: Any, y: Any, **further: Any) -> Trace:
    """One series; ``name`` may hold Matplotlib's mathematics, and is empty for one without an entry in the legend."""
    return {"type": "scatter", "name": text(name), "x": list(x), "y": list(y), **further}


def lined(colour: Any, width: float = 1.5, style: Any = "-") -> dict[str, Any]:
    """How a line looks."""
    named = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
    if not isinstance(style, str):
        style = ",".join(f"{max(2 * width * float(part), 1.0):.3g}px" for part in style[1] or ()) or "solid"
    return {"color": to_hex(colour), "width": round(1.3 * width, 2), "dash": named.get(style, style)}


def marked(colour: Any, marker: Any, filled: bool = True) -> dict[str, Any]:
    """How markers look."""
    symbol = SYMBOLS.get(str(marker), "circle")
    hollow = "" if filled or symbol.endswith("open") else "-open"
    return {"color": to_hex(colour), "symbol": symbol + hollow, "size": 8, "line": {"width": 1.3}}


def bars(low: Any, middle: Any, high: Any, colour: Any) -> dict[str, Any]:
    """Error bars from ends."""
    up, down = (np.maximum(np.nan_to_num(np.subtract(a, b)), 0.0).tolist() for a, b in ((high, middle), (middle, low)))
    return {"type": "data", "symmetric": False, "array": up, "arrayminus": down, "color": to_hex(colour)}


def save_data(figure: Figure, folder: Path, name: str) -> None:
    """Writes ``name.json`` if the figure has panels of data.

    It holds ``panels``, each a figure of plotly.js, ``complete``, whether they show everything, and ``pictured``, the
    upper share of the picture's height below which they do.

    ``layout.meta`` says where an axis is linear around 0: below ``linear``, whose decades down to 0 are ``decades``.
    """
    names = _Names(figure)
    found: list[dict[str, Any] | None] = []
    everything = [one for one in _all_axes(figure) if one.axison]
    for axes in everything:
        small = isinstance(axes.get_figure(root=False), SubFigure)  # small multiples are better seen as a picture
        traces = _KNOWN[axes]() if axes in _KNOWN else None if small else _read(axes, names)
        found.append(None if traces is None else {"data": traces, "layout": _layout(axes)})
    content: dict[str, Any] = {
        "complete": None not in found,
        "panels": [panel for panel in found if panel and panel["data"]],
    }
    if not content["panels"]:
        return
    if not content["complete"]:
        boxes = [(one.get_tightbbox(), panel) for one, panel in zip(everything, found, strict=True)]
        below = max(box.y1 for box, panel in boxes if box is not None and panel)
        apart = below < min(box.y0 for box, panel in boxes if box is not None and not panel)
        content["pictured"] = 1 - below / figure.bbox.height if apart else 1.0
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / f"{name}.json") as stream:
        stream.write(json.dumps(to_plain(_rounded(content)), separators=(",", ":"), allow_nan=False).encode())


def text(label: str) -> str:
    """A label with Matplotlib's mathematics as HTML with nothing but ``sub``, ``sup``, ``b`` and ``br`` in it."""
    parts = re.split(r"(?<!\\)\$", label)
    out = [_formula(part) if i % 2 else html.escape(part) for i, part in enumerate(parts)]
    return "".join(out).replace("\n", "<br>").strip()


def _formula(code: str) -> str:
    code = html.escape(code, quote=False).replace("-", "−")
    code = re.sub(r"\\bf\s*\{\((\w)\)\}", r"\\boldgroup{\1}", code)
    code = re.sub(r"\\(bar|overline)\s*\\?(\w+)", lambda m: SIGNS.get(m[2], m[2]) + "\u0304", code)
    code = re.sub(r"\\(?:rm|mathrm|mathbf|mathdefault|bf|mathit|text)\b\s*", "", code)
    code = re.sub(r"\\boldgroup\{(\w)\}", r"<b>(\1)</b>", code)
    code = re.sub(
        r"\\([A-Za-z]+|[|,])\s?", lambda m: SIGNS.get(m[1], m[1] if m[1] in ("max", "min", "log") else ""), code
    )
    for mark, tag in (("^", "sup"), ("_", "sub")):
        code = re.sub(rf"\{mark}\{{([^{{}}]*)\}}", rf"<{tag}>\1</{tag}>", code)
        code = re.sub(rf"\{mark}(&\w+;|[^\s<{{])", rf"<{tag}>\1</{tag}>", code)
    return re.sub(r"[{}]", "", code)


def _all_axes(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if isinstance(axes, Axes)]


def _layout(axes: Axes) -> dict[str, Any]:
    meta = {}
    out: dict[str, Any] = {"title": text(axes.get_title(loc="left") or axes.get_title())}
    for which in ("x", "y"):
        axis = getattr(axes, f"{which}axis")
        low, high = getattr(axes, f"get_{which}lim")()
        kind = "linear" if axis.get_scale() == "linear" else "log"
        shown = {"title": text(axis.get_label_text()), "type": kind, "range": [low, high], "reversed": bool(low > high)}
        places = axis.get_majorticklocs()
        labels = [text(one) for one in axis.get_major_formatter().format_ticks(places)]
        if axis.get_scale() == "symlog":
            to = axis.get_transform()
            shown["tickvals"], shown["ticktext"] = list(places), labels
            start, end = to.transform(np.array([0.0, to.linthresh]))
            meta[which] = {"linear": to.linthresh, "decades": (end - start) / to.linthresh / math.log10(to.base)}
        elif kind == "linear" and any(re.search(r"[A-Za-z]", one) for one in labels):  # names of methods, for example
            shown["tickvals"], shown["ticktext"] = list(places), labels
        out[f"{which}axis"] = shown
    return out | {"meta": meta, "shapes": _levels(axes)}


def _levels(axes: Any) -> list[dict[str, Any]]:
    """Lines over the whole width or height."""
    shapes = []
    for line in axes.lines:
        (x0, x1), (y0, y1) = ([float(v) for v in np.asarray(data, float)[[0, -1]]] if len(data) else [0.0, 1.0]
                              for data in line.get_data())  # fmt: skip
        look = {"type": "line", "line": lined(line.get_color(), line.get_linewidth(), _dashes(line))}
        if line.get_transform() == axes.get_yaxis_transform():
            shapes.append(look | {"xref": "x domain", "x0": 0, "x1": 1, "yref": "y", "y0": y0, "y1": y1})
        elif line.get_transform() == axes.get_xaxis_transform():
            shapes.append(look | {"yref": "y domain", "y0": 0, "y1": 1, "xref": "x", "x0": x0, "x1": x1})
    return shapes


def _read(axes: Any, names: _Names) -> list[Trace] | None:
    """Traces of what Matplotlib drew; None if there is something that is none of lines, markers, bands and bars."""
    if axes.images or any(not isinstance(patch, Rectangle) for patch in axes.patches):
        return None
    out: list[Trace] = []
    skipped: set[Any] = set()
    for bar in (one for one in axes.containers if isinstance(one, ErrorbarContainer)):
        points, caps, stems = bar.lines
        skipped |= {*caps, *stems}
        if points is not None and points.get_marker() not in ("None", "", None):
            skipped.add(points)
            named = {"name": text(str(bar.get_label()))} if bar.get_label() else {}
            out.append(_line(points, names) | _ends(points, bar, stems) | named)
    for collection in axes.collections:
        if collection in skipped or not len(collection.get_paths()):
            continue
        kind = type(collection)
        if issubclass(kind, PolyCollection):
            outline = collection.get_paths()[0].vertices
            colour = collection.get_facecolor()[0]
            fill = f"rgba({','.join(str(round(255 * part)) for part in colour[:3])},{colour[3]:.2g})"
            look = {"mode": "none", "fill": "toself", "fillcolor": fill, "hoverinfo": "skip"}
            out.append(trace(names.of_colour(colour), outline[:, 0], outline[:, 1], **look))
        elif issubclass(kind, LineCollection):
            ends = [(*path.vertices.tolist(), (None, None)) for path in collection.get_paths()]
            x, y = zip(*(point for part in ends for point in part), strict=True)
            colour = collection.get_edgecolor()[0]
            look = lined(colour, float(collection.get_linewidth()[0]))
            out.append(trace(names.of_colour(colour), x, y, mode="lines", line=look, hoverinfo="skip"))
        elif issubclass(kind, PathCollection):
            x, y = np.asarray(collection.get_offsets(), float).T
            out.append(trace("", x, y, mode="markers", marker=marked(collection.get_facecolor()[0], "o")))
        else:
            return None
    for line in axes.lines:
        if line not in skipped and line.get_transform() == axes.transData and len(line.get_xdata()):
            out.append(_line(line, names))
    for patch in axes.patches:
        if patch.get_transform() != axes.transData and patch.get_data_transform() != axes.transData:
            continue
        (x0, y0), (x1, y1) = patch.get_bbox().get_points()
        look = lined(patch.get_edgecolor(), patch.get_linewidth())
        out.append(trace(names.of(patch), [x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], mode="lines",
                         fill="toself", fillcolor=to_hex(patch.get_facecolor()), line=look))  # fmt: skip
    return out


def _line(line: Any, names: _Names) -> Trace:
    x: Any
    y: Any
    x, y = (np.ma.filled(np.ma.asarray(data, float), np.nan) for data in line.get_data())
    has_marker, style = line.get_marker() not in ("None", "", " ", None), line.get_linestyle()
    look: Trace = {"mode": "+".join(["lines"] * (style not in ("None", "", " ")) + ["markers"] * has_marker)}
    if "lines" in look["mode"]:
        look["line"] = lined(line.get_color(), line.get_linewidth(), _dashes(line))
    if has_marker:
        edge = line.get_markeredgecolor()
        filled = line.get_markerfacecolor() not in HOLLOW
        look["marker"] = marked(line.get_color() if filled else edge, line.get_marker(), filled)
    if line.get_linewidth() < 0.5 and not has_marker or line.get_marker() in ("|",):
        look["hoverinfo"] = "skip"
    return trace(names.of(line), x, y, **look)


def _ends(points: Any, bar: ErrorbarContainer, stems: Any) -> Trace:
    which = "y" if bar.has_yerr else "x"
    column = 1 if which == "y" else 0
    ends = np.array([sorted(path.vertices[:, column]) for path in stems[0].get_paths()])
    middle = np.asarray(points.get_ydata() if which == "y" else points.get_xdata(), float)
    return {f"error_{which}": bars(ends[:, 0], middle, ends[:, 1], stems[0].get_edgecolor()[0])}


def _dashes(line: Line2D) -> Any:
    offset, pattern = getattr(line, "_unscaled_dash_pattern", (0, None))  # get_linestyle knows only that it has one
    return (offset, pattern) if pattern is not None else "-"


def _look_of(artist: Any) -> Any:
    """What tells artists apart in a legend."""
    if isinstance(artist, Rectangle):
        return "patch", to_hex(artist.get_facecolor()), artist.get_hatch()
    return "line", _colour(artist), str(artist.get_marker()), artist.get_markerfacecolor() in HOLLOW


class _Names:
    """What the legends of a figure call its artists: by their look, or by a colour that only one entry has."""

    def __init__(self, figure: Figure) -> None:
        entries = [*_legend_entries(figure)]
        self.looks = {_look_of(handle): name for handle, name in entries}
        colours: dict[str, set[str]] = {}
        for handle, name in entries:
            colours.setdefault(_colour(handle), set()).add(name)
        self.colours = {colour: min(found) for colour, found in colours.items() if len(found) == 1}

    def of(self, artist: Any) -> str:
        return self.looks.get(_look_of(artist)) or self.colours.get(_colour(artist), "")

    def of_colour(self, colour: Any) -> str:
        return self.colours.get(to_hex(colour), "")


def _colour(artist: Any) -> str:
    if isinstance(artist, Rectangle):
        return to_hex(artist.get_facecolor())
    own = artist.get_marker() != "None" and artist.get_markeredgecolor() not in ("white", "auto", "none")
    return to_hex(artist.get_markeredgecolor() if own else artist.get_color())


def _legend_entries(figure: Figure) -> Iterator[tuple[Any, str]]:
    legends = [*figure.legends, *(axes.get_legend() for axes in _all_axes(figure))]
    for sub in figure.subfigs:
        legends += sub.legends
    for legend in (one for one in legends if isinstance(one, Legend)):
        for handle, entry in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if isinstance(handle, (Line2D, Rectangle)):
                yield handle, entry.get_text()


def _rounded(value: Any) -> Any:
    """Numbers to seven digits, which is more than a screen shows; same figure, same bytes."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(part) for part in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value
