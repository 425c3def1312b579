"""Sorting experiments: programs checked by the plain-Python machine, shares by an exact recursion and closed forms."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest

from icsmdp_jax.envs.cpu_sort import cpu_sort, machine
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.experiments.catalogue import Options
from icsmdp_jax.experiments.sorting import budget_of
from icsmdp_jax.experiments.sorting_runs import Team, Written, handoffs_in, random_workflow, share, trained, unshaped
from icsmdp_jax.experiments.training import Budget
from tests.reference import cpu_sort as twin

GAMMA = 0.9


def spelled(program: np.ndarray, length: int, n: int) -> list[tuple[str, int, int]]:
    """A program of the experiment as the twin writes it."""
    rows = machine.instructions(n)[program[:length]]
    return [(machine.NAMES[op], int(a), int(b)) for op, a, b in rows]


def sorts(program: list[tuple[str, int, int]], n: int) -> bool:
    return twin.is_sorted(twin.execute(twin.start(n), program))


def check_by_hand(written: Written, n: int) -> None:
    for correct, length, share_sorted, program in zip(*written, strict=True):
        runs = twin.execute(twin.start(n), spelled(program, int(length), n))
        assert twin.is_sorted(runs) == bool(correct)
        in_place = [list(run.registers[:n]) == list(range(1, n + 1)) for run in runs]
        assert share_sorted == pytest.approx(sum(in_place) / len(runs))


def test_handoffs_in_programs_are_runs_of_one_instruction_class():
    """mov mov cmp cmovl cmovl, and mov cmp mov: handoffs after 2, 1 steps, and after 1, 1."""
    kinds = machine.instructions(2)[:, 0]
    first = {kind: int(np.flatnonzero(kinds == kind)[0]) for kind in range(4)}
    programs = [[0, 0, 1, 2, 2], [0, 1, 0]]
    rows = np.full((2, 9), -1)
    for row, program in zip(rows, programs, strict=True):
        row[: len(program)] = [first[kind] for kind in program]
    lengths, nothing = np.array([5, 3]), np.zeros(2)
    graph = handoffs_in(Written(nothing.astype(bool), lengths, nothing, rows), 2)
    wanted = np.zeros((4, 4))
    wanted[0, 1], wanted[1, 2], wanted[1, 0] = 1 / 3, 1 / 6, 1 / 6
    np.testing.assert_allclose(graph.rate, wanted, atol=1e-15)
    np.testing.assert_allclose(graph.share, [1 / 2, 1 / 3, 1 / 6, 0], atol=1e-15)
    assert graph.mean_duration[0, 1] == pytest.approx(1.5) and graph.mean_duration[1, 2] == pytest.approx(1)
    np.testing.assert_allclose(graph.ended, [1 / 3, 0, 1, 0], atol=1e-15)


@cache
def taught() -> Team:
    return trained("ic_q", 2, Budget(updates=100, copies=16, length=8, replicas=6), seed=0)


@pytest.mark.slow
def test_programs_of_ic_q_sort_and_are_shortest():
    written = taught().written
    check_by_hand(written, 2)
    assert written.correct.all() and (written.length == 4).all()
    for program in written.program:
        assert not sorts(spelled(program, 3, 2), 2)  # the last instruction is needed


@pytest.mark.slow
def test_exact_return_of_what_was_learned_is_that_of_its_length():
    known = analyse(unshaped(*cpu_sort(2)))
    assert known.returns.of_greedy(taught().tables) == pytest.approx(np.full(6, GAMMA**3), abs=1e-6)
    assert known.returns.oracle == pytest.approx(GAMMA**3, abs=1e-6)


def chance_of_sorting(n: int, limit: int) -> float:
    """Probability that uniformly random options write a correct program below the limit, by recursion."""
    known: dict[tuple, float] = {}

    def from_here(game: twin.Team) -> float:
        key = (game.everything(), len(game.program))
        if key not in known:
            allowed = [option for option, fine in enumerate(game.available()) if fine]
            total = 0.0
            for option in allowed:
                after = copy.deepcopy(game)
                outcome = after.step(option)
                if outcome.terminated:
                    total += twin.is_sorted(after.runs)
                elif not outcome.truncated:
                    total += from_here(after)
            known[key] = total / len(allowed)
        return known[key]

    return from_here(twin.Team(n, limit, GAMMA, 0.0))


def test_random_workflow_sorts_as_often_as_the_recursion_says():
    episodes = 4096
    written = random_workflow(2, episodes, 0)
    check_by_hand(Written(*(leaf[:200] for leaf in written)), 2)
    wanted = chance_of_sorting(2, cpu_sort(2)[0].length_limit)
    assert 0.05 < wanted < 0.95
    error = np.sqrt(wanted * (1 - wanted) / episodes)
    assert abs(written.correct.mean() - wanted) < 4.5 * error  # fails with probability 7e-6; the key is fixed


def test_interval_of_a_share_is_wilson_s():
    z = 1.959963984540054
    all_of_16 = share(np.ones(16, bool))
    assert (all_of_16.mean, all_of_16.ci_high) == (1.0, 1.0)
    assert all_of_16.ci_low == pytest.approx(16 / (16 + z**2))
    half = share(np.arange(100) < 50)
    width = z / (1 + z**2 / 100) * np.sqrt(0.25 / 100 + z**2 / 40_000)
    assert (half.ci_low, half.ci_high) == pytest.approx((0.5 - width, 0.5 + width))


def test_budgets_grow_with_the_preset():
    for n in (2, 3, 4):
        handoffs = [budget_of(n, Options(f"cpu-sort{n}", preset)).handoffs for preset in ("testing", "quick", "full")]
        assert handoffs == sorted(handoffs) and handoffs[0] < handoffs[1]
