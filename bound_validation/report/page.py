"""``report.html``: one self-contained page with figures, verdicts, constants and every row of the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bound_validation.axes import AXES
from bound_validation.axis import resolved
from bound_validation.report import text
from bound_validation.results import TERMS, Row
from bound_validation.sweep.words import SECTION as SWEEP
from bound_validation.views import PARTS, Share, normalised, select, shares
from bound_validation.words import Section
from icsmdp_jax.io import atomic_write
from icsmdp_jax.pages.page import Picture, picture, render

MOST = 1000  # lines of one table; a sweep over thousands of cells has more, all of which are in the Parquet file
WORDS = ("PROVENANCE", "OVERVIEW", "INFORMATIVE", "SHARES", "UNCERTIFIED")
DASH = Markup("&ndash;")


def write_report(rows: list[Row], summary: dict[str, Any], figure_paths: Mapping[str, Path], out: str | Path) -> Path:
    """Writes ``out/report.html`` atomically: one file, nothing loaded from elsewhere, same input, same bytes.

    Args:
      rows: the results table.
      summary: what goes into ``summary.json``.
      figure_paths: PNG files by name, as ``draw_all`` returns them; they are embedded, with the data next to them.
      out: folder of the run.

    Returns:
      Path of the page.
    """
    from icsmdp_jax.drawing.style import DPI, FULL_WIDTH

    out = Path(out)
    figures = {name: picture(Path(path), out, FULL_WIDTH, DPI) for name, path in figure_paths.items()}
    filters: dict[str, Callable[..., Any]] = {
        "number": number, "percent": percent, "verdict": verdict, "interval": interval,
    }  # fmt: skip
    page = render("bound_validation.report", "report.html.j2", filters, **context(rows, summary, figures))
    target = out / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as stream:
        stream.write(page.encode("utf-8"))
    return target


def context(rows: list[Row], summary: dict[str, Any], figures: Mapping[str, Picture]) -> dict[str, Any]:
    """Everything that the template shows, already taken apart into plain lists."""
    said = {name: resolved(axis.words) for name, axis in AXES.items() if axis.words is not None} | {"sweep": SWEEP}
    violations = [row for row in rows if row.holds == 0]
    failed = max(len(violations), int(summary.get("violations") or 0))
    checks = max(int(summary.get("checks") or 0), sum(row.holds >= 0 for row in rows))
    claims = list(summary.get("claims") or [])
    return {
        "words": {name: Markup(getattr(text, name)) for name in WORDS},
        "notation": [(Markup(symbol), Markup(meaning)) for symbol, meaning in text.NOTATION],
        "preset": summary.get("preset"),
        "model": summary.get("model"),
        "sweep": summary.get("sweep"),
        "most": MOST,
        "cells": summary.get("cells"),
        "figures": figures,
        "checks": checks,
        "held": checks - failed,
        "informative": sum(row.evidence for row in rows),
        "vacuous": sum(_vacuous(row) for row in rows),
        "alone": sum(row.holds >= 0 and row.informative < 0 for row in rows),
        "bound_holds": failed == 0 and bool(summary.get("bound_holds", True)),
        "violations": violations,
        "terms": _terms(summary),
        "claims": claims,
        "claims_failed": sum(claim.get("passed") is False for claim in claims),
        "slopes": _slopes(summary, said),
        "shares": _shares(rows),
        "total_caption": Markup(said["total"].captions["total"] if "total" in said else ""),
        "constants": _constants(summary),
        "central_limit": _central_limit(rows),
        "uncertified": _uncertified(rows),
        "sections": _sections(rows, figures, said),
        "facts": _facts(summary),
    }


def number(value: Any) -> Markup:
    """Three significant digits, powers of ten for very large and small numbers, a dash for nothing."""
    if isinstance(value, bool):
        return Markup("yes" if value else "no")
    if isinstance(value, str):
        return Markup("{}").format(value)
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return Markup("&infin;" if value > 0 else "&minus;&infin;")
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e5):
        plain = f"{int(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        return Markup(plain.replace("-", "&minus;"))
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    if -4 <= int(exponent) < 5:
        digits = max(0, 2 - int(exponent))
        return Markup(f"{value:.{digits}f}".replace("-", "&minus;"))
    shown = f"{mantissa}&times;10<sup>{int(exponent)}</sup>"
    return Markup(shown.replace("-", "&minus;"))


def percent(share: float) -> Markup:
    """A share as a percentage without decimals, a dash for NaN."""
    return DASH if math.isnan(share) else Markup(f"{100 * share:.0f}&#8239;%")


def interval(low: Any, high: Any) -> Markup:
    """``[low, high]``, empty if either end is unknown or both are the same."""
    ends = [end for end in (low, high) if end is not None and math.isfinite(end)]
    if len(ends) < 2 or low == high:
        return Markup("")
    return Markup("[{}, {}]").format(number(low), number(high))


def verdict(passed: bool | None, undecided: bool = False) -> Markup:
    """The verdict in words, with a class that colours it."""
    word, name = {True: ("passed", "pass"), False: ("FAILED", "fail"), None: ("not claimed", "none")}[passed]
    word = "undecided" if undecided else word
    return Markup('<span class="verdict {}">{}</span>').format(name, word)


def _terms(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One line for each term that was checked: how often it held, worst and median ratio of measured to bound."""
    counts = summary.get("checks_per_term") or {}
    names = [*TERMS, *(name for name in counts if name not in TERMS)]
    return [
        {
            "name": name or "other",
            "held": counts[name]["held"],
            "checked": counts[name]["checked"],
            "informative": counts[name]["informative"],
            "worst": (summary.get("worst_ratio") or {}).get(name),
            "median": (summary.get("median_ratio") or {}).get(name),
        }
        for name in names
        if counts.get(name, {}).get("checked")
    ]


def _slopes(summary: dict[str, Any], said: dict[str, Section]) -> list[dict[str, Any]]:
    """The fitted slopes under the names that their axes give them."""
    names = {name: text for section in said.values() for name, text in section.slopes.items()}
    return [{"name": names.get(name, name), **entry} for name, entry in (summary.get("slopes") or {}).items() if entry]


def _shares(rows: list[Row]) -> dict[str, Any] | None:
    """Cells of the grid with their shares, and how often each term is the largest and what it holds on average."""
    cells = shares(rows)
    if not cells:
        return None
    totals = {(row.group, row.x): row for row in rows if row.axis == "total" and row.series == "total"}
    claimed = [cell for cell in cells if cell.dominant_bound is not None]
    terms = [
        {
            "name": name,
            "largest": sum(cell.dominant == name for cell in cells),
            "largest_bound": sum(cell.dominant_bound == name for cell in claimed),
            "mean": _mean([normalised(cell.measured)[i] for cell in cells]),
            "mean_bound": _mean([normalised(cell.bound)[i] for cell in claimed]),
        }
        for i, name in enumerate(PARTS)
    ]
    table = [_share_line(cell, totals.get((cell.group, cell.samples))) for cell in cells]
    return {"terms": terms, "cells": table, "count": len(cells), "claimed": len(claimed)}


def _share_line(cell: Share, total: Row | None) -> dict[str, Any]:
    return {
        "cell": cell,
        "parts": list(zip(PARTS, normalised(cell.measured), normalised(cell.bound), strict=True)),
        "total": math.nan if total is None else total.measured,
        "bound": math.nan if total is None else total.bound,
        "over_trivial": math.nan if total is None else total.over_trivial,
    }


def _mean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _constants(summary: dict[str, Any]) -> dict[str, Any] | None:
    """The table of constants: one line for each model, a column for each constant that some model has."""
    lines = list(summary.get("constants") or [])
    if not lines:
        return None
    columns = [name for name in dict.fromkeys(key for line in lines for key in line) if name != "model"]
    heads = [Markup(text.CONSTANTS[name]) if name in text.CONSTANTS else name.replace("_", " ") for name in columns]
    values = [[line.get("model", "")] + [line.get(name) for name in columns] for line in lines]
    return {"heads": heads, "lines": values[:MOST], "count": len(values)}


def _central_limit(rows: list[Row]) -> dict[str, Any] | None:
    """Measured spread against what P2 predicts, with and without the Poisson terms."""
    found = select(rows, "samples", "spread") + [
        row for row in rows if row.axis in ("mixing", "sweep") and row.series == "spread"
    ]
    found = [row for row in found if math.isfinite(row.prediction) and row.prediction > 0]
    if not found:
        return None
    lines = [
        {
            "row": row,
            "ratio": row.measured / row.prediction,
            "low": row.ci_low / row.prediction,
            "high": row.ci_high / row.prediction,
            "without": row.measured / row.alternative if row.alternative > 0 else math.nan,
        }
        for row in found
    ]
    ratios = sorted(row.measured / row.prediction for row in found)
    return {
        "lines": lines[:MOST],
        "count": len(lines),
        "low": ratios[0],
        "median": ratios[len(ratios) // 2],
        "high": ratios[-1],
    }


def _vacuous(row: Row) -> bool:
    """Whether its bound is claimed, and no better than what is known without it (D12)."""
    return row.holds >= 0 and row.informative == 0


def _uncertified(rows: list[Row]) -> list[Row]:
    """One row for each cell in which A6 is not certified."""
    cells = {(row.cell, row.group): row for row in reversed(rows) if not row.certified}
    return list(cells.values())[::-1]


def _sections(rows: list[Row], figures: Mapping[str, Picture], said: dict[str, Section]) -> list[dict[str, Any]]:
    """Words, figures, notes and rows of every axis that has rows."""
    out = []
    for axis in dict.fromkeys((*said, *(row.axis for row in rows))):
        here = [row for row in rows if row.axis == axis]
        if not here:
            continue
        words = said.get(axis, Section(f"Axis {axis}"))
        # What a run on a given model has of these figures belongs to its own section.
        captions = {name: Markup(caption) for name, caption in words.captions.items() if name in figures}
        out.append(
            {
                "axis": axis,
                "title": words.title,
                "paragraphs": [Markup(paragraph) for paragraph in words.paragraphs],
                "captions": captions,
                "notes": list(dict.fromkeys(row.note for row in here if row.note)),
                "rows": here[:MOST],
                "checks": sum(row.holds >= 0 for row in here),
                "vacuous": sum(_vacuous(row) for row in here),
                "cells": len({(row.cell, row.group) for row in here}),
                "uncertified": len(_uncertified(here)),
                "source": _source(axis),
                "count": len(here),
            }
        )
    return out


def _source(axis: str) -> str:
    """The module that measures an axis; empty for one that this package does not know."""
    tasks = AXES[axis].tasks if axis in AXES else ""
    return tasks.partition(":")[0] if isinstance(tasks, str) else tasks.__module__


def _facts(summary: dict[str, Any]) -> list[tuple[str, Any]]:
    """Versions, device and times as pairs."""
    pairs: list[tuple[str, Any]] = [(f"version of {name}", value) for name, value in _flat(summary.get("versions"))]
    pairs += [
        (f"axis {name}", ", ".join(str(value) for value in values))
        for name, values in (summary.get("axes") or {}).items()
    ]
    pairs += [(f"device {name}".strip(), value) for name, value in _flat(summary.get("device"))]
    units = {"compile_s": "compile time (s)", "run_s": "run time (s)", "handoffs": "simulated handoffs"}
    pairs += [(label, summary.get(name)) for name, label in units.items() if summary.get(name) is not None]
    return pairs


def _flat(value: Any) -> list[tuple[str, Any]]:
    """Pairs of a mapping; anything else as one pair without a name."""
    if value is None:
        return []
    if isinstance(value, Mapping):
        simple = (int, float, str)
        return [(str(key), item if isinstance(item, simple) else str(item)) for key, item in value.items()]
    return [("", str(value))]
