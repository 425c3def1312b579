"""Random models: interfaces that hide nothing that matters, one recurrent class, shapes free of the seed."""

from __future__ import annotations

import numpy as np
import pytest

from icsmdp_jax.exact.chain import behaviour_chain
from icsmdp_jax.exact.interface import ais_constants
from icsmdp_jax.exact.large_chain import period
from icsmdp_jax.exact.moments import kernel_moments
from icsmdp_jax.exact.returns import Returns
from icsmdp_jax.models.random import large_model, random_model
from icsmdp_jax.models.tabular import TabularModel

SEEDS = range(6)


def interface_rows(model: TabularModel) -> np.ndarray:
    """``[S, O, Z]`` law of the next interface, added up from the successor lists by loops."""
    assert model.successor is not None and model.probability is not None
    law = np.zeros((model.num_states, model.num_options, model.num_interfaces))
    for s, o, w in np.ndindex(model.successor.shape):
        law[s, o, model.interface[model.successor[s, o, w]]] += model.probability[s, o, w]
    return law


@pytest.mark.parametrize("seed", SEEDS)
def test_interfaces_hide_nothing_that_matters(seed: int) -> None:
    model = random_model(seed, num_interfaces=15, hidden=3)
    assert model.duration is not None
    law = interface_rows(model)
    for z in range(model.num_interfaces):
        same = np.flatnonzero(model.interface == z)
        assert len(same) == 3
        for table in (law, model.duration, model.reward_rate):
            np.testing.assert_allclose(table[same], np.broadcast_to(table[same[:1]], table[same].shape), atol=1e-12)
    known = Returns(model)
    ais = ais_constants(known.interface)
    assert ais.epsilon < 1e-12 and ais.delta < 1e-12
    assert known.normalised(known.interface_optimum) == pytest.approx(1.0, abs=1e-9)


def test_what_is_hidden_is_not_redundant() -> None:
    """States behind one interface differ in where they lead, so that a central learner has more to learn."""
    model = random_model(0, num_interfaces=12, hidden=2)
    assert model.probability is not None
    first, second = model.probability[0::2], model.probability[1::2]
    assert (np.abs(first - second).sum(axis=-1) > 1e-3).mean() > 0.9


@pytest.mark.parametrize("seed", SEEDS)
def test_every_interface_is_visited(seed: int) -> None:
    known = Returns(random_model(seed))
    assert (known.interface.interface_weight > 0).all()


def test_short_sight_falls_short() -> None:
    """Mean over six models; a workflow that looks at the immediate reward leaves most of the oracle's lead."""
    shares = [known.normalised(known.greedy_immediate) for known in (Returns(random_model(seed)) for seed in SEEDS)]
    assert np.mean(shares) < 0.6 and max(shares) < 0.9


def test_agents_number_three_to_five_and_share_the_interfaces() -> None:
    counts = {random_model(seed).num_agents for seed in range(20)}
    assert counts == {3, 4, 5}
    for count in (2, 3, 7):
        owned = np.bincount(random_model(1, num_agents=count).interface_agent)
        assert len(owned) == count and owned.max() - owned.min() <= 1 and owned.sum() == 40


def test_neither_agents_nor_descriptions_change_the_dynamics() -> None:
    one, other = random_model(3, num_agents=3, features=4), random_model(3, num_agents=5, features=9)
    for name in ("reward_rate", "successor", "probability", "duration", "interface"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.num_agents != other.num_agents
    assert one.features is not None and other.features is not None
    np.testing.assert_allclose(np.linalg.norm(other.features, axis=1), 1.0)
    assert (one.features.shape, other.features.shape) == ((40, 4), (40, 9))


def test_seeds_differ_and_repeat() -> None:
    one, again, other = random_model(1), random_model(1), random_model(2)
    np.testing.assert_array_equal(one.reward_rate, again.reward_rate)
    assert not np.array_equal(one.reward_rate, other.reward_rate)
    assert {name: value.shape for name, value in one.arrays().items()} == {
        name: value.shape for name, value in other.arrays().items()
    }


def test_values_scale_with_the_reward() -> None:
    small, large = (Returns(random_model(4, reward_scale=scale)) for scale in (0.1, 0.3))
    assert large.oracle == pytest.approx(3 * small.oracle, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_agents", 1),
        ("num_interfaces", 4),
        ("hidden", 0),
        ("num_options", 0),
        ("successors", 0),
        ("duration_mean", 2.0),
        ("option_share", -0.1),
        ("option_share", float("nan")),
        ("features", 0),
        ("gamma", 1.0),
        ("reward_noise", -1.0),
        ("reward_scale", float("inf")),
        ("longest_duration", 3),
    ],
)
def test_sizes_are_checked_in_one_line(name: str, value: float) -> None:
    with pytest.raises(ValueError) as caught:
        random_model(0, **{name: value})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{}, {"stay": 0.4}, {"terminal_states": 7}, {"num_options": 1, "num_interfaces": 3}]
)
@pytest.mark.parametrize("seed", range(3))
def test_large_models_have_one_class_of_period_one(seed: int, changes: dict) -> None:
    """Under the uniform policy and under one that nearly always avoids option 0."""
    model = large_model(seed, **({"num_states": 60, "num_interfaces": 9, "num_agents": 3, "successors": 2} | changes))
    law = np.full((model.num_interfaces, model.num_options), 1.0)
    law[:, 0] = 1e-3
    for behaviour in (None, law / law.sum(axis=1, keepdims=True)):
        found = behaviour_chain(model, behaviour, kernel_moments(model).probability, True)
        np.testing.assert_array_equal(found.states, np.flatnonzero(~model.is_terminal))
        assert period(found.transition) == 1
        assert (np.bincount(model.interface[found.states], minlength=model.num_interfaces) > 0).all()
    assert model.num_agents == 3 and model.num_states == 60
    assert model.successor is not None and model.successor.shape[2] == 2 + (changes.get("stay", 0) > 0)
    again = large_model(seed, **({"num_states": 60, "num_interfaces": 9, "num_agents": 3, "successors": 2} | changes))
    assert all(np.array_equal(value, again.arrays()[name]) for name, value in model.arrays().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"successors": 1}, "successors = 1: expected from 2 to 20"),
        ({"num_interfaces": 21}, "num_interfaces = 21: expected from 3 to 20"),
        ({"num_interfaces": 2}, "num_interfaces = 2: expected from 3 to 20"),
        ({"terminal_states": 20}, "terminal_states = 20: expected from 0 to 19"),
        ({"num_options": 0}, "num_options = 0: expected 1 or more"),
        ({"stay": 1.0}, "stay = 1.0: expected a number in"),
    ],
)
def test_sizes_of_large_models_are_checked(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        large_model(0, **({"num_states": 20, "num_interfaces": 5, "num_agents": 3} | changes))
