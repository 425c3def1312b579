"""What is known of an environment without learning: its exact listing solved, with every quantity of the theory.

Returns are means over the law of the first state (``icsmdp_jax.exact.returns``). Interface quantities are those of
the uniformly random behaviour policy unless another one is named.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np

from icsmdp_jax.exact.chain import uniform_behaviour
from icsmdp_jax.exact.interface import (
    AISConstants,
    InterfaceGap,
    ais_constants,
    interface_gap,
    interface_model,
    solve_interface,
)
from icsmdp_jax.exact.returns import Returns, greedy, has_scale
from icsmdp_jax.models.tabular import TabularModel


@dataclasses.dataclass(frozen=True, eq=False)
class Known:
    """The exact solution of one model.

    Attributes:
      model: the exact listing.
    """

    model: TabularModel

    @cached_property
    def returns(self) -> Returns:
        """Exact returns of policies."""
        return Returns(self.model)

    @cached_property
    def ais(self) -> AISConstants:
        """epsilon and delta (D6)."""
        return ais_constants(self.returns.interface)

    @cached_property
    def gap(self) -> InterfaceGap:
        """The interface gap, and the bounds on it and on what acting on interfaces loses (T1, T1.3)."""
        return interface_gap(self.returns.interface, self.returns.q_phi, self.returns.q_star, self.ais)

    @property
    def has_scale(self) -> bool:
        """Whether the oracle is better than chance, so that returns can be normalised."""
        return has_scale(self.returns.random, self.returns.oracle, self.returns.size)

    def normalised(self, value: np.ndarray | float) -> np.ndarray:
        """Returns on the scale 0 random, 1 oracle."""
        return self.returns.normalised(value)

    def own_interface_optimum(self, tables: np.ndarray, epsilon: float, most: int = 8) -> np.ndarray:
        """Returns of policies greedy in the ``Q_phi`` of the behaviour that the learner ended with.

        A learner that explores epsilon-greedily changes the law under which the hidden part is averaged. What it would
        converge to, if its behaviour stayed, is ``Q_phi`` under that behaviour (D5): its own greedy policy with
        probability ``1 - epsilon``, else uniform.

        Args:
          tables: ``[replicas, Z, O]`` learned values.
          epsilon: final probability of exploring, more than 0.
          most: replicas that are looked at; equal greedy policies are solved once.

        Returns:
          ``[min(replicas, most)]`` float64.
        """
        mask = self.model.option_mask
        choices = greedy(np.asarray(tables)[:most], mask)
        distinct, which = np.unique(choices, axis=0, return_inverse=True)
        found = []
        for choice in distinct:
            chosen = np.eye(self.model.num_options)[choice] * mask.any(axis=1, keepdims=True)
            behaviour = (1 - epsilon) * chosen + epsilon * uniform_behaviour(self.model)
            interface = interface_model(self.model, behaviour, self.returns.moments)
            found.append(float(self.returns.of_greedy(solve_interface(interface).q)))
        return np.array(found)[which.reshape(-1)]

    def table(self) -> dict[str, float]:
        """The exact quantities by name, as ``Result.exact`` has them."""
        returns, gap = self.returns, self.gap
        table = {
            "oracle": returns.oracle,
            "random": returns.random,
            "interface_optimum": returns.interface_optimum,
            "greedy_immediate": returns.greedy_immediate,
        }
        if self.has_scale:
            at = float(self.normalised(returns.interface_optimum))
            table |= {
                "interface_optimum_normalised": at,
                "interface_distance": 1 - at,
                "greedy_immediate_normalised": float(self.normalised(returns.greedy_immediate)),
            }
        return table | {
            "epsilon": self.ais.epsilon,
            "delta": self.ais.delta,
            "gamma_bar": returns.interface.gamma_bar,
            "interface_gap": gap.gap,
            "interface_bound": gap.bound,
            "policy_loss": gap.policy_loss,
            "policy_loss_bound": gap.policy_loss_bound,
            "num_states": float(self.model.num_states),
            "num_interfaces": float(self.model.num_interfaces),
        }
