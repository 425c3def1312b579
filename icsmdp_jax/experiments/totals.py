"""What a policy does in the mean over an episode, exactly: sums that are not discounted, by one linear solve.

A policy is a law over options for each state. Everything is float64 on the host.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from icsmdp_jax.exact.moments import kernel_moments
from icsmdp_jax.exact.returns import greedy
from icsmdp_jax.models.tabular import TabularModel


@dataclasses.dataclass(frozen=True, eq=False)
class Totals:
    """Expected totals over one episode of a model in which every policy comes to an end.

    Attributes:
      model: an episodic model.
      counted: ``[S, O]`` tables by name: what is counted, in the mean, when an option is taken in a state.
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
