"""Bootstrap over runs, or units of runs: Q_phi and values of policies of many resampled models at once.

A resample weighs every unit by the number of times it was drawn, plus a little, so that what was seen once stays
possible. Solves are direct, and the definitions those of the exact analysis (D4, D5).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from scipy import sparse, stats

from icsmdp_jax.traces.empirical import Empirical
from icsmdp_jax.traces.log import numbered

LITTLE = 1e-6  # weight of units that were not drawn
ENTRIES = 2**24  # of square arrays that are solved at once
WORK = 2e11  # operations after which fewer resamples have to do
LEAST = 20
ROUNDS = 100


def drawn_weights(units: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """``[B, units]`` weights of resampled units."""
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples) + LITTLE


def affordable(found: Empirical) -> int:
    """Resamples that a model of this size can have."""
    wanted = found.log.config.resamples
    work = 10 * float(found.num_states) ** 3 + 4 * float(found.num_interfaces) ** 3  # some 15 solves of each
    return int(np.clip(WORK / work, min(LEAST, wanted), wanted))


def half_width(draws: np.ndarray, units: int, confidence: float) -> np.ndarray:
    """Half-widths of intervals around an estimate from its bootstrap draws ``[B, ...]``: t with units - 1 degrees."""
    error = draws.std(axis=0, ddof=1) * np.sqrt(units / max(units - 1, 1))
    return error * stats.t.ppf((1 + confidence) / 2, max(units - 1, 1))


@dataclasses.dataclass(frozen=True, eq=False)
class Resample:
    """Some resampled models, solved; everything has a leading axis ``B``.

    Attributes:
      weights: ``[B, S]`` ``w(s|z)``.
      visits: ``[B, Z]`` stationary weight of the interfaces.
      q_phi: ``[B, Z, O]`` interface values, minus infinity where an option was never taken.
    """

    weights: np.ndarray
    visits: np.ndarray
    q_phi: np.ndarray


class Resampler:
    """Solves resampled models of one log; made once."""

    def __init__(self, found: Empirical) -> None:
        self.found = found
        s, pairs = found.num_states, len(found.pair_state)
        self.first = np.searchsorted(found.cell_pair, np.arange(pairs))  # every pair has a cell
        going = found.cell_next < s
        entry = numbered(found.cell_pair[going], found.cell_next[going])
        lead = np.unique(entry, return_index=True)[1]
        self.entry_pair, self.entry_next = found.cell_pair[going][lead], found.cell_next[going][lead]
        shape = (len(found.cell_pair), len(lead))
        cells = np.flatnonzero(going)
        self.to_entry = sparse.csr_array((np.ones(len(cells)), (cells, entry)), shape=shape)
        self.to_discounted = sparse.csr_array((found.discounts()[cells], (cells, entry)), shape=shape)
        at = found.pair_state[self.entry_pair]
        self.to_pair = sparse.csr_array(
            (np.ones(len(lead)), (np.arange(len(lead)), self.entry_pair)), (len(lead), pairs)
        )
        self.to_square = sparse.csr_array(
            (np.ones(len(lead)), (np.arange(len(lead)), at * s + self.entry_next)), shape=(len(lead), s * s)
        )
        zo = numbered(found.interface[found.pair_state], found.pair_option)
        z, o = (found.interface[found.pair_state], found.pair_option)
        first = np.unique(zo, return_index=True)[1]
        self.option_pairs = (z[first], o[first])
        count, interfaces = len(first), found.num_interfaces
        self.to_option = sparse.csr_array((np.ones(pairs), (np.arange(pairs), zo)), shape=(pairs, count))
        column = zo[self.entry_pair] * interfaces + found.interface[self.entry_next]
        self.to_interface = sparse.csr_array(
            (np.ones(len(lead)), (np.arange(len(lead)), column)), shape=(len(lead), count * interfaces)
        )
        self.to_state = sparse.csr_array((np.ones(pairs), (np.arange(pairs), found.pair_state)), shape=(pairs, s))

    def solver(self, weights: np.ndarray) -> Solver:
        """The models of some resamples, ``weights [B, units]``."""
        return Solver(self, weights)

    def solvers(self, weights: np.ndarray) -> Iterator[Solver]:
        """The same in parts that fit into memory, one after the other."""
        found = self.found
        size = found.num_states**2 + len(self.option_pairs[0]) * found.num_interfaces + len(found.cell_pair)
        at_once = max(1, ENTRIES // (4 * size))
        for begin in range(0, len(weights), at_once):
            yield self.solver(weights[begin : begin + at_once])


class Solver:
    """Laws of ``B`` resampled models, and what follows from them."""

    def __init__(self, owner: Resampler, weights: np.ndarray) -> None:
        self.owner, self.found, self.weights = owner, owner.found, weights
        counts = _times(weights, self.found.cells)
        per_pair = np.add.reduceat(counts, owner.first, axis=1)
        cell_law = counts / per_pair[:, self.found.cell_pair]
        self.law, self.discounted = _times(cell_law, owner.to_entry), _times(cell_law, owner.to_discounted)
        self.reward = (_times(weights, self.found.rates) + _times(weights, self.found.lumps)) / per_pair
        own = np.where(self.found.borrowed, 0.0, per_pair)
        per_option = _times(own, owner.to_option)
        z = owner.option_pairs[0]
        per_interface = np.zeros((len(weights), self.found.num_interfaces))
        np.add.at(per_interface.T, z, per_option.T)
        self.behaviour = per_option / per_interface[:, z]  # [B, ZO]
        starts = _times(weights, self.found.starts)
        self.start = starts / starts.sum(axis=1, keepdims=True)

    def on_pairs(self, policy: np.ndarray) -> np.ndarray:
        """``[..., P]`` probabilities of the options of each state from a policy ``[..., Z, O]``."""
        found = self.found
        return policy[..., found.interface[found.pair_state], found.pair_option]

    @cached_property
    def behaviour_on_pairs(self) -> np.ndarray:
        """``[B, P]`` the behaviour policy of each resample."""
        return _times(self.behaviour, sparse.csr_array(self.owner.to_option.T))

    def square(self, law: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """``[B, S, S]`` rows of a policy ``chosen [B, P]`` or ``[P]`` from ``law [B, E]``."""
        s = self.found.num_states
        mixed = law * chosen[..., self.owner.entry_pair]
        return _times(mixed, self.owner.to_square).reshape(-1, s, s)

    def values(self, chosen: np.ndarray) -> np.ndarray:
        """``[B, S]`` values of a policy ``chosen [P]`` or ``[B, P]`` (D3)."""
        reward = _times(self.reward * chosen, self.owner.to_state)
        return _solved(self.square(self.discounted, chosen), reward)

    def pair_values(self, value: np.ndarray) -> np.ndarray:
        """``[B, P]`` values of pairs, given those of the states they lead to, ``[B, S]``."""
        return self.reward + _times(self.discounted * value[:, self.owner.entry_next], self.owner.to_pair)

    def from_start(self, value: np.ndarray) -> np.ndarray:
        """``[B]`` mean of ``value [B, S]`` at the start of a run."""
        return np.einsum("bs,bs->b", self.start, value)

    def policy_value(self, chosen: np.ndarray) -> np.ndarray:
        """``[B]`` value of a policy from the start of a run."""
        return self.from_start(self.values(chosen))

    @cached_property
    def stationary(self) -> np.ndarray:
        """``[B, S]`` stationary law of the behaviour, runs restarted (D4)."""
        step = self.square(self.law, self.behaviour_on_pairs)
        lost = 1 - step.sum(axis=2)
        step = step + lost[:, :, None] * self.start[:, None, :]
        turned = np.eye(step.shape[1]) - step.transpose(0, 2, 1) + 1.0  # the law sums to 1
        return np.maximum(np.linalg.solve(turned, np.ones((*step.shape[:2], 1)))[..., 0], 0.0)

    def interface_values(self, start: np.ndarray) -> Resample:
        """``Q_phi`` by policy iteration from the options ``start [Z]`` (D5)."""
        owner, found = self.owner, self.found
        law, count, z = self.stationary, found.num_interfaces, found.interface
        visits = np.zeros((len(law), count))
        np.add.at(visits.T, z, law.T)
        weights = law / np.where(visits > 0, visits, 1.0)[:, z]
        share = weights[:, found.pair_state]
        reward = _times(share * self.reward, owner.to_option)
        table = _times(share[:, owner.entry_pair] * self.discounted, owner.to_interface)
        table = table.reshape(len(law), -1, count)
        own, o = owner.option_pairs
        number = np.full(found.taken.shape, -1)
        number[own, o] = np.arange(len(own))
        policy = np.broadcast_to(start, (len(law), count))
        batch = np.arange(len(law))[:, None]
        for _ in range(ROUNDS):
            row = number[np.arange(count), policy]
            value = _solved(table[batch, row], reward[batch, row])
            q = np.full((len(law), *found.taken.shape), -np.inf)
            q[:, own, o] = reward + (table @ value[:, :, None])[..., 0]
            current = np.take_along_axis(q, policy[:, :, None], axis=2)[..., 0]
            better = q.max(axis=2) > current + 1e-12 * (1 + np.abs(current))
            if not better.any():
                break
            policy = np.where(better, q.argmax(axis=2), policy)
        return Resample(weights, visits, q)


def _times(rows: np.ndarray, matrix: sparse.csr_array) -> np.ndarray:
    """``rows @ matrix`` as a dense array."""
    return np.ascontiguousarray((matrix.T @ rows.T).T)


def _solved(step: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """``[B, n]`` ``(I - P)^-1 r``."""
    return np.linalg.solve(np.eye(step.shape[1]) - step, reward[..., None])[..., 0]
