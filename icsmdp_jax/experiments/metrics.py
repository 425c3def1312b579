"""What policies do with an episode, as rows of tables: exact numbers, or means and intervals over replicas."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from icsmdp_jax.exact.returns import Interval, Returns
from icsmdp_jax.experiments.result import exactly, over_replicas
from icsmdp_jax.experiments.totals import Totals

Row = dict[str, Interval]  # a metric's name to its value
ORACLE, GREEDY, LEARNED = "exact oracle", "exact Q_phi, greedy", "IC-Q"
IMMEDIATE, RANDOM = "greedy immediate", "random workflow"


def of_policies(count: Totals, returns: Returns, tables: np.ndarray) -> dict[str, Row]:
    """Metrics of the policies that every table lists.

    Args:
      count: what is counted.
      returns: exact solutions of the same model.
      tables: ``[n, Z, O]`` values that IC-Q has learned, one table for each replica.

    Returns:
      One row for each policy; that of IC-Q has intervals.
    """
    laws = {
        ORACLE: count.by_choice(returns.q_star.q.argmax(axis=1)),
        GREEDY: count.by_interface(returns.q_phi.q),
        IMMEDIATE: count.by_interface(returns.interface.reward),
        RANDOM: count.uniform(),
    }
    rows = {name: exact_row(count, law) for name, law in laws.items()}
    rows[LEARNED] = {name: over_replicas(values) for name, values in count.of_tables(tables).items()}
    return {name: rows[name] for name in (ORACLE, GREEDY, LEARNED, IMMEDIATE, RANDOM)}


def exact_row(count: Totals, law: np.ndarray) -> Row:
    """Metrics of one policy, ``[S, O]`` law."""
    return {name: exactly(value) for name, value in count.of(law).items()}


def cells(row: Row, scale: Mapping[str, float]) -> list[float | Interval]:
    """The metrics that ``scale`` names, times its numbers, as cells of a table."""
    return [scaled(row[name], by) for name, by in scale.items()]


def scaled(value: Interval, by: float) -> float | Interval:
    """A number or an interval times ``by``; an exact value is a number."""
    if value.ci_low == value.ci_high:
        return by * value.mean
    return Interval(by * value.mean, by * value.ci_low, by * value.ci_high, value.replicas)
