"""A decision process listed outcome by outcome, as a model of one agent whose options last one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from icsmdp_jax.models.arrays import SUM_TOLERANCE, Array, first, integers
from icsmdp_jax.models.tabular import TabularModel


class Outcomes(NamedTuple):
    """What can follow, one entry each, in any order; ``E`` entries.

    Attributes:
      row: ``[E]`` int, the pair ``state * O + option``.
      target: ``[E]`` int, state entered.
      probability: ``[E]``.
      reward: ``[E]`` what the transition pays.
    """

    row: Array
    target: Array
    probability: Array
    reward: Array


def single_agent(
    outcomes: Outcomes,
    available: Array,
    gamma: float,
    *,
    place: Callable[[int, int], str],
    interface: Any = None,
    rate: Array | None = None,
    terminal: Array | None = None,
    start: Array | None = None,
) -> TabularModel:
    """A model from its outcomes (D1): one agent, ``tau = 1``.

    Args:
      outcomes: entries of pairs that are not available are ignored.
      available: ``[S, O]`` bool.
      gamma: discount per action.
      place: what the source calls the law of a pair, for error messages.
      interface: ``[S]`` what the agent sees; the state itself if None.
      rate: ``[S, O]`` reward of each pair; if None, ``lump_reward_next`` pays the transitions.
      terminal: ``[S]`` bool.
      start: ``[S]`` start law.

    Returns:
      The model, as successor lists.

    Raises:
      ValueError: in one line.
    """
    count, options = available.shape
    sees = np.arange(count) if interface is None else integers("interface", interface, (count,))
    decides = np.ones(count, bool) if terminal is None else ~terminal
    idle = decides & ~available.any(axis=1)
    if idle.any():
        raise ValueError(f"state {first(idle)[0]}: no action is available, expected at least one")
    used = (available & decides[:, None]).reshape(-1)
    outcomes = Outcomes(*(part[used[outcomes.row]] for part in outcomes))
    _check_laws(outcomes, used, lambda row: place(row // options, row % options))
    successor, probability, reward = _listed(count * options, outcomes)
    shape = (count, options, -1)
    return TabularModel(
        reward_rate=np.zeros((count, options)) if rate is None else rate,
        lump_reward_next=reward.reshape(shape) if rate is None else None,
        agent=np.zeros(count, np.int32),
        interface=sees,
        gamma=gamma,
        successor=successor.reshape(shape),
        probability=probability.reshape(shape),
        duration=np.ones((count, options, 1)),
        available=_by_interface(available, sees, decides),
        terminal=terminal,
        start=start,
    )


def _check_laws(outcomes: Outcomes, used: Array, name: Callable[[int], str]) -> None:
    """Rows of probabilities, named as the source names them."""
    bad = ~(outcomes.probability >= 0)
    if bad.any():
        k = first(bad)[0]
        raise ValueError(
            f"{name(int(outcomes.row[k]))}: probability {outcomes.probability[k]} of state {outcomes.target[k]}, "
            f"expected 0 or more"
        )
    total = np.bincount(outcomes.row, weights=outcomes.probability, minlength=len(used))
    off = used & ~(np.abs(total - 1) <= SUM_TOLERANCE)
    if off.any():
        row = first(off)[0]
        raise ValueError(f"{name(row)}: the probabilities sum to {total[row]:.9g}, expected 1")


def _listed(rows: int, outcomes: Outcomes) -> tuple[Array, Array, Array]:
    """``[rows, W]`` next states, probabilities and rewards, with as many places as the fullest row needs."""
    order = np.argsort(outcomes.row, kind="stable")
    row = outcomes.row[order]
    counts = np.bincount(row, minlength=rows)
    rank = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
    width = max(int(counts.max(initial=0)), 1)

    def table(values: Array, kind: type) -> Array:
        out: Array = np.zeros((rows, width), kind)
        out[row, rank] = values[order]
        return out

    return table(outcomes.target, np.int32), table(outcomes.probability, float), table(outcomes.reward, float)


def _by_interface(available: Array, interface: Array, decides: Array) -> Array | None:
    """``[Z, O]`` options of each interface; None if all of them are available everywhere."""
    states = np.flatnonzero(decides)
    if available[states].all():
        return None
    labels, leader = np.unique(interface[states], return_index=True)
    head = states[leader][np.searchsorted(labels, interface[states])]
    apart = (available[states] != available[head]).any(axis=1)
    if apart.any():
        s, other = int(states[apart][0]), int(head[apart][0])
        raise ValueError(
            f"interface[{s}] = {interface[s]}: shared with state {other}, where other actions are available; "
            f"expected the same actions behind one interface"
        )
    out = np.ones((int(interface.max()) + 1, available.shape[1]), bool)
    out[interface[states]] = available[states]
    return out
