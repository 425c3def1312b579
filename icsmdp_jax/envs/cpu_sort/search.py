"""Shortest sorting programs by exhaustive search, on the host: length, number, the programs, and distances to go.

All ``n!`` runs go through the same instructions, so a joint state is the list of what each run holds: its registers
and flags. Two facts keep the search exact and small.

* Only the *multiset* of the runs' states matters: the runs share their goal, so exchanging two of them changes nothing
  that can still happen. Joint states are therefore sorted, packed into one integer and merged.
* The same program must sort any two runs at once, so the distance of a pair of runs, known for all pairs from a
  backward search, is a lower bound on the distance of the joint state. A joint state is dropped only if its depth plus
  the largest of these bounds exceeds the length that is being tried. A run that has lost a value is infinitely far.

Lengths are tried one after the other, each by breadth-first search, so the first at which a joint state is sorted is
the shortest, and every program of that length is a path in the layers found: a shortest program visits each joint state
at that state's own depth. Two programs are distinct if their instruction sequences are; ``cmp b a`` counts in addition
to ``cmp a b`` only on request (see ``machine.instructions``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from icsmdp_jax.envs.cpu_sort import machine

FAR = 255  # distance of what cannot be sorted
PUBLISHED_LENGTH = {2: 4, 3: 11, 4: 20}  # shortest lengths in the literature, for reference; nothing here uses them


class SingleRun(NamedTuple):
    """The machine on one run, as a table over ``K`` states (registers and flags) plus one for a lost value.

    Attributes:
      instruction: ``[I, 3]`` the instructions.
      registers: ``[K, n+1]`` contents of the registers, by state.
      flag: ``[K]`` flag, by state.
      successor: ``[I, K+1]`` next state; ``K`` is the state in which a value is lost.
      goal: ``[K+1]`` bool, whether ``r_k = k``.
      start: ``[n!]`` state in which each run starts.
    """

    instruction: np.ndarray
    registers: np.ndarray
    flag: np.ndarray
    successor: np.ndarray
    goal: np.ndarray
    start: np.ndarray

    @property
    def lost(self) -> int:
        """``K``, the state in which a value is lost."""
        return len(self.flag)

    def encode(self, contents: np.ndarray, flags: np.ndarray) -> np.ndarray:
        """States ``[...]`` of runs with registers ``[..., n+1]`` and flags ``[...]``."""
        base = self.registers.shape[1] ** np.arange(self.registers.shape[1])
        code = (np.asarray(contents) @ base) * 3 + np.asarray(flags)
        table = np.full(3 * self.registers.shape[1] ** self.registers.shape[1], self.lost)
        table[(self.registers @ base) * 3 + self.flag] = np.arange(self.lost)
        return table[code]


class Shortest(NamedTuple):
    """What the search finds.

    Attributes:
      length: number of instructions of a shortest correct program.
      programs: number of correct programs of that length.
      layer_sizes: joint states kept at each depth ``1..length``.
    """

    length: int
    programs: int
    layer_sizes: tuple[int, ...]


@lru_cache(maxsize=8)
def single_run(num_values: int, both_orders: bool = False) -> SingleRun:
    """The machine on one run.

    Raises:
      ValueError: unless ``2 <= num_values <= 4``.
    """
    machine.check_size(num_values)
    n, count = num_values, num_values + 1
    every = np.array(list(itertools.product(range(count), repeat=count)))
    whole = (every[:, :, None] == np.arange(1, count)).any(axis=1).all(axis=1)  # every value is in some register
    registers = np.repeat(every[whole], 3, axis=0)
    flag = np.tile(np.arange(3), int(whole.sum()))
    rows = machine.instructions(n, both_orders)
    lost = len(flag)
    run = SingleRun(rows, registers, flag, np.full((len(rows), lost + 1), lost), np.zeros(lost + 1, bool), flag)
    for i, (op, a, b) in enumerate(rows):
        after, after_flag = registers.copy(), flag
        if op == machine.CMP:
            after_flag = np.where(registers[:, a] < registers[:, b], machine.LESS, machine.NO_FLAG)
            after_flag = np.where(registers[:, a] > registers[:, b], machine.GREATER, after_flag)
        else:
            acts = {machine.MOV: flag >= 0, machine.CMOVL: flag == machine.LESS, machine.CMOVG: flag == machine.GREATER}
            after[acts[op], a] = registers[acts[op], b]
        run.successor[i, :lost] = run.encode(after, after_flag)
    run.goal[:lost] = (registers[:, :n] == np.arange(1, count)).all(axis=1)
    first = np.concatenate([machine.permutations(n), np.zeros((len(machine.permutations(n)), 1), int)], axis=1)
    return run._replace(start=run.encode(first, np.zeros(len(first), int)))


def pack(run: SingleRun, joint: np.ndarray) -> np.ndarray:
    """``[...]`` int64 codes of joint states ``[..., n!]``, the same for all orders of the runs."""
    base = np.int64(run.lost) ** np.arange(len(run.start), dtype=np.int64)
    return np.sort(np.asarray(joint, np.int64), axis=-1) @ base


def unpack(run: SingleRun, code: np.ndarray) -> np.ndarray:
    """``[..., n!]`` int16 joint states from their codes, in ascending order of the runs' states."""
    base = np.int64(run.lost) ** np.arange(len(run.start), dtype=np.int64)
    return (code[..., None] // base % run.lost).astype(np.int16)


@lru_cache(maxsize=8)
def pattern_distances(num_values: int, both_orders: bool = False, runs: int = 2) -> np.ndarray:
    """Exact distance to the goal of every combination of a few runs.

    Args:
      num_values: ``n``.
      both_orders: see ``machine.instructions``.
      runs: how many runs the pattern has.

    Returns:
      ``[K+1] * runs`` uint8, ``FAR`` where they cannot all be sorted.
    """
    run = single_run(num_values, both_orders)
    distance = np.full((run.lost + 1,) * runs, FAR, np.uint8)
    distance[np.ix_(*[np.flatnonzero(run.goal)] * runs)] = 0
    for depth in itertools.count():
        before = distance <= depth
        open_states = np.argwhere(distance == FAR)
        reached = np.zeros(len(open_states), bool)
        for successor in run.successor:
            reached |= before[tuple(successor[open_states].T)]
        if not reached.any():
            break
        distance[tuple(open_states[reached].T)] = depth + 1
    return distance


def lower_bound(joint: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """``[M]`` largest pattern distance over all combinations of the runs of joint states ``[M, n!]``."""
    bound = np.zeros(len(joint), np.uint8)
    for chosen in itertools.combinations(range(joint.shape[1]), pattern.ndim):
        np.maximum(bound, pattern[tuple(joint[:, run] for run in chosen)], out=bound)
    return bound


@lru_cache(maxsize=8)
def shortest_programs(num_values: int, both_orders: bool = False, pattern_runs: int = 2) -> Shortest:
    """Length and number of the shortest correct programs, by enumeration.

    Args:
      num_values: 2 or 3.
      both_orders: whether ``cmp a b`` and ``cmp b a`` are different instructions.
      pattern_runs: runs in the lower bound; fewer prune less and give the same answer.

    Returns:
      What was found.

    Raises:
      ValueError: for 4 values, which takes more memory than this search is meant to use.
    """
    if num_values not in (2, 3):
        raise ValueError(f"num_values = {num_values}: exhaustive search is feasible for 2 and 3")
    run = single_run(num_values, both_orders)
    pattern = pattern_distances(num_values, both_orders, pattern_runs)
    for length in itertools.count(int(lower_bound(run.start[None], pattern)[0])):
        layers = list(_layers(run, pattern, length))
        if len(layers) == length:
            code, paths = layers[-1]
            complete = run.goal[unpack(run, code)].all(axis=1)
            if complete.any():
                return Shortest(length, int(paths[complete].sum()), tuple(len(layer[0]) for layer in layers))
    raise AssertionError("unreachable")


def _successors(
    run: SingleRun, pattern: np.ndarray, joint: np.ndarray, depth: int, limit: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every instruction, the rows of ``joint`` kept after it and the joint states entered, at ``depth``."""
    kept = []
    for successor in run.successor:
        after = successor[joint]
        bound = lower_bound(after, pattern)
        keep = np.flatnonzero(bound.astype(int) + depth <= limit)
        if len(keep):
            kept.append((keep, after[keep]))
    return kept


def _layers(run: SingleRun, pattern: np.ndarray, length: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Codes and numbers of paths of the joint states at depths 1, 2, ... that programs of ``length`` may visit."""
    code, paths = pack(run, run.start)[None], np.ones(1, np.int64)
    for depth in range(1, length + 1):
        kept = _successors(run, pattern, unpack(run, code), depth, length)
        if not kept:
            return
        reached = np.concatenate([pack(run, after) for _, after in kept])
        arriving = np.concatenate([paths[rows] for rows, _ in kept])
        code, place = np.unique(reached, return_inverse=True)
        paths = np.zeros(len(code), np.int64)
        np.add.at(paths, place.reshape(-1), arriving)
        yield code, paths
