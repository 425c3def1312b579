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
from scipy import sparse

from icsmdp_jax.traces.empirical import Empirical
from icsmdp_jax.traces.encode import END
from icsmdp_jax.traces.resampling import Resampler, Solver, half_width

ROUNDING = 1e-9
FEWEST = 10.0  # effective runs below which weights are not used


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float

    @property
    def open(self) -> bool:
        """Whether the interval contains 0."""
        return self.low <= 0.0 <= self.high


class Weighed(NamedTuple):
    """What runs say about a policy, summed over each unit: linear forms in the model's values ``V [S]`` and ``Q [P]``.

    Attributes:
      begins: ``[units]`` number of runs that are known from their start; others add nothing below.
      paid: ``[units]`` sums over runs of ``sum_k G_k w_k R_k``.
      rest: ``[units, S]`` weight of the value of what lies beyond a cut.
      ahead: ``[units, S]`` weight of ``V`` in the doubly robust form, and ``taken [units, P]`` that of ``-Q``.
      handoffs: number of handoffs that are weighed before the effective number of runs gets too small.
    """

    begins: np.ndarray
    paid: np.ndarray
    rest: sparse.csr_array
    ahead: sparse.csr_array
    taken: sparse.csr_array
    handoffs: int

    def sampled(self, weights: np.ndarray, value: np.ndarray) -> np.ndarray:
        """``[B]`` importance sampling estimates from ``weights [B, units]`` and ``value [B, S]``."""
        share = self._share(weights)
        return share @ self.paid + np.einsum("bs,bs->b", share @ self.rest, value)

    def robust(self, weights: np.ndarray, value: np.ndarray, q: np.ndarray) -> np.ndarray:
        """``[B]`` doubly robust estimates, ``q [B, P]``."""
        share = self._share(weights)
        correction = np.einsum("bp,bp->b", share @ self.taken, q)
        return share @ self.paid + np.einsum("bs,bs->b", share @ self.ahead, value) - correction

    def _share(self, weights: np.ndarray) -> np.ndarray:
        return weights / (weights @ self.begins)[:, None]


def weighed(found: Empirical, ratio: np.ndarray, fewest: float = FEWEST) -> Weighed:
    """Weighs every run.

    Args:
      found: the counts.
      ratio: ``[n]`` ``rho`` of each line.
      fewest: effective number of runs, ``(sum w)^2 / sum w^2``, below which weights are not used.
    """
    log = found.log
    use = np.flatnonzero(log.from_start & (found.state >= 0))
    use = use[np.argsort(log.step[use], kind="stable")]
    bounds = np.searchsorted(log.step[use], np.arange(int(log.step[use].max(initial=0)) + 2))
    weight, discount = np.ones(log.num_runs), np.ones(log.num_runs)
    paid, units = np.zeros(found.num_units), found.num_units
    start = use[: bounds[1]]
    ahead, taken, rest = [(start, found.state[start], np.ones(len(start)))], [], []
    handoffs = 0
    for first, last in zip(bounds, bounds[1:], strict=False):
        now = use[first:last]
        step = now[log.known[now]]
        after = weight[log.run[step]] * ratio[step]
        enough = after.sum() ** 2 >= fewest * float((after**2).sum()) and after.any()
        cut = now[~log.known[now]] if enough else now
        rest.append((cut, found.state[cut], weight[log.run[cut]] * discount[log.run[cut]]))
        if not enough:
            break
        handoffs += 1
        run = log.run[step]
        paid += np.bincount(found.unit[run], after * discount[run] * (log.rate[step] + log.lump[step]), units)
        taken.append((step, found.number[found.state[step], log.option[step]], after * discount[run]))
        discount[run] *= found.gamma ** log.tau[step].astype(float)
        weight[run] = after
        on = log.follows[step] != END
        ahead.append((step[on], found.state[log.follows[step[on]]], after[on] * discount[run[on]]))
    begins = np.bincount(found.unit[log.run[start]], minlength=units)

    def form(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], width: int) -> sparse.csr_array:
        if not parts:
            return sparse.csr_array((units, width))
        line, column, entry = (np.concatenate(some) for some in zip(*parts, strict=True))
        return sparse.csr_array((entry, (found.unit[log.run[line]], column)), shape=(units, width))

    s, pairs = found.num_states, len(found.pair_state)
    return Weighed(begins, paid, form(rest, s), form(ahead, s), form(taken, pairs), handoffs)


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
        return self.ratio.low - ROUNDING <= 1.0 <= self.ratio.high + ROUNDING

    @property
    def disagree(self) -> list[str]:
        """Pairs of ways that differ by more than their interval, and by more than rounding where nothing varies."""
        least = ROUNDING * (1 + abs(self.model.value))
        return [name for name, one in self.differences.items() if not one.open and abs(one.value) > least]


def importance_ratio(found: Empirical, policy: np.ndarray) -> np.ndarray:
    """``[n]`` ``rho``: by logged probabilities where there are any, else by shares of the options at the interface; 0
    where nothing is known."""
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
      weights: ``[B, units]`` of the bootstrap, in which the model is re-estimated every time.
    """
    log, confidence = found.log, found.log.config.confidence
    policy = np.eye(found.taken.shape[1])[choice]
    ratio = importance_ratio(found, policy)
    new, old = weighed(found, ratio), weighed(found, np.ones(len(log.run)), fewest=0.0)
    known = np.flatnonzero(log.known)
    by_unit = found.unit[log.run[known]]
    lines, ratios = (np.bincount(by_unit, some, found.num_units) for some in (np.ones(len(known)), ratio[known]))

    def of(solver: Solver, some: np.ndarray) -> np.ndarray:
        value, now = solver.values(solver.on_pairs(policy)), solver.values(solver.behaviour_on_pairs)
        return np.stack([
            solver.from_start(now), solver.from_start(value), old.sampled(some, now), new.sampled(some, value),
            new.robust(some, value, solver.pair_values(value)), (some @ ratios) / (some @ lines),
        ])  # fmt: skip

    point = resampler.solver(found.weights[None])
    here = of(point, point.weights)[:, 0]
    draws = np.concatenate([of(solver, solver.weights) for solver in resampler.solvers(weights)], axis=1)
    units = int((new.begins > 0).sum())

    def estimate(plus: int, minus: int | None = None, level: float = confidence) -> Estimate:
        value = here[plus] - (0.0 if minus is None else here[minus])
        half = half_width(draws[plus] - (0.0 if minus is None else draws[minus]), units, level)
        return Estimate(float(value), float(value - half), float(value + half))

    joint = 1 - (1 - confidence) / 2  # both differences at once (Bonferroni)
    model_old, model, current, sampled, robust, mean_ratio = range(6)
    beyond = np.abs(new.rest @ point.values(point.on_pairs(policy))[0]).sum()
    total = beyond + np.abs(new.paid).sum()
    return Value(
        current=estimate(current), model=estimate(model), sampled=estimate(sampled), robust=estimate(robust),
        gain_model=estimate(model, model_old), gain_robust=estimate(robust, current),
        differences={
            "model and importance sampling": estimate(model, sampled, joint),
            "model and doubly robust": estimate(model, robust, joint),
        },
        ratio=estimate(mean_ratio, level=joint), beyond=float(beyond / total) if total else 0.0,
        handoffs=new.handoffs, runs=int(new.begins.sum()),
    )  # fmt: skip
