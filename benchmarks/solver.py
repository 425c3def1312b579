"""How much does the stopping rule of the exact solver save, at the same certified accuracy?

Our modified policy iteration against plain value iteration with the sup-norm rule, and against exact policy
iteration, on dense random models with a discount of 0.99 per handoff: the same for all of them (a Markov decision
process), or spread from 0.95 to 0.99 (a semi-Markov one). Where it is installed (the extra "rivals"), modified policy
iteration of QuantEcon's DiscreteDP solves those of one discount, also a large sparse one; its problem is made ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from benchmarks import common
from benchmarks.common import Record, Size, race, record
from icsmdp_jax.exact.solve import evaluate_policy, modified_policy_iteration

NAME = "solver"
PLAIN, OURS = "plain value iteration", "modified policy iteration"
QUANTECON = "QuantEcon, modified policy iteration"
LISTED = (4, 4)  # options and successors of the sparse problem
ACCURACY = 1e-8  # certified error, relative to 1 + max |V|
GAMMA = 0.99


class Problem(NamedTuple):
    """``reward [n, O]``, ``discounted [n*O, n]``, dense or compressed rows, and what they lack to 1, ``[n, O]``."""

    reward: np.ndarray
    discounted: Any
    killing: np.ndarray


class Answer(NamedTuple):
    """``q [n, O]``, the certified bound on its largest error and the number of rounds."""

    q: np.ndarray
    error: float
    rounds: int


def random_problem(states: int, options: int, least: float) -> Problem:
    """Uniform rewards and uniform kernel rows, scaled to moduli drawn from ``[least, GAMMA]``."""
    rng = np.random.default_rng(0)
    kernel = rng.random((states * options, states))
    modulus = rng.uniform(least, GAMMA, states * options)
    kernel *= (modulus / kernel.sum(axis=1))[:, None]
    return Problem(rng.random((states, options)), kernel, 1 - modulus.reshape(states, options))


def listed_problem(states: int) -> Problem:
    """Uniform rewards and lists of random successors, one modulus."""
    rng = np.random.default_rng(1)
    options, successors = LISTED
    rows = states * options
    law = rng.random((rows, successors))
    law *= GAMMA / law.sum(axis=1, keepdims=True)
    ends = np.arange(rows + 1) * successors
    kernel = sparse.csr_array((law.ravel(), rng.integers(states, size=law.size), ends), shape=(rows, states))
    kernel.sum_duplicates()
    return Problem(rng.random((states, options)), kernel, np.full((states, options), 1 - GAMMA))


def quantecon(problem: Problem) -> Callable[[Problem], Answer] | None:
    """Their solver of a problem of one discount; None where it is not installed.

    They stop by the same bracket (L2) and name no error: ``epsilon`` is what their value is within of the best.
    """
    try:
        from quantecon.markov import DiscreteDP
    except ImportError:
        return None
    (states, options), chances = problem.reward.shape, problem.discounted / GAMMA
    if sparse.issparse(chances):
        pairs = (np.repeat(np.arange(states), options), np.tile(np.arange(options), states))
        made = DiscreteDP(problem.reward.ravel(), sparse.csr_matrix(chances), GAMMA, *pairs)
    else:
        made = DiscreteDP(problem.reward, chances.reshape(states, options, states), GAMMA)
    largest = float(np.abs(modified(problem).q).max())

    def solve(problem: Problem) -> Answer:
        epsilon = ACCURACY * (1 + largest)
        found = made.solve(method="modified_policy_iteration", epsilon=epsilon, max_iter=10**6)
        q = problem.reward + (problem.discounted @ found.v).reshape(problem.reward.shape)
        return Answer(q, epsilon, found.num_iter)

    return solve


def modified(problem: Problem) -> Answer:
    """The package's solver, stopped by the smallest and largest row modulus (L2)."""
    mask = np.ones(problem.reward.shape, bool)
    found = modified_policy_iteration(problem.reward, problem.discounted, mask, ACCURACY, killing=problem.killing)
    return Answer(found.q, found.error_bound, found.iterations)


def value_iteration(problem: Problem) -> Answer:
    """Textbook value iteration: the error is at most ``gamma / (1 - gamma)`` times the last change."""
    gamma = problem.discounted.sum(axis=1).max()
    value, error, rounds = np.zeros(len(problem.reward)), np.inf, 0
    while error > ACCURACY * (1 + np.abs(value).max()):
        q = problem.reward + (problem.discounted @ value).reshape(problem.reward.shape)
        error = float(gamma / (1 - gamma) * np.abs(q.max(axis=1) - value).max())
        value, rounds = q.max(axis=1), rounds + 1
    return Answer(q, error, rounds)


def policy_iteration(problem: Problem) -> Answer:
    """Howard's policy iteration with a dense linear solve per round; it ends when no option improves."""
    policy, rounds = problem.reward.argmax(axis=1), 0
    while True:
        value = evaluate_policy(problem.reward, problem.discounted, policy)
        q = problem.reward + (problem.discounted @ value).reshape(problem.reward.shape)
        rounds += 1
        kept = q[np.arange(len(policy)), policy] >= q.max(axis=1) - 1e-12 * (1 + np.abs(value).max())
        if kept.all():
            gamma = problem.discounted.sum(axis=1).max()
            return Answer(q, float(gamma / (1 - gamma) * np.abs(q.max(axis=1) - value).max()), rounds)
        policy = np.where(kept, policy, q.argmax(axis=1))


METHODS: dict[str, Callable[[Problem], Answer]] = {
    PLAIN: value_iteration,
    OURS: modified,
    "exact policy iteration": policy_iteration,
}


def measure(size: Size) -> Iterator[Record]:
    """Seconds to the same certified accuracy, on a model with one modulus and on one with many."""
    states, options = size.pick(30, 500, 2000), size.pick(2, 8, 8)
    problems = [(random_problem(states, options, least), least) for least in (GAMMA, 0.95)]
    problems.append((listed_problem(size.pick(500, 10_000, 100_000)), GAMMA))
    for problem, least in problems:
        methods = METHODS if isinstance(problem.discounted, np.ndarray) else {OURS: modified}
        rival = quantecon(problem) if least == GAMMA else None
        if rival is not None:
            methods = {QUANTECON: rival, **methods}
        answers: dict[str, Answer] = {}

        def solve(
            name: str, problem: Problem = problem, methods: dict = methods, answers: dict[str, Answer] = answers
        ) -> None:
            answers[name] = methods[name](problem)

        runs = {name: partial(solve, name) for name in methods}
        # At full size plain value iteration takes minutes: once, and without a turn to warm up.
        times = race(runs, 1)
        if size is not Size.TINY:
            others = {name: run for name, run in runs.items() if size is Size.QUICK or name != PLAIN}
            times |= race(others, size.pick(0, 3, 7))
        count, choices = problem.reward.shape
        case = {"states": count, "options": choices, "least_modulus": least, "largest_modulus": GAMMA}
        first = QUANTECON if rival is not None else next(iter(methods))
        for name, answer in answers.items():
            base = None if name == first else (first, times[first], 1.0)
            facts: dict[str, Any] = {
                "rounds": answer.rounds,
                "certified_error": answer.error,
                "difference": float(np.abs(answer.q - answers[OURS].q).max()),
            }
            yield record(NAME, case, name, times[name], base, **facts)


if __name__ == "__main__":
    common.main(measure, __doc__)
