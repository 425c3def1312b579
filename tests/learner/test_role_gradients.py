"""Policy gradients for roles: against finite differences of the exact return, reductions, what is measured."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from icsmdp_jax.envs.tabular import tabular_env
from icsmdp_jax.exact.returns import Returns
from icsmdp_jax.learner import role_gradients
from icsmdp_jax.learner.networks import linear, mlp
from icsmdp_jax.learner.role_gradients import RoleTrainer, groups_of, with_role_code
from icsmdp_jax.learner.role_state import Episodes, Inputs
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import chi_square

ROLES = (0, 1, 1)  # three agents, two of which play the same role
KEY = jax.random.key(0)

# Compiled once for trainers that are alike.
run = jax.jit(RoleTrainer.run, static_argnums=(0, 3, 4))
collect = jax.jit(RoleTrainer.collect, static_argnums=0)
update = jax.jit(RoleTrainer.update, static_argnums=0)
gradients = jax.jit(RoleTrainer.gradients, static_argnums=0)
init, policy_of, returns_of, advantages = (
    jax.jit(method, static_argnums=0)
    for method in (RoleTrainer.init, RoleTrainer.policy, RoleTrainer.returns, RoleTrainer.advantages)
)
gains_of = jax.jit(RoleTrainer.gains, static_argnums=(0, 3))
measured_of = jax.jit(RoleTrainer._measured, static_argnums=0)


@cache
def tiny(seed: int = 0) -> TabularModel:
    """Agents 0, 1, 2 act once each, then it is over; two hidden states behind each interface but the first.

    State 0 is the prompt; 1, 2 belong to agent 1, 3, 4 to agent 2; 5 is the end. Only three of four options exist at
    the first interface, and some options end the episode early.
    """
    rng = np.random.default_rng(seed)
    law = np.zeros((6, 3, 6))
    law[0, :, 1:3] = rng.dirichlet(np.ones(2), size=3)
    law[1:3, :, 3:] = rng.dirichlet(np.ones(3), size=(2, 3))
    law[3:, :, 5] = 1.0
    return TabularModel(
        reward_rate=rng.normal(size=(6, 3)),
        agent=np.array([0, 1, 1, 2, 2, 0]),
        interface=np.array([0, 1, 2, 3, 3, 4]),
        gamma=0.9,
        transition=law,
        duration=np.eye(2)[rng.integers(2, size=(6, 3))],
        features=rng.normal(size=(5, 4)),
        available=np.array([[True, True, False], *[[True] * 3] * 4]),
        start=np.eye(6)[0],
        terminal=np.arange(6) == 5,
    )


def trainer(model: TabularModel, roles: tuple[int, ...] = ROLES, **fields: Any) -> tuple[RoleTrainer, Inputs]:
    env, params = tabular_env(model)
    fields = {"longest": 3, "prompts": 4, "samples": 4, **fields}
    values = fields.pop("values", linear(model.num_agents, model.num_options))
    made = RoleTrainer(env, values, roles, **fields)
    assert model.features is not None
    inputs = Inputs(
        env_params=params,
        data=jnp.asarray(model.features, jnp.float32),
        interface_agent=jnp.asarray(model.interface_agent, jnp.int32),
        mask=jnp.asarray(model.option_mask),
        group_of_agent=jnp.asarray(groups_of("isolated", roles), jnp.int32),
        scaled=jnp.asarray(False),
        own_credit=jnp.asarray(False),
        learning_rate=jnp.float32(0.5),
        anchor=jnp.zeros(max(roles) + 1, jnp.float32),
        damping=jnp.float32(0),
        memory=jnp.float32(0.9),
    )
    return made, inputs


def share(inputs: Inputs, sharing: str, roles: tuple[int, ...] = ROLES) -> Inputs:
    return inputs._replace(group_of_agent=jnp.asarray(groups_of(sharing, roles), jnp.int32))


def softmax_policy(model: TabularModel, theta: np.ndarray, groups: tuple[int, ...]) -> np.ndarray:
    """The policy in float64, written anew: ``theta [G, O, D]``."""
    assert model.features is not None
    table = np.zeros((model.num_interfaces, model.num_options))
    for z, agent in enumerate(model.interface_agent):
        if agent < 0:
            table[z, 0] = 1.0
            continue
        logits = np.where(model.option_mask[z], theta[groups[agent]] @ model.features[z], -np.inf)
        table[z] = np.exp(logits - logits.max())
        table[z] /= table[z].sum()
    return table


def all_episodes(model: TabularModel, policy: np.ndarray) -> tuple[Episodes, np.ndarray]:
    """Every episode that can happen, with its probability; rewards are deterministic here."""
    assert model.transition is not None and model.duration is not None
    rows: list[tuple[float, list[tuple]]] = []

    def walk(s: int, chance: float, weight: float, path: list[tuple]) -> None:
        if model.is_terminal[s] or len(path) == 3:
            rows.append((chance, path))
            return
        z = int(model.interface[s])
        for o, after in itertools.product(range(model.num_options), range(model.num_states)):
            p = policy[z, o] * model.transition[s, o, after]
            if p > 0:
                tau = 1 + int(model.duration[s, o].argmax())
                reward = model.reward_rate[s, o] * sum(model.gamma**t for t in range(tau))
                step = (int(model.agent[s]), z, o, reward, weight, True)
                walk(after, chance * p, weight * model.gamma**tau, [*path, step])

    walk(0, 1.0, 1.0, [])
    padded = [path + [(0, 0, 0, 9.0, 9.0, False)] * (3 - len(path)) for _, path in rows]
    columns = zip(*(zip(*path, strict=True) for path in padded), strict=True)
    types = (jnp.int32, jnp.int32, jnp.int32, jnp.float32, jnp.float32, bool)
    leaves = [jnp.asarray(np.array(column).T, kind) for column, kind in zip(columns, types, strict=True)]
    return Episodes(*leaves), np.array([chance for chance, _ in rows])


@pytest.mark.parametrize(("sharing", "seed"), [("shared", 0), ("isolated", 1), ("single", 0)])
def test_gradient_against_finite_differences_of_the_exact_return(sharing: str, seed: int) -> None:
    """All episodes of a small model, weighed by their probabilities, give the gradient of its exact return."""
    model = tiny(seed)
    made, inputs = trainer(model)
    groups = groups_of(sharing, ROLES)
    inputs = share(inputs, sharing)
    theta = np.random.default_rng(seed + 7).normal(size=(3, 3, 4))
    policy = softmax_policy(model, theta, groups)
    params = jnp.asarray(theta, jnp.float32)
    np.testing.assert_allclose(policy_of(made, params, inputs)[:4], policy[:4], atol=1e-6)

    episodes, probability = all_episodes(model, policy)
    returns = np.asarray(returns_of(made, episodes, inputs.own_credit))
    exact = Returns(model)
    assert float((returns[0] * probability).sum()) == pytest.approx(exact.of(policy), abs=1e-5)
    chance = np.asarray(probability, np.float32)
    gains = gains_of(made, episodes, returns, len(inputs.mask), chance)
    found = np.asarray(gradients(made, params, gains, inputs)).sum(axis=0)

    wanted = np.zeros_like(theta)
    for index in np.ndindex(theta.shape):
        bump = np.zeros_like(theta)
        bump[index] = 1e-5
        up, down = (exact.of(softmax_policy(model, theta + s * bump, groups)) for s in (1, -1))
        wanted[index] = (up - down) / 2e-5
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert np.abs(wanted).max() > 0.01
    # a constant baseline changes nothing, because probabilities of all episodes sum to 1
    gains = gains_of(made, episodes, returns - 3.0, len(inputs.mask), chance)
    np.testing.assert_allclose(np.asarray(gradients(made, params, gains, inputs)).sum(axis=0), wanted, atol=5e-5)


def test_agents_parts_belong_to_their_parameters() -> None:
    """With parameters of their own, each agent's part is zero in everybody else's."""
    made, inputs = trainer(tiny())
    gains = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    params = np.asarray(init(made, KEY, inputs).params) + 0.3
    parts = np.asarray(gradients(made, params, gains, share(inputs, "single")))
    for agent, group in itertools.product(range(3), repeat=2):
        assert (np.abs(parts[agent, group]).max() > 0) == (agent == group)
    together = np.asarray(gradients(made, params, gains, share(inputs, "shared")))
    np.testing.assert_allclose(together[:, 0], parts.sum(axis=1), atol=1e-6)
    assert not together[:, 1:].any()


@pytest.mark.slow
def test_group_mean_shrinks_the_gradient_by_a_known_factor() -> None:
    """With the batch's own mean as baseline the expectation is (n - 1) / n of the gradient; a test at 5 sigma."""
    model = tiny()
    made, inputs = trainer(model, prompts=1, samples=4)
    plain = trainer(model, prompts=1, samples=4, baseline="none")[0]
    theta = jnp.asarray(np.random.default_rng(3).normal(size=(3, 3, 4)), jnp.float32)

    @jax.jit
    def one(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        episodes = made.collect(key, theta, inputs)
        returns = made.returns(episodes, inputs.own_credit)
        both = []
        for which in (made, plain):
            gains = which.gains(episodes, which.advantages(returns, jnp.zeros(2), inputs.scaled), 5)
            both.append(which.gradients(theta, gains, inputs).sum(axis=0))
        return both[0], both[1]

    with_mean, without = jax.vmap(one)(jax.random.split(KEY, 4096))
    away = np.asarray(with_mean - 0.75 * without)
    error = away.std(axis=0) / np.sqrt(len(away))
    assert (np.abs(away.mean(axis=0)) <= 5 * error + 1e-6).all()
    assert np.abs(np.asarray(without).mean(axis=0)).max() > 5 * np.asarray(without).std(axis=0).max() / np.sqrt(4096)


def test_episodes_follow_the_policy_and_groups_share_the_prompt() -> None:
    """Mean return within 5 standard errors of the exact one; options by their law; equal prompts inside a group."""
    model = tiny().replace(start=np.array([0.3, 0.3, 0.4, 0, 0, 0]))
    made, inputs = trainer(model, prompts=2048, samples=4)
    theta = np.random.default_rng(2).normal(size=(3, 3, 4)).astype(np.float32)
    episodes = collect(made, KEY, theta, inputs)
    policy = softmax_policy(model, theta.astype(np.float64), groups_of("isolated", ROLES))
    value = np.asarray(returns_of(made, episodes, inputs.own_credit))[0]
    groups = value.reshape(2048, 4).mean(axis=1)
    assert abs(groups.mean() - Returns(model).of(policy)) < 5 * groups.std() / np.sqrt(2048)
    episodes = jax.device_get(episodes)
    first = episodes.interface[0].reshape(2048, 4)
    assert (first == first[:, :1]).all() and len(np.unique(first)) == 3
    for z in range(4):
        counts = np.bincount(episodes.option[episodes.active & (episodes.interface == z)], minlength=3)
        assert chi_square(counts, policy[z]) > 1e-5 and counts.sum() > 1000
    active = episodes.active
    assert (active[1:] <= active[:-1]).all() and not active.all()


def test_own_credit_splits_the_return_and_scaling_has_unit_spread() -> None:
    made, inputs = trainer(tiny(), prompts=16, samples=8)
    episodes = collect(made, KEY, init(made, KEY, inputs).params, inputs)
    whole, own = (np.asarray(returns_of(made, episodes, own_credit)) for own_credit in (False, True))
    np.testing.assert_allclose(whole[0], own.sum(axis=0), atol=1e-5)
    np.testing.assert_array_equal(whole[0], whole[1])
    nothing = np.zeros(2, np.float32)
    scaled = np.asarray(advantages(made, whole, nothing, True)).reshape(2, 16, 8)
    np.testing.assert_allclose(scaled.std(axis=2), 1, atol=1e-3)
    np.testing.assert_allclose(scaled.mean(axis=2), 0, atol=1e-5)
    assert not np.asarray(advantages(made, np.ones((2, 128), np.float32), nothing, True)).any()
    running = trainer(tiny(), baseline="running")[0]
    away = advantages(running, np.ones((2, 16), np.float32), np.array([0.25, 1.0], np.float32), False)
    np.testing.assert_allclose(np.asarray(away)[:, 0], [0.75, 0.0])


def test_one_role_alone() -> None:
    """If only one role ever acts, sharing makes no difference, bit for bit."""
    start = np.array([0, 0, 0, 0.5, 0.5, 0])  # agent 2 alone acts
    made, inputs = trainer(tiny().replace(start=start))
    runs = [jax.device_get(run(made, KEY, share(inputs, s), 3, 4)) for s in ("shared", "isolated", "single")]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].policy[:, 3], other.policy[:, 3])
        np.testing.assert_array_equal(runs[0].metrics.norm, other.metrics.norm)
    assert np.abs(runs[0].policy[-1, 3] - runs[0].policy[0, 3]).max() > 0.05
    assert not runs[0].metrics.norm[:, 0].any()  # role 0 never acts
    np.testing.assert_allclose(runs[0].metrics.alignment[:, 1], 1, atol=1e-5)


def test_roles_touch_one_another_only_if_they_share() -> None:
    """A role that is paid alone moves another's policy if parameters are shared, and only then."""
    model = tiny().replace(reward_rate=np.where(np.arange(6)[:, None] == 0, tiny().reward_rate, 0.0))
    made, inputs = trainer(model)
    inputs = inputs._replace(own_credit=jnp.asarray(True))
    moved = {}
    for sharing in ("shared", "isolated"):
        history = jax.device_get(run(made, KEY, share(inputs, sharing), 3, 4))
        moved[sharing] = float(np.abs(history.policy[-1, 1] - history.policy[0, 1]).max())
    assert moved["isolated"] == 0 and moved["shared"] > 1e-3


def test_anchor_is_the_gradient_of_the_divergence() -> None:
    """Without any reward the step is minus the weight times the gradient of the mean divergence; zero at the start."""
    model = tiny().replace(reward_rate=np.zeros((6, 3)))
    made, inputs = trainer(model)
    inputs = inputs._replace(anchor=jnp.asarray([0.0, 0.7]), learning_rate=jnp.float32(1))
    state = jax.device_get(init(made, KEY, inputs))
    still, _ = update(made, KEY, state, inputs)
    np.testing.assert_allclose(still.params, state.params, atol=1e-7)

    theta = np.random.default_rng(1).normal(size=(3, 3, 4))
    state = state._replace(params=theta.astype(np.float32))
    after, _ = jax.device_get(update(made, KEY, state, inputs))
    episodes = jax.device_get(collect(made, KEY, state.params, inputs))
    seen = [int((episodes.active & (episodes.interface == z)).sum()) for z in range(4)]
    groups = groups_of("isolated", ROLES)
    first = softmax_policy(model, np.zeros_like(theta), groups)

    def objective(theta: np.ndarray) -> float:
        now = softmax_policy(model, theta, groups)
        return -0.7 * sum(seen[z] / 16 * (now[z] * np.log(now[z] / first[z])).sum() for z in (1, 2, 3))

    wanted = np.zeros_like(theta)
    for index in np.ndindex(theta.shape):
        bump = np.zeros_like(theta)
        bump[index] = 1e-5
        wanted[index] = (objective(theta + bump) - objective(theta - bump)) / 2e-5
    np.testing.assert_allclose(after.params - state.params, wanted, atol=1e-5)
    assert not (after.params - state.params)[0].any() and np.abs(wanted).max() > 0.05


def test_damping_by_hand() -> None:
    """The factor is 1 - lambda max(0, cos) with the moving average from before; parameters move by the damped sum."""
    made, inputs = trainer(tiny())
    inputs = inputs._replace(damping=jnp.float32(0.8), learning_rate=jnp.float32(1))
    state = jax.device_get(init(made, KEY, inputs))
    free, measured = jax.device_get(update(made, KEY, state, inputs))
    np.testing.assert_allclose(measured.factor, 1.0)  # there is no average yet
    gradient = free.params[:2].reshape(2, -1)  # one set for each role, from 0, at rate 1
    np.testing.assert_allclose(free.average, 0.1 * gradient, atol=1e-6)
    for sign in (1.0, -1.0):
        memory = state._replace(average=np.float32(sign) * free.average)
        damped, measured = update(made, KEY, memory, inputs)
        np.testing.assert_allclose(measured.factor, 0.2 if sign > 0 else 1.0, atol=1e-5)
        np.testing.assert_allclose(damped.params, (0.2 if sign > 0 else 1.0) * free.params, atol=1e-6)


def test_what_is_measured() -> None:
    """Amplification is 3 for equal agents, sqrt(2) for orthogonal ones; masses are norms times shares of decisions."""
    made, _ = trainer(tiny(), roles=(0, 0, 0))
    one = np.ones(1, np.float32)
    same = np.array([[1.0, -2.0]] * 3, np.float32)
    found = measured_of(made, np.float32(1), one, same, same.sum(axis=0, keepdims=True), one, one, one)
    assert float(found.amplification[0]) == pytest.approx(3)
    made, _ = trainer(tiny())
    agents = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]], np.float32)
    roles = np.array([[1.0, 1.0], [2.0, 2.0]], np.float32)
    visits = np.array([1.0, 3.0], np.float32)
    found = jax.device_get(measured_of(made, np.float32(1), visits, agents, roles, visits, visits, visits))
    assert np.isnan(found.amplification[0]) and float(found.amplification[1]) == pytest.approx(2**0.5)
    np.testing.assert_allclose(found.mass, [2**0.5 / 4, 8**0.5 * 3 / 4], rtol=1e-6)
    np.testing.assert_allclose(found.cosine, 1, atol=1e-6)


@pytest.mark.slow
def test_networks_and_optimisers_fit_in_and_batches_of_runs_equal_single_ones() -> None:
    model = tiny()
    made, inputs = trainer(model, values=mlp(3, 3, 8, depth=1), optimiser=optax.scale_by_adam(), samples=2)
    keys = jax.random.split(KEY, 4)
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), inputs)
    lanes = lanes._replace(learning_rate=jnp.asarray([0.01, 0.1, 0.2, 0.3]))
    state = jax.vmap(made.init)(keys, lanes)
    several = jax.jit(jax.vmap(made.update))
    after, metrics = several(keys, state, lanes)
    after, metrics = several(keys, after, lanes)
    assert metrics.cosine.shape == (4, 2, 2)
    index = jax.tree.map(lambda leaf: leaf[jnp.asarray([2, 2, 2, 2])], (keys, state, lanes))
    again = several(index[0], several(*index)[0], index[2])[0]
    for one, other in zip(jax.tree.leaves(after.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_allclose(one[2], other[0], atol=1e-5)
        assert np.abs(one[2] - one[1]).max() > 1e-3
    policy = np.asarray(made.policy(jax.tree.map(lambda leaf: leaf[0], after.params), inputs))
    np.testing.assert_allclose(policy.sum(axis=-1), 1, atol=1e-5)
    assert policy[0, 2] == 0  # not available there


@pytest.mark.slow
def test_learning_reaches_what_can_be_had() -> None:
    """On the small model the return ends within 2 % of the best policy that interfaces allow, from far below."""
    model = tiny()
    made, inputs = trainer(model, prompts=8, samples=8)
    inputs = share(inputs, "single")._replace(learning_rate=jnp.float32(1))
    histories = jax.jit(jax.vmap(lambda k: made.run(k, inputs, 5, 100)))(jax.random.split(KEY, 4))
    exact = Returns(model)
    choices = [np.flatnonzero(model.option_mask[z]) for z in range(4)]
    best = max(exact.of(np.array([*choice, 0]), by_state=False) for choice in itertools.product(*choices))
    policies = np.asarray(histories.policy, np.float64)
    first, last = exact.of(policies[0, 0]), [exact.of(p) for p in policies[:, -1]]
    assert first < best - 0.3 and min(last) > best - 0.02 * abs(best - first)


def test_sharing_and_codes() -> None:
    assert groups_of("shared", (0, 1, 1)) == (0, 0, 0)
    assert groups_of("isolated", (0, 1, 1)) == (0, 1, 1)
    assert groups_of("single", (0, 1, 1)) == (0, 1, 2)
    with pytest.raises(ValueError, match="sharing = 'none': expected 'shared', 'isolated' or 'single'"):
        groups_of("none", (0,))
    coded = with_role_code(np.ones((3, 2)), np.array([0, 2, -1]), (0, 1, 1))
    np.testing.assert_array_equal(coded, [[1, 1, 1, 0], [1, 1, 0, 1], [1, 1, 0, 0]])
    assert coded.dtype == np.float32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"roles": (0, 0)}, r"role_of_agent = \(0, 0\): expected 3 numbers"),
        ({"roles": (0, 2, 2)}, r"role_of_agent = \(0, 2, 2\): expected 3 numbers, counted from 0 without gaps"),
        ({"baseline": "mean"}, "baseline = 'mean': expected one of group, running, none"),
        ({"samples": 0}, "samples = 0: expected 1 or more"),
        ({"samples": 1}, "samples = 1: expected 2 or more"),
        ({"longest": 0}, "longest = 0: expected 1 or more"),
    ],
)
def test_bad_arguments(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(tiny(), **fields)
    assert role_gradients.BASELINES == ("group", "running", "none")
