"""Tables of other libraries: values published for them, and plain value iteration on the tables themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from icsmdp_jax.exact import analyse, kernel_moments, optimal_q
from icsmdp_jax.exact.payments import largest_reward
from icsmdp_jax.models.files import load_model, save_model
from icsmdp_jax.models.importers import from_gym, from_mdptoolbox, from_quantecon
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import same_bits
from tests.models.gym_tables import Table, frozen_lake, taxi, taxi_state


def values(model: TabularModel) -> np.ndarray:
    """``V* [S]``, 0 at terminal states."""
    return optimal_q(kernel_moments(model)).value


def table_values(table: Table, gamma: float, sweeps: int) -> np.ndarray:
    """Value iteration on the table as its entries say: nothing follows a transition that is done."""
    value = np.zeros(len(table))
    for _ in range(sweeps):
        value = np.array(
            [
                max(
                    (sum(p * (r + gamma * (not done) * value[to]) for p, to, r, done in entries))
                    for entries in row.values()
                    if entries
                )
                if any(row.values())
                else 0.0
                for _, row in sorted(table.items())
            ]
        )
    return value


# Gymnasium


def test_frozen_lake_has_its_published_value() -> None:
    model = from_gym(frozen_lake(), 0.99, start=0)
    assert values(model)[0] == pytest.approx(0.542026, abs=5e-7)
    np.testing.assert_array_equal(np.flatnonzero(model.is_terminal), [5, 7, 11, 12, 15])
    assert model.num_states == 16 and not model.is_terminal[model.start > 0].any()
    assert analyse(model).gap.gap < 1e-9  # the agent sees the state


@cache
def deliveries() -> dict[int, int]:
    """Fewest actions up to the delivery, breadth first, from every state of the taxi's table."""
    before: dict[int, set[int]] = {}
    ready = set()
    for s, row in taxi().items():
        for ((_, to, reward, done),) in row.values():
            if done:
                ready.add(s)
            elif reward == -1:
                before.setdefault(to, set()).add(s)
    distance, front, steps = dict.fromkeys(ready, 1), ready, 1
    while front:
        steps += 1
        front = {s for to in front for s in before.get(to, ())} - set(distance)
        distance |= dict.fromkeys(front, steps)
    return distance


def initial_states() -> list[int]:
    """A taxi anywhere, a passenger at a stand that is not the destination."""
    return [
        taxi_state(row, column, passenger, destination)
        for row in range(5)
        for column in range(5)
        for passenger in range(4)
        for destination in range(4)
        if passenger != destination
    ]


def test_taxi_has_its_published_mean_return() -> None:
    """7.93 undiscounted: a delivery after ``n`` actions is worth ``21 - n``, discounted less by ``O(1 - gamma)``."""
    begins, distance = initial_states(), deliveries()
    gamma = 1 - 1e-6
    found = values(from_gym(taxi(), gamma))[begins]
    assert len(begins) == 300 and round(float(np.mean([21 - distance[s] for s in begins])), 2) == 7.93
    assert found.mean() == pytest.approx(7.93, abs=0.005)
    for s, value in zip(begins, found, strict=True):
        n = distance[s]
        assert 0 <= 21 - n - value <= (1 - gamma) * n * (n + 40) / 2


def test_taxi_discounted_is_the_closed_form_in_every_state() -> None:
    """The states where a passenger is delivered go on in the table: transitions that end lead to copies of them."""
    gamma = 0.99
    model = from_gym(taxi(), gamma)
    assert model.num_states == 504 and model.is_terminal.sum() == 4
    n = np.array([deliveries()[s] for s in range(500)])
    wanted = 20 * gamma ** (n - 1) - (1 - gamma ** (n - 1)) / (1 - gamma)
    np.testing.assert_allclose(values(model)[:500], wanted, rtol=0, atol=1e-9)


def random_table(seed: int) -> Table:
    """States entered in either way, own loops, impossible entries, actions left out, rewards that vary in a pair."""
    rng = np.random.default_rng(seed)
    count, actions = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    table: Table = {}
    for s in range(count):
        table[s] = {}
        for a in rng.permutation(actions)[: rng.integers(1, actions + 1)]:
            targets = rng.integers(count, size=rng.integers(1, 5))
            law = rng.dirichlet(np.ones(len(targets))) * (rng.random(len(targets)) < 0.8)
            if law.sum() == 0:
                law[0] = 1
            ends = (targets == count - 1) if rng.random() < 0.5 else rng.random(len(targets)) < 0.3
            table[s][int(a)] = [
                (float(p), int(to), float(rng.normal()), bool(end))
                for p, to, end in zip(law / law.sum(), targets, ends, strict=True)
            ]
    if rng.random() < 0.3:
        table[count - 1] = {}
    return table


@pytest.mark.parametrize("seed", range(60))
def test_random_tables_are_read_entry_by_entry(seed: int) -> None:
    table = random_table(seed)
    model = from_gym(table, 0.9, start=0)
    count = len(table)
    moments = kernel_moments(model)
    kept = ~model.is_terminal[:count]
    wanted = table_values(table, 0.9, 400)
    np.testing.assert_allclose(values(model)[:count][kept], wanted[kept], rtol=0, atol=1e-9)
    for s in np.flatnonzero(kept):
        for a in range(model.num_options):
            entries = table[s].get(a, [])
            assert moments.used[s, a] == bool(entries)
            assert moments.reward_mean[s, a] == pytest.approx(sum(p * r for p, _, r, _ in entries), abs=1e-12)
            assert moments.reward_square[s, a] == pytest.approx(sum(p * r * r for p, _, r, _ in entries), abs=1e-12)
    reached = [abs(r) for s in np.flatnonzero(kept) for row in table[s].values() for p, _, r, _ in row if p > 0]
    assert largest_reward(model, moments.used) == pytest.approx(max(reached))
    # A state that is terminal is one to which every transition is done.
    for s in np.flatnonzero(~kept):
        alive = [x for x in range(count) if x != s and kept[x]]
        assert all(end for x in alive for row in table[x].values() for p, to, _, end in row if p > 0 and to == s) or (
            not any(table[s].values())
        )


def test_a_start_that_is_an_end_too_begins_and_ends() -> None:
    """A round trip: state 0 is entered by transitions that are done only, and is where everything begins."""
    table: Table = {0: {0: [(1.0, 1, 2.0, False)]}, 1: {0: [(1.0, 0, 3.0, True)]}}
    model = from_gym(table, 0.5, start=0)
    assert model.num_states == 3 and model.is_terminal.tolist() == [False, False, True]
    np.testing.assert_allclose(values(model), [2 + 0.5 * 3, 3, 0])
    assert from_gym(table, 0.5).is_terminal.tolist() == [True, False]  # nobody begins there


def test_an_end_that_only_loops_needs_no_copy() -> None:
    """Some tables close an episode by a loop that is not done; whatever comes back from there needs a copy."""
    loops: Table = {0: {0: [(1.0, 1, 1.0, True)]}, 1: {0: [(1.0, 1, 5.0, False)]}}
    assert from_gym(loops).is_terminal.tolist() == [False, True]
    returns: Table = {0: {0: [(1.0, 1, 1.0, True)]}, 1: {0: [(1.0, 2, 5.0, False)]}, 2: {0: [(1.0, 1, 0.0, False)]}}
    model = from_gym(returns, 0.5)
    assert model.is_terminal.tolist() == [False, False, False, True]
    np.testing.assert_allclose(values(model), [1, 5 / 0.75, 2.5 / 0.75, 0])


def test_an_interface_that_hides_costs_what_it_hides() -> None:
    """Rows of the lake instead of places: the copies and masks follow, and there is a gap."""
    model = from_gym(frozen_lake(), 0.9, start=0, interface=np.arange(16) // 4)
    known = analyse(model)
    assert model.num_interfaces == 4 and known.gap.gap > 0.01 and known.gap.gap <= known.gap.bound


# QuantEcon


def puterman(beta: float) -> tuple[list, list]:
    rewards = [[5, 10], [-1, -np.inf]]
    moves = [[(0.5, 0.5), (0, 1)], [(0, 1), (0.5, 0.5)]]  # the last row belongs to no action
    return rewards, moves


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.95, 0.99])
@pytest.mark.parametrize("form", ["product", "pairs", "pairs, sparse", "pairs, shuffled"])
def test_quantecon_example_has_its_closed_form(beta: float, form: str) -> None:
    rewards, moves = puterman(beta)
    if form == "product":
        model = from_quantecon(rewards, moves, beta)
    else:
        states, actions = np.array([0, 0, 1]), np.array([0, 1, 0])
        listed, laws = np.array(rewards)[states, actions], np.array(moves, float)[states, actions]
        order = np.array([2, 0, 1]) if form == "pairs, shuffled" else np.arange(3)
        chosen = laws[order] if form != "pairs, sparse" else sparse.csr_matrix(laws)
        model = from_quantecon(listed[order], chosen, beta, states[order], actions[order])
    second = -1 / (1 - beta)
    first = max((5 - 5.5 * beta) / ((1 - 0.5 * beta) * (1 - beta)), 10 + beta * second)
    np.testing.assert_allclose(values(model), [first, second], rtol=1e-12)
    np.testing.assert_array_equal(model.option_mask, [[True, True], [True, False]])
    if beta == 0.95:  # as published
        assert first == (5 - 5.5 * 0.95) / ((1 - 0.5 * 0.95) * (1 - 0.95))


# pymdptoolbox


def forest(kind: str) -> tuple[Any, Any]:
    """Three ages of a forest: wait, and it burns with probability 0.1, or cut it."""
    burn = 0.1
    wait = np.array([[burn, 1 - burn, 0], [burn, 0, 1 - burn], [burn, 0, 1 - burn]])
    law = np.stack([wait, np.tile([1.0, 0.0, 0.0], (3, 1))])
    by_pair = np.array([[0.0, 0.0], [0.0, 1.0], [4.0, 2.0]])
    if kind == "[S, A]":
        return law, by_pair
    by_transition = np.broadcast_to(by_pair.T[:, :, None], (2, 3, 3))
    if kind == "[A, S, S]":
        return law, by_transition
    return [sparse.csr_matrix(one) for one in law], [sparse.csr_matrix(one) for one in by_transition]


@pytest.mark.parametrize("kind", ["[S, A]", "[A, S, S]", "sparse"])
def test_forest_has_its_published_values(kind: str) -> None:
    model = from_mdptoolbox(*forest(kind), 0.9)
    np.testing.assert_allclose(values(model), [26.244, 29.484, 33.484], rtol=0, atol=1e-9)


def test_rewards_by_state_are_paid_whatever_the_action() -> None:
    law, _ = forest("[S, A]")
    by_state = np.array([1.0, -2.0, 5.0])
    model = from_mdptoolbox(law, by_state, 0.9)
    twice = from_mdptoolbox(law, np.stack([by_state, by_state], axis=1), 0.9)
    np.testing.assert_array_equal(model.reward_rate, twice.reward_rate)
    value = np.zeros(3)
    for _ in range(2000):
        value = by_state + 0.9 * (law @ value).max(axis=0)
    np.testing.assert_allclose(values(model), value, rtol=1e-12)


def test_rewards_of_single_transitions_are_kept_apart() -> None:
    """Means and squares of what a pair pays, and minus infinity where it may end takes an action away."""
    rng = np.random.default_rng(3)
    law, paid = rng.dirichlet(np.ones(4), size=(2, 4)), rng.normal(size=(2, 4, 4))
    law[1, 2] = [0, 0.5, 0.5, 0]
    paid[1, 2] = [-np.inf, 1.0, 3.0, np.nan]  # of ends that cannot happen
    moments = kernel_moments(from_mdptoolbox(law, paid, 0.7))
    sure = np.where(law > 0, paid, 0.0)
    np.testing.assert_allclose(moments.reward_mean, (law * sure).sum(axis=2).T, rtol=0, atol=1e-12)
    np.testing.assert_allclose(moments.reward_square, (law * sure**2).sum(axis=2).T, rtol=0, atol=1e-12)
    paid[0, 3, 1] = -np.inf
    model = from_mdptoolbox(law, paid, 0.7)
    assert not model.option_mask[3, 0] and model.option_mask.sum() == 7


# All of them


@pytest.mark.parametrize(
    "model",
    [
        from_gym(frozen_lake(), 0.9, start=0),
        from_quantecon(*puterman(0.9), 0.9),
        from_mdptoolbox(*forest("[A, S, S]"), 0.9),
    ],
)
def test_imported_models_are_model_files(model: TabularModel, tmp_path: Path) -> None:
    save_model(tmp_path / "m.npz", model)
    again = load_model(tmp_path / "m.npz").arrays()
    assert set(again) == set(model.arrays())
    assert all(same_bits(again[name], array) for name, array in model.arrays().items())


LAW = np.full((2, 2, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: from_gym({0: {0: [(0.5, 0, 1.0, False)]}}), "P[0][0]: the probabilities sum to 0.5"),
        (lambda: from_gym({0: {0: [(1.0, 3, 1.0, False)]}}), "P[0][0][0]: next state 3, expected 0 to 0"),
        (lambda: from_gym({0: {0: [(1.0, 0, 1.0)]}}), "P[0][0][0] = (1.0, 0, 1.0): expected (probability, next"),
        (lambda: from_gym({0: {0: [(1.0, 0, math.nan, False)]}}), "P[0][0][0]: reward nan"),
        (lambda: from_gym({0: {0: [(-1.0, 0, 0.0, False), (2.0, 0, 0.0, False)]}}), "P[0][0]: probability -1.0"),
        (lambda: from_gym({1: {0: [(1.0, 0, 1.0, False)]}}), "P: key 1, expected whole numbers from 0 without gaps"),
        (lambda: from_gym({0: {"left": [(1.0, 0, 1.0, False)]}}), "P[0]: key 'left', expected whole numbers from 0"),
        (lambda: from_gym({0: {}}), "P: no state has an action"),
        (lambda: from_gym({0: {0: [(1.0, 0, 1.0, False)]}}, start=4), "start = 4: expected 0 to 0"),
        (lambda: from_gym({0: {0: [(1.0, 0, 1.0, False)]}}, 1.0), "gamma = 1.0"),
        (lambda: from_quantecon([[1.0, -np.inf], [-np.inf] * 2], LAW, 0.9), "state 1: no action is available"),
        (lambda: from_quantecon([[1.0, np.nan], [1.0, 1.0]], LAW, 0.9), "R[0, 1] = nan"),
        (lambda: from_quantecon(np.ones((2, 2)), 0.9 * LAW, 0.9), "Q[0, 0]: the probabilities sum to 0.9"),
        (lambda: from_quantecon(np.ones((2, 2)), LAW[:, :, :1], 0.9), "Q: expected shape [2, 2, 2], found [2, 2, 1]"),
        (lambda: from_quantecon(np.ones((2, 2)), LAW, 1.0), "beta = 1.0: expected a number in [0, 1)"),
        (lambda: from_quantecon(np.ones(2), LAW[0], 0.9, [0, 1]), "a_indices: missing"),
        (lambda: from_quantecon(np.ones(2), LAW[0], 0.9, [0, 0], [1, 1]), "s_indices[1], a_indices[1] = 0, 1"),
        (lambda: from_quantecon(np.ones(2), 0.5 * LAW[0], 0.9, [0, 1], [1, 0]), "Q[0]: the probabilities sum to 0.5"),
        (lambda: from_quantecon(np.ones(2), LAW[0], 0.9, [0, 5], [0, 0]), "s_indices[1] = 5"),
        (lambda: from_mdptoolbox(LAW[:, :, :1], np.ones(2), 0.9), "P[0]: expected shape [2, 2], found [2, 1]"),
        (lambda: from_mdptoolbox(2 * LAW, np.ones(2), 0.9), "P[0, 0]: the probabilities sum to 2"),
        (lambda: from_mdptoolbox(LAW, np.ones((2, 3)), 0.9), "R: expected shape [2, 2], found [2, 3]"),
        (lambda: from_mdptoolbox(LAW, np.ones((3, 2, 2)), 0.9), "R: expected shape [2, 2, 2] like P, found [3, 2, 2]"),
        (lambda: from_mdptoolbox(LAW, np.full((2, 2, 2), np.inf), 0.9), "R[0][0, 0] = inf"),
        (lambda: from_mdptoolbox(LAW, [1.0, -np.inf], 0.9), "state 1: no action is available"),
        (lambda: from_mdptoolbox(sparse.eye(2), np.ones(2), 0.9), "P: found one sparse matrix"),
        (
            lambda: from_quantecon([[1.0, -np.inf], [1.0, 1.0]], LAW, 0.9, interface=[0, 0]),
            "interface[1] = 0: shared with state 0, where other actions are available",
        ),
    ],
)
def test_what_is_no_decision_process_is_refused_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)
