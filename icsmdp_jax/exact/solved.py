"""The exact solutions of a model, in the form of the solution file: ``Q*`` on states and ``Q_phi`` on interfaces."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from icsmdp_jax.core.arguments import of_type
from icsmdp_jax.exact.chain import structure_warnings
from icsmdp_jax.exact.interface import InterfaceModel, solve_both
from icsmdp_jax.exact.solve import Solution
from icsmdp_jax.models.tabular import TabularModel


class Solved(NamedTuple):
    """Exact solutions, float64.

    Attributes:
      q_star: ``[S, O]`` the oracle's values (D3): NaN where the option is unavailable, 0 at terminal states.
      q_interface: ``[Z, O]`` what tabular IC-Q converges to (D5): NaN where the option is unavailable or the interface
        never decides.
      stationary: ``[S]`` law of the handoff states under the behaviour policy (D4).
      weights: ``[S]`` ``w(s|z)``, the share of each state in its interface (D5).
      q_star_error_bound: certified bound on the error of ``q_star``, rounding included (L2).
      q_interface_error_bound: the same for ``q_interface``.
      warnings: sentences about transient and absorbing states.
    """

    q_star: np.ndarray
    q_interface: np.ndarray
    stationary: np.ndarray
    weights: np.ndarray
    q_star_error_bound: float
    q_interface_error_bound: float
    warnings: list[str]

    def __repr__(self) -> str:
        (states, options), interfaces = self.q_star.shape, len(self.q_interface)
        return (
            f"Solved(q_star [{states}, {options}] to {self.q_star_error_bound:.2g}, q_interface "
            f"[{interfaces}, {options}] to {self.q_interface_error_bound:.2g})"
        )


def solve(model: TabularModel, behaviour: np.ndarray | None = None) -> Solved:
    """Solves a model with full state and through its interfaces, certified, in float64 on the host (D3, D5, L2).

    Args:
      model: the IC-SMDP.
      behaviour: ``[Z, O]`` behaviour policy, which weighs what interfaces hide; uniform if None.

    Returns:
      The solutions.

    Raises:
      ValueError: if the behaviour chain has not exactly one recurrent class, or the policy is not one.

    Example:
      >>> import icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> ic.solve(env.exact_model(params)).q_interface.shape
      (40, 4)
    """
    of_type(TabularModel, "a TabularModel; load_model reads a model file", model=model)
    return solved(*solve_both(model, behaviour))


def solved(interface: InterfaceModel, q_phi: Solution, q_star: Solution) -> Solved:
    """The same from solutions that exist already."""
    model = interface.model
    star = np.where(interface.moments.used, q_star.q, np.nan)
    star[model.is_terminal] = 0.0
    return Solved(
        q_star=star,
        q_interface=np.where(interface.mask, q_phi.q, np.nan),
        stationary=interface.chain.stationary,
        weights=interface.weights,
        q_star_error_bound=q_star.error_bound,
        q_interface_error_bound=q_phi.error_bound,
        warnings=structure_warnings(model, interface.chain),
    )
