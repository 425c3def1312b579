"""The lifted workshop: its listing against the equations of its primitive steps and against the simulation."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.core.primitive import Lifted, uniform_policy
from icsmdp_jax.envs.registry import make
from icsmdp_jax.envs.workshop.exact import workshop_model
from icsmdp_jax.envs.workshop.lifted import LiftedWorkshop, lifted_workshop, local_policy
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.exact.moments import as_dense, kernel_moments
from icsmdp_jax.exact.primitive import option_moments, solve
from icsmdp_jax.experiments.quantities import exact_quantities
from tests.helpers import chi_square

LEVEL = 1e-4  # probability with which a correct program fails a chi-square test here; keys are fixed


@cache
def listed(kept: float = 0.8):
    env, params = lifted_workshop(kept)
    return env, params, env.exact_model(params)


def test_listing_has_the_moments_that_the_linear_equations_give():
    env, params, model = listed()
    primitive = workshop_model(env.env, params.env)
    local = np.repeat(local_policy(env.env, 0.7).reshape(-1, 2), env.spec.num_options, axis=0)
    wanted = option_moments(primitive, local)
    found = kernel_moments(model)
    states, options = primitive.mask.shape
    used = np.append(primitive.mask, np.zeros((1, options), bool), axis=0)
    np.testing.assert_array_equal(found.used, used)
    reward = np.where(primitive.mask, wanted.reward, 0.0)
    np.testing.assert_allclose(found.reward_mean[:states], reward, atol=1e-7)
    discounted = as_dense(found.discounted)[: states * options, :states]
    rows = primitive.mask.reshape(-1)
    np.testing.assert_allclose(discounted[rows], as_dense(wanted.discounted)[rows], atol=1e-7)


def test_oracle_is_the_one_of_the_primitive_steps():
    env, params, model = listed()
    primitive = workshop_model(env.env, params.env)
    local = np.repeat(local_policy(env.env, 0.7).reshape(-1, 2), env.spec.num_options, axis=0)
    wanted = float(primitive.first @ solve(primitive, local).value)
    assert analyse(model).returns.oracle == pytest.approx(wanted, abs=1e-7)


def test_nothing_is_hidden_when_no_tool_is_kept():
    env, params, model = listed(0.0)
    known = exact_quantities(analyse(model))
    assert model.num_states == 31  # 3 benches, 5 states of two parts with work left, 2 tools; and delivery
    assert max(known["epsilon"], known["delta"], known["interface_distance"]) < 1e-9
    hidden = exact_quantities(analyse(listed()[2]))
    assert hidden["delta"] > 0.1 and hidden["interface_distance"] > 0.01
    # the coarse listing says the same as the full one with kept next to nothing
    assert known["oracle"] == pytest.approx(analyse(listed(1e-9)[2]).returns.oracle, abs=1e-6)


def test_simulation_has_the_law_of_the_listing():
    """From one state under one option: duration and next interface, jointly, 8000 copies."""
    env, params, model = listed()
    primitive = workshop_model(env.env, params.env)
    place, option = 40, 1
    _, state = env.reset(jax.random.key(0), params)
    clamped = np.array([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)])[place % 8]
    raw = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)][place // 8 % 5]
    inner = state.inner._replace(
        agent=jnp.int32(place // 40), status=jnp.asarray(raw, jnp.int32), clamped=jnp.asarray(clamped, jnp.int32)
    )
    decision = env.env._decision(inner)
    assert int(decision.interface) == primitive.interface[place] == model.interface[place]
    start = state._replace(inner=inner, decision=decision)
    copies = 8000
    step = jax.jit(jax.vmap(env.step_env, in_axes=(0, None, None, None)))
    handoff, _ = step(jax.random.split(jax.random.key(7), copies), start, jnp.int32(option), params)
    law = model.kernel[place, option]  # [T, S]
    by_interface = np.zeros((law.shape[0], model.num_interfaces + 1))
    np.add.at(by_interface.T, np.append(model.interface[:-1], model.num_interfaces), law.T)
    target = np.where(handoff.terminated, model.num_interfaces, handoff.interface)
    counts = np.zeros_like(by_interface)
    np.add.at(counts, (np.asarray(handoff.duration) - 1, target), 1)
    assert chi_square(counts, np.where(by_interface > 1e-12, by_interface, 0)) > LEVEL
    wanted = kernel_moments(model).reward_mean[place, option]
    reward = np.asarray(handoff.reward, np.float64)
    assert abs(reward.mean() - wanted) < 4.5 * reward.std() / np.sqrt(copies)


@pytest.mark.slow
def test_by_name_the_listing_is_simulated_or_its_ticks():
    """The same listing behind both forms; the quick one draws options from it."""
    quick, table = make("workshop", kept=0.8)
    slow, _ = make("workshop", kept=0.8, ticks=True)
    assert isinstance(slow, Lifted) and not isinstance(quick, Lifted)
    one, two = quick.exact_model(table), listed()[2]
    for name in ("kernel", "reward_rate", "interface", "start"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert quick.spec.num_interfaces == slow.spec.num_interfaces and quick.words_per_step
    assert quick.spec.longest_duration == one.kernel.shape[2]


def test_global_view_tells_all_states_apart():
    env, params, _ = listed()
    look = jax.jit(jax.vmap(lambda key: env.global_view(env.reset(key, params)[1], params)))
    views = np.unique(np.asarray(look(jax.random.split(jax.random.key(0), 1000))), axis=0)
    assert len(views) == 24  # 3 benches times 8 ways of clamping


def test_what_cannot_be_listed_is_refused():
    for arguments in ({"kept": 1.5}, {"care": 0.0}, {"gamma": 1.0}, {"num_tools": 4}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            make("workshop", **arguments)
    env, params = lifted_workshop()
    with pytest.raises(ValueError, match="table_policy"):
        LiftedWorkshop(env.env, uniform_policy).exact_model(params)
    with pytest.raises(ValueError, match="kept"):
        large, numbers = lifted_workshop(0.8, num_tools=3)
        large.exact_model(numbers)
