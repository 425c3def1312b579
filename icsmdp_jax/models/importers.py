"""Decision processes of other libraries as models: one agent, every option lasts one primitive step.

By default the agent sees the state itself; with ``interface=`` it sees less, and the rest of the package measures what
that costs. Probabilities and rewards are copied entry by entry, as successor lists: nothing is averaged that the
source keeps apart. A reward of minus infinity means that an action is not available, as in QuantEcon.

Sources: the table ``env.unwrapped.P`` of Gymnasium's toy text environments, and the arrays that
``quantecon.markov.DiscreteDP`` and ``mdptoolbox.mdp`` take. None of these libraries is needed.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from icsmdp_jax.core.arguments import expect, of_type
from icsmdp_jax.models.arrays import Array, check_shape, first, integers, place, real
from icsmdp_jax.models.outcomes import Outcomes, single_agent
from icsmdp_jax.models.tabular import TabularModel


def from_gym(P: Any, gamma: float = 0.99, *, start: Any = None, interface: Any = None) -> TabularModel:
    """The table ``P[s][a] = [(probability, next state, reward, done), ...]`` of Gymnasium's toy text environments.

    A transition that is done ends the episode. It leads to a terminal state: the next state itself if nothing else
    leads there (its own loops aside), otherwise a copy of it, numbered after all the others. A state without actions is
    terminal, and an action without entries is not available.

    Args:
      P: the table, dictionaries or lists, states and actions numbered from 0.
      gamma: discount per action.
      start: where an episode begins: a state, or a law ``[S]`` over the states of the table; if None, and any state is
        terminal, uniform over those that decide.
      interface: ``[S]`` what the agent sees in each state of the table; the state itself if None.

    Returns:
      The model; ``lump_reward_next`` pays each transition.

    Raises:
      ValueError: in one line, if an entry is not of that form or the table is not a decision process.

    Example:
      >>> import icsmdp_jax as ic
      >>> stay, end = (1.0, 0, 0.0, False), (1.0, 1, 1.0, True)
      >>> ic.from_gym({0: {0: [stay], 1: [end]}, 1: {}}, gamma=0.9).num_states
      2
    """
    table = _table(P)
    count = len(table)
    options = max(max(row, default=-1) for row in table) + 1
    if not options:
        raise ValueError("P: no state has an action, expected at least one")
    entries = [
        (s * options + a, *_entry(f"P[{s}][{a}][{k}]", entry, count))
        for s, row in enumerate(table)
        for a, listed in row.items()
        for k, entry in enumerate(listed)
    ]
    row, probability, target, reward, done = (np.array(column) for column in zip(*entries, strict=True))
    available = np.zeros((count, options), bool)
    available.reshape(-1)[row] = True
    begins = np.zeros(count) if start is None else _start(start, count)
    possible = probability > 0
    goes_on = possible & ~done & (row // options != target)
    visited = (begins > 0) | (np.bincount(target[goes_on], minlength=count) > 0)
    ending = np.bincount(target[possible & done], minlength=count) > 0
    terminal = (ending & ~visited) | ~available.any(axis=1)
    copied = np.flatnonzero(ending & ~terminal)
    end = np.arange(count)
    end[copied] = count + np.arange(len(copied))
    if start is None:
        begins = ~terminal / max((~terminal).sum(), 1)
    original = np.append(np.arange(count), copied)
    terminal = np.append(terminal, np.ones(len(copied), bool))
    episodic = bool(terminal.any())
    return single_agent(
        Outcomes(row, np.where(done, end[target], target), probability, reward),
        available[original],
        gamma,
        place=lambda s, a: f"P[{s}][{a}]",
        interface=None if interface is None else integers("interface", interface, (count,))[original],
        terminal=terminal if episodic else None,
        start=np.append(begins, np.zeros(len(copied))) if episodic or start is not None else None,
    )


def from_quantecon(
    R: Any, Q: Any, beta: float, s_indices: Any = None, a_indices: Any = None, *, interface: Any = None
) -> TabularModel:
    """The arguments of ``quantecon.markov.DiscreteDP``, in product form or by state-action pairs.

    Args:
      R: ``[S, A]`` rewards, minus infinity where an action is not available; ``[L]`` by pairs.
      Q: ``[S, A, S]`` transition probabilities; ``[L, S]`` by pairs, dense or a SciPy sparse matrix.
      beta: discount per action, below 1.
      s_indices: ``[L]`` states of the pairs.
      a_indices: ``[L]`` actions of the pairs.
      interface: ``[S]`` what the agent sees in each state; the state itself if None.

    Returns:
      The model; ``reward_rate`` is the reward, since every action lasts one step.

    Raises:
      ValueError: in one line.

    Example:
      >>> import icsmdp_jax as ic
      >>> ic.from_quantecon(R=[[1.0, 0.0]], Q=[[[1.0], [1.0]]], beta=0.9).num_options
      2
    """
    expect("a number in [0, 1)", beta=beta)
    if (s_indices is None) != (a_indices is None):
        absent = "s_indices" if s_indices is None else "a_indices"
        raise ValueError(f"{absent}: missing, expected both s_indices and a_indices or neither")
    if s_indices is None:
        rewards = _rewards("R", real("R", R, (None, None)))
        count, options = rewards.shape
        moves = sparse.coo_array(real("Q", Q, (count, options, count)).reshape(-1, count))
        row = np.arange(count * options)
    else:
        listed = _rewards("R", real("R", R, (None,)))
        matrix = Q if sparse.issparse(Q) else real("Q", Q, (len(listed), None))
        check_shape("Q", matrix, (len(listed), None))
        moves, count = sparse.coo_array(matrix), matrix.shape[1]
        states = integers("s_indices", s_indices, listed.shape, count)
        actions = integers("a_indices", a_indices, listed.shape)
        options = int(actions.max()) + 1
        row = states.astype(np.int64) * options + actions
        _each_once(row, states, actions)
        rewards = np.full((count, options), -np.inf)
        rewards.reshape(-1)[row] = listed
    pair = np.zeros(count * options, np.int64)
    pair[row] = np.arange(len(row))
    available = np.isfinite(rewards)
    by_pair = s_indices is not None
    return single_agent(
        Outcomes(row[moves.row], moves.col, moves.data, np.zeros(moves.nnz)),
        available,
        float(beta),
        place=lambda s, a: f"Q[{pair[s * options + a]}]" if by_pair else f"Q[{s}, {a}]",
        interface=interface,
        rate=np.where(available, rewards, 0.0),
    )


def from_mdptoolbox(P: Any, R: Any, gamma: float, *, interface: Any = None) -> TabularModel:
    """The arguments of ``mdptoolbox.mdp``: a transition matrix for each action, and rewards in one of three shapes.

    Args:
      P: ``[A, S, S]`` transition probabilities, or a sequence of ``A`` matrices, dense or SciPy sparse.
      R: ``[S]`` by state, ``[S, A]`` by state and action, or ``[A, S, S]`` by transition, as an array or, like ``P``,
        as a sequence of ``A`` matrices. Minus infinity where an action is not available.
      gamma: discount per action.
      interface: ``[S]`` what the agent sees in each state; the state itself if None.

    Returns:
      The model; ``lump_reward_next`` pays transitions, ``reward_rate`` the other two shapes.

    Raises:
      ValueError: in one line.

    Example:
      >>> import icsmdp_jax as ic
      >>> ic.from_mdptoolbox(P=[[[0.0, 1.0], [1.0, 0.0]]], R=[0.0, 1.0], gamma=0.9).num_states
      2
    """
    matrices = _matrices("P", P)
    options, count = len(matrices), matrices[0].shape[0]
    parts = [sparse.coo_array(matrix) for matrix in matrices]
    row = np.concatenate([part.row.astype(np.int64) * options + a for a, part in enumerate(parts)])
    target, probability = (np.concatenate([getattr(part, name) for part in parts]) for name in ("col", "data"))
    rate, paid = None, np.zeros(len(row))
    if _by_transition(R):
        rewards = _matrices("R", R)
        if len(rewards) != options or rewards[0].shape != (count, count):
            found = [len(rewards), *rewards[0].shape]
            raise ValueError(f"R: expected shape [{options}, {count}, {count}] like P, found {found}")
        ends = [_entries(one, part.row, part.col) for one, part in zip(rewards, parts, strict=True)]
        for a, (values, part) in enumerate(zip(ends, parts, strict=True)):
            _rewards(f"R[{a}]", values, part.row, part.col)
        paid = np.concatenate(ends)
        available = np.ones((count, options), bool)
        available.reshape(-1)[row[np.isneginf(paid)]] = False
    else:
        rate = real("R", R.toarray() if sparse.issparse(R) else R, (count,) if np.ndim(R) == 1 else (count, options))
        rate = np.broadcast_to(_rewards("R", rate if rate.ndim == 2 else rate[:, None]), (count, options))
        available = np.isfinite(rate)
        rate = np.where(available, rate, 0.0)
    return single_agent(
        Outcomes(row, target, probability, paid),
        available,
        gamma,
        place=lambda s, a: f"P[{a}, {s}]",
        interface=interface,
        rate=rate,
    )


def _table(P: Any) -> list[dict[int, Sequence[Any]]]:
    """``P`` as one dictionary of entries by action for each state."""
    out = []
    for s in _numbered("P", P, gaps=False):
        row = P[s]
        entries = {a: row[a] for a in _numbered(f"P[{s}]", row, gaps=True)}
        of_type(Sequence | np.ndarray, "a list of outcomes", **{f"P[{s}][{a}]": one for a, one in entries.items()})
        out.append({a: one for a, one in entries.items() if len(one)})
    if not out:
        raise ValueError("P: no states, expected at least one")
    return out


def _numbered(name: str, rows: Any, gaps: bool) -> list[int]:
    """The keys of a dictionary or the indices of a sequence, which number the entries from 0."""
    of_type(Mapping | Sequence | np.ndarray, "a dictionary or a list", **{name: rows})
    if not isinstance(rows, Mapping):
        return list(range(len(rows)))
    for key in rows:
        if not isinstance(key, numbers.Integral) or int(key) < 0 or (not gaps and int(key) >= len(rows)):
            raise ValueError(f"{name}: key {key!r}, expected whole numbers from 0{'' if gaps else ' without gaps'}")
    return sorted(int(key) for key in rows)


def _entry(name: str, entry: Any, count: int) -> tuple[float, int, float, bool]:
    try:
        probability, target, reward, done = entry
        found = float(probability), int(target), float(reward), bool(done)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} = {entry!r}: expected (probability, next state, reward, done)") from None
    if found[1] != target or not 0 <= target < count:
        raise ValueError(f"{name}: next state {target}, expected 0 to {count - 1}")
    if not math.isfinite(found[2]):
        raise ValueError(f"{name}: reward {reward}, expected a finite number")
    return found


def _start(start: Any, count: int) -> Array:
    if isinstance(start, numbers.Integral):
        if not 0 <= int(start) < count:
            raise ValueError(f"start = {start}: expected 0 to {count - 1}")
        return np.eye(count)[int(start)]
    return real("start", start, (count,))


def _each_once(row: Array, states: Array, actions: Array) -> None:
    _, leader, group = np.unique(row, return_index=True, return_inverse=True)
    again = np.flatnonzero(leader[group] != np.arange(len(row)))
    if len(again):
        k = int(again[0])
        raise ValueError(
            f"s_indices[{k}], a_indices[{k}] = {states[k]}, {actions[k]}: the pair of entry {leader[group[k]]} too, "
            f"expected each pair once"
        )


def _matrices(name: str, value: Any) -> list[Any]:
    """A matrix for each action, all square and of one size."""
    if sparse.issparse(value):
        raise ValueError(f"{name}: found one sparse matrix, expected one for each action")
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        check_shape(name, value, (None, None, None))
    of_type(Sequence | np.ndarray, "a matrix for each action", **{name: value})
    out: list[Any] = []
    for a, matrix in enumerate(value):
        one = matrix if sparse.issparse(matrix) else real(f"{name}[{a}]", matrix, (None, None))
        count = out[0].shape[0] if out else one.shape[0]
        if one.shape != (count, count):
            raise ValueError(f"{name}[{a}]: expected shape [{count}, {count}], found {list(one.shape)}")
        out.append(one)
    if not out:
        raise ValueError(f"{name}: no matrices, expected one for each action")
    return out


def _by_transition(rewards: Any) -> bool:
    """Whether rewards come as a matrix for each action."""
    if sparse.issparse(rewards):
        return False
    if isinstance(rewards, np.ndarray) and rewards.dtype.kind != "O":
        return rewards.ndim == 3
    of_type(Sequence | np.ndarray, "rewards [S], [S, A] or [A, S, S]", R=rewards)
    return len(rewards) > 0 and len(np.shape(rewards[0])) == 2


def _entries(matrix: Any, row: Array, column: Array) -> Array:
    """The entries of a dense or sparse matrix at the given places."""
    chosen = sparse.csr_matrix(matrix)[row, column] if sparse.issparse(matrix) else matrix[row, column]
    return np.asarray(chosen, np.float64).reshape(-1)


def _rewards(name: str, values: Array, *index: Array) -> Array:
    """``values``, unless one is NaN or plus infinity; ``index`` says where they were taken from."""
    bad = np.isnan(values) | np.isposinf(values)
    if bad.any():
        at = first(bad)
        where = place(name, tuple(part[at[0]] for part in index) if index else at)
        raise ValueError(f"{where} = {values[at]}: expected a number, or minus infinity where there is no such action")
    return values
