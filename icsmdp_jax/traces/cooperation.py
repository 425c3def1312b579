"""Handoffs to read patterns from: those of a log with its fit, or simulated from a model and what agents learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from icsmdp_jax.exact.moments import as_dense, kernel_moments
from icsmdp_jax.models.tabular import TabularModel, annuities
from icsmdp_jax.traces.empirical import Empirical
from icsmdp_jax.traces.log import Log
from icsmdp_jax.traces.patterns import END, NOBODY, Handoffs
from icsmdp_jax.traces.record import drawn, segments


def simulated(
    model: TabularModel,
    q: np.ndarray,
    behaviour: np.ndarray,
    runs: int = 200,
    longest: int = 50,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Handoffs:
    """Runs of a model, with the values that agents offer and the next agent that these favour.

    A run is solved if it ends and its rewards, undiscounted, sum to more than 0.

    Args:
      model: the IC-SMDP.
      q: ``[Z, O]`` the agents' values.
      behaviour: ``[Z, O]`` probabilities of options.
      runs: how many.
      longest: handoffs after which a run is cut.
      seed: of the simulation.
      names: of the agents; the model's, or numbers, if None.
    """
    rng, end = np.random.default_rng(seed), model.is_terminal
    start = np.where(end, 0.0, 1.0 if model.start is None else model.start)
    best = np.where(model.option_mask, q, -np.inf)
    value = np.where(model.option_mask.any(axis=1), best.max(axis=1), np.nan)
    member = np.eye(model.num_agents)[model.agent] * ~end[:, None]
    reached = as_dense(kernel_moments(model).probability @ member).reshape(model.num_states, model.num_options, -1)
    preferred, chance = wanted(reached, model.option_mask[model.interface], best.argmax(axis=1)[model.interface])
    annuity = annuities(model.gamma, model.longest_duration)
    active, state = np.arange(runs), rng.choice(model.num_states, runs, p=start / start.sum())
    rows = []
    for step in range(longest):
        z = model.interface[state]
        option = drawn(behaviour[z], rng)
        tau, entered, place = segments(model, state, option, rng)
        reward = model.reward_rate[state, option] * annuity[tau - 1]
        if model.lump is not None:
            lump = model.lump[state, option]
            reward = reward + model.gamma ** (tau - 1.0) * (
                lump[:, 0] if lump.shape[1] == 1 else lump[np.arange(len(state)), place]
            )
        over = end[entered]
        follower = np.where(over, END, model.agent[entered])
        offered = np.where(over, np.nan, value[model.interface[entered]])
        rows.append((
            active, np.full(len(active), step), model.agent[state], z, option, follower, tau, reward, offered,
            preferred[state], chance[state],
        ))  # fmt: skip
        active, state = active[~over], entered[~over]
        if not len(active):
            break
    run, steps, *columns = map(np.concatenate, zip(*rows, strict=True))
    order = np.lexsort((steps, run))
    if names is None:
        names = range(model.num_agents) if model.agent_name is None else model.agent_name  # type: ignore[assignment]
    assert names is not None
    return complete(list(map(str, names)), run[order], *(column[order] for column in columns))


def logged(log: Log, found: Empirical, q: np.ndarray, choice: np.ndarray) -> Handoffs:
    """The known segments of a log.

    Args:
      log: the log.
      found: its counts.
      q: ``[Z, O]`` values; minus infinity where an option is not available.
      choice: ``[Z]`` option that the values name, as far as the log supports it.
    """
    rows = np.flatnonzero(log.known)
    z, option, agents = found.interface[found.state[rows]], log.option[rows], len(log.agent_name)
    over = log.follows[rows] < 0
    after = np.where(over, 0, log.follows[rows])
    follower = np.where(over, END, log.agent[after])
    counts = np.zeros((*found.taken.shape, agents + 1))
    np.add.at(counts, (z, option, follower), 1)  # the end is the last one
    share = counts / np.maximum(counts.sum(axis=2, keepdims=True), 1)
    preferred, chance = wanted(share[..., :agents], found.taken, choice)
    state = found.state[after]
    offered = np.where(over | (state < 0), np.nan, q.max(axis=1)[found.interface[np.maximum(state, 0)]])
    run = np.unique(log.run[rows], return_inverse=True)[1]
    reward = log.rate[rows] + log.lump[rows]
    return complete(
        log.agent_name, run, log.agent[rows], z, option, follower, log.tau[rows], reward, offered, preferred[z],
        chance[z],
    )  # fmt: skip


def complete(names: Sequence[str], run: np.ndarray, *columns: Any) -> Handoffs:
    """``Handoffs`` of columns in its order; a run is solved if it ends and its rewards sum to more than 0."""
    follower, reward = columns[3], columns[5]
    solved = (np.bincount(run, follower == END) > 0) & (np.bincount(run, reward) > 0)
    return Handoffs._make((tuple(names), run, *columns, solved))


def wanted(reached: np.ndarray, mask: np.ndarray, choice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Agent to which the chosen option leads most often, and how often a blind choice leads to it.

    Args:
      reached: ``[X, O, N]`` probabilities of the next agent.
      mask: ``[X, O]`` bool, options available.
      choice: ``[X]`` option that the values name.

    Returns:
      ``NOBODY`` where the chosen option mostly ends the run, or leads there no more often than blind choice.
    """
    row = np.arange(len(choice))
    by_choice = reached[row, choice]
    agent = by_choice.argmax(axis=1)
    blind = (reached[row, :, agent] * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    told = by_choice[row, agent] > np.maximum(1 - by_choice.sum(axis=1), blind + 1e-9)
    return np.where(told, agent, NOBODY), blind
