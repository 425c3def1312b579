"""Rewards paid with the last step of a segment: simulated, bounded and analysed as the format defines them.

The exact analysis of random models with lumps is compared with the NumPy twin in ``test_exact_twin.py`` and
``test_large_models.py``.
"""

from __future__ import annotations

import json
from fractions import Fraction
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bound_validation.sweep.parts import shape_of
from icsmdp_jax.cli import main
from icsmdp_jax.envs.tabular import TabularState, tabular_env
from icsmdp_jax.exact import analyse, kernel_moments
from icsmdp_jax.exact.payments import largest_reward
from icsmdp_jax.exact.returns import central_model
from icsmdp_jax.learner.experiment import learn
from icsmdp_jax.learner.message_bounds import model_value_range
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import as_model, chi_square, constants
from tests.reference import twin
from tests.reference.models import Model, decision_pairs, joint_kernel, random_model, uniform_behaviour

ALARM = 1e-6
FORMS = ("dense", "joint", "lists")


def example(form: str, noise: float = 0.0, seed: int = 0, **changes: object) -> Model:
    """A random model with lumps of every kind, masks and terminal states; not every state can follow every pair."""
    arrays = random_model(
        np.random.default_rng(seed),
        joint_kernel=form == "joint",
        successor_lists=form == "lists",
        masks=True,
        terminals=True,
        noise=noise,
        lumps=True,
        **{"options": 3, "gamma": 0.8, **changes},  # type: ignore[arg-type]
    )
    if form == "dense":
        kept = np.random.default_rng(seed + 1).random(arrays["transition"].shape) < 0.7
        law = arrays["transition"] * kept + 1e-3 * np.roll(np.eye(kept.shape[0]), 1, axis=1)[:, None]
        arrays["transition"] = law / law.sum(axis=2, keepdims=True)
    return arrays


@cache
def drawn(form: str, noise: float, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``count`` segments from every decision pair: the pairs, and ``[pairs, count]`` rewards, ``tau - 1``, ends."""
    model = as_model(example(form, noise))
    env, params = tabular_env(model)
    pairs = np.argwhere(kernel_moments(model).used)
    keys = jax.random.split(jax.random.key(11), (len(pairs), count))

    def one(key: jax.Array, state: jax.Array, option: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        handoff, entered = env.step_env(key, TabularState(state), option, params)
        return handoff.reward, handoff.duration - 1, entered.index

    run = jax.jit(jax.vmap(jax.vmap(one, in_axes=(0, None, None))))
    found = run(keys, *(jnp.asarray(column, jnp.int32) for column in pairs.T))
    return pairs, *(np.asarray(part) for part in found)


@pytest.mark.parametrize("form", FORMS)
def test_every_segment_pays_by_its_duration_and_its_end(form: str) -> None:
    arrays = example(form)
    pairs, reward, index, entered = drawn(form, 0.0, 2000)
    kernel = joint_kernel(arrays)
    wanted = twin.payments(arrays, kernel.shape[2])
    s, o = pairs[:, 0, None], pairs[:, 1, None]
    np.testing.assert_allclose(reward, wanted[s, o, index, entered], rtol=1e-5, atol=1e-5)
    # And the pairs of duration and end are those of the law, terminal ones included.
    terminal = np.asarray(arrays["terminal"])
    assert terminal[entered].any() and len(np.unique(index)) > 1
    pvalues = []
    for row, (s_, o_) in enumerate(pairs):
        cells = np.bincount(index[row] * len(terminal) + entered[row], minlength=kernel[s_, o_].size)
        pvalues.append(chi_square(cells.reshape(kernel[s_, o_].shape), kernel[s_, o_]))
    assert min(pvalues) > ALARM / len(pvalues)


@pytest.mark.parametrize("form", FORMS)
def test_sample_moments_are_the_exact_ones(form: str) -> None:
    """Mean and mean square of noisy rewards at every pair, in units of their own standard errors."""
    pairs, reward, _, _ = drawn(form, 0.5, 8000)
    moments = kernel_moments(as_model(example(form, 0.5)))
    for power, exact in ((1, moments.reward_mean), (2, moments.reward_square)):
        sample = reward.astype(np.float64) ** power
        z = (sample.mean(axis=1) - exact[tuple(pairs.T)]) / (sample.std(axis=1) / np.sqrt(sample.shape[1]))
        assert 2 * stats.norm.sf(np.abs(z).max()) > ALARM / len(z)


def two_prices() -> TabularModel:
    """One listed next state at two prices: 4 with probability 1/4, -2 with 1/2; else the end of the episode for 1."""
    return TabularModel(
        reward_rate=np.array([[3.0], [0.0], [0.0]]),
        lump_reward=np.array([[0.5], [0.0], [0.0]]),
        lump_reward_next=np.array([[[4.0, -2.0, 1.0, 9.0]], [[0, 0, 7.0, 0]], [[0, 0, 0, 0]]]),
        agent=np.zeros(3, int),
        interface=np.array([0, 1, 1]),
        gamma=0.5,
        successor=np.array([[[1, 1, 2, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]]),
        probability=np.array([[[0.25, 0.5, 0.25, 0.0]], [[0, 0, 1.0, 0]], [[0, 0, 0, 0]]]),
        duration=np.tile([0.25, 0.0, 0.75], (3, 1, 1)),
        start=np.array([1.0, 0.0, 0.0]),
        terminal=np.array([False, False, True]),
    )


def test_two_prices_of_one_next_state_by_hand() -> None:
    model = two_prices()
    known = analyse(model)
    half = Fraction(1, 2)
    ends = [(4, Fraction(1, 4)), (-2, half), (1, Fraction(1, 4))]
    mean = square = Fraction(0)
    for tau, p in ((1, Fraction(1, 4)), (3, Fraction(3, 4))):
        for lump, q in ends:
            paid = 3 * sum(half**t for t in range(tau)) + half ** (tau - 1) * (half + lump)
            mean, square = mean + p * q * paid, square + p * q * paid**2
    moments = known.interface.moments
    assert moments.reward_mean[0, 0] == pytest.approx(float(mean), rel=1e-14)
    assert moments.reward_square[0, 0] == pytest.approx(float(square), rel=1e-14)
    # V(0) = mean + (3/4) E[gamma^tau] V(1) and V(1) = E[gamma^(tau-1)] 7 + E[gamma^tau] V(0).
    g = Fraction(1, 4) * half + Fraction(3, 4) * half**3
    value = (mean + Fraction(3, 4) * g * 7 * g / half) / (1 - Fraction(3, 4) * g * g)
    assert known.q_star.value[0] == pytest.approx(float(value), rel=1e-12)
    env, params = tabular_env(model)
    keys = jax.random.split(jax.random.key(3), 20_000)
    step = jax.vmap(lambda key: env.step_env(key, TabularState(jnp.int32(0)), jnp.int32(0), params)[0])
    handoff = jax.jit(step)(keys)
    short = np.asarray(handoff.reward)[np.asarray(handoff.duration) == 1]
    counts = [np.isclose(short, 3.5 + lump).sum() for lump, _ in ends]
    assert sum(counts) == len(short) > 4000
    assert chi_square(np.array(counts), np.array([float(q) for _, q in ends])) > ALARM


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_the_largest_reward_is_a_bound_and_is_met(form: str, seed: int) -> None:
    arrays = example(form, 0.25, seed)
    kernel = joint_kernel(arrays)
    possible = (kernel > 0) & decision_pairs(arrays)[:, :, None, None]
    largest = np.abs(twin.payments(arrays, kernel.shape[2])[possible]).max() + 0.25
    assert analyse(as_model(arrays)).reward_max == pytest.approx(largest, rel=1e-12)


def test_the_range_of_values_is_met_by_lumps() -> None:
    """One state, one step: 2 for ever; and with an end after it, 2 or 2 for ever, whichever lies further out."""
    model = TabularModel(
        reward_rate=np.array([[-1.0]]), lump_reward=np.array([[3.0]]), agent=np.array([0]), interface=np.array([0]),
        gamma=0.75, transition=np.ones((1, 1, 1)), duration=np.ones((1, 1, 1)),
    )  # fmt: skip
    assert model_value_range(model) == (8.0, 8.0)
    longer = model.replace(duration=np.array([[[0.0, 1.0]]]))  # -1, and then 2 with the second step
    found, value = model_value_range(longer), analyse(longer).q_star.value[0]
    assert value == pytest.approx(0.5 / (1 - 0.75**2)) and found.low <= value <= found.high
    assert found == pytest.approx((value, value))  # all segments are alike


def test_rounding_errors_are_relative_to_what_cancels() -> None:
    """A rate and two lumps whose mean is 0: the size that errors are measured by is that of their absolute values."""
    model = two_prices().replace(
        reward_rate=np.array([[2.0], [0], [0]]), lump_reward=None, gamma=0.0,
        lump_reward_next=np.array([[[2.0, -2.0, -6.0, 0.0]], [[0, 0, 7.0, 0]], [[0, 0, 0, 0]]]),
        duration=np.tile([1.0, 0.0, 0.0], (3, 1, 1)),
    )  # fmt: skip
    moments = kernel_moments(model)
    assert moments.reward_mean[0, 0] == 2 + 0.5 - 1 - 1.5 == 0
    np.testing.assert_allclose(moments.reward_size.ravel(), [2 + 0.5 + 1 + 1.5, 7, 0], rtol=1e-15)


# Statements of the same model in other words


def assert_same(first: TabularModel, second: TabularModel) -> None:
    one, two = analyse(first), analyse(second)
    assert one.reward_max == pytest.approx(two.reward_max, rel=1e-12)
    for name, value in constants(one).items():
        assert value == pytest.approx(constants(two)[name], rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("form", FORMS)
def test_a_step_that_is_the_last_pays_its_rate_as_a_lump(form: str) -> None:
    model = as_model(example(form, 0.3, longest=1))
    assert model.lump_reward is not None
    moved = model.replace(
        reward_rate=np.zeros_like(model.reward_rate), lump_reward=model.lump_reward + model.reward_rate
    )
    assert_same(model, moved)


@pytest.mark.parametrize("form", FORMS)
def test_a_lump_of_a_pair_is_one_of_all_its_ends(form: str) -> None:
    model = as_model(example(form, 0.3))
    assert model.lump_reward is not None and model.lump_reward_next is not None
    folded = model.replace(lump_reward=None, lump_reward_next=model.lump_reward_next + model.lump_reward[:, :, None])
    assert_same(model, folded)
    np.testing.assert_allclose(folded.arrays()["lump_reward_next"].sum(), _sum_of_possible(model), rtol=1e-12)


def _sum_of_possible(model: TabularModel) -> float:
    law = model.transition if model.kernel is None else model.kernel.sum(axis=2)
    possible = (model.probability if law is None else law) > 0  # type: ignore[operator]
    assert model.lump is not None
    return float(np.where(possible, model.lump, 0.0).sum())


def test_lumps_of_nothing_change_nothing() -> None:
    plain = as_model({k: v for k, v in example("dense").items() if not k.startswith("lump")})
    shape = (plain.num_states, plain.num_options)
    zero = plain.replace(lump_reward=np.zeros(shape), lump_reward_next=np.zeros((*shape, plain.num_states)))
    assert_same(plain, zero)


def test_a_chain_with_one_more_state_pays_the_same() -> None:
    """What a format without lumps has to say: a payment is the rate of one more option, which lasts one step.

    State 1 pays 2, and 2 + 5 with the second step; in other words, 2 with one step and 7 in a state of its own.
    """
    lumps = TabularModel(
        reward_rate=np.array([[1.0], [2.0]]),
        lump_reward=np.array([[0.0], [5.0]]),
        agent=np.array([0, 0]),
        interface=np.array([0, 1]),
        gamma=0.9,
        transition=np.array([[[0.5, 0.5]], [[1.0, 0.0]]]),
        duration=np.array([[[1.0, 0.0]], [[0.0, 1.0]]]),
    )
    longer = TabularModel(
        reward_rate=np.array([[1.0], [2.0], [7.0]]),
        agent=np.array([0, 0, 0]),
        interface=np.array([0, 1, 2]),
        gamma=0.9,
        transition=np.array([[[0.5, 0.5, 0]], [[0, 0, 1.0]], [[1.0, 0, 0]]]),
        duration=np.ones((3, 1, 1)),
    )
    np.testing.assert_allclose(analyse(lumps).q_star.value, analyse(longer).q_star.value[:2], rtol=1e-12)


def test_the_central_view_and_changed_copies_keep_the_lumps() -> None:
    model = as_model(example("lists"))
    central = central_model(model)
    for name in ("lump_reward", "lump_reward_next"):
        np.testing.assert_array_equal(getattr(central, name), getattr(model, name))
    np.testing.assert_allclose(analyse(central).q_star.value, analyse(model).q_star.value, rtol=0, atol=1e-9)
    assert largest_reward(model.replace(gamma=0.0), kernel_moments(model).used) > 0  # gamma^0 = 1 at the first step


def test_lumps_without_discounting_later_steps() -> None:
    """gamma = 0: only a segment of one step ever pays its lump."""
    arrays = example("joint", gamma=0.0)
    kernel = joint_kernel(arrays)
    wanted = (kernel * twin.payments(arrays, kernel.shape[2])).sum(axis=(2, 3))
    used = decision_pairs(arrays)
    np.testing.assert_allclose(kernel_moments(as_model(arrays)).reward_mean[used], wanted[used], rtol=1e-12)


def test_the_commands_read_lumps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``analyse`` and ``solve`` against the twin, by way of a file."""
    arrays = example("lists", 0.2)
    np.savez(tmp_path / "m.npz", **arrays)
    assert main(["analyse", str(tmp_path / "m.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    behaviour = uniform_behaviour(arrays)
    assert found["epsilon"] == pytest.approx(twin.ais_constants(arrays, behaviour).epsilon, rel=1e-9)
    assert found["clt_coefficient"] == pytest.approx(twin.central_limit(arrays, behaviour).coefficient, rel=1e-8)
    assert main(["solve", str(tmp_path / "m.npz"), "--out", str(tmp_path / "s.npz")]) == 0
    with np.load(tmp_path / "s.npz") as solution:
        np.testing.assert_allclose(solution["q_star"], twin.optimal_q(arrays), rtol=0, atol=1e-9)
        np.testing.assert_allclose(solution["q_interface"], twin.interface_q(arrays, behaviour), rtol=0, atol=1e-9)


@pytest.mark.slow
def test_learning_spreads_as_the_central_limit_of_lumps_says() -> None:
    """64 replicas, within their sampling error; without the lumps, or without Poisson terms, it is 20 % off."""
    options = {"successor_lists": True, "terminals": True, "masks": True, "gamma": 0.8, "noise": 0.1}
    model = as_model(random_model(np.random.default_rng(5), lumps=True, **options))  # type: ignore[arg-type]
    known = analyse(model)
    found = learn(known, 40_000, 64, 0).summary
    unit = np.sqrt(found["tail_samples"])
    assert found["spread"] == pytest.approx(known.limit.coefficient / unit, rel=0.1)
    without = analyse(model.replace(lump_reward=None, lump_reward_next=None)).limit.coefficient
    for wrong in (known.limit.coefficient_iid, without):
        assert found["spread"] > 1.2 * wrong / unit


def test_models_of_one_shape_are_lanes_of_one_program() -> None:
    """Sweeps stack the parameters of models whose shapes agree: then their trees and arrays must agree too."""
    count = 3
    lists = {
        "successor": np.arange(count).reshape(count, 1, 1), "probability": np.ones((count, 1, 1)),
        "duration": np.ones((count, 1, 1)), "reward_rate": np.ones((count, 1)), "agent": np.zeros(count, int),
        "interface": np.arange(count), "gamma": 0.5,
    }  # fmt: skip
    lump, following = {"lump_reward": np.ones((count, 1))}, {"lump_reward_next": np.ones((count, 1, 1))}
    models = [TabularModel(**lists | more) for more in ({}, lump, following, lump | following)]  # type: ignore[arg-type]

    def traced(model: TabularModel) -> tuple:
        leaves, tree = jax.tree.flatten(tabular_env(model)[1])
        return tree, tuple(leaf.shape for leaf in leaves)

    for one in models:
        for other in models:
            assert (shape_of(one, 0) == shape_of(other, 0)) == (traced(one) == traced(other))
    assert len({shape_of(model, 0) for model in models}) == 3
