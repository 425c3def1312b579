"""Constants of theorem N: two-layer nets with a trained hidden layer, kept near their start (N1 to N3, N+).

One net for each agent and option, ``Q_delta(z, o) = m^(-1/2) sum_r b_r relu((w_r + delta_r) . x(z))``, whose start is
symmetric (``w_(r + m/2) = w_r``, ``b_(r + m/2) = -b_r``), so that ``Q_0 = 0``. Its linearisation at the start is
``Q^0_delta = psi . delta``. Everything here is computed from the drawn start itself; no law of the start is assumed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from icsmdp_jax.exact.fixed_point import bellman
from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.poisson import ClassBounds


@dataclasses.dataclass(frozen=True, eq=False)
class NetStart:
    """A drawn start with the interfaces that its nets read.

    Attributes:
      interface: the interface model.
      x: ``[Z, dim]`` descriptions of length at most 1.
      hidden: ``[N, O, m, dim]`` hidden weights, symmetric.
      sign: ``[m]`` output signs, +1 in the first half and -1 in the second.
    """

    interface: InterfaceModel
    x: np.ndarray
    hidden: np.ndarray
    sign: np.ndarray

    @cached_property
    def owner(self) -> np.ndarray:
        """``[Z]`` int, owner of each interface; 0 where nothing is decided."""
        return np.where(self.interface.mask.any(axis=1), self.interface.model.interface_agent, 0)

    @cached_property
    def activation(self) -> np.ndarray:
        """``[Z, O, m]`` ``w_r . x(z)``."""
        return np.einsum("zord,zd->zor", self.hidden[self.owner], self.x, optimize=True)

    @cached_property
    def length(self) -> np.ndarray:
        """``[Z]`` ``|x(z)|``."""
        return np.linalg.norm(self.x, axis=1)

    @property
    def width(self) -> int:
        """Units ``m`` of each net."""
        return len(self.sign)

    @cached_property
    def _owned(self) -> list[np.ndarray]:
        """The interfaces of each agent."""
        return [np.flatnonzero(self.owner == agent) for agent in range(len(self.hidden))]

    @cached_property
    def _slope(self) -> np.ndarray:
        """``[Z, O, m]`` output weight of each unit that is active at the start, else 0; 0 off the mask."""
        slope = (self.activation > 0) * self.sign / np.sqrt(self.width)
        return np.where(self.interface.mask[:, :, None], slope, 0.0)

    def _moved(self, delta: np.ndarray) -> np.ndarray:
        """``[Z, O, m]`` ``delta_r . x(z)``."""
        return np.matmul(delta[self.owner], self.x[:, None, :, None])[..., 0]

    def linear(self, delta: np.ndarray) -> np.ndarray:
        """``[Z, O]`` the linearisation ``Q^0_delta``; 0 off the mask."""
        return (self._moved(delta) * self._slope).sum(axis=2)

    def net(self, delta: np.ndarray) -> np.ndarray:
        """``[Z, O]`` the nets themselves, ``Q_delta``; 0 off the mask."""
        table = (np.maximum(self.activation + self._moved(delta), 0) * self.sign).sum(axis=2) / np.sqrt(self.width)
        return np.where(self.interface.mask, table, 0.0)

    def gradient(self, table: np.ndarray) -> np.ndarray:
        """``[N, O, m, dim]`` ``sum_(z, o) table(z, o) psi(z, o)``: the transpose of ``linear``."""
        pull = np.where(self.interface.mask, table, 0.0)[:, :, None] * self._slope
        out = np.zeros(self.hidden.shape)
        for agent, rows in enumerate(self._owned):
            out[agent] = np.einsum("zor,zd->ord", pull[rows], self.x[rows])
        return out

    def per_unit(self, delta: np.ndarray, radius: float) -> np.ndarray:
        """``delta`` with every unit brought back to the ball of that radius."""
        return delta * (radius / np.maximum(_lengths(delta), radius))[..., None] if radius > 0 else 0.0 * delta


def _lengths(delta: np.ndarray) -> np.ndarray:
    """``[N, O, m]`` Euclidean length of what each unit holds."""
    return np.sqrt(np.einsum("aord,aord->aor", delta, delta))


def draw_start(interface: InterfaceModel, x: np.ndarray, width: int, rng: np.random.Generator) -> NetStart:
    """Standard normal hidden weights, mirrored (theorem N).

    Args:
      interface: the interface model.
      x: ``[Z, dim]`` descriptions of length at most 1.
      width: an even number of units.
      rng: source of randomness.

    Raises:
      ValueError: for an odd width, or descriptions longer than 1.
    """
    if width < 2 or width % 2:
        raise ValueError(f"width = {width}: expected an even number of units, 2 or more")
    longest = np.linalg.norm(x, axis=1)
    if (longest > 1 + 1e-9).any():
        z = int(longest.argmax())
        raise ValueError(f"x[{z}] has length {longest[z]:.6g}: expected at most 1")
    shape = (interface.model.num_agents, interface.mask.shape[1], width // 2, x.shape[1])
    half = rng.standard_normal(shape)
    sign = np.repeat([1.0, -1.0], width // 2)
    return NetStart(interface, np.asarray(x, np.float64), np.concatenate([half, half], axis=2), sign)


def linearisation_error(start: NetStart, radius: float) -> np.ndarray:
    """``[Z, O]`` ``e_f``: the largest ``|Q_delta - Q^0_delta|`` with every unit within ``radius`` of its start (N2).

    ``m^(-1/2) max_s sum_(b_r = s) (radius |x| - |w_r . x|)_+``.
    """
    reach = radius * start.length[:, None, None] - np.abs(start.activation)
    sums = [np.maximum(reach[:, :, start.sign == s], 0).sum(axis=2) for s in (1.0, -1.0)]
    return np.where(start.interface.mask, np.maximum(*sums) / np.sqrt(start.width), 0.0)


def gradient_error(start: NetStart, radius: float, target: np.ndarray) -> np.ndarray:
    """``[Z, O]`` ``e_h``: the largest ``|(grad Q_delta - psi) . (delta - target)|`` under balls per unit (N2).

    Args:
      start: the drawn start.
      radius: of the balls around its units.
      target: ``[N, O, m, dim]`` the parameters ``delta_C``.
    """
    activation = start.activation
    side = np.where(activation > 0, 1.0, -1.0)
    near = np.abs(activation) <= radius * start.length[:, None, None]
    pull = side * np.einsum("zord,zd->zor", target[start.owner], start.x, optimize=True)
    full = np.where(near, radius * start.length[:, None, None] + pull, 0.0)
    other = np.where(near, np.maximum(-np.abs(activation) - pull, 0.0), 0.0)
    sums = [full[:, :, start.sign == s].sum(axis=2) + other[:, :, start.sign == -s].sum(axis=2) for s in (1.0, -1.0)]
    return np.where(start.interface.mask, np.maximum(*sums) / np.sqrt(start.width), 0.0)


def frobenius_errors(start: NetStart, radius: float, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``e_f`` and a bound on ``e_h``, ``[Z, O]``, with each whole net within ``radius`` of its start (N2)."""
    root = np.sqrt(start.width)
    reach = radius * start.length[:, None, None]
    errors = []
    for s in (1.0, -1.0):
        ordered = np.sort(np.abs(start.activation[:, :, start.sign == s]), axis=2)
        count = np.arange(1, ordered.shape[2] + 1)
        errors.append(np.maximum(np.sqrt(count) * reach - np.cumsum(ordered, axis=2), 0.0).max(axis=2))
    whole = np.sort(np.abs(start.activation), axis=2)
    flipped = (np.cumsum(whole**2, axis=2) <= reach**2).sum(axis=2)
    pull = -np.sort(-np.abs(np.einsum("zord,zd->zor", target[start.owner], start.x, optimize=True)), axis=2)
    largest = np.concatenate([np.zeros((*pull.shape[:2], 1)), np.cumsum(pull, axis=2)], axis=2)
    most = np.take_along_axis(largest, flipped[:, :, None], axis=2)[:, :, 0]
    mask = start.interface.mask
    return (
        np.where(mask, np.maximum(*errors) / root, 0.0),
        np.where(mask, (np.sqrt(flipped) * reach[:, :, 0] + most) / root, 0.0),
    )


def net_bounds(start: NetStart, radius: float, target: np.ndarray, solution: np.ndarray) -> ClassBounds:
    """Bounds over all nets whose units stay within ``radius`` of their start, for N+.

    Args:
      start: the drawn start.
      radius: of the balls around its units.
      target: ``[N, O, m, dim]`` the parameters ``delta_C``.
      solution: ``[Z, O]`` the table ``Q_C`` that they give.
    """
    mask, root = start.interface.mask, np.sqrt(start.width)
    length = start.length[:, None]
    ball = radius * start.length[:, None, None]
    half = start.activation[:, :, start.sign > 0]
    value = (np.maximum(half + ball, 0) - np.maximum(half - ball, 0)).sum(axis=2) / root
    gradient = length * np.sqrt((start.activation > -ball).mean(axis=2))
    feature = length * np.sqrt((start.activation > 0).mean(axis=2))
    linear = radius * length * (start.activation > 0).sum(axis=2) / root
    reach = linear + np.abs(solution) + gradient_error(start, radius, target)
    options = mask.shape[1]
    block = np.where(mask, start.owner[:, None] * options + np.arange(options), 0)
    value, gradient, feature, reach = (np.where(mask, table, 0.0) for table in (value, gradient, feature, reach))
    return ClassBounds(value, gradient, feature, reach, block)


class NetTarget(NamedTuple):
    """What projected neural IC-Q is compared with.

    Attributes:
      delta: ``[N, O, m, dim]`` parameters ``delta_C`` within the balls.
      table: ``[Z, O]`` ``Q_C``, the linearisation at ``delta_C``.
      slack: by how much the variational inequality of the fixed point is missed; 0 for an exact one (N3).
    """

    delta: np.ndarray
    table: np.ndarray
    slack: float


def least_radius(start: NetStart, table: np.ndarray, tolerance: float = 1e-6) -> tuple[float, np.ndarray]:
    """Smallest ball per unit whose linearised nets give a table, found numerically, and parameters in it (theorem N).

    A problem in as many unknowns as a block has interfaces. The radius returned suffices; where the search ends early
    it is within ``tolerance`` of the least one.

    Args:
      start: the drawn start.
      table: ``[Z, O]`` the values to be met on the mask.
      tolerance: relative distance to the least radius at which the search ends.

    Returns:
      The radius and ``[N, O, m, dim]`` parameters.

    Raises:
      ValueError: if the features of the start cannot represent the table.
    """
    delta = np.zeros(start.hidden.shape)
    for agent, option, rows, active in _blocks(start):
        found = _flattest(active, start.x[rows], table[rows, option], tolerance)
        if found is None:
            raise ValueError(
                f"table: the {start.width} features of agent {agent} and option {option} cannot represent it, "
                "expected more units"
            )
        delta[agent, option] = found
    return float(np.linalg.norm(delta, axis=3).max()), delta


def interpolant(start: NetStart, table: np.ndarray, radius: float) -> np.ndarray | None:
    """``[N, O, m, dim]`` parameters within balls of that radius whose linearised nets give a table; None if none do.

    Where the least radius is within a millionth of ``radius`` the answer may be None although there are some.
    """
    delta = np.zeros(start.hidden.shape)
    for agent, option, rows, active in _blocks(start):
        found = _flattest(active, start.x[rows], table[rows, option], 1e-6, radius)
        if found is None or np.linalg.norm(found, axis=1).max() > radius:
            return None
        delta[agent, option] = found
    return delta


def _blocks(start: NetStart) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Agent, option, its interfaces ``[n]``, and ``[n, m]`` output weights where units are active, else 0."""
    agents, options = start.hidden.shape[:2]
    for agent, option in itertools.product(range(agents), range(options)):
        rows = np.flatnonzero((start.owner == agent) & start.interface.mask[:, option])
        if len(rows):
            yield agent, option, rows, (start.activation[rows, option] > 0) * start.sign / np.sqrt(start.width)


def _flattest(
    active: np.ndarray, x: np.ndarray, wanted: np.ndarray, tolerance: float, enough: float = 0.0
) -> np.ndarray | None:
    """``[m, dim]`` parameters that meet ``wanted`` with a largest unit close to the least one; None if none do.

    Any whose units are all within ``enough`` will do, and none are sought once it is known that there are none. The
    dual is the least ``sum_r |A_r^T v|`` over ``v . wanted = 1``, a sum of lengths, and Weiszfeld's iteration
    descends on it. At its minimum ``delta_r`` points along ``A_r^T v`` and all units are equally long.
    """
    gram = x @ x.T
    if not np.abs(wanted).any():
        return np.zeros((active.shape[1], x.shape[1]))
    weight = np.ones(active.shape[1])
    best, largest = None, np.inf
    for _ in range(500):
        dual = np.linalg.lstsq((active * weight) @ active.T * gram, wanted, rcond=1e-13)[0]
        pull = np.einsum("nr,n,nd->rd", active, dual, x, optimize=True)
        size = np.linalg.norm(pull, axis=1)
        found = weight[:, None] * pull
        reached = float(np.linalg.norm(found, axis=1).max())
        met = np.einsum("nr,nd,rd->n", active, x, found, optimize=True)
        if reached < largest and np.abs(met - wanted).max() <= 1e-8 * (1 + np.abs(wanted).max()):
            best, largest = found, reached
        least = float(dual @ wanted / max(size.sum(), np.finfo(float).tiny))  # below it no units meet the table
        if largest <= max(least * (1 + tolerance), enough) or 0 < enough < least:
            break
        weight = 1 / np.maximum(size, 1e-9 * size.max())
    return best


def projected_target(
    start: NetStart, radius: float, first: np.ndarray, kappa: float, rounds: int = 20_000, tolerance: float = 1e-9
) -> NetTarget:
    """``Q_C``: the fixed point of the projected operator on the linearised nets, found numerically (N3).

    Iterates the mean update ``delta <- Pi(delta + eta E_d[(T_phi Q - Q) psi])``, whose fixed points are those of
    ``Pi_C T_phi``; by how much the result misses the variational inequality is returned as ``slack``.

    Args:
      start: the drawn start.
      radius: of the balls around its units.
      first: ``[N, O, m, dim]`` where to begin.
      kappa: certificate of A6, below 1.
      rounds: limit.
      tolerance: on ``slack``.
    """
    eta = (1 - kappa) / ((1 + kappa) ** 2 * _largest_eigenvalue(start))
    return _settled(start, radius, first, eta, lambda table: bellman(start.interface, table) - table, rounds, tolerance)


def nearest(
    start: NetStart, radius: float, table: np.ndarray, first: np.ndarray, rounds: int = 20_000, tolerance: float = 1e-9
) -> np.ndarray:
    """``[Z, O]`` ``Pi_C table``: what the linearised nets come closest to a table with, in ``||.||_d`` (N3).

    Arguments are those of ``projected_target``.
    """
    eta = 1 / _largest_eigenvalue(start)
    return _settled(start, radius, first, eta, lambda found: table - found, rounds, tolerance).table


def _settled(
    start: NetStart,
    radius: float,
    first: np.ndarray,
    eta: float,
    change: Callable[[np.ndarray], np.ndarray],
    rounds: int,
    tolerance: float,
) -> NetTarget:
    """The best of the iterates ``Pi(delta + eta E_d[change psi])``, by ``sup_f <change, f - Q>_d`` over the class."""
    weight = np.where(start.interface.mask, start.interface.pair_weight, 0.0)
    delta = start.per_unit(first, radius)
    found = NetTarget(delta, start.linear(delta), np.inf)
    for turn in range(rounds):
        table = start.linear(delta)
        moved = weight * np.where(start.interface.mask, change(table), 0.0)
        pull = start.gradient(moved)
        if turn % 10 == 0:
            slack = float(radius * _lengths(pull).sum() - np.sum(moved * table))
            if slack < found.slack:
                found = NetTarget(delta, table, max(slack, 0.0))
            if slack <= tolerance:
                break
        delta = start.per_unit(delta + eta * pull, radius)
    return found


def _largest_eigenvalue(start: NetStart) -> float:
    """No less than the largest eigenvalue of ``E_d[psi psi^T]``: the largest sum over a block of ``d |psi|^2``."""
    size = start.length[:, None] ** 2 * (start.activation > 0).mean(axis=2)
    sums = np.zeros((start.hidden.shape[0], size.shape[1]))
    np.add.at(sums, start.owner, np.where(start.interface.mask, start.interface.pair_weight * size, 0.0))
    return float(sums.max())


def residual_constants(start: NetStart, radius: float, target: NetTarget) -> tuple[float, float, float]:
    """``||e_f||_d``, ``||e_h||_d`` and ``c_C`` of theorem N, the slack of a numerical target included.

    ``c_C = E_d[|beta(s, o)| e_h(phi(s), o)]`` with ``beta`` the Bellman residual of ``Q_C`` on states.
    """
    interface = start.interface
    first, second = linearisation_error(start, radius), gradient_error(start, radius, target.delta)
    value = np.where(interface.mask, target.table, -np.inf).max(axis=1, initial=-np.inf)
    value = np.where(np.isfinite(value), value, 0.0)
    mean = interface.moments.reward_mean + (interface.lifted_discounted @ value).reshape(interface.moments.used.shape)
    residual = np.abs(mean - interface.lift(target.table))
    keep = interface.decision_pairs
    weight = interface.chain.stationary[:, None] * interface.lift(interface.chain.behaviour)
    cost = float((weight * residual * interface.lift(second))[keep].sum())
    return interface.norm(first), interface.norm(second), cost + target.slack
