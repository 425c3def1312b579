"""Fixed points of ``Pi T_phi`` counted from a level, where long horizons take no digits (D7, L2, P2).

As gamma nears 1 every value nears ``1 / (1 - gamma)`` times one number, and a table of values no longer holds by how
much they differ, which is all that a temporal difference is about. In ``Q = level + rest`` the level meets the small
numbers ``1 - gbar`` only, which are known to full relative accuracy: ``T(level + rest) - level = r - level (1 - gbar)
+ P max rest``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from icsmdp_jax.exact.elimination import Elimination
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.moments import Matrix, as_dense, scale_rows
from icsmdp_jax.exact.solve import DIRECT_LIMIT, backup, relative_value

PARAMETERS, ENTRIES = 2000, 5e7  # up to which large models are solved for directly as well
ROUNDS = 60  # of policy improvement
TABLE, AMPLIFIED = 1e-11, 10.0  # relative error of a table of values, and what of a residual is felt by differences
LEAD = 1e-12  # relative lead up to which another option is taken for rounding
NEAR_ONE = 1e-4  # least ``1 - gbar`` below which solvers work with a level
SPANNED = 1e-12  # distance of the constant 1 from a class that is taken to hold it


class RelativeSolution(NamedTuple):
    """A fixed point ``level + rest`` of ``Pi T_phi``.

    Attributes:
      level: 0 where the class does not hold the constants.
      rest: ``[Z, O]``, 0 outside the mask.
      policy: ``[Z]`` int, its greedy options.
      settled: whether ``rest`` was solved for; if not, it is the table that was given.
    """

    level: float
    rest: np.ndarray
    policy: np.ndarray
    settled: bool


class System(NamedTuple):
    """``A = I - psi^T D P^g_phi psi_greedy`` in coordinates of which the first is that of the constants (P2).

    That column is ``E_d[psi (1 - gbar)]``, entry by entry; only there would large numbers leave small ones.

    Attributes:
      matrix: ``[P, P]``.
      turn: ``[P, P]`` orthogonal, from these coordinates to those of ``psi``.
      one: what the first coordinate is times the constant 1; 0 if the class does not hold the constants.
    """

    matrix: np.ndarray
    turn: np.ndarray
    one: float

    def inverse(self) -> np.ndarray:
        """``[P, P]`` ``A^{-1}`` in the coordinates of ``psi``."""
        return self.turn @ np.linalg.inv(self.matrix) @ self.turn.T

    def condition(self) -> float:
        """Condition number, columns scaled to length 1: by what factor rounding grows in solutions."""
        return float(np.linalg.cond(self.matrix / np.linalg.norm(self.matrix, axis=0)))


def is_table(interface: InterfaceModel, psi: Matrix) -> bool:
    """Whether the columns of ``psi [Z*O, P]`` are multiples of the indicators of all pairs."""
    return bool(psi.nnz == psi.shape[1] == np.count_nonzero(interface.mask))


def greedy_rows(interface: InterfaceModel, policy: np.ndarray) -> np.ndarray:
    """``[Z]`` indices of pairs."""
    return np.arange(len(policy)) * interface.mask.shape[1] + policy


def system(interface: InterfaceModel, psi: Matrix, weight: np.ndarray, policy: np.ndarray) -> System:
    """That of a policy ``[Z]`` in a class with d-orthonormal features ``psi [Z*O, P]``; ``weight [Z*O]`` is ``d``."""
    ahead = interface.discounted @ psi[greedy_rows(interface, policy)]
    matrix = as_dense(psi.T @ scale_rows(weight, psi - ahead))
    ones = psi.T @ weight
    length = float(np.linalg.norm(ones))
    if float(np.sqrt(weight @ (psi @ ones - 1) ** 2)) > SPANNED:
        return System(matrix, np.eye(len(ones)), 0.0)
    # Householder's reflection that takes the first unit vector to that of the constants, but for the sign.
    sign = 1.0 if ones[0] >= 0 else -1.0
    axis = ones / length
    axis[0] += sign
    turn = np.eye(len(ones)) - 2 * np.outer(axis, axis) / (axis @ axis)
    turn[:, 0] *= -sign
    matrix = turn.T @ matrix @ turn
    matrix[:, 0] = turn.T @ (psi.T @ (weight * interface.killing.reshape(-1))) / length
    return System(matrix, turn, 1 / length)


def sensitivity(
    interface: InterfaceModel, psi: Matrix, weight: np.ndarray, policy: np.ndarray
) -> tuple[np.ndarray, float]:
    """``[P, P]`` ``A^{-1}`` of a policy, and by what factor rounding grows in it (P2); arguments as in ``system``."""
    if is_table(interface, psi):
        return _table_inverse(interface, psi, policy), 1.0
    found = system(interface, psi, weight, policy)
    return found.inverse(), found.condition()


def _table_inverse(interface: InterfaceModel, psi: Matrix, policy: np.ndarray) -> np.ndarray:
    """``[P, P]`` ``A^{-1}`` of tables (P2).

    ``A = I - B C`` but for the scale of coordinates, with ``B`` the rows of ``P^g_phi`` at live pairs and
    ``C`` the greedy pair of each interface, both with entries of 0 or more: ``A^{-1} = I + B (I - C B)^{-1} C`` is
    found without a subtraction.
    """
    one = sparse.csc_array(psi)
    pairs, root = one.indices, 1 / one.data
    live = np.flatnonzero(interface.mask.any(axis=1))
    column = np.empty(psi.shape[0], int)
    column[pairs] = np.arange(len(pairs))
    chosen = column[greedy_rows(interface, policy)[live]]
    rows = as_dense(interface.discounted[pairs][:, live])
    factors = Elimination.killed(rows[chosen], interface.killing.reshape(-1)[pairs[chosen]])
    ahead = factors.solve(np.eye(len(live) + 1)[:, 1:])[1:]
    out = np.eye(len(pairs))
    out[:, chosen] += root[:, None] * (rows @ ahead) / root[chosen]
    return out


def is_small(psi: Matrix) -> bool:
    """Whether square arrays over the parameters, and tables of all features, are affordable."""
    return bool(psi.shape[1] <= PARAMETERS and psi.shape[0] * psi.shape[1] <= ENTRIES)


def relative_fixed_point(interface: InterfaceModel, psi: Matrix, weight: np.ndarray, q: np.ndarray) -> RelativeSolution:
    """The fixed point of ``Pi T_phi`` near a table, by policy iteration from its greedy options (D7).

    Args:
      interface: the interface model.
      psi: ``[Z*O, P]`` d-orthonormal features of the class.
      weight: ``[Z*O]`` ``d(z, o)``.
      q: ``[Z, O]`` the fixed point, or a table near it.

    Returns:
      The solution; ``q`` itself, not settled, where policies do not settle or a solver fails.
    """
    evaluate = _tables(interface) if is_table(interface, psi) else _features(interface, psi, weight)
    mask, every, given = interface.mask, np.arange(len(q)), as_given(interface, q)
    policy = given.policy
    for _ in range(ROUNDS):
        try:
            level, rest = evaluate(policy)
        except (ValueError, np.linalg.LinAlgError):
            break
        if not np.isfinite(level) or not np.isfinite(rest).all():
            break
        masked = np.where(mask, rest, -np.inf)
        top, size = masked.max(axis=1), float(np.abs(rest).max())
        better = mask.any(axis=1) & (top > masked[every, policy] + LEAD * size)
        if not better.any():
            return RelativeSolution(level, rest, policy, True)
        policy = np.where(better, masked.argmax(axis=1), policy)
    return given


def as_given(interface: InterfaceModel, q: np.ndarray) -> RelativeSolution:
    """A table ``[Z, O]`` without a level."""
    masked = np.where(interface.mask, q, -np.inf)
    return RelativeSolution(0.0, np.where(interface.mask, q, 0.0), masked.argmax(axis=1), False)


Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]


def _tables(interface: InterfaceModel) -> Evaluate:
    """``Q`` of a policy as a level and the rest, right in every entry."""
    mask = interface.mask
    decides = np.asarray(mask.any(axis=1))

    def evaluate(policy: np.ndarray) -> tuple[float, np.ndarray]:
        level, rest = relative_value(
            interface.reward, interface.discounted, policy, decides, len(policy) > DIRECT_LIMIT, interface.killing
        )
        return level, np.where(mask, backup(_lowered(interface, level), interface.discounted, rest, mask), 0.0)

    return evaluate


def _features(interface: InterfaceModel, psi: Matrix, weight: np.ndarray) -> Evaluate:
    """The projected ``Q`` of a policy as a level and the rest."""

    def evaluate(policy: np.ndarray) -> tuple[float, np.ndarray]:
        found = system(interface, psi, weight, policy)
        theta = np.linalg.solve(found.matrix, found.turn.T @ (psi.T @ (weight * interface.reward.reshape(-1))))
        level = float(theta[0] * found.one)
        if found.one:
            theta[0] = 0.0
        return level, (psi @ (found.turn @ theta)).reshape(interface.mask.shape)

    return evaluate


def lost_digits(
    interface: InterfaceModel, project: Callable[[np.ndarray], np.ndarray], found: RelativeSolution
) -> float:
    """Estimate of the relative error of temporal differences at a table that was not solved for; 0 if it was.

    Its residual is what their mean is off by; the size of the table is what its entries are rounded to.
    """
    if found.settled:
        return 0.0
    values = found.rest[interface.mask]
    size = max(float(np.ptp(values)), float(np.abs(interface.reward).max()), interface.model.reward_noise)
    residual = float(np.abs(project(backed_up(interface, found)) - found.rest).max())
    return (AMPLIFIED * residual + TABLE * float(np.abs(values).max())) / size if size else 0.0


def _lowered(interface: InterfaceModel, level: float) -> np.ndarray:
    """``[Z, O]`` ``r_phi - level (1 - gbar)``."""
    return interface.reward - level * interface.killing


def backed_up(interface: InterfaceModel, found: RelativeSolution) -> np.ndarray:
    """``[Z, O]`` ``T_phi (level + rest) - level``, 0 outside the mask (D5)."""
    value = np.where(interface.mask, found.rest, -np.inf).max(axis=1)
    value = np.where(interface.mask.any(axis=1), value, 0.0)
    return np.where(
        interface.mask,
        backup(_lowered(interface, found.level), interface.discounted, value, interface.mask),
        0.0,
    )
