"""Exact answers where primitive steps are shown: options under given local policies, and both levels optimal (D2, D3).

Rows inside options are *situations of the world* ``u``: everything that matters between two primitive steps, the
option under way included. A decision takes no time: ``V(s) = max_o sum_u B(u | s, o) W(u)``, and inside an option

``W(u) = max_a r(u, a) + gamma [sum_u' C(u' | u, a) W(u') + sum_s' E(s' | u, a) V(s')]``

with C the law of staying inside the option and E that of a handoff. Terminal handoffs have value 0 and are left out.
Both levels together are one contraction with modulus gamma; with the local policy fixed, solving the inner equation
gives the moments of the option kernel (D2), and the outer one is that of D3.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from icsmdp_jax.exact.moments import Matrix, compact


@dataclasses.dataclass(frozen=True, eq=False)
class PrimitiveModel:
    """A finite IC-SMDP with its primitive steps, all float64. Decision states ``s`` exclude terminal ones.

    Attributes:
      agent: ``[S]`` int, who decides.
      interface: ``[S]`` int, what it sees.
      mask: ``[S, O]`` bool, available options.
      first: ``[S]`` law of the first decision.
      begin: ``[S*O, U]`` sparse, law of the first ``u`` of an option; rows of unavailable options are empty.
      situation: ``[U]`` int, what the active agent sees of ``u``, its own number and its option included.
      num_situations: how many values ``situation`` can take.
      stay: ``[U*A, U]`` sparse, law of staying inside the option.
      leave: ``[U*A, S]`` sparse, law of handoffs that are not terminal.
      reward: ``[U, A]`` expected reward of the primitive step.
      action_mask: ``[U, A]`` bool, available local actions.
      gamma: discount of one primitive step.
    """

    agent: np.ndarray
    interface: np.ndarray
    mask: np.ndarray
    first: np.ndarray
    begin: Matrix
    situation: np.ndarray
    num_situations: int
    stay: Matrix
    leave: Matrix
    reward: np.ndarray
    action_mask: np.ndarray
    gamma: float

    def uniform_local(self) -> np.ndarray:
        """``[num_situations, A]`` local policy that takes every available action with the same probability."""
        table = np.zeros((self.num_situations, self.reward.shape[1]))
        table[self.situation] = self.action_mask
        return table / np.maximum(table.sum(axis=1, keepdims=True), 1)

    def uniform_workflow(self) -> np.ndarray:
        """``[S, O]`` option policy that takes every available option with the same probability."""
        return self.mask / self.mask.sum(axis=1, keepdims=True)


class OptionMoments(NamedTuple):
    """What a fixed local policy makes of the options (D2).

    Attributes:
      reward: ``[S, O]`` ``E[R | s, o]``; 0 where the option is not available.
      discounted: ``[S*O, S]`` discounted kernel ``P^g``.
    """

    reward: np.ndarray
    discounted: Matrix


class PrimitiveSolution(NamedTuple):
    """Values at both levels, for what was given and the best of what was not.

    Attributes:
      q: ``[S, O]`` values of the options, minus infinity where unavailable.
      value: ``[S]`` value of the decision states.
      inner: ``[U]`` value inside options.
      action_values: ``[U, A]`` values of the local actions, minus infinity where unavailable.
      error_bound: certified bound on the error of all these.
    """

    q: np.ndarray
    value: np.ndarray
    inner: np.ndarray
    action_values: np.ndarray
    error_bound: float


def option_moments(model: PrimitiveModel, local: np.ndarray) -> OptionMoments:
    """Expected segment reward and discounted kernel of every option under a local policy (D2).

    Args:
      model: the primitive problem.
      local: ``[num_situations, A]`` probabilities of the local actions.

    Returns:
      The moments, by a sparse direct solve.
    """
    choice = _choice(model, local)
    count, states = len(model.situation), len(model.agent)
    inside = sparse.csc_array(sparse.eye_array(count) - model.gamma * (choice @ model.stay))
    ends = model.gamma * (choice @ model.leave)
    right = np.column_stack([choice @ model.reward.reshape(-1), ends.toarray()])
    solved = model.begin @ sparse_linalg.splu(inside).solve(right)
    return OptionMoments(solved[:, 0].reshape(states, -1), compact(solved[:, 1:]))


def solve(
    model: PrimitiveModel,
    local: np.ndarray | None = None,
    workflow: np.ndarray | None = None,
    tolerance: float = 1e-11,
) -> PrimitiveSolution:
    """Values by value iteration; what is not given is chosen optimally, knowing all of the state (D3).

    With ``local`` given this is the preconfigured optimum, with neither the adaptable one, with both an evaluation.

    Args:
      model: the primitive problem.
      local: ``[num_situations, A]`` probabilities of the local actions, or None.
      workflow: ``[S, O]`` probabilities of the options, 0 where unavailable, or None.
      tolerance: stop when the certified error is below this times ``max |W|`` or the largest reward, or when
        rounding allows no better.

    Returns:
      The solution; its ``error_bound`` holds in either case.
    """
    states, options = model.mask.shape
    count, actions = model.reward.shape
    law = None if local is None else _law(model, local)

    def decide(inner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        q = (model.begin @ inner).reshape(states, options)
        available = np.where(model.mask, q, -np.inf)
        return available, available.max(axis=1) if workflow is None else np.sum(workflow * q, axis=1)

    def act(inner: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ahead = model.reward + model.gamma * (model.stay @ inner + model.leave @ value).reshape(count, actions)
        available = np.where(model.action_mask, ahead, -np.inf)
        return available, available.max(axis=1) if law is None else np.sum(law * ahead, axis=1)

    inner, change, error = np.zeros(count), np.inf, np.inf
    largest = float(np.abs(model.reward[model.action_mask]).max())
    terms = sum(int(np.diff(sparse.csr_array(rows).indptr).max()) for rows in (model.begin, model.stay, model.leave))
    while True:
        scale = max(largest, float(np.abs(inner).max()))
        rounding = (terms + 8) * np.finfo(float).eps * scale / (1 - model.gamma)
        error = model.gamma / (1 - model.gamma) * change + rounding
        if error <= tolerance * scale or change <= rounding:
            break
        improved = act(inner, decide(inner)[1])[1]
        change, inner = float(np.abs(improved - inner).max()), improved
    q, value = decide(inner)
    return PrimitiveSolution(q, value, inner, act(inner, value)[0], error)


def greedy_workflow(model: PrimitiveModel, values: np.ndarray) -> np.ndarray:
    """``[S, O]`` workflow that follows the best available option of a table ``[Z, O]`` over interfaces."""
    best = np.where(model.mask, values[model.interface], -np.inf).argmax(axis=1)
    return np.eye(model.mask.shape[1])[best]


def _law(model: PrimitiveModel, local: np.ndarray) -> np.ndarray:
    """``[U, A]`` the local policy on the available actions."""
    law = np.where(model.action_mask, local[model.situation], 0.0)
    return law / law.sum(axis=1, keepdims=True)


def _choice(model: PrimitiveModel, local: np.ndarray) -> sparse.csr_array:
    """``[U, U*A]`` sparse: averages rows ``(u, a)`` with the local policy."""
    count, actions = model.reward.shape
    rows = np.repeat(np.arange(count), actions)
    return sparse.csr_array(
        (_law(model, local).reshape(-1), (rows, np.arange(count * actions))), (count, count * actions)
    )
