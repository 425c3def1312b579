"""What policies do on average over an episode, exactly: sums that are not discounted, by one linear solve.

A policy is a law over options for each state. Everything is float64 on the host. Rows of tables have exact numbers, or
means and intervals over replicas.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from icsmdp_jax.exact.moments import kernel_moments
from icsmdp_jax.exact.returns import Interval, Returns, greedy
from icsmdp_jax.experiments.result import Table, exactly, over_replicas
from icsmdp_jax.learner.methods import METHODS
from icsmdp_jax.models.tabular import TabularModel

Row = dict[str, Interval]  # a metric's name to its value
ORACLE, GREEDY, LEARNED = "exact oracle", "exact Q_phi, greedy", METHODS["ic_q"].label
IMMEDIATE, RANDOM = "greedy immediate", "random workflow"


@dataclasses.dataclass(frozen=True, eq=False)
class Totals:
    """Expected totals over one episode of a model in which every policy comes to an end.

    Attributes:
      model: an episodic model.
      counted: ``[S, O]`` tables by name: what is counted, on average, when an option is taken in a state.
    """

    model: TabularModel
    counted: Mapping[str, np.ndarray]

    @cached_property
    def _probability(self) -> sparse.csr_array:
        return sparse.csr_array(kernel_moments(self.model).probability)

    def visits(self, law: np.ndarray) -> np.ndarray:
        """``[S, O]`` mean number of times that each option is taken in each state, for ``[S, O]`` law."""
        count, options = law.shape
        decides = ~self.model.is_terminal
        live = np.where(decides[:, None], law, 0.0)
        rows = np.repeat(np.arange(count), options)
        pick = sparse.csr_array((live.reshape(-1), (rows, np.arange(count * options))), shape=(count, count * options))
        assert self.model.start is not None
        flow = sparse.csc_array(sparse.eye_array(count) - (pick @ self._probability).T)
        return sparse_linalg.spsolve(flow, self.model.start)[:, None] * live

    def of(self, law: np.ndarray) -> dict[str, float]:
        """Each total under a policy: ``[S, O]`` law."""
        visits = self.visits(law)
        return {name: float((visits * table).sum()) for name, table in self.counted.items()}

    def of_tables(self, tables: np.ndarray) -> dict[str, np.ndarray]:
        """Each total, ``[n]``, of the policies that are greedy in ``[n, Z, O]`` values of interfaces."""
        found = [self.of(self.by_interface(table)) for table in np.asarray(tables)]
        return {name: np.array([one[name] for one in found]) for name in self.counted}

    def by_interface(self, table: np.ndarray) -> np.ndarray:
        """``[S, O]`` law of the policy that is greedy in ``[Z, O]`` values."""
        return self.by_choice(greedy(table, self.model.option_mask)[self.model.interface])

    def by_choice(self, choice: np.ndarray) -> np.ndarray:
        """``[S, O]`` law of the policy that takes option ``choice[s]`` in state ``s``."""
        return np.eye(self.model.num_options)[choice]

    def uniform(self) -> np.ndarray:
        """``[S, O]`` law of the random workflow."""
        mask = self.model.option_mask[self.model.interface].astype(float)
        return mask / mask.sum(axis=1, keepdims=True)


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


def policy_table(
    name: str,
    title: str,
    head: str,
    rows: Mapping[str, Row],
    metrics: Mapping[str, tuple[str, float]],
    first: tuple[str, Mapping[str, float]] | None = None,
) -> Table:
    """Metrics of policies as a table.

    Args:
      name: of the table's file.
      title: what it shows.
      head: heading of the policies' column.
      rows: metrics by policy.
      metrics: for each metric that is shown, its heading with unit, and what it is multiplied by.
      first: heading and numbers of a column before the metrics.
    """
    heading, numbers = ([], {}) if first is None else ([first[0]], first[1])
    cells = [
        [
            policy,
            *([numbers[policy]] if first else []),
            *(scaled(row[metric], by) for metric, (_, by) in metrics.items()),
        ]
        for policy, row in rows.items()
    ]
    return Table(title, (head, *heading, *(text for text, _ in metrics.values())), cells, name=name)


def scaled(value: Interval, by: float) -> float | Interval:
    """A number or an interval times ``by``; an exact value is a number."""
    if value.ci_low == value.ci_high:
        return by * value.mean
    return Interval(by * value.mean, by * value.ci_low, by * value.ci_high, value.replicas)
