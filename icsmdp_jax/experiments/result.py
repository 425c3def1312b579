"""What an experiment returns: one number with its interval for each method, and whatever else is worth a table.

The form is the same for all environments, so that one command prints it, one figure draws it, and one report puts all
environments side by side. ``Result.as_json`` is the object that ``icsmdp experiment NAME --json`` prints.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from icsmdp_jax.exact.returns import Interval, mean_interval
from icsmdp_jax.learner.methods import METHODS

BEST: dict[str, str] = {  # what is known exactly, shown before the learners
    "exact_oracle": "exact oracle",
    "interface_oracle": r"exact $Q_\phi$, greedy",
    "own_interface_oracle": r"exact $Q_\phi$ of own behaviour",
}
SIMPLE: dict[str, str] = {"greedy_immediate": "immediate reward, exact", "random": "random"}  # and behind them
NEURAL = "_neural"  # ending of a method's name: the same method with a network


def label(name: str) -> str:
    """What figures and tables call a method, by its name in results."""
    exact = {**BEST, **SIMPLE}.get(name)
    learned = {method.name: method.label for method in METHODS.values()}.get(name.removesuffix(NEURAL))
    if exact is None and learned is not None:
        return learned + ", neural" * name.endswith(NEURAL)
    return exact or name.replace("_", " ")


def in_order(names: Sequence[str]) -> list[str]:
    """Methods as they are shown: exact ones, learners, simple ones, then all others as they come."""
    learners = [name for method in METHODS.values() for name in (method.name, method.name + NEURAL)]
    known = [name for name in (*BEST, *learners, *SIMPLE) if name in names]
    return known + [name for name in names if name not in known]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
      title: what it shows, one sentence.
      columns: headings, with units.
      rows: one sequence of cells for each row: text, numbers, or ``Interval``.
      name: short name, a file name without its ending: letters, digits and underscores.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    name: str = "table"

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(f"rows[{index}]: {len(row)} cells, expected {len(self.columns)} as in columns")


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """Outcome of one experiment.

    Attributes:
      environment: registered name.
      metric: what the numbers of ``methods`` are, with unit.
      methods: interval over replicas for each method; exactly known values have ``ci_low = mean = ci_high``.
      higher_is_better: whether more of the metric is better.
      message_scalars_per_handoff: numbers that cross between agents at a handoff under IC-Q, as counted.
      exact: exactly computed quantities by name (returns of the oracle, of the random workflow, of the policy greedy
        in ``Q_phi``, epsilon, delta, ...), empty where no exact solution is at hand.
      normalised: for each learned method its return on the scale 0 random, 1 full oracle; empty without an oracle.
      remarks: sentences for the reader, findings and shortfalls included.
      settings: what was run: handoffs, replicas, seeds, step sizes.
      tables: further tables.
      figures: further figures by name; each draws itself when called and returns a ``matplotlib`` figure.
      names: words in figures for methods that ``methods.METHODS`` lacks.
      centre: what the ``mean`` of the intervals in ``methods`` is over the runs: their mean, or their median where
        single runs would decide a mean.
      checks: what the experiment was to show, each a short sentence, and whether it did; None where the preset is too
        small to say.
    """

    environment: str
    metric: str
    methods: Mapping[str, Interval]
    higher_is_better: bool = True
    message_scalars_per_handoff: float = 1.0
    exact: Mapping[str, float] = dataclasses.field(default_factory=dict)
    normalised: Mapping[str, Interval] = dataclasses.field(default_factory=dict)
    remarks: Sequence[str] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tables: Sequence[Table] = ()
    figures: Mapping[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)
    names: Mapping[str, str] = dataclasses.field(default_factory=dict)
    centre: str = "mean"
    checks: Mapping[str, bool | None] = dataclasses.field(default_factory=dict)

    def text_of(self, method: str) -> str:
        """The method's name in figures and tables."""
        return self.names.get(method) or label(method)

    def as_json(self) -> dict[str, Any]:
        """Plain values only; numbers that are not finite become None."""
        return {
            "environment": self.environment,
            "metric": self.metric,
            "centre": self.centre,
            "higher_is_better": self.higher_is_better,
            "methods": {name: interval_json(value) for name, value in self.methods.items()},
            "names": {name: self.text_of(name) for name in self.methods},
            "normalised": {name: interval_json(value) for name, value in self.normalised.items()},
            "message_scalars_per_handoff": plain(self.message_scalars_per_handoff),
            "exact": {name: plain(value) for name, value in self.exact.items()},
            "settings": {name: plain(value) for name, value in self.settings.items()},
            "checks": {name: None if value is None else bool(value) for name, value in self.checks.items()},
            "remarks": list(self.remarks),
            "tables": [
                {
                    "name": table.name,
                    "title": table.title,
                    "columns": list(table.columns),
                    "rows": [[plain(cell) for cell in row] for row in table.rows],
                }
                for table in self.tables
            ],
        }


def exactly(value: float, replicas: int = 1) -> Interval:
    """A value that is known without sampling, as an interval of no width."""
    number = float(value)
    return Interval(number, number, number, replicas)


def over_replicas(values: np.ndarray) -> Interval:
    """Mean of ``[replicas]`` numbers with its 95 % t-interval; all floats are Python's."""
    found = mean_interval(np.asarray(values, np.float64))
    return Interval(float(found.mean), float(found.ci_low), float(found.ci_high), found.replicas)


def interval_json(value: Interval) -> dict[str, Any]:
    """``{mean, ci_low, ci_high, replicas}`` with plain values."""
    return {name: plain(getattr(value, name)) for name in ("mean", "ci_low", "ci_high", "replicas")}


def plain(value: Any) -> Any:
    """A value that ``json`` can print: Python numbers, None for what is not finite."""
    if isinstance(value, Interval):
        return interval_json(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
