"""What an axis hands to the runner: tasks that return rows, slopes and claims, all plain data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

from bound_validation.intervals import Slope, judged
from bound_validation.results import COLUMNS, NAN, Row
from icsmdp_jax.io import to_plain
from icsmdp_jax.runs.tasks import Progress, Task

__all__ = [
    "Claim",
    "Progress",
    "Task",
    "TaskResult",
    "about",
    "about_replicas",
    "dominance",
    "in_range",
    "line_ratio",
    "outside",
]

PROGRAM = 2.5  # CPU seconds that a program takes to be traced and compiled, on a core of 2.5 GHz
HANDOFF = 1e-7  # the same for a handoff of tables
STEP = 8e-4  # and for a step of theorem B's recursions
MANY = 20_000_000  # handoffs from which Numba runs replicas,
FEWER = 0.25  # of HANDOFF for each,
LOADING, KERNELS = 1.5, 9.0  # plus this many seconds, and for the first ones to be compiled
TERM_OF = {"residual": "residual", "approximation": "approximation", "interface": "interface", "gap": "interface"}


def about(handoffs: float, more: float = 0.0) -> float:
    """``Task.seconds`` of a task that compiles one program, simulates this many handoffs and does ``more``."""
    return PROGRAM + HANDOFF * handoffs + more


def about_replicas(handoffs: float) -> float:
    """The same for a run of the replica learner, which Numba takes over where there are many handoffs."""
    return about(handoffs) if handoffs < MANY else LOADING + FEWER * HANDOFF * handoffs


@dataclasses.dataclass(frozen=True)
class Claim:
    """One sentence that the run either bears out or does not.

    Attributes:
      name: frozen readable id.
      text: the claim, for the report.
      value: the number measured.
      target: the admitted range, in words.
      passed: True, False, or None where the claim is not made (and ``text`` says why) or is undecided.
      ci_low: lower end of the value's 95 % interval, or None.
      ci_high: upper end, or None.
      undecided: whether the claim is made but the interval is partly inside the admitted range and partly outside.
    """

    name: str
    text: str
    value: float
    target: str
    passed: bool | None
    ci_low: float | None = None
    ci_high: float | None = None
    undecided: bool = False


def in_range(
    name: str, text: str, value: float, low: float, high: float, ci_low: float = NAN, ci_high: float = NAN
) -> Claim:
    """A claim that a value lies in ``[low, high]``, judged on its interval; a value without one is judged itself."""
    passed = judged(value, ci_low, ci_high, low, high)
    first, last = (end if math.isfinite(end) else None for end in (ci_low, ci_high))
    return Claim(name, text, value, f"in [{low:g}, {high:g}]", passed, first, last, undecided=passed is None)


def outside(name: str, text: str, value: float, low: float, high: float, ci_low: float, ci_high: float) -> Claim:
    """A claim that a value does not lie in ``[low, high]``: that its whole interval is outside."""
    inside = in_range(name, text, value, low, high, ci_low, ci_high)
    passed = None if inside.passed is None else not inside.passed
    return dataclasses.replace(inside, target=f"outside [{low:g}, {high:g}]", passed=passed)


def line_ratio(name: str, text: str, row: Row, low: float, high: float) -> Claim:
    """A claim that a measured value over its prediction lies in ``[low, high]``."""
    ends = (row.ci_low / row.prediction, row.ci_high / row.prediction)
    return in_range(name, text, row.measured / row.prediction, low, high, *ends)


def dominance(name: str, where: str, rows: Iterable[Row]) -> list[Claim]:
    """In how many cells each measured term is the largest (T4); cells without residual or interface are left out.

    Args:
      name: of the claim.
      where: words for ``Largest measured term {where}: ...``, where ``{}`` becomes the number of cells.
      rows: those of which the terms are taken, by their series; all others are ignored.
    """
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.series in TERM_OF and math.isfinite(row.measured):
            found.setdefault(row.cell, {})[TERM_OF[row.series]] = row.measured
    cells = [cell for cell in found.values() if {"residual", "interface"} <= set(cell)]
    if not cells:
        return []
    names = dict.fromkeys(TERM_OF.values())
    largest = [max((term for term in names if term in cell), key=cell.__getitem__) for cell in cells]
    text = ", ".join(f"{term} in {largest.count(term)}" for term in names)
    return [Claim(name, f"Largest measured term {where.format(len(cells))}: {text}.", float(len(set(largest))),
                  "reported", None)]  # fmt: skip


def _plain(row: Row) -> dict[str, Any]:
    """A row as a dictionary; what no row of a run without ``--replica-values`` has is left out."""
    record = dict(vars(row))
    return record if row.values else {key: record[key] for key in COLUMNS}


@dataclasses.dataclass
class TaskResult:
    """What one task measured.

    Attributes:
      rows: rows of the table.
      slopes: named fits.
      claims: claims.
      compile_s: seconds of compilation in it.
      handoffs: handoffs simulated in it.
    """

    rows: list[Row] = dataclasses.field(default_factory=list)
    slopes: dict[str, Slope] = dataclasses.field(default_factory=dict)
    claims: list[Claim] = dataclasses.field(default_factory=list)
    compile_s: float = 0.0
    handoffs: int = 0

    def add(self, other: TaskResult) -> None:
        """Appends another result."""
        self.rows += other.rows
        self.slopes |= other.slopes
        self.claims += other.claims
        self.compile_s += other.compile_s
        self.handoffs += other.handoffs

    def without_values(self) -> TaskResult:
        """The result without what single replicas gave."""
        bare = [dataclasses.replace(row, statistic="", values=()) for row in self.rows]
        return dataclasses.replace(self, rows=bare)

    def plain(self) -> dict[str, Any]:
        """The result as JSON-ready data; floats survive the round trip bit for bit, NaN and infinity as null."""
        return to_plain(
            {
                "rows": [_plain(row) for row in self.rows],
                "slopes": {name: dataclasses.asdict(slope) for name, slope in self.slopes.items()},
                "claims": [dataclasses.asdict(claim) for claim in self.claims],
                "compile_s": self.compile_s,
                "handoffs": self.handoffs,
            }
        )

    @staticmethod
    def from_plain(content: dict[str, Any]) -> TaskResult:
        """The inverse of ``plain``."""

        def restored(kind: type[Any], record: dict[str, Any]) -> Any:
            floats = {f.name for f in dataclasses.fields(kind) if f.type == "float"}
            out: dict[str, Any] = {k: NAN if v is None and k in floats else v for k, v in record.items()}
            if "values" in out:
                out["values"] = tuple(NAN if value is None else value for value in out["values"])
            return kind(**out)

        return TaskResult(
            rows=[restored(Row, record) for record in content["rows"]],
            slopes={name: restored(Slope, slope) for name, slope in content["slopes"].items()},
            claims=[Claim(**claim) for claim in content["claims"]],
            compile_s=content["compile_s"],
            handoffs=content["handoffs"],
        )
