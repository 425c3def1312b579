"""Which handoffs to change, what that gains, and how many more runs would settle what is open."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from icsmdp_jax.traces.empirical import Empirical
from icsmdp_jax.traces.evaluation import Estimate, Value
from icsmdp_jax.traces.offline import Offline
from icsmdp_jax.traces.resampling import Resampler, half_width

MOST = 10
MOST_RUNS = 10**9  # beyond which no one will wait


def changes(found: Empirical, resampler: Resampler, offline: Offline, weights: np.ndarray) -> list[dict[str, Any]]:
    """The changes with the most gain, each alone: one interface takes its new option, all others act as before.

    They are picked by the gain to first order, the visits under the old policy times the advantage; gains are exact in
    the model, with intervals over the resamples.
    """
    here = resampler.solver(found.weights[None])
    old = here.behaviour_on_pairs[0]
    value = here.values(old)[0]
    step = here.square(here.discounted, old[None])[0]
    visits = np.linalg.solve(np.eye(len(step)) - step.T, here.start[0])
    z, choice = found.interface, offline.choice
    q = here.pair_values(value[None])[0, found.number[np.arange(len(z)), choice[z]]]
    gain = np.bincount(z, visits * (q - value))
    behaviour = found.behaviour()
    different = behaviour[np.arange(found.num_interfaces), choice] < 1
    picked = [int(i) for i in np.argsort(-gain, kind="stable") if different[i] and gain[i] > 0][:MOST]
    kept = [np.where(z[found.pair_state] == i, found.pair_option == choice[i], old) for i in picked]
    alone = [here.policy_value(one[None])[0] - here.policy_value(old[None])[0] for one in kept]
    draws = np.zeros((len(weights), len(picked)))
    done = 0
    for solver in resampler.solvers(weights):
        now = solver.behaviour_on_pairs
        before = solver.policy_value(now)
        for column, i in enumerate(picked):
            one = np.where(z[found.pair_state] == i, found.pair_option == choice[i], now)
            draws[done : done + len(now), column] = solver.policy_value(one) - before
        done += len(now)
    half = half_width(draws, found.num_units, found.log.config.confidence)
    rows = [_change(found, offline, behaviour, i, alone[c], float(half[c])) for c, i in enumerate(picked)]
    return sorted(rows, key=lambda row: -row["gain"]["value"])


def _change(
    found: Empirical, offline: Offline, behaviour: np.ndarray, i: int, gain: float, half: float
) -> dict[str, Any]:
    log, option = found.log, int(offline.choice[i])
    now = np.argsort(-behaviour[i], kind="stable")
    return {
        "agent": log.agent_name[int(log.agent[found.leader[np.searchsorted(found.interface, i)]])],
        "interface": found.interface_names[i],
        "now": {log.option_name[o]: float(behaviour[i, o]) for o in now if behaviour[i, o] > 0},
        "then": log.option_name[option],
        "gain": Estimate(float(gain), float(gain - half), float(gain + half))._asdict(),
        "segments": int(offline.support.segments[i, option]),
        "effective_runs": float(offline.support.effective[i, option]),
    }


def more_runs(runs: int, difference: float, half: float) -> int | None:
    """Runs beyond ``runs`` after which an interval of half-width ``half`` would leave 0 out; None if too many."""
    if abs(difference) > half or half < 1e-9:
        return 0
    if difference == 0 or half / abs(difference) > math.sqrt(MOST_RUNS / runs):
        return None
    return math.ceil(runs * ((half / difference) ** 2 - 1))


def open_questions(
    found: Empirical, offline: Offline, q: np.ndarray, draws: np.ndarray, weight: np.ndarray
) -> list[dict[str, Any]]:
    """Interfaces whose best two options cannot be told apart, by what is at stake.

    Args:
      found: the counts.
      offline: the new policy.
      q: ``[Z, O]`` ``Q_phi``, minus infinity where an option was never taken.
      draws: ``[B, Z, O]`` the same of resamples.
      weight: ``[Z]`` share of the handoffs at each interface.
    """
    log, out = found.log, []
    masked = np.where(offline.support.supported & np.isfinite(q), q, -np.inf)
    for i in np.flatnonzero(np.isfinite(masked).sum(axis=1) > 1):
        best, second = np.argsort(-masked[i], kind="stable")[:2]
        apart = float(q[i, best] - q[i, second])
        half = float(half_width(draws[:, i, best] - draws[:, i, second], found.num_units, log.config.confidence))
        if apart > half:
            continue
        out.append({
            "interface": found.interface_names[i], "best": log.option_name[best], "second": log.option_name[second],
            "difference": Estimate(apart, apart - half, apart + half)._asdict(), "share_of_handoffs": float(weight[i]),
            "most_at_stake": float(weight[i] * (half - apart)), "more_runs": more_runs(log.num_runs, apart, half),
        })  # fmt: skip
    return sorted(out, key=lambda row: -row["most_at_stake"])


def untried(found: Empirical, offline: Offline) -> list[dict[str, Any]]:
    """Options that were offered and taken too rarely to be judged."""
    log = found.log
    usable = found.state >= 0
    offered = np.zeros(found.taken.shape, bool)
    np.logical_or.at(offered, found.interface[found.state[usable]], log.offered[usable])
    rare = offered & (offline.support.segments < log.config.support)
    total = offline.support.segments.sum(axis=1)
    rows = [
        {
            "interface": found.interface_names[i], "option": log.option_name[o],
            "segments": int(offline.support.segments[i, o]), "of": int(total[i]),
        }
        for i, o in np.argwhere(rare)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["of"])


def to_settle(found: Empirical, value: Value, questions: list[dict[str, Any]]) -> dict[str, Any]:
    """How many more runs would show the gain of the new policy, and tell apart what is open."""
    gains = {"model": value.gain_model, "doubly_robust": value.gain_robust}
    out: dict[str, Any] = {
        f"gain_by_{name}": more_runs(value.runs, gain.value, (gain.high - gain.low) / 2) for name, gain in gains.items()
    }
    needed = [row["more_runs"] for row in questions if row["more_runs"] is not None]
    half = sorted(needed)[(len(needed) - 1) // 2] if needed else 0
    return out | {
        "half_of_the_open": half,
        "all_of_the_open": None if len(needed) < len(questions) else max([0, *needed]),
    }
