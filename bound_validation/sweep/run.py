"""Running a custom sweep: its parts become tasks; what is said and shown of them at the end."""

from __future__ import annotations

import dataclasses
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bound_validation.cell import ASYMPTOTIC_FROM, TIE
from bound_validation.results import Row
from bound_validation.running import Ending, Summary, execute
from bound_validation.sweep.cells import check_memory, run_part, work_of
from bound_validation.sweep.definition import SAMPLES, Cell, Sweep, value_text
from bound_validation.sweep.parts import parts
from bound_validation.tasks import Claim, Task, dominance, in_range
from icsmdp_jax.core.arguments import of_type


def run_sweep(
    sweep: Sweep, out: str | os.PathLike[str], resume: bool = False, overwrite: bool = False
) -> Summary | None:
    """Runs a sweep and writes everything into ``out``.

    Args:
      sweep: what is run.
      out: run directory, made if it does not exist.
      resume: keep what is finished in ``out``; of a finished run only figures and report are made again.
      overwrite: start over whatever is in ``out``; with ``resume``, only if it is another run.

    Returns:
      The summary, as written to ``summary.json``; None on all processes but the first one.

    Raises:
      ValueError: in one line, for bad input, or if ``out`` holds another run and neither option says what to do.

    Example:
      >>> import bound_validation as bv
      >>> import tempfile
      >>> sweep = bv.Sweep("gap", family="planted", axes={"gap": (0, 0.1)}, measure=["interface"])
      >>> summary = bv.run(sweep, tempfile.mkdtemp())
      >>> summary["bound_holds"]
      True
    """
    from bound_validation.sweep.figure import draw_all

    of_type(Sweep, "a Sweep", sweep=sweep)
    of_type(str | os.PathLike, "the name of a folder", out=out)
    about = {"preset": "sweep", "model": sweep.source.name, **sweep.manifest()}
    ending = Ending(
        arrange=partial(placed, sweep),
        claims=partial(claims, sweep),
        constants=constants,
        figures=lambda rows, summary, out, worker: draw_all(sweep, rows, out),
        summary={"sweep": sweep.name, "axes": about["axes"]},
    )
    return execute(Path(out), tasks(sweep), about, resume, overwrite, ending)


def tasks(sweep: Sweep) -> list[Task]:
    """One task for each part, named by the sweep and the number of the part.

    Raises:
      ValueError: in one line, if the family refuses a cell or the largest part would not fit into memory.
    """
    listed = parts(sweep)
    check_memory(sweep, listed)
    return [
        Task(
            f"{sweep.name}/{part.index:05d}",
            lambda progress, part=part: run_part(sweep, part, progress),  # type: ignore[misc]
            work_of(sweep, part),
            len(part.cells),
            sweep.learns,
        )
        for part in listed
    ]


def placed(sweep: Sweep, rows: list[Row]) -> list[Row]:
    """The rows in the order of the cells, with abscissa and group from the figure settings.

    Parts know nothing of these settings, so that a finished run can be looked at in another way without computing it
    again.
    """
    cells = {cell.id: cell for cell in sweep.cells()}
    order = {name: place for place, name in enumerate(cells)}
    return [_placed(sweep, cells[row.cell], row) for row in sorted(rows, key=lambda row: order[row.cell])]


def _placed(sweep: Sweep, cell: Cell, row: Row) -> Row:
    x = sweep.figure.x
    words = [f"{name} = {value_text(value)}" for name, value in cell.coordinates.items() if name != x]
    if x != SAMPLES:
        if row.samples and len(sweep.samples) > 1:
            words.append(f"K = {row.samples}")
        assert x is not None
        return dataclasses.replace(row, group=", ".join(words), x_name=x, x=float(cell.coordinates[x]))
    name, here = ("handoffs", row.samples) if row.samples else ("sweep", 0)
    return dataclasses.replace(row, group=", ".join(words), x_name=name, x=float(here))


def claims(sweep: Sweep, rows: list[Row]) -> list[Claim]:
    """What can be said of the sweep as a whole."""
    cells = {row.cell: row for row in rows}
    certified = sum(row.certified for row in cells.values())
    text = f"A6 is certified in {certified} of {len(cells)} cells; elsewhere no Theorem 2 or 3 is claimed."
    out = [Claim("sweep_a6", text, float(certified), "reported", None)]
    last = sweep.samples[-1]
    spreads = [
        row.measured / row.prediction
        for row in rows
        if row.series == "spread" and row.samples == last and row.action_gap > TIE and row.prediction > 0
    ]
    spreads = [ratio for ratio in spreads if np.isfinite(ratio)]
    if spreads:
        middle = float(np.median(spreads))
        text = (
            f"Spread over central-limit line at {last} handoffs: median over {len(spreads)} cells "
            f"(from {min(spreads):.3g} to {max(spreads):.3g})"
        )
        if last < ASYMPTOTIC_FROM:
            out.append(Claim("sweep_limit", f"{text}; too few handoffs to claim it.", middle, "not claimed", None))
        else:
            out.append(in_range("sweep_limit", f"{text}.", middle, 0.9, 1.1))
    here = (row for row in rows if row.samples in (0, last))
    return out + dominance("sweep_dominance", f"at {last} handoffs over {{}} cells", here)


def constants(rows: list[Row]) -> list[dict[str, Any]]:
    """One line of constants for each cell."""
    first = {row.cell: row for row in reversed(rows)}
    return [{"model": cell, **row.constants} for cell, row in reversed(first.items())]
