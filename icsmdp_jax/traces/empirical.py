"""The empirical IC-SMDP of a log: states are all that the log saw, interfaces what the agents saw, laws are counts.

Everything is a weighted count over segments, in which all segments of a unit share a weight: 1 for the log itself, the
number of times that the unit was drawn for a resample. A unit is a run, or some runs one after the other in long logs.
Where an option was taken at an interface but never in one of its states, the law of the interface stands in, which is
all that its agent could know; options that were never taken at an interface are not available in the model.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
from scipy import sparse

from icsmdp_jax.models.tabular import TabularModel, annuities
from icsmdp_jax.traces.encode import END
from icsmdp_jax.traces.log import Log, numbered

LARGEST_KERNEL = 2**22  # entries of [S, O, T, S] up to which durations and next states are kept together
MOST_STATES = 2000
MOST_UNITS = 4000  # weights of all resamples are held at once
NOWHERE = -1


@dataclasses.dataclass(frozen=True, eq=False)
class Empirical:
    """Counts of a log: ``S`` states that decide, ``P`` pairs of state and option, ``C`` cells, all sorted.

    A cell is a pair, a duration and a next state.

    Attributes:
      log: what is counted.
      state: ``[n]`` int, state of each line; ``NOWHERE`` where nothing is known of its interface.
      leader: ``[S]`` int, a line of each state.
      interface: ``[S]`` int, sorted.
      taken: ``[Z, O]`` bool, options of which a segment is known.
      pair_state, pair_option: ``[P]`` int.
      cell_pair, cell_tau, cell_next: ``[C]`` int; the end is state ``S``.
      unit: ``[runs]`` int, unit of each run.
      cells: ``[units, C]`` sparse counts of each unit.
      rates, lumps: ``[units, P]`` sparse sums of the two parts of the reward.
      starts: ``[units, S]`` sparse counts of first states, of runs that are known from their start.
      borrowed: ``[P]`` bool, pairs for which the law of the interface stands in.
    """

    log: Log
    state: np.ndarray
    leader: np.ndarray
    interface: np.ndarray
    taken: np.ndarray
    pair_state: np.ndarray
    pair_option: np.ndarray
    cell_pair: np.ndarray
    cell_tau: np.ndarray
    cell_next: np.ndarray
    unit: np.ndarray
    cells: sparse.csr_array
    rates: sparse.csr_array
    lumps: sparse.csr_array
    starts: sparse.csr_array
    borrowed: np.ndarray

    @property
    def num_states(self) -> int:
        """``S``, without the end."""
        return len(self.interface)

    @property
    def num_interfaces(self) -> int:
        """``Z``, without that of the end."""
        return len(self.taken)

    @property
    def num_units(self) -> int:
        """Units that a bootstrap draws."""
        return int(self.unit.max()) + 1

    @property
    def gamma(self) -> float:
        """Discount per primitive step."""
        return self.log.config.gamma

    @cached_property
    def ends(self) -> bool:
        """Whether some run ended."""
        return bool((self.cell_next == self.num_states).any())

    @cached_property
    def number(self) -> np.ndarray:
        """``[S, O]`` number of each pair; -1 for what is not a pair."""
        out = np.full((self.num_states, self.taken.shape[1]), -1)
        out[self.pair_state, self.pair_option] = np.arange(len(self.pair_state))
        return out

    @cached_property
    def weights(self) -> np.ndarray:
        """``[units]`` ones: the weights of the log itself."""
        return np.ones(self.num_units)

    def discounts(self, last: int = 0) -> np.ndarray:
        """``[C]`` ``gamma^(tau - last)``."""
        return self.gamma ** (self.cell_tau - float(last))

    def by_option(self, values: np.ndarray) -> np.ndarray:
        """``[Z, O]`` sums of ``values [P]`` over the states of each interface."""
        out = np.zeros(self.taken.shape)
        np.add.at(out, (self.interface[self.pair_state], self.pair_option), values)
        return out

    def visits(self, weights: np.ndarray | None = None) -> np.ndarray:
        """``[Z, O]`` known segments."""
        counts = np.bincount(self.cell_pair, self._weighted(self.cells, weights), len(self.pair_state))
        return self.by_option(np.where(self.borrowed, 0.0, counts))

    def behaviour(self, weights: np.ndarray | None = None) -> np.ndarray:
        """``[Z', O]`` share of each option at each interface, that of the end included."""
        visits = self.visits(weights)
        share = visits / visits.sum(axis=1, keepdims=True)
        return np.vstack([share, np.zeros((1, share.shape[1]))]) if self.ends else share

    def model(self, weights: np.ndarray | None = None) -> TabularModel:
        """The empirical IC-SMDP (D1): laws and mean rewards are those of the weighted segments.

        Up to ``LARGEST_KERNEL`` entries durations and next states are kept together, else as independent.
        """
        s, options, longest = self.num_states, self.taken.shape[1], int(self.cell_tau.max())
        total = s + int(self.ends)
        counts = self._weighted(self.cells, weights)
        per_pair = np.bincount(self.cell_pair, counts, len(self.pair_state))
        law = counts / per_pair[self.cell_pair]
        at, o = self.pair_state[self.cell_pair], self.pair_option[self.cell_pair]
        arrays: dict[str, np.ndarray] = {}
        if total * options * longest * total <= LARGEST_KERNEL:
            arrays["kernel"] = np.zeros((total, options, longest, total))
            np.add.at(arrays["kernel"], (at, o, self.cell_tau - 1, self.cell_next), law)
        else:
            arrays |= self._listed(law, total, longest)
        rate = np.zeros((total, options))
        lump = np.zeros((total, options))
        where = (self.pair_state, self.pair_option)
        rate[where], lump[where] = self.payments(weights)
        if lump.any():
            arrays["lump_reward"] = lump
        if self.ends:
            arrays["terminal"] = np.arange(total) == s
        noise = np.sqrt(3 * self._noise(rate, lump)) if weights is None else 0.0
        return TabularModel(
            reward_rate=rate, gamma=self.gamma, reward_noise=float(noise), start=self.start(weights),
            **self._described(total), **arrays,
        )  # fmt: skip

    def payments(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``[P]`` reward rate and lump that give the mean rewards of the segments their durations."""
        counts = self._weighted(self.cells, weights)
        annuity = annuities(self.gamma, int(self.cell_tau.max()))[self.cell_tau - 1]
        pairs = len(self.pair_state)
        rate = self._weighted(self.rates, weights) / np.bincount(self.cell_pair, counts * annuity, pairs)
        last = np.bincount(self.cell_pair, counts * self.discounts(1), pairs)  # 0 for long segments at gamma 0
        return rate, self._weighted(self.lumps, weights) / np.where(last > 0, last, 1.0)

    def start(self, weights: np.ndarray | None = None) -> np.ndarray:
        """``[S']`` law of the first state of a run."""
        counts = self._weighted(self.starts, weights)
        return np.append(counts, [0.0] * int(self.ends)) / counts.sum()

    def _weighted(self, table: sparse.csr_array, weights: np.ndarray | None) -> np.ndarray:
        return np.asarray(table.T @ (self.weights if weights is None else weights))

    def _listed(self, law: np.ndarray, total: int, longest: int) -> dict[str, np.ndarray]:
        """Successor lists and laws of durations, independent of each other."""
        options = self.taken.shape[1]
        duration = np.zeros((total, options, longest))
        at, o = self.pair_state[self.cell_pair], self.pair_option[self.cell_pair]
        np.add.at(duration, (at, o, self.cell_tau - 1), law)
        code = numbered(self.cell_pair, self.cell_next)
        first = np.unique(code, return_index=True)[1]
        mass, pair, following = np.bincount(code, law), self.cell_pair[first], self.cell_next[first]
        place = np.arange(len(pair)) - np.searchsorted(pair, pair)
        successor = np.zeros((total, options, int(place.max()) + 1), np.int32)
        probability = np.zeros(successor.shape)
        index = (self.pair_state[pair], self.pair_option[pair], place)
        successor[index], probability[index] = following, mass
        return {"duration": duration, "successor": successor, "probability": probability}

    def _noise(self, rate: np.ndarray, lump: np.ndarray) -> float:
        """Variance of the reward about its mean given state, option and duration, pooled."""
        log, known = self.log, self.log.known
        s, o, tau = self.state[known], log.option[known], log.tau[known]
        paid = rate[s, o] * annuities(self.gamma, int(tau.max()))[tau - 1] + lump[s, o] * self.gamma ** (tau - 1.0)
        left = log.rate[known] + log.lump[known] - paid
        return float((left**2).sum()) / max(len(left) - int((~self.borrowed).sum()), 1)

    def _described(self, total: int) -> dict[str, np.ndarray]:
        """Who decides where, what it sees, and names of everything."""
        log, s = self.log, self.num_states
        agent = np.append(log.agent[self.leader], np.zeros(total - s, np.int64))
        interface = np.append(self.interface, np.full(total - s, self.num_interfaces))
        available = np.vstack([self.taken, np.ones((total - s, self.taken.shape[1]), bool)])
        out = {
            "agent": agent, "interface": interface, "available": available, "agent_name": np.array(log.agent_name),
            "option_name": np.array(log.option_name),
            "interface_name": np.array(self.interface_names + ["end"] * (total - s)),
            "state_name": np.array([self._text(line, None) for line in self.leader] + ["end"] * (total - s)),
        }  # fmt: skip
        if log.field_name:
            fields = np.vstack([log.fields[self.leader], np.zeros((total - s, len(log.field_name)), np.int64)])
            out |= {"fields": fields, "field_name": np.array(log.field_name), "visible": log.visible}
        return out

    @cached_property
    def interface_names(self) -> list[str]:
        """What each interface shows, in words."""
        first = np.searchsorted(self.interface, np.arange(self.num_interfaces))
        return [self._text(line, self.log.visible[self.log.agent[line]]) for line in self.leader[first]]

    def _text(self, line: int, shown: np.ndarray | None) -> str:
        log = self.log
        said = [
            f"{name} {log.labels[f][log.fields[line, f]]}"
            for f, name in enumerate(log.field_name)
            if shown is None or shown[f]
        ]
        return f"{log.agent_name[log.agent[line]]}: {', '.join(said)}" if said else log.agent_name[log.agent[line]]


def empirical(log: Log) -> Empirical:
    """Counts the segments of a log.

    Raises:
      ValueError: in one line, if there are too many states, or fewer than two runs are known from their start.
    """
    seen = np.where(log.visible[log.agent], log.fields, 0)
    interface = numbered(log.agent, seen)
    alive = np.zeros(int(interface.max()) + 1, bool)
    alive[interface[log.known]] = True
    usable = np.flatnonzero(alive[interface])
    interface = np.unique(interface[usable], return_inverse=True)[1].reshape(-1)
    code = numbered(interface, log.fields[usable])
    leader = np.unique(code, return_index=True)[1]
    count = len(leader)
    if count > MOST_STATES:
        raise ValueError(
            f"the fields make up {count} states, expected at most {MOST_STATES}: list fewer fields, or wider bins"
        )
    state = np.full(len(log.run), NOWHERE)
    state[usable] = code
    known = np.flatnonzero(log.known)
    following = np.where(log.follows[known] == END, count, state[log.follows[known]])
    taken = np.zeros((int(interface.max()) + 1, len(log.option_name)), bool)
    of_state = interface[leader]
    taken[of_state[state[known]], log.option[known]] = True
    pair_state, pair_option = np.nonzero(taken[of_state])
    number = np.full((count, taken.shape[1]), -1)
    number[pair_state, pair_option] = np.arange(len(pair_state))
    pair = number[state[known], log.option[known]]
    cell = numbered(pair, log.tau[known], following)
    first = np.unique(cell, return_index=True)[1]
    unit = np.arange(log.num_runs)
    if log.num_runs > MOST_UNITS:
        unit = unit * MOST_UNITS // log.num_runs
    units, by_unit = int(unit.max()) + 1, unit[log.run[known]]
    borrowed = np.bincount(pair, minlength=len(pair_state)) == 0
    cells, expand_cells = _borrow_cells(
        pair[first], log.tau[known][first], following[first], borrowed, of_state[pair_state], pair_option
    )
    expand_pairs = _borrow_pairs(borrowed, of_state[pair_state], pair_option)
    begins = usable[(log.step[usable] == 0)]
    if len(begins) < 2:
        found = "no run is" if not len(begins) else "only one run is"
        raise ValueError(f"{found} known from its start, by a line with step 0 that can be used: expected 2 or more")

    def table(columns: np.ndarray, width: int, values: np.ndarray | None = None) -> sparse.csr_array:
        entries = np.ones(len(columns)) if values is None else values
        return sparse.csr_array((entries, (by_unit, columns)), shape=(units, width))

    return Empirical(
        log=log, state=state, leader=usable[leader], interface=of_state, taken=taken, pair_state=pair_state,
        pair_option=pair_option, cell_pair=cells[0], cell_tau=cells[1], cell_next=cells[2], unit=unit,
        cells=sparse.csr_array(table(cell, len(first)) @ expand_cells),
        rates=sparse.csr_array(table(pair, len(pair_state), log.rate[known]) @ expand_pairs),
        lumps=sparse.csr_array(table(pair, len(pair_state), log.lump[known]) @ expand_pairs),
        starts=sparse.csr_array((np.ones(len(begins)), (unit[log.run[begins]], state[begins])), shape=(units, count)),
        borrowed=borrowed,
    )  # fmt: skip


def _borrow_pairs(borrowed: np.ndarray, interface: np.ndarray, option: np.ndarray) -> sparse.csr_array:
    """``[P, P]`` that adds to each borrowed pair what the other pairs of its interface and option have."""
    group = numbered(interface, option)
    lenders, takers = np.flatnonzero(~borrowed), np.flatnonzero(borrowed)
    size, groups = len(borrowed), int(group.max()) + 1
    lend = sparse.csr_array((np.ones(len(lenders)), (lenders, group[lenders])), shape=(size, groups))
    take = sparse.csr_array((np.ones(len(takers)), (group[takers], takers)), shape=(groups, size))
    return sparse.csr_array(sparse.eye_array(size) + lend @ take)


def _borrow_cells(
    pair: np.ndarray,
    tau: np.ndarray,
    following: np.ndarray,
    borrowed: np.ndarray,
    interface: np.ndarray,
    option: np.ndarray,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], sparse.csr_array]:
    """Cells with those of borrowed pairs among them, sorted; and the matrix that takes counts of cells to theirs."""
    group = numbered(interface, option)
    takers = np.flatnonzero(borrowed)
    by_group = np.argsort(group[takers], kind="stable")
    takers = takers[by_group]
    low = np.searchsorted(group[takers], group[pair], side="left")
    high = np.searchsorted(group[takers], group[pair], side="right")
    lender = np.repeat(np.arange(len(pair)), high - low)
    offset = np.arange(len(lender)) - np.repeat(np.cumsum(high - low) - (high - low), high - low)
    taker = takers[np.repeat(low, high - low) + offset]
    source = np.concatenate([np.arange(len(pair)), lender])
    target = np.concatenate([pair, taker]), tau[source], following[source]
    code = numbered(*target)
    first = np.unique(code, return_index=True)[1]
    expand = sparse.csr_array((np.ones(len(source)), (source, code)), shape=(len(pair), len(first)))
    return (target[0][first], target[1][first], target[2][first]), expand
