"""What an axis hands to the runner: tasks that return rows, slopes and claims, all plain data."""

from __future__ import annotations

import dataclasses
from typing import Any

from bound_validation.measure import Slope
from bound_validation.results import Row
from icsmdp_jax.io import to_plain
from icsmdp_jax.runs.tasks import Task

__all__ = ["Claim", "Task", "TaskResult", "in_range"]


@dataclasses.dataclass(frozen=True)
class Claim:
    """One sentence that the run either bears out or does not.

    Attributes:
      name: frozen readable id.
      text: the claim, for the report.
      value: the number measured.
      target: the admitted range, in words.
      passed: True, False, or None where the claim is not made (and ``text`` says why).
      ci_low: lower end of the value's 95 % interval, or None.
      ci_high: upper end, or None.
    """

    name: str
    text: str
    value: float
    target: str
    passed: bool | None
    ci_low: float | None = None
    ci_high: float | None = None


def in_range(name: str, text: str, value: float, low: float, high: float, **interval: float | None) -> Claim:
    """A claim that a value lies in ``[low, high]``."""
    return Claim(name, text, value, f"in [{low:g}, {high:g}]", bool(low <= value <= high), **interval)


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

    def plain(self) -> dict[str, Any]:
        """The result as JSON-ready data; floats survive the round trip bit for bit, NaN and infinity as null."""
        return to_plain(
            {
                "rows": [dataclasses.asdict(row) for row in self.rows],
                "slopes": {name: dataclasses.asdict(slope) for name, slope in self.slopes.items()},
                "claims": [dataclasses.asdict(claim) for claim in self.claims],
                "compile_s": self.compile_s,
                "handoffs": self.handoffs,
            }
        )

    @staticmethod
    def from_plain(content: dict[str, Any]) -> TaskResult:
        """The inverse of ``plain``."""
        floats = {f.name for f in dataclasses.fields(Row) if f.type == "float"}

        def row(record: dict[str, Any]) -> Row:
            fields: dict[str, Any] = {k: float("nan") if v is None and k in floats else v for k, v in record.items()}
            return Row(**fields)

        return TaskResult(
            rows=[row(record) for record in content["rows"]],
            slopes={name: Slope(**slope) for name, slope in content["slopes"].items()},
            claims=[Claim(**claim) for claim in content["claims"]],
            compile_s=content["compile_s"],
            handoffs=content["handoffs"],
        )
