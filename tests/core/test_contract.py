"""The environment contract: one test for each clause of docs/rfc/environment.md, and a check that can fail for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.core import checks
from icsmdp_jax.core.checks import ContractError, check_environment, random_option
from icsmdp_jax.core.environment import Environment, restart
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.envs.tabular import TabularEnv, tabular_env
from icsmdp_jax.models.random import random_model
from icsmdp_jax.models.tabular import TabularModel

KEY = jax.random.key(0)
Change = Callable[[Handoff], Handoff]


@dataclasses.dataclass(frozen=True)
class Walk(Environment):
    """Two agents pass a counter on; it ends at 5 (terminal), is cut at 8 handoffs, and takes 1 to 3 steps."""

    broken: Change | None = None
    broken_reset: Change | None = None
    in_state: bool = False
    restarts: bool = False
    spec_changes: tuple[tuple[str, Any], ...] = ()
    view: Callable[[Any], Any] | None = None

    @property
    def spec(self) -> EnvSpec:
        spec = EnvSpec("walk", 2, 2, 0, (2,), jnp.float32, 3, False)
        return spec._replace(**dict(self.spec_changes))

    def _decision(self, state: Any) -> dict[str, Any]:
        agent = (state["moves"] % 2).astype(jnp.int32)
        seen = jnp.stack([state["count"], state["moves"]]).astype(jnp.float32)
        return {"agent": agent, "interface": seen, "mask": jnp.array([True, True])}

    def _handoff(self, state: Any, **ended: Any) -> Handoff:
        now = self._decision(state)
        return Handoff(**now, **{f"final_{name}": value for name, value in now.items()}, **ended)

    @property
    def has_global_view(self) -> bool:
        return self.view is not None

    def global_view(self, state, params):
        return self.view(state)

    def reset(self, key, params):
        state = {"count": jnp.int32(0), "moves": jnp.int32(0)}
        nothing = {"reward": jnp.float32(0), "duration": jnp.int32(0), "discount": jnp.float32(0)}
        handoff = self._handoff(state, **nothing, terminated=jnp.bool_(False), truncated=jnp.bool_(False))
        return (self.broken_reset or (lambda h: h))(handoff), state

    def step_env(self, key, state, option, params):
        tau = jax.random.randint(key, (), 1, 4)
        entered = {"count": state["count"] + option, "moves": state["moves"] + 1}
        if self.in_state:
            entered["extra"] = jnp.int32(0)
        done = entered["count"] >= 5
        cut = ~done & (entered["moves"] >= 8)
        handoff = self._handoff(
            entered,
            reward=jnp.float32(1) * option,
            duration=tau,
            discount=jnp.where(done, 0.0, params**tau).astype(jnp.float32),
            terminated=done,
            truncated=cut,
        )
        if self.restarts:
            handoff = handoff._replace(interface=jnp.zeros(2))
        return (self.broken or (lambda h: h))(handoff), entered


GAMMA = jnp.float32(0.9)


def refused(env: Environment) -> str:
    with pytest.raises(ContractError) as caught:
        check_environment(env, GAMMA, KEY)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_environment_that_keeps_the_contract_passes_and_everything_was_seen():
    seen = check_environment(Walk(), GAMMA, KEY, copies=16, handoffs=64)
    assert seen.handoffs == 16 * 64 and seen.agents == 2 and seen.longest == 3
    assert seen.terminated > 20 and seen.truncated > 20


def seen_by(env: Environment, params: Any) -> Handoff:
    """What random options meet, ``[64, 16]``, on the host."""
    first, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(jax.random.split(KEY, 16), params)
    return jax.device_get(checks._run(env, params, KEY, first, state, 64)[0])


@pytest.fixture(scope="module")
def walked() -> Handoff:
    """Handoffs of an environment that keeps the contract: what is wrong with a change of them costs no compilation."""
    return seen_by(Walk(), GAMMA)


def test_clause_1_shapes_and_dtypes():
    change = lambda h: h._replace(reward=h.reward.astype(jnp.int32))  # noqa: E731
    assert refused(Walk(broken=change, broken_reset=change)) == "clause 1: reset: reward is int32, expected float32"
    change = lambda h: h._replace(final_mask=h.final_mask[:1])  # noqa: E731
    found = refused(Walk(broken=change, broken_reset=change))
    assert found == "clause 1: reset: final_mask has shape (1,), expected (2,)"


def test_clause_2_no_segment_after_reset():
    assert refused(Walk(broken_reset=lambda h: h._replace(duration=jnp.int32(1)))) == (
        "clause 2: reset: duration = 1, expected zero before any segment"
    )


def test_clause_3_one_acting_agent(walked):
    strangers = lambda h: h._replace(agent=h.agent + 1, final_agent=h.final_agent + 1)  # noqa: E731
    assert refused(Walk(broken=strangers)) == "clause 3: agent = 2, expected 0 to 1"
    for change, words in (
        ({"mask": walked.mask & False}, "mask: no option is available at a decision"),
        ({"final_mask": walked.mask & False}, "final_mask: no option is available at a decision"),
        ({"interface": walked.interface + np.inf}, "interface: expected finite numbers"),
    ):
        with pytest.raises(ContractError, match=f"^clause 3: {words}"):
            checks._check_decisions(Walk(), walked._replace(**change))


def test_clauses_4_and_5_segments_and_discounts(walked):
    shorter = lambda h: h._replace(duration=h.duration - 1)  # noqa: E731
    assert refused(Walk(broken=shorter)) == "clause 4: duration = 0, expected 1 or more"
    kept = lambda h: h._replace(discount=GAMMA**h.duration)  # noqa: E731
    assert refused(Walk(broken=kept)) == "clause 5: discount: expected 0 at a terminal handoff"
    uneven = walked.discount * np.where(walked.agent == 0, 1.0, 0.99)
    for change, words in (
        ({"duration": walked.duration + 1}, "clause 4: duration = 4, expected at most 3"),
        ({"reward": walked.reward + np.inf}, "clause 4: reward: expected finite numbers"),
        ({"discount": walked.discount * 2}, r"clause 5: discount: expected a number in \[0, 1\]"),
        ({"discount": uneven}, "clause 5: discount: more than one gamma among segments of duration 1"),
    ):
        with pytest.raises(ContractError, match=f"^{words}"):
            checks._check_segments(Walk(), walked._replace(**change))


def test_clause_5_a_discount_of_zero_is_a_power_of_gamma_that_float32_cannot_hold():
    """gamma = 0, and 0.5^150 beside shorter segments, are legal; 0 where gamma^tau is not small is no discount."""
    rare = lambda h: h._replace(discount=jnp.where(h.duration == 2, 0.0, h.discount))  # noqa: E731
    assert refused(Walk(broken=rare)) == "clause 5: discount: 0 after 2 steps, expected gamma^tau unless terminated"
    assert check_environment(Walk(), 0.0, KEY).handoffs
    for gamma, longest in ((0.0, 3), (0.5, 150)):
        model = TabularModel(
            reward_rate=np.ones((2, 1)),
            agent=np.array([0, 1]),
            interface=np.array([0, 1]),
            gamma=gamma,
            transition=np.full((2, 1, 2), 0.5),
            duration=np.eye(longest)[[[0], [longest - 1]]],
        )
        assert check_environment(*tabular_env(model), KEY).longest == longest


def test_clause_6_termination_is_not_truncation():
    both = lambda h: h._replace(truncated=h.truncated | h.terminated)  # noqa: E731
    assert refused(Walk(broken=both)) == "clause 6: terminated and truncated are both set"


def test_clause_7_nothing_of_the_end_is_lost():
    assert (
        refused(Walk(restarts=True))
        == "clause 7: step_env: interface differs from final_interface, expected no restart"
    )
    env = Walk()
    state = {"count": jnp.int32(4), "moves": jnp.int32(6)}
    handoff, fresh = env.step(KEY, state, jnp.int32(1), GAMMA)
    assert bool(handoff.terminated) and int(fresh["count"]) == 0 and float(handoff.discount) == 0
    np.testing.assert_array_equal(handoff.final_interface, [5, 7])
    np.testing.assert_array_equal(handoff.interface, [0, 0])
    handoff, entered = env.step_env(KEY, state, jnp.int32(1), GAMMA)
    np.testing.assert_array_equal(handoff.interface, [5, 7])
    assert int(entered["count"]) == 5


def test_clause_8_functional():
    calls = [0]

    def impure(handoff: Handoff) -> Handoff:
        calls[0] += 1
        return handoff._replace(reward=handoff.reward + calls[0])

    assert refused(Walk(broken=impure)) == "clause 8: step_env: two calls with the same arguments differ"


def test_clause_9_stable_types():
    found = refused(Walk(in_state=True))
    assert found == "clause 9: the state of reset and that of step_env differ in structure, shape or dtype"


def test_clause_10_words_make_a_key_by_default():
    env, state = Walk(), {"count": jnp.int32(4), "moves": jnp.int32(6)}
    assert env.words_per_step == 2
    found = env.step_from_words(jax.random.key_data(KEY), state, jnp.int32(1), GAMMA)
    for one, two in zip(
        jax.tree.leaves(found), jax.tree.leaves(env.step(KEY, state, jnp.int32(1), GAMMA)), strict=True
    ):
        np.testing.assert_array_equal(one, two)

    class Loose(Walk):
        def step_from_words(self, words, state, option, params):
            return super().step_from_words(words, state, option, params)[0]._replace(reward=jnp.int32(0)), state

    assert (
        refused(Loose()) == "clause 10: step_from_words and step_env differ in structure, shape or dtype of what "
        "they return"
    )


def everything(state):
    return jnp.stack([state["count"], state["moves"]]).astype(jnp.float32)


def test_clause_11_a_global_view_tells_everything(walked):
    assert check_environment(Walk(view=everything), GAMMA, KEY).handoffs
    assert Walk(view=everything).global_view_size(GAMMA) == 2
    part = lambda s: everything(s)[:1]  # noqa: E731
    found = refused(Walk(view=part))
    assert found.startswith("clause 11: global_view: agent differs between two states with one view")
    view = walked.interface
    for wrong, words in (
        (view[:, :, None], r"global_view has shape \(1, 2\), expected \(2,\)"),
        (view.astype(int), "global_view is int64, expected float32"),
        (np.full_like(view, np.inf), "global_view: expected finite numbers"),
    ):
        with pytest.raises(ContractError, match=f"^clause 11: {words}"):
            checks._check_view(wrong, walked, 2)


def test_without_a_view_or_a_model_the_call_is_refused():
    class Bare(Walk):
        has_global_view = Environment.has_global_view
        global_view = Environment.global_view

    state = {"count": jnp.int32(0), "moves": jnp.int32(0)}
    assert not Bare().has_global_view and not Bare().has_exact_model
    with pytest.raises(ValueError, match="^walk: no global_view, expected"):
        Bare().global_view(state, GAMMA)
    with pytest.raises(ValueError, match="^walk: no exact model, expected"):
        Bare().exact_model(GAMMA)


@dataclasses.dataclass(frozen=True)
class Misread(TabularEnv):
    """A tabular environment whose exact model is another one than it simulates."""

    change: Callable[[TabularModel], TabularModel] = lambda model: model

    def exact_model(self, params):
        return self.change(self.model)


def test_clause_12_the_exact_model_is_that_of_the_environment():
    env, params = tabular_env(random_model(0, num_interfaces=6, num_agents=3))
    own = {field.name: getattr(env, field.name) for field in dataclasses.fields(env)}
    model, seen = env.model, seen_by(env, params)
    assert env.has_exact_model and env.exact_model(params) is model
    checks._check_model(env, model, seen)
    fewer = np.arange(model.num_options) < np.array([[1]] + [[9]] * (model.num_interfaces - 1))
    for change, words in (
        ({"agent": model.agent // 2}, "num_agents = 2, expected 3 as in spec"),
        ({"gamma": 0.9 * model.gamma}, "gamma = "),
        ({"available": fewer}, "an interface has other available options than in step"),
    ):
        with pytest.raises(ContractError, match=f"^clause 12: exact_model: {words}"):
            checks._check_model(env, model.replace(**change), seen)
    misread = Misread(**own, change=lambda m: m.replace(agent=(m.agent + 1) % 3))
    with pytest.raises(ContractError, match="^clause 12: exact_model: an interface has another owner than in step"):
        check_environment(misread, params, KEY)
    with pytest.raises(ValueError, match="^params: reward_rate is not that of env.model"):
        env.exact_model(params._replace(reward_rate=params.reward_rate + 1))


def test_a_random_option_is_available_and_every_available_one_is_drawn():
    # 2000 draws: an option of probability 1/2 stays out with probability 2**-2000
    mask = jnp.array([False, True, False, True])
    drawn = jax.jit(jax.vmap(random_option, in_axes=(0, None)))(jax.random.split(KEY, 2000), mask)
    assert set(np.asarray(drawn).tolist()) == {1, 3}
    assert int(random_option(KEY, jnp.zeros(3, bool))) == 0


@pytest.mark.parametrize(("terminated", "truncated"), [(True, False), (False, True), (False, False)])
def test_every_ended_episode_starts_over_and_no_other(terminated, truncated):
    """A truncation starts over just as a terminal handoff does; the ended segment's fields stay (D4)."""
    first, state = Walk().reset(KEY, GAMMA)
    ended = first._replace(
        agent=jnp.int32(1), terminated=jnp.asarray(terminated), truncated=jnp.asarray(truncated), duration=jnp.int32(2)
    )
    entered = jax.tree.map(lambda leaf: leaf + 1, state)
    merged, now = restart(ended, entered, first, state)
    over = terminated or truncated
    assert int(merged.agent) == (int(first.agent) if over else 1) and int(merged.duration) == 2
    expected = state if over else entered
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), now, expected)))
