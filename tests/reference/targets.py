"""Twin of the targets over chains of handoffs (D9): double loops from the definitions, float64.

A chain has segments 0..T-1; `scalars[t]` is offered at the epoch that segment t leads to. Conventions: `twin.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.reference.chain import annuity, powers
from tests.reference.models import Array, Model, joint_kernel


def reach(discounts: Array, truncated: Array, t: int) -> int:
    """Count the segments from t on that belong together: up to a truncation, a terminal handoff or the end."""
    count = 1
    while t + count < len(discounts) and not truncated[t + count - 1] and discounts[t + count - 1] != 0:
        count += 1
    return count


def summed(rewards: Array, discounts: Array, scalars: Array, t: int, n: int) -> float:
    """Return R_t + D_t R_{t+1} + ... + (D_t ... D_{t+n-1}) scalars[t+n-1], term by term, products anew for each."""
    total = 0.0
    for k in range(n):
        total += float(np.prod(discounts[t : t + k])) * rewards[t + k]
    return total + float(np.prod(discounts[t : t + n])) * scalars[t + n - 1]


def n_handoff(rewards: Array, discounts: Array, scalars: Array, n: int, truncated: Array) -> Array:
    """Return the n-handoff target of every segment, n cut down to the segments there are; `[T]`."""
    return np.array(
        [summed(rewards, discounts, scalars, t, min(n, reach(discounts, truncated, t))) for t in range(len(rewards))]
    )


def lambda_mixture(rewards: Array, discounts: Array, scalars: Array, lambda_: Array, truncated: Array) -> Array:
    """Return the mixture of n-handoff targets, `[T]`, for `lambda_` of shape `[T]`.

    The n-handoff target of segment t weighs (1 - lambda_[t+n-1]) times the lambdas before that; the longest
    takes the rest.
    """
    out = np.zeros(len(rewards))
    for t in range(len(rewards)):
        longest = reach(discounts, truncated, t)
        for n in range(1, longest + 1):
            weight = float(np.prod(lambda_[t : t + n - 1]))
            if n < longest:
                weight *= 1.0 - lambda_[t + n - 1]
            out[t] += weight * summed(rewards, discounts, scalars, t, n)
    return out


def watkins(rewards: Array, discounts: Array, scalars: Array, lambda_: Array, truncated: Array, greedy: Array) -> Array:
    """Return the mixture that ends where the next option was not greedy, as if truncated there; `[T]`."""
    return lambda_mixture(rewards, discounts, scalars, lambda_, truncated | ~greedy[1:])


def naive(rewards: Array, discounts: Array, scalars: Array, taken: Array, lambda_: Array, truncated: Array) -> Array:
    """Return Q(z_t, o_t) plus the sum of weighted temporal differences of all segments from t on; `[T]`."""
    out = np.zeros(len(rewards))
    for t in range(len(rewards)):
        out[t] = taken[t]
        for k in range(reach(discounts, truncated, t)):
            error = rewards[t + k] + discounts[t + k] * scalars[t + k] - taken[t + k]
            out[t] += float(np.prod(lambda_[t : t + k]) * np.prod(discounts[t : t + k])) * error
    return out


def paths(
    model: Model, policy: Array, state: int, option: int, length: int
) -> Iterator[tuple[float, list[tuple[int, int, int, int]]]]:
    """Yield every chain of `length` segments from (state, option) with its probability (model without terminals).

    A chain is a list of (s, o, tau, s'); `policy` `[Z, O]` chooses all options but the first.
    """
    kernel = joint_kernel(model)
    for tau, following in np.argwhere(kernel[state, option] > 0):
        chance = float(kernel[state, option, tau, following])
        segment = (state, option, int(tau) + 1, int(following))
        if length == 1:
            yield chance, [segment]
            continue
        row = policy[model["interface"][following]]
        for after in np.flatnonzero(row > 0):
            for rest, chain in paths(model, policy, int(following), int(after), length - 1):
                yield chance * float(row[after]) * rest, [segment, *chain]


def segment_numbers(model: Model, chain: list[tuple[int, int, int, int]]) -> tuple[list[float], list[float]]:
    """Return the mean segment rewards and the discounts gamma^tau of a chain."""
    longest = joint_kernel(model).shape[2]
    sums, discounts = annuity(model, longest), powers(model, longest)
    rewards = [float(model["reward_rate"][s, o] * sums[tau - 1]) for s, o, tau, _ in chain]
    return rewards, [float(discounts[tau - 1]) for _, _, tau, _ in chain]
