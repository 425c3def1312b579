"""What is known of an environment without learning: the quantities of the theory on its exact model.

Returns are means over the law of the first state (``icsmdp_jax.exact.returns``). Interface quantities are those of
the uniformly random behaviour policy unless another one is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from icsmdp_jax.envs.registry import make
from icsmdp_jax.exact import returns as exact_returns
from icsmdp_jax.exact.chain import uniform_behaviour
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.interface import interface_model, solve_interface
from icsmdp_jax.exact.returns import greedy
from icsmdp_jax.experiments.result import Table
from icsmdp_jax.models.tabular import TabularModel


def has_scale(known: Analysis) -> bool:
    """Whether the oracle is better than chance, so that returns can be normalised."""
    return exact_returns.has_scale(known.returns.random, known.returns.oracle, known.returns.size)


def own_behaviours(
    model: TabularModel, tables: np.ndarray, epsilon: float, most: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Behaviour policies that are greedy in value tables with probability ``1 - epsilon``, else uniform.

    Args:
      model: the model.
      tables: ``[replicas, Z, O]`` learned values.
      epsilon: probability of exploring, more than 0.
      most: replicas that are looked at.

    Returns:
      The different ones ``[n, Z, O]``, and which of them belongs to each replica ``[min(replicas, most)]``.
    """
    mask = model.option_mask
    distinct, which = np.unique(greedy(np.asarray(tables)[:most], mask), axis=0, return_inverse=True)
    chosen = np.eye(model.num_options)[distinct] * mask.any(axis=1, keepdims=True)
    return (1 - epsilon) * chosen + epsilon * uniform_behaviour(model), which.reshape(-1)


def own_interface_optimum(known: Analysis, tables: np.ndarray, epsilon: float, most: int = 8) -> np.ndarray:
    """Returns of policies greedy in the ``Q_phi`` of the behaviour that the learner ended with.

    A learner that explores epsilon-greedily changes the law under which the hidden part is averaged. What it would
    converge to, if its behaviour stayed, is ``Q_phi`` under that behaviour (D5).

    Args:
      known: the exact solution.
      tables, epsilon, most: see ``own_behaviours``.

    Returns:
      ``[min(replicas, most)]`` float64.
    """
    model, moments = known.returns.model, known.returns.moments
    behaviours, which = own_behaviours(model, tables, epsilon, most)
    solved = [solve_interface(interface_model(model, behaviour, moments)).q for behaviour in behaviours]
    return np.array([float(known.returns.of_greedy(q)) for q in solved])[which]


def exact_quantities(known: Analysis) -> dict[str, float]:
    """The exact quantities by name, as ``Result.exact`` has them."""
    returns, gap = known.returns, known.gap
    table = {
        "oracle": returns.oracle,
        "random": returns.random,
        "interface_optimum": returns.interface_optimum,
        "greedy_immediate": returns.greedy_immediate,
    }
    if has_scale(known):
        at = float(returns.normalised(returns.interface_optimum))
        table |= {
            "interface_optimum_normalised": at,
            "interface_distance": 1 - at,
            "greedy_immediate_normalised": float(returns.normalised(returns.greedy_immediate)),
        }
    return table | {
        "epsilon": known.ais.epsilon,
        "delta": known.ais.delta,
        "gamma_bar": returns.interface.gamma_bar,
        "interface_gap": gap.gap,
        "interface_bound": gap.bound,
        "policy_loss": gap.policy_loss,
        "policy_loss_bound": gap.policy_loss_bound,
        "num_states": float(returns.model.num_states),
        "num_interfaces": float(returns.model.num_interfaces),
    }


def over_knob(
    environment: str, knob: str, values: Sequence[float], label: str, columns: Mapping[str, str], title: str, name: str
) -> Table:
    """A table with one row for each value of a knob.

    Args:
      environment: name in the registry.
      knob: name of the number that is turned, an override of ``make``.
      values: what it is set to.
      label: head of its column.
      columns: quantities of ``exact_quantities`` and the heads of their columns.
      title: of the table.
      name: of the table's file.

    Returns:
      The table.
    """
    rows = []
    for value in values:
        env, params = make(environment, **{knob: value})
        known = exact_quantities(analyse(env.exact_model(params)))
        rows.append([value, *(known[quantity] for quantity in columns)])
    return Table(title, (label, *columns.values()), rows, name=name)
