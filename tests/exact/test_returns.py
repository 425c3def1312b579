"""Exact and simulated returns: closed forms, brute force over all policies, and the independent twin."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact import analyse
from icsmdp_jax.exact.returns import (
    Returns,
    central_model,
    greedy,
    half_width,
    mean_interval,
    normalised,
    random_policy,
    start_law,
)
from icsmdp_jax.learner.simulated_returns import discounted_returns, random_option, simulated_return
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import as_model
from tests.reference import twin
from tests.reference.models import (
    Model,
    available_options,
    decision_pairs,
    joint_kernel,
    random_model,
    terminal_states,
    uniform_behaviour,
)

SIGMAS = 5.0  # a two-sided normal deviate is larger with probability 6e-7


def two_states(gamma: float = 0.9, **changes: object) -> TabularModel:
    """Agent 0 and agent 1 take turns; option 0 takes 1 step and option 1 takes 3, whoever acts."""
    transition = np.zeros((2, 2, 2))
    transition[0, :, 1] = transition[1, :, 0] = 1.0
    duration = np.zeros((2, 2, 3))
    duration[:, 0, 0] = duration[:, 1, 2] = 1.0
    arrays = {
        "transition": transition,
        "duration": duration,
        "reward_rate": np.array([[1.0, 2.0], [-1.0, 0.5]]),
        "agent": np.array([0, 1]),
        "interface": np.array([0, 1]),
        "gamma": gamma,
        "start": np.array([0.25, 0.75]),
        **changes,
    }
    return TabularModel(**arrays)  # type: ignore[arg-type]


def series_return(model: Model, law: np.ndarray, start: np.ndarray, rounds: int = 600) -> float:
    """``J`` of a policy ``[S, O]`` as a sum over handoffs: loops push the discounted law forward."""
    kernel, rewards, pairs = joint_kernel(model), twin.expected_reward(model), decision_pairs(model)
    ends = terminal_states(model)
    weight, total = np.where(ends, 0.0, start), 0.0
    weight = weight / weight.sum()
    discounted = sum(twin.powers(model, kernel.shape[2])[t] * kernel[:, :, t] for t in range(kernel.shape[2]))
    for _ in range(rounds):
        following = np.zeros(len(weight))
        for s, o in np.argwhere(pairs):
            total += weight[s] * law[s, o] * rewards[s, o]
            following += weight[s] * law[s, o] * discounted[s, o]
        weight = np.where(ends, 0.0, following)
    return float(total)


def fixture_model(seed: int) -> tuple[Model, TabularModel]:
    """A random model of one of the three forms, with masks, and terminal states in every second."""
    rng = np.random.default_rng(100 + seed)
    form = {0: {}, 1: {"joint_kernel": True}, 2: {"successor_lists": True}}[seed % 3]
    arrays = random_model(rng, masks=True, terminals=seed % 2 == 0, options=3, gamma=0.85, **form)
    return arrays, as_model(arrays)


def test_two_states_in_closed_form() -> None:
    """V0 = R0 + g^a V1 and V1 = R1 + g^b V0, solved by hand."""
    g = 0.9
    first, second = 2.0 * (1 + g + g * g), -1.0  # option 1 in state 0, option 0 in state 1
    v0 = (first + g**3 * second) / (1 - g**4)
    v1 = (second + g * first) / (1 - g**4)
    prepared = Returns(two_states())
    np.testing.assert_allclose(prepared.value(np.array([1, 0])), [v0, v1], rtol=1e-13)
    assert prepared.of(np.array([1, 0])) == pytest.approx(0.25 * v0 + 0.75 * v1, rel=1e-13)
    # Half and half: the mean reward and the mean discount of each state replace R and g^tau.
    d = (g + g**3) / 2
    r0, r1 = (1 + 2 * (1 + g + g * g)) / 2, (-1 + 0.5 * (1 + g + g * g)) / 2
    w0, w1 = (r0 + d * r1) / (1 - d * d), (r1 + d * r0) / (1 - d * d)
    assert prepared.random == pytest.approx(0.25 * w0 + 0.75 * w1, rel=1e-13)
    assert prepared.of(np.full((2, 2), 0.5)) == pytest.approx(prepared.random, rel=1e-13)


@pytest.mark.parametrize("seed", range(6))
def test_stochastic_policies_agree_with_a_sum_over_handoffs(seed: int) -> None:
    arrays, model = fixture_model(seed)
    rng, mask = np.random.default_rng(seed), available_options(arrays)
    law = np.where(mask, rng.exponential(size=mask.shape), 0.0)
    law /= law.sum(axis=1, keepdims=True)
    prepared = Returns(model)
    start = arrays.get("start", twin.stationary_law(arrays, uniform_behaviour(arrays)))
    np.testing.assert_allclose(prepared.start, start, atol=1e-10)
    wanted = series_return(arrays, law[arrays["interface"]], start)
    assert prepared.of(law) == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    over_states = np.where(decision_pairs(arrays), rng.exponential(size=model.reward_rate.shape), 0.0)
    over_states /= np.maximum(over_states.sum(axis=1, keepdims=True), 1e-300)
    wanted = series_return(arrays, over_states, start)
    assert prepared.of(over_states.astype(np.float32)) == pytest.approx(wanted, rel=1e-6, abs=1e-6)
    uniform = series_return(arrays, uniform_behaviour(arrays)[arrays["interface"]], start)
    assert prepared.random == pytest.approx(uniform, rel=1e-9, abs=1e-9)
    np.testing.assert_array_equal(random_policy(model), uniform_behaviour(arrays))


@pytest.mark.parametrize("seed", range(4))
def test_oracle_is_the_best_of_all_deterministic_policies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    terminals = seed % 2 == 1
    arrays = random_model(rng, interfaces_per_agent=1, masks=seed > 1, terminals=terminals, options=2, gamma=0.8)
    prepared = Returns(as_model(arrays))
    choices = [np.flatnonzero(row) if row.any() else np.array([0]) for row in decision_pairs(arrays)]
    returns = [prepared.of(np.array(policy), by_state=True) for policy in itertools.product(*choices)]
    assert len(returns) <= 64
    assert prepared.oracle == pytest.approx(max(returns), rel=1e-12)
    assert prepared.normalised(max(returns)) == pytest.approx(1.0, abs=1e-12)
    rows = [np.flatnonzero(row) if row.any() else np.array([0]) for row in available_options(arrays)]
    seen = [prepared.of(np.array(policy), by_state=False) for policy in itertools.product(*rows)]
    assert min(seen) - 1e-12 <= prepared.interface_optimum <= max(seen) + 1e-12 <= prepared.oracle + 2e-12
    assert max(returns) - min(returns) > 1e-3, "there was nothing to tell apart"


@pytest.mark.parametrize("seed", range(4))
def test_greedy_tables_give_the_value_that_the_twin_solves_for(seed: int) -> None:
    arrays, model = fixture_model(seed)
    rng, prepared = np.random.default_rng(seed), Returns(model)
    tables = rng.normal(size=(3, 2, model.num_interfaces, model.num_options)).astype(np.float32)
    found = prepared.of_greedy(tables)
    assert found.shape == (3, 2)
    for index in np.ndindex(3, 2):
        scores = np.where(available_options(arrays), tables[index], -np.inf)
        wanted = prepared.start @ twin.policy_value(arrays, scores.argmax(axis=1))
        assert found[index] == pytest.approx(wanted, rel=1e-9)
    assert np.unique(found).size > 1


def test_returns_are_normalised_by_random_and_oracle() -> None:
    prepared = Returns(two_states())
    assert prepared.normalised(prepared.oracle) == 1.0 and prepared.normalised(prepared.random) == 0.0
    middle = (prepared.oracle + prepared.random) / 2
    np.testing.assert_allclose(prepared.normalised(np.array([middle, prepared.oracle])), [0.5, 1.0])
    assert normalised(3.0, 1.0, 5.0) == 0.5 and isinstance(normalised(3.0, 1.0, 5.0), float)
    with pytest.raises(ValueError, match=r"^oracle = 2: expected more than random = 2"):
        normalised(2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="expected more"):
        normalised(2.0, float("nan"), 2.0)


@pytest.mark.parametrize("gap", [0.0, 2.0])
def test_interface_optimum_loses_what_the_policy_loss_allows(gap: float) -> None:
    config = PlantedConfig(num_agents=3, fields=(("a", 2), ("b", 2), ("c", 3)), private_states=1, gap=gap, seed=3)
    planted = planted_model(config)
    prepared, known = Returns(planted.model), analyse(planted.model)
    loss = prepared.oracle - prepared.interface_optimum
    value = twin.policy_value(planted.model.arrays(), planted.q_planted.argmax(axis=1))
    each = known.q_star.value - value
    assert loss == pytest.approx(prepared.start @ each, abs=1e-9)
    assert each.max() == pytest.approx(known.gap.policy_loss, abs=1e-9)
    if gap == 0:
        assert abs(loss) < 1e-9 and prepared.normalised(prepared.interface_optimum) == pytest.approx(1.0, abs=1e-9)
    else:
        assert 1e-3 < loss <= known.gap.policy_loss <= known.gap.policy_loss_bound
    assert prepared.random < prepared.greedy_immediate <= prepared.oracle + 1e-12


def test_greedy_immediate_looks_at_the_expected_segment_reward_only() -> None:
    """Option 0 pays more at once and leads to a desert: the oracle takes option 1."""
    transition = np.zeros((2, 2, 2))
    transition[0, 0, 1] = transition[0, 1, 0] = transition[1, :, 1] = 1.0
    transition[1, :, 0], transition[1, :, 1] = 0.1, 0.9
    model = two_states(
        transition=transition, duration=np.ones((2, 2, 1)), reward_rate=np.array([[1.0, 0.9], [0.0, 0.0]])
    )
    prepared = Returns(model)
    assert greedy(prepared.q_star.q, np.ones((2, 2), bool))[0] == 1
    assert prepared.greedy_immediate == pytest.approx(prepared.of(np.array([0, 0])), rel=1e-13)
    assert prepared.greedy_immediate < prepared.oracle - 1
    for seed in range(3):
        arrays, other = fixture_model(seed)
        behaviour = uniform_behaviour(arrays)
        reward = twin.interface_model(arrays, behaviour).reward
        wanted = np.where(available_options(arrays), reward, -np.inf).argmax(axis=1)
        decides = other.interface_agent >= 0
        returns, choice = Returns(other), np.where(decides, wanted, 0)
        assert returns.greedy_immediate == pytest.approx(returns.of(choice, by_state=False), rel=1e-12)


def test_greedy_breaks_ties_to_the_first_available_option() -> None:
    mask = np.array([[True, True, True], [False, True, True], [False, True, True], [False, False, False]])
    table = np.array([[1.0, 2.0, 2.0], [9.0, 3.0, 3.0], [np.nan, -np.inf, -np.inf], [1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(greedy(table, mask), [1, 1, 1, 0])
    np.testing.assert_array_equal(greedy(np.stack([table, -table]), mask), [[1, 1, 1, 0], [0, 1, 1, 0]])
    with pytest.raises(ValueError, match=r"^table\[1, 2\] = nan: expected a number"):
        greedy(np.where(np.arange(3) == 2, np.nan, np.zeros((4, 3))), mask & (np.arange(4) == 1)[:, None])


def test_start_law_is_conditioned_on_deciding_states() -> None:
    arrays, model = fixture_model(0)
    ends = terminal_states(arrays)
    raw = np.full(ends.size, 1 / ends.size)
    law = start_law(model.replace(start=raw))
    np.testing.assert_allclose(law, np.where(ends, 0.0, 1 / (~ends).sum()))
    moved = two_states(start=None, transition=np.full((2, 2, 2), [0.25, 0.75]))
    np.testing.assert_allclose(start_law(moved), [0.25, 0.75], rtol=1e-13)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (np.array([0, 2]), "policy: option 2 in state 1, expected one that is available there"),
        (np.array([1, 0]), "policy: option 0 in state 1, expected one that is available there"),
        (np.array([[0.5, 0.5], [0.5, 0.5]]), "policy: probability 0.5 of option 0 in state 1, expected 0, because"),
        (np.array([[1.5, -0.5], [0.0, 1.0]]), "policy: probability -0.5 of option 1 in state 0, expected 0 or more"),
        (np.array([[0.5, np.nan], [0.0, 1.0]]), "policy: probability nan of option 1 in state 0, expected 0 or more"),
        (np.array([[0.5, 0.4], [0.0, 1.0]]), "policy: probabilities in state 0 sum to 0.9, expected 1"),
        (np.array([0, 1, 1]), "policy: expected 2 rows (interfaces) or 2 (states), found 3"),
        (np.array([0.0, 1.0]), "policy: expected integers [Z] or [S], or real numbers [Z, 2] or [S, 2], found float64"),
    ],
)
def test_what_is_no_policy_is_refused_by_name(policy: np.ndarray, message: str) -> None:
    model = two_states(available=np.array([[True, True], [False, True]]))
    with pytest.raises(ValueError) as caught:
        Returns(model).of(policy)
    assert str(caught.value).startswith(message)


def test_a_table_that_may_be_read_in_two_ways_is_not_guessed() -> None:
    model = two_states(interface=np.array([1, 0]))
    with pytest.raises(ValueError, match="by_state"):
        Returns(model).of(np.array([0, 1]))
    known, plain = Returns(model), Returns(two_states())
    assert known.of(np.array([0, 1]), by_state=True) == plain.of(np.array([0, 1]))
    assert known.of(np.array([0, 1]), by_state=False) == plain.of(np.array([1, 0]))


def test_mean_interval_is_that_of_student() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(9, 4))
    found = mean_interval(values)
    for column in range(4):
        wanted = stats.ttest_1samp(values[:, column], 0.0).confidence_interval(0.95)
        assert found.ci_low[column] == pytest.approx(wanted.low) and found.ci_high[column] == pytest.approx(wanted.high)
    assert found.replicas == 9 and mean_interval(values[:, 0]).mean == values[:, 0].mean()
    alone = mean_interval(np.array([2.0]))
    assert alone.mean == 2.0 and np.isnan(alone.ci_low) and np.isnan(half_width(np.array([2.0])))
    for nothing in (np.zeros((0, 3)), np.float64(1.0)):
        with pytest.raises(ValueError, match="one replica or more"):
            mean_interval(nothing)


def test_mean_interval_covers_as_often_as_it_says() -> None:
    """4000 samples of 5: coverage within 0.95 +- 5 binomial standard deviations (error probability 6e-7)."""
    draws = np.random.default_rng(1).normal(size=(5, 4000))
    found = mean_interval(draws)
    covered = float(((found.ci_low < 0) & (0 < found.ci_high)).mean())
    assert abs(covered - 0.95) < SIGMAS * np.sqrt(0.95 * 0.05 / 4000)


@pytest.mark.parametrize("seed", range(3))
def test_central_model_has_the_same_dynamics_and_tells_all_states_apart(seed: int) -> None:
    arrays, model = fixture_model(seed)
    features = np.random.default_rng(seed).integers(2, size=(model.num_interfaces, 1)).astype(float)  # many alike
    model = model.replace(features=features)
    central, prepared = central_model(model), Returns(model)
    whole = Returns(central)
    assert central.num_agents == 1 and central.num_interfaces == model.num_states
    assert whole.oracle == pytest.approx(prepared.oracle, rel=1e-12)
    assert whole.random == pytest.approx(prepared.random, rel=1e-12)
    assert whole.interface_optimum == pytest.approx(prepared.oracle, rel=1e-9), "Q_phi of the central model is Q*"
    choice = greedy(np.random.default_rng(seed).normal(size=whole.moments.used.shape), whole.moments.used)
    assert whole.of(choice) == pytest.approx(prepared.of(choice, by_state=True), rel=1e-12)
    rows = central.features[~model.is_terminal]
    assert len(np.unique(rows, axis=0)) == len(rows)
    np.testing.assert_array_equal(rows[:, :1], features[model.interface][~model.is_terminal])
    assert central_model(as_model(arrays)).features is None


def test_central_features_of_a_planted_model_share_the_code_of_the_hidden_part() -> None:
    planted = planted_model(PlantedConfig(num_agents=2, fields=(("a", 2), ("b", 2)), private_states=2))
    features = central_model(planted.model).features
    described = planted.model.features[planted.model.interface]
    np.testing.assert_array_equal(features[:, : described.shape[1]], described)
    code = features[:, described.shape[1] + 2 :]
    np.testing.assert_array_equal(code.sum(axis=1), 1.0)
    np.testing.assert_array_equal(np.argmax(code, axis=1), (planted.layout.hidden_pattern > 0).astype(int))


def greedy_option(table, key, handoff):
    return jnp.argmax(jnp.where(handoff.mask, table[handoff.interface], -jnp.inf)).astype(jnp.int32)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_simulated_returns_agree_with_exact_ones(seed: int) -> None:
    """Within 5 standard errors and what the horizon cuts off; error probability about 6e-7 for each of 4 checks."""
    _, model = fixture_model(seed)
    prepared = Returns(model)
    env, params = tabular_env(model, first=prepared.start)
    table = np.random.default_rng(seed).normal(size=(model.num_interfaces, model.num_options)).astype(np.float32)
    largest = np.abs(prepared.value(greedy(table, model.option_mask))).max()
    for policy, data, exact in (
        (greedy_option, jnp.asarray(table), prepared.of_greedy(table)),
        (random_option, None, prepared.random),
    ):
        found = simulated_return(env, params, policy, jax.random.key(seed), 8_000, 60, data)
        assert 0 < found.standard_error < 0.05 * (1 + largest)
        cut = 2 * found.remaining * largest
        assert cut < found.standard_error
        assert abs(found.mean - exact) < SIGMAS * found.standard_error + cut


class Countdown(Environment[jax.Array, None]):
    """Pays 1 in 2 primitive steps, ends by itself after 3 handoffs with params False, is truncated with True."""

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec("countdown", 1, 2, 0, (), jnp.float32, 2, False)

    def _handoff(self, count, reward, discount, terminated, truncated):
        agent, seen, mask = jnp.int32(0), count.astype(jnp.float32), jnp.array([False, True])
        return Handoff(agent, seen, mask, reward, jnp.int32(2), discount, terminated, truncated, agent, seen, mask)

    def reset(self, key, params):
        no = jnp.zeros((), bool)
        return self._handoff(jnp.int32(0), jnp.float32(0), jnp.float32(0), no, no), jnp.int32(0)

    def step_env(self, key, state, option, params):
        count = state + 1
        over = count >= 3
        reward = jnp.where(count > 3, jnp.float32(jnp.nan), option.astype(jnp.float32))  # whatever comes after the end
        discount = jnp.where(over & ~params, jnp.float32(0), jnp.float32(0.25))
        return self._handoff(count, reward, discount, over & ~params, over & params), count


@pytest.mark.parametrize(("truncates", "left"), [(False, 0.0), (True, 0.25**3)])
def test_a_copy_stops_where_its_episode_ends(truncates: bool, left: float) -> None:
    params = jnp.asarray(truncates)
    found = simulated_return(Countdown(), params, random_option, jax.random.key(0), 4, 10)
    assert found == (1 + 0.25 + 0.25**2, 0.0, left)
    if truncates:
        return
    alone = simulated_return(Countdown(), params, random_option, jax.random.key(0), 1, 2)
    assert alone.mean == 1.25 and np.isnan(alone.standard_error) and alone.remaining == 0.25**2


def test_simulation_maps_over_policies_and_compiles_once() -> None:
    model = two_states()
    env, params = tabular_env(model, first=np.array([1.0, 0.0]))
    traces = []

    def policy(table, key, handoff):
        traces.append(1)
        return greedy_option(table, key, handoff)

    tables = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 2)), jnp.float32)

    def estimate(table, key):
        return discounted_returns(env, params, policy, key, 3, 150, table)[0].mean()

    together = jax.jit(jax.vmap(estimate))
    mapped = together(tables, jax.random.split(jax.random.key(1), 4))
    exact = Returns(model.replace(start=np.array([1.0, 0.0]))).of_greedy(np.asarray(tables))
    np.testing.assert_allclose(mapped, exact, rtol=1e-5)  # nothing in this model is random, so only float32 is left
    together(tables + 1, jax.random.split(jax.random.key(2), 4))
    for seed in (3, 4):
        simulated_return(env, params, policy, jax.random.key(seed), 3, 150, tables[seed - 3])
    assert len(traces) == 1, "the same shapes were traced again"
