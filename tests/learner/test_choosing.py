"""How options are chosen: laws against chi-square, masks, limits of temperature and epsilon, ties, ramps.

Every chi-square test below fails for one key in 10^4 if the law is right; the keys are fixed.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from icsmdp_jax.learner import exploration, networks
from icsmdp_jax.learner.exploration import best_option, boltzmann, ramp, uniform_option, unit
from tests.helpers import chi_square, examples
from tests.learner.courier import AGENTS, DIM, OPTIONS, hyper, learner, random_like, random_rows

DRAWS = 40_000
LEVEL = 1e-4
WORDS = jax.random.bits(jax.random.key(0), (DRAWS,), jnp.uint32)
EXTREMES = jnp.array([0, 255, 256, 2**31, 2**32 - 257, 2**32 - 1], jnp.uint32)

uniform_all = jax.jit(jax.vmap(uniform_option, in_axes=(0, None)))
boltzmann_all = jax.jit(jax.vmap(boltzmann, in_axes=(0, None, None, None)))
masks = st.lists(st.booleans(), min_size=4, max_size=4).filter(any).map(lambda bits: np.array(bits))
floats = st.floats(-1e4, 1e4, width=32)


def counts(options: Any, length: int) -> np.ndarray:
    return np.bincount(np.asarray(options), minlength=length)


@pytest.mark.parametrize("mask", [[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [1, 0, 0, 0, 1], [0, 0, 1, 0, 0]])
def test_uniform_options_are_uniform_over_what_is_available(mask: list[int]) -> None:
    available = np.array(mask, bool)
    drawn = uniform_all(WORDS, available)
    assert drawn.dtype == jnp.int32
    assert chi_square(counts(drawn, 5), available / available.sum()) > LEVEL


@pytest.mark.parametrize("temperature", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("mask", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1]])
def test_boltzmann_draws_from_its_law(mask: list[int], temperature: float) -> None:
    values, available = np.array([1.0, 5.0, 0.5, -0.2]), np.array(mask, bool)
    law = np.where(available, np.exp((values - values.max()) / temperature), 0.0)
    drawn = boltzmann_all(WORDS, jnp.asarray(values, jnp.float32), available, jnp.float32(temperature))
    assert chi_square(counts(drawn, 4), law / law.sum()) > LEVEL


def test_the_chi_square_notices_a_wrong_temperature() -> None:
    values, available = jnp.array([1.0, 0.5, 0.0]), jnp.ones(3, bool)
    law = np.exp(np.asarray(values, float) / 1.1)
    drawn = boltzmann_all(WORDS, values, available, jnp.float32(1.0))
    assert chi_square(counts(drawn, 3), law / law.sum()) < LEVEL


@examples(150)
@given(masks, st.lists(floats, min_size=4, max_size=4), st.floats(2.0**-40, 2.0**20, width=32))
def test_closed_options_are_never_chosen(available: np.ndarray, values: list[float], temperature: float) -> None:
    """Whatever the words, the values and the temperature; with no option at all it is option 0."""
    table = jnp.asarray(values, jnp.float32)
    for mask in (available, np.zeros(4, bool)):
        drawn = (
            uniform_all(EXTREMES, mask),
            boltzmann_all(EXTREMES, table, mask, jnp.float32(temperature)),
            best_option(table, jnp.asarray(mask)).reshape(1),
        )
        for options in map(np.asarray, drawn):
            assert (mask[options].all() if mask.any() else (options == 0).all()) and options.dtype == np.int32


@examples(100)
@given(masks, st.lists(floats, min_size=4, max_size=4))
def test_best_option_is_the_first_of_the_best(available: np.ndarray, values: list[float]) -> None:
    table = np.array(values, np.float32)
    best = max(v for v, allowed in zip(table, available, strict=True) if allowed)
    wanted = next(o for o in range(4) if available[o] and table[o] == best)
    assert int(best_option(jnp.asarray(table), jnp.asarray(available))) == wanted
    assert int(best_option(jnp.full(4, -jnp.inf).at[0].set(2.0), jnp.arange(4) > 0)) >= 0


@pytest.mark.parametrize("temperature", [0.0, 1e-35, 1e-20, 1e-4])
def test_cold_limit_is_greedy(temperature: float) -> None:
    """Down to 0 itself, and with values of any size; equal best ones share."""
    available = jnp.array([True, False, True, True])
    for values, best in (([1.0, 9.0, 2.0, 1.5], 2), ([-1e30, 0.0, -2e30, -1.5e30], 0)):
        drawn = boltzmann_all(WORDS[:500], jnp.array(values, jnp.float32), available, jnp.float32(temperature))
        assert (np.asarray(drawn) == best).all()
    tied = boltzmann_all(WORDS, jnp.array([2.0, 9.0, 2.0, 1.0]), available, jnp.float32(temperature))
    assert chi_square(counts(tied, 4), np.array([0.5, 0, 0.5, 0])) > LEVEL


@pytest.mark.parametrize("temperature", [1e6, 1e30])
def test_hot_limit_is_uniform(temperature: float) -> None:
    available = jnp.array([True, False, True, True])
    drawn = boltzmann_all(WORDS, jnp.array([1.0, 9.0, -3.0, 0.5]), available, jnp.float32(temperature))
    assert chi_square(counts(drawn, 4), np.array([1, 0, 1, 1]) / 3) > LEVEL


def test_units_lie_below_one() -> None:
    drawn = np.asarray(unit(EXTREMES))
    assert drawn[0] == 0 and drawn[-1] == 1 - 2.0**-24 and (np.diff(drawn) >= 0).all()
    fraction = np.asarray(unit(WORDS))
    assert chi_square(np.histogram(fraction, 50, (0, 1))[0], np.full(50, 1 / 50)) > LEVEL


def test_ramps_by_hand() -> None:
    """Linear over the first updates, then constant; of length 0 at the end at once; all of it traced."""
    line = ramp(1.0, 0.2, 4)
    assert [round(float(line.at(jnp.int32(k))), 6) for k in (0, 1, 2, 4, 9)] == [1.0, 0.8, 0.6, 0.2, 0.2]
    assert float(ramp(1.0, 0.2, 0).at(jnp.int32(0))) == pytest.approx(0.2)
    rising = jax.jit(jax.vmap(lambda end: ramp(0.0, end, 10).at(jnp.int32(5))))(jnp.array([1.0, 3.0]))
    np.testing.assert_allclose(rising, [0.5, 1.5], rtol=1e-6)
    for number in (2**24 + 1, 2**30):  # far beyond what a float32 counts
        assert float(line.at(jnp.int32(number))) == pytest.approx(0.2)


def act(explore: str, exploring: Any, behaviour: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Options of ``DRAWS`` decisions at six interfaces with linear values: options, which decision, mask, values."""
    made = learner(networks.linear(AGENTS, OPTIONS, DIM), optimiser=optax.sgd, explore=explore)
    rows = jax.tree.map(lambda leaf: leaf[0], random_rows(12, 1, 6))
    which = np.arange(DRAWS) % 6
    now = jax.tree.map(lambda leaf: leaf[which], rows._replace(final_agent=rows.agent, final_interface=rows.interface))
    words = jax.random.bits(jax.random.key(1), (DRAWS, made.act_words), jnp.uint32)
    params = random_like(made.values.init(jax.random.key(0), None), 3)
    drawn = jax.jit(made.act)(
        words, params, now, jnp.int32(0), hyper()._replace(exploration=exploring, behaviour=behaviour)
    )
    values = np.einsum("rod,rd->ro", np.asarray(params, float)[rows.agent], rows.interface)
    return np.asarray(drawn), which, np.asarray(rows.mask), values


def test_epsilon_greedy_mixes_the_best_option_and_a_uniform_one() -> None:
    """Six decisions of different agents: epsilon of the draws uniform over what is open, the rest the best option."""
    epsilon = 0.4
    drawn, which, mask, values = act("epsilon-greedy", ramp(epsilon, epsilon, 0))
    best = np.where(mask, values, -np.inf).argmax(axis=1)
    for k in range(6):
        law = epsilon * mask[k] / mask[k].sum() + (1 - epsilon) * np.eye(OPTIONS)[best[k]]
        assert chi_square(counts(drawn[which == k], OPTIONS), law) > LEVEL
    assert len({tuple(row) for row in mask}) > 1 and mask.sum(axis=1).max() > 1
    greedy, _, _, _ = act("epsilon-greedy", ramp(0.0, 0.0, 0))
    np.testing.assert_array_equal(greedy, best[which])


def test_boltzmann_of_the_learner_uses_its_ramp_as_temperature() -> None:
    drawn, which, mask, values = act("boltzmann", ramp(0.5, 9.0, 100))
    for k in range(6):
        law = np.where(mask[k], np.exp((values[k] - values[k].max()) / 0.5), 0.0)
        assert chi_square(counts(drawn[which == k], OPTIONS), law / law.sum()) > LEVEL


def test_uniform_behaviour_of_the_learner() -> None:
    drawn, which, mask, _ = act("behaviour", None)
    for k in range(6):
        assert chi_square(counts(drawn[which == k], OPTIONS), mask[k] / mask[k].sum()) > LEVEL
    with pytest.raises(ValueError, match=r"hyper\.exploration = None"):
        act("boltzmann", None)


def test_fixed_behaviour_is_followed_where_interfaces_are_numbered() -> None:
    """A behaviour table of tabular interfaces: its own law at each of them."""
    law = np.array([[0.2, 0.8, 0.0], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0]])
    table = jax.tree.map(jnp.asarray, exploration.behaviour_table(law))
    draw = jax.jit(jax.vmap(exploration.fixed_behaviour, in_axes=(0, None, None)))
    for z in range(3):
        assert chi_square(counts(draw(WORDS, jnp.int32(z), table), 3), law[z]) > LEVEL
