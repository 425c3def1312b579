"""Offline IC-Q with support: options compared by a lower confidence value, rare ones left out (docs/logs.md).

The fixed point is that of ``T_phi`` (D5) with every backup lowered by ``caution`` standard errors of its mean, so that
what is uncertain further on counts as well. The standard errors are those of the temporal-difference targets at the
unlowered solution, over the effective number of runs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from icsmdp_jax.exact.interface import InterfaceModel
from icsmdp_jax.exact.solve import Solution, modified_policy_iteration
from icsmdp_jax.traces.empirical import Empirical
from icsmdp_jax.traces.encode import END

PRIOR = 2.0  # observations with the pooled variance that every option is lent


class Support(NamedTuple):
    """What the log says of each interface and option, ``[Z, O]``.

    Attributes:
      segments: how many are known.
      effective: runs that they are worth, ``(sum_r n_r)^2 / sum_r n_r^2``.
      error: standard error of the mean target.
      supported: options that may be chosen; where none has enough segments, the most frequent one.
    """

    segments: np.ndarray
    effective: np.ndarray
    error: np.ndarray
    supported: np.ndarray


class Offline(NamedTuple):
    """What offline IC-Q learns from a log.

    Attributes:
      choice: ``[Z]`` int, option of the new policy.
      lower: ``[Z, O]`` lower confidence values, minus infinity where an option is not supported.
      support: what it rests on.
    """

    choice: np.ndarray
    lower: np.ndarray
    support: Support


def support(found: Empirical, value: np.ndarray) -> Support:
    """Counts and standard errors of the targets ``R + gamma^tau V(z')`` at each interface and option.

    Args:
      found: the counts.
      value: ``[Z]`` value of each interface.
    """
    log, known = found.log, np.flatnonzero(found.log.known)
    options = found.taken.shape[1]
    follows = log.follows[known]
    ahead = np.where(follows == END, 0.0, value[found.interface[found.state[follows]]])
    target = log.rate[known] + log.lump[known] + found.gamma ** log.tau[known].astype(float) * ahead
    pair = found.interface[found.state[known]] * options + log.option[known]
    size = found.taken.size
    count = np.bincount(pair, minlength=size).astype(float)
    mean = np.bincount(pair, target, size) / np.maximum(count, 1)
    squares = np.bincount(pair, (target - mean[pair]) ** 2, size)
    pooled = squares.sum() / max(len(known) - int((count > 0).sum()), 1)
    variance = (squares + PRIOR * pooled) / np.maximum(count - 1 + PRIOR, 1.0)
    run_pair, by_run = np.unique(log.run[known] * size + pair, return_counts=True)
    effective = count**2 / np.maximum(np.bincount(run_pair % size, by_run.astype(float) ** 2, size), 1)
    error = np.sqrt(variance / np.maximum(effective, 1))
    count, effective, error = (array.reshape(found.taken.shape) for array in (count, effective, error))
    enough = count >= log.config.support
    most = count == count.max(axis=1, keepdims=True)
    return Support(count, effective, error, np.where(enough.any(axis=1, keepdims=True), enough, most))


def offline_icq(found: Empirical, interface: InterfaceModel, q_phi: Solution) -> Offline:
    """The policy that is greedy in the lower confidence values.

    Args:
      found: the counts.
      interface: the interface model of the empirical model under its behaviour.
      q_phi: its solution.
    """
    z = found.num_interfaces
    rests = support(found, q_phi.value[:z])
    mask, penalty = interface.mask.copy(), np.zeros(interface.mask.shape)
    mask[:z] &= rests.supported
    penalty[:z] = found.log.config.caution * rests.error
    lowered = modified_policy_iteration(
        interface.reward - penalty, interface.discounted, mask, killing=interface.killing,
        relative_error=interface.relative_error,
    )  # fmt: skip
    lower = lowered.q[:z]
    never = ~mask[:z].any(axis=1)  # not recurrent: never met again
    choice = np.where(never, rests.segments.argmax(axis=1), lower.argmax(axis=1))
    return Offline(choice, lower, rests)
