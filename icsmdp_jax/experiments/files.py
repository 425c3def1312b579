"""What an experiment leaves in its folder: ``result.json``, ``table.md``, ``table.csv`` and ``figures/``.

Every file is written atomically, ``result.json`` last: where it is, the others are complete.
"""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.figure import is_exact, method_figure
from icsmdp_jax.experiments.result import Result, in_order
from icsmdp_jax.io import atomic_write

RESULT, FIGURES, MAIN = "result.json", "figures", "methods"
_DRAWING = threading.Lock()  # the house style is Matplotlib's own state, one for all threads


def configuration(options: Options) -> dict[str, Any]:
    """What a result depends on besides the code: a run with the same configuration need not be repeated."""
    import jax

    from icsmdp_jax import __version__

    return {
        "name": options.name,
        "preset": options.preset,
        "load": options.load,
        "seed": options.seed,
        "icsmdp_jax": __version__,
        "jax": jax.__version__,
        "backend": jax.default_backend(),
    }


def write(result: Result, options: Options, folder: Path, seconds: float) -> dict[str, Any]:
    """Writes figures, tables and the result.

    Args:
      result: the result.
      options: what was asked.
      folder: where to, made if it does not exist.
      seconds: wall time of the experiment.

    Returns:
      The content of ``result.json``: ``Result.as_json`` with ``configuration``, ``seconds`` and ``figures``.
    """
    from icsmdp_jax.drawing import interactive, style

    drawn = {MAIN: lambda: method_figure(result), **result.figures}
    for name, draw in drawn.items():
        with _DRAWING, style.house_style():
            figure = draw()
            style.save(figure, folder / FIGURES, name)
            interactive.save_data(figure, folder / FIGURES, name)
    content = result.as_json()
    _text(folder / "table.md", markdown(content))
    _text(folder / "table.csv", comma_separated(content))
    content |= {"configuration": configuration(options), "seconds": round(seconds, 1), "figures": list(drawn)}
    _text(folder / RESULT, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return content


def read(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's ``result.json``; None if there is none, or none that can be read."""
    try:
        content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and "methods" in content else None


def markdown(content: Mapping[str, Any]) -> str:
    """The methods and all further tables, in Markdown."""
    lines = [f"# {content['environment']}", "", content["metric"], ""]
    lines += _grid(
        ["method", content.get("centre", "mean"), "95 % interval", "normalised", "runs"], method_rows(content)
    )
    for table in content["tables"]:
        lines += ["", table["title"].rstrip(".") + ".", ""]
        lines += _grid(table["columns"], [[cell_text(cell) for cell in row] for row in table["rows"]])
    if content["exact"]:
        lines += ["", "Exact quantities.", ""]
        lines += _grid(["quantity", "value"], [[name, number(value)] for name, value in content["exact"].items()])
    if content["checks"]:
        lines += ["", "Checks.", ""]
        lines += _grid(["check", "outcome"], [[name, verdict(value)] for name, value in content["checks"].items()])
    lines += [""] + [f"- {remark}" for remark in content["remarks"]]
    return "\n".join(lines) + "\n"


def comma_separated(content: Mapping[str, Any]) -> str:
    """The methods as comma-separated values, all digits."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["method", "mean", "ci_low", "ci_high", "replicas", "normalised"])
    for name in in_order(list(content["methods"])):
        value, scaled = content["methods"][name], content["normalised"].get(name)
        row = [name, value["mean"], value["ci_low"], value["ci_high"], value["replicas"]]
        writer.writerow(row + ["" if scaled is None else scaled["mean"]])
    return stream.getvalue()


def method_rows(content: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the main table: method, mean, interval, normalised mean with its interval, runs."""
    rows = []
    for name in in_order(list(content["methods"])):
        value, scaled = content["methods"][name], content["normalised"].get(name)
        text = content["names"][name].replace(r"$Q_\phi$", "Q_phi").replace(r"$r_\phi$", "r_phi")
        runs = "exact" if is_exact(value) else str(value["replicas"])
        rows.append([text, number(value["mean"]), ends(value), "" if scaled is None else cell_text(scaled), runs])
    return rows


def cell_text(value: Any) -> str:
    """A cell as text: intervals with their ends, numbers to four digits."""
    if isinstance(value, Mapping) and "mean" in value:
        return " ".join(part for part in (number(value["mean"]), ends(value)) if part)
    return number(value)


def ends(value: Mapping[str, Any]) -> str:
    """``[low, high]``; empty for exact values and unknown ends."""
    low, high = value["ci_low"], value["ci_high"]
    return "" if low is None or high is None or low == high else f"[{number(low)}, {number(high)}]"


def number(value: Any) -> str:
    """A number to four digits (all of them before the point), anything else as it is; a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e9):
        return str(int(value))
    if 1e4 <= abs(value) < 1e9:
        return f"{value:.0f}"
    return f"{value:.4g}" if abs(value) >= 1e-9 else "0"


def verdict(value: bool | None) -> str:
    """An outcome in words."""
    return {True: "passed", False: "not passed", None: "not judged"}[value]


def _grid(columns: Any, rows: Any) -> list[str]:
    def line(cells: Any) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return [line(columns), "|" + "---|" * len(list(columns)), *(line(row) for row in rows)]


def _text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as stream:
        stream.write(content.encode("utf-8"))
