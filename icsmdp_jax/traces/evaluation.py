"""What a new handoff policy is worth, in three ways: by the model, by importance sampling, and doubly robust.

Runs are weighed per decision: with ``rho_k`` the probability of the option taken under the new policy over that under
the old one, ``w_k = rho_0 ... rho_k`` and ``G_k = gamma^(tau_0 + ... + tau_(k-1))``, a run gives
``sum_k G_k w_k R_k`` (Precup, Sutton, Singh 2000), and, with the model's values of the new policy,
``V(s_0) + sum_k G_k w_k (R_k + gamma^tau_k V(s_(k+1)) - Q(s_k, o_k))`` (Jiang, Li 2016). Where a run
is cut off, or the weights rest on too few runs, the model's value stands in for the rest.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from icsmdp_jax.traces.empirical import Empirical
from icsmdp_jax.traces.encode import END
from icsmdp_jax.traces.resampling import Resampler, Solver, half_width

FEWEST = 10.0  # effective runs below which weights are not used


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float

    @property
    def open(self) -> bool:
        """Whether the interval has 0 in it."""
        return self.low <= 0.0 <= self.high


class Weighed(NamedTuple):
    """What each run says of a policy, ``[runs]``; only runs that are known from their start.

    Attributes:
      runs: ``[r]`` their numbers.
      sampled: importance sampling.
      robust: doubly robust.
      beyond: the part of ``sampled`` that is the model's value of what lies beyond a cut.
      handoffs: number of handoffs that are weighed before the effective number of runs gets too small.
    """

    runs: np.ndarray
    sampled: np.ndarray
    robust: np.ndarray
    beyond: np.ndarray
    handoffs: int


def weighed(found: Empirical, ratio: np.ndarray, value: np.ndarray, q: np.ndarray, fewest: float = FEWEST) -> Weighed:
    """Importance sampling and its doubly robust form for every run.

    Args:
      found: the counts.
      ratio: ``[n]`` ``rho`` of each line.
      value: ``[S]`` the model's values of the new policy.
      q: ``[n]`` the model's values of the option taken on each line, under the new policy afterwards.
      fewest: effective number of runs, ``(sum w)^2 / sum w^2``, below which weights are not used.
    """
    log = found.log
    use = np.flatnonzero(log.from_start & (found.state >= 0))
    use = use[np.argsort(log.step[use], kind="stable")]
    bounds = np.searchsorted(log.step[use], np.arange(int(log.step[use].max(initial=0)) + 2))
    weight, discount = np.ones(log.num_runs), np.ones(log.num_runs)
    sampled, robust, beyond = (np.zeros(log.num_runs) for _ in range(3))
    begins = use[: bounds[1]]
    robust[log.run[begins]] = value[found.state[begins]]
    handoffs = 0
    for first, last in zip(bounds, bounds[1:], strict=False):
        now = use[first:last]
        known = log.known[now]
        step = now[known]
        after = weight[log.run[step]] * ratio[step]
        effective = after.sum() ** 2 / max(float((after**2).sum()), 1e-300)
        if effective < fewest:
            known = np.zeros(len(now), bool)
        cut = now[~known]
        rest = weight[log.run[cut]] * discount[log.run[cut]] * value[found.state[cut]]
        beyond[log.run[cut]] += rest
        if effective < fewest:
            break
        handoffs += 1
        run, reward = log.run[step], log.rate[step] + log.lump[step]
        carried = found.gamma ** log.tau[step].astype(float)
        ends = log.follows[step] == END
        ahead = np.where(ends, 0.0, value[found.state[log.follows[step]]])
        weight[run] = after
        sampled[run] += after * discount[run] * reward
        robust[run] += after * discount[run] * (reward + carried * ahead - q[step])
        discount[run] *= carried
    runs = log.run[begins]
    return Weighed(runs, (sampled + beyond)[runs], robust[runs], beyond[runs], handoffs)


class Value(NamedTuple):
    """The value of the new policy from the start of a run, and that of the old one.

    Attributes:
      current: mean discounted return of the runs as they were.
      model, sampled, robust: the new policy's value by the three ways.
      gain_model, gain_robust: what it gains over the old one.
      differences: pairs of ways, and their difference with an interval.
      ratio: mean of ``rho`` over all segments, which is 1 up to noise if the logged probabilities are right.
      beyond: share of the importance sampling estimate that lies beyond a cut, hence is the model's.
      handoffs: handoffs that are weighed.
      runs: that are known from their start.
    """

    current: Estimate
    model: Estimate
    sampled: Estimate
    robust: Estimate
    gain_model: Estimate
    gain_robust: Estimate
    differences: dict[str, Estimate]
    ratio: Estimate
    beyond: float
    handoffs: int
    runs: int

    @property
    def probabilities_fit(self) -> bool:
        """Whether options were taken as often as their probabilities say."""
        return self.ratio.low <= 1.0 <= self.ratio.high

    @property
    def disagree(self) -> list[str]:
        """Pairs of ways that differ by more than their interval."""
        return [name for name, difference in self.differences.items() if not difference.open]


def importance_ratio(found: Empirical, policy: np.ndarray) -> np.ndarray:
    """``[n]`` ``rho``: logged probabilities where there are any, else shares of the options at the interface; 0 where
    nothing is known."""
    log, behaviour = found.log, found.behaviour()
    inside = found.state >= 0
    z = np.where(inside, found.interface[np.maximum(found.state, 0)], 0)
    share = np.where(np.isnan(log.probability), behaviour[z, log.option], log.probability)
    return np.where(inside & (share > 0), policy[z, log.option] / np.where(share > 0, share, 1.0), 0.0)


def evaluate(found: Empirical, resampler: Resampler, choice: np.ndarray, weights: np.ndarray) -> Value:
    """The value of the policy ``choice [Z]`` in three ways.

    Args:
      found: the counts.
      resampler: that of the counts.
      choice: ``[Z]`` option of each interface.
      weights: ``[B, runs]`` of the bootstrap.
    """
    log, confidence = found.log, found.log.config.confidence
    policy = np.eye(found.taken.shape[1])[choice]
    here = resampler.solver(found.weights[None])
    chosen = here.on_pairs(policy)
    values = []
    for pairs, ratio in ((chosen, importance_ratio(found, policy)), (here.behaviour_on_pairs, np.ones(len(log.run)))):
        value = here.values(pairs)[0]
        values.append((weighed(found, ratio, value, _taken(found, here, value)), here.policy_value(pairs)[0]))
    (new, model), (old, model_old) = values
    drawn, drawn_old = _draws(resampler, chosen, weights)
    runs = len(new.runs)
    share = weights[:, new.runs] / weights[:, new.runs].sum(axis=1, keepdims=True)

    def by_model(value: float, some: np.ndarray, level: float = confidence) -> Estimate:
        half = float(half_width(some, runs, level))
        return Estimate(float(value), float(value - half), float(value + half))

    def by_runs(some: np.ndarray) -> Estimate:
        half = float(
            stats.t.ppf((1 + confidence) / 2, max(runs - 1, 1)) * some.std(ddof=min(1, runs - 1)) / np.sqrt(runs)
        )
        return Estimate(float(some.mean()), float(some.mean() - half), float(some.mean() + half))

    joint = 1 - (1 - confidence) / 2  # both differences at once (Bonferroni)
    differences = {
        f"model and {name}": by_model(model - some.mean(), drawn - share @ some, joint)
        for name, some in (("importance sampling", new.sampled), ("doubly robust", new.robust))
    }
    total = float(np.abs(new.sampled).sum())
    known = np.flatnonzero(log.known)
    ratio, lines = importance_ratio(found, policy)[known], np.bincount(log.run[known], minlength=log.num_runs)
    sums = np.bincount(log.run[known], ratio, log.num_runs)
    return Value(
        current=by_runs(old.sampled), model=by_model(model, drawn), sampled=by_runs(new.sampled),
        robust=by_runs(new.robust), gain_model=by_model(model - model_old, drawn - drawn_old),
        gain_robust=by_runs(new.robust - old.sampled), differences=differences,
        ratio=by_model(ratio.mean(), (weights @ sums) / (weights @ lines), joint),
        beyond=float(np.abs(new.beyond).sum()) / total if total else 0.0, handoffs=new.handoffs, runs=runs,
    )  # fmt: skip


def _draws(resampler: Resampler, chosen: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[B]`` values of the new and of the old policy in the resampled models."""
    parts = [
        (solver.policy_value(chosen), solver.policy_value(solver.behaviour_on_pairs))
        for solver in resampler.solvers(weights)
    ]
    return np.concatenate([new for new, _ in parts]), np.concatenate([old for _, old in parts])


def _taken(found: Empirical, here: Solver, value: np.ndarray) -> np.ndarray:
    """``[n]`` the model's value of the option that each line took; 0 where that is not known."""
    table = np.zeros((found.num_states, found.taken.shape[1]))
    table[found.pair_state, found.pair_option] = here.pair_values(value)
    return np.where(found.state >= 0, table[np.maximum(found.state, 0), found.log.option], 0.0)
