"""For which methods decentralization holds, and for which it does not: four questions, asked in the same way of each.

Who says that IC-Q tells no more than one scalar has to show that the same questions are answered otherwise where more
crosses; so the table below is as much a test of the questions as of the methods.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.learner import networks, rollout, schedules, setups
from icsmdp_jax.learner.methods import METHODS
from icsmdp_jax.learner.parallel import Hyper, State
from icsmdp_jax.learner.rollout import Pending, Rows
from icsmdp_jax.learner.setups import Setup
from icsmdp_jax.models.tabular import TabularModel
from tests.helpers import as_model, same_bits
from tests.learner.courier import gaussian, program, random_like
from tests.reference.models import random_model

LENGTH, COPIES, OPTIONS = 3, 6, 2


class Facts(NamedTuple):
    """Answers for one method, about agent 0 and the two others.

    Attributes:
      own_view: what an agent sees at a decision is the same behind all states of its interface.
      own_parameters: with the scalars as they are, agent 0's segments move no value of anybody else.
      hears_values: other agents' parameters, at places where they are handed to, reach agent 0's update.
      hears_rewards: rewards of other agents' segments reach agent 0's rows.
    """

    own_view: bool
    own_parameters: bool
    hears_values: bool
    hears_rewards: bool


TABLE = {
    "ic_q": Facts(True, True, True, False),
    "central": Facts(False, False, True, False),  # one learner: the global state, and parameters for everybody
    "full_information": Facts(True, False, True, False),  # the same parameters, since everybody hears every segment
    "shared": Facts(True, False, True, False),
    "federated": Facts(True, False, True, False),  # at every tenth update
    "no_message_team": Facts(True, True, False, True),
    "no_message": Facts(True, True, False, False),
    "immediate": Facts(True, True, False, False),
}


@cache
def model() -> TabularModel:
    """Three agents with two interfaces each, two states behind every interface, all of them different."""
    return as_model(random_model(np.random.default_rng(3), num_agents=3, options=OPTIONS))


@cache
def prepared(method: str) -> Setup:
    step = schedules.constant(0.2)
    sizes: dict[str, int] = {"copies": COPIES, "length": LENGTH}
    made = setups.setup(model(), None, method, "linear", optimiser=optax.sgd, step_size=step, **sizes)  # type: ignore[arg-type]
    assert made.learner.federated_every in (0, 10)
    return made


def start(made: Setup) -> State:
    """Random parameters, one update before the federated average."""
    learner = made.learner
    params = gaussian(learner.values, 1, made.hyper.data)
    opt_state = program(learner.rule(made.hyper).init, True)(params)
    since = np.zeros((networks.num_slots(params),), np.float32) if learner.federated_every else None
    return State(params, opt_state, None, None, None, None, since, None, jnp.int32(9))  # type: ignore[arg-type]


def updated(made: Setup, state: State, rows: Rows, hyper: Hyper | None = None) -> State:
    """The state after one update, all on the host."""
    update = program(made.learner.update)
    return jax.device_get(update(jax.random.key(0), state, rows, hyper or made.hyper)[0])


def segments(made: Setup) -> Rows:
    """Segments of agent 0 that end at the other agents' states, or at its own next turn, as the method sees them."""
    rng, base, seen = np.random.default_rng(0), model(), made.model
    shape = (LENGTH, COPIES)
    begin = rng.choice(np.flatnonzero(base.agent == 0), shape)
    waits = made.learner.bootstrap.startswith("own-turn")
    end = rng.choice(np.flatnonzero((base.agent == 0) == waits), shape)
    every = np.ones((*shape, OPTIONS), bool)
    rows = Rows(
        agent=seen.agent[begin],
        interface=seen.interface[begin],
        mask=every,
        option=rng.integers(OPTIONS, size=shape).astype(np.int32),
        reward=rng.normal(size=shape).astype(np.float32),
        discount=np.full(shape, 0.8, np.float32),
        duration=np.ones(shape, np.int32),
        truncated=np.zeros(shape, bool),
        final_agent=seen.agent[end],
        final_interface=seen.interface[end],
        final_mask=every,
        valid=np.ones(shape, bool),
    )
    return rows


def by_state(made: Setup, state: State) -> np.ndarray:
    """``[S, O]`` values at every handoff state, each from the parameters that its agent would use there."""
    tables = made.tables(state.params)
    return tables if made.by_state else tables[model().interface]


def own_view(made: Setup) -> bool:
    base, data = model(), np.asarray(made.hyper.data)
    seen = data[made.model.interface]
    alike = base.interface[:, None] == base.interface[None, :]
    return bool((seen[:, None] == seen[None, :])[alike].all())


def own_parameters(made: Setup) -> bool:
    before = start(made)
    after = updated(made, before, segments(made))
    moved = (by_state(made, after) != by_state(made, before)).any(axis=1)
    assert moved[model().agent == 0].any(), "nothing was learned, so nothing was asked"
    return not moved[model().agent != 0].any()


def hears_values(made: Setup) -> bool:
    """Whether agent 0's step changes with the values at the other agents' states."""
    state, rows = start(made)._replace(updates=np.int32(0)), segments(made)
    if networks.num_slots(state.params) > 1:
        new = random_like(state.params, 2)
        other = jax.tree.map(lambda p, q: np.concatenate([np.asarray(p)[:1], np.asarray(q)[1:]]), state.params, new)
    else:  # one set of parameters: then values elsewhere change with the features there
        other = state.params
    changed, hyper = state._replace(params=other), made.hyper
    if other is state.params:
        foreign = np.flatnonzero(model().agent != 0)
        places = foreign if made.by_state else model().interface[foreign]
        data = np.array(hyper.data)
        data[places] = np.random.default_rng(4).normal(size=data[places].shape)
        hyper = hyper._replace(data=data)
    steps = []
    for begin, given in ((state, made.hyper), (changed, hyper)):
        steps.append(updated(made, begin, rows, given).params[0] - np.asarray(begin.params)[0])
    return not same_bits(*steps)


def hears_rewards(made: Setup) -> bool:
    """Whether a reward that agent 1 earns while agent 0 waits changes what agent 0's row will hold."""

    def row_reward(earned: jax.Array) -> jax.Array:
        interface, mask = jnp.int32(0), jnp.ones(OPTIONS, bool)
        zero, no = jnp.float32(0), jnp.bool_(False)

        def turn(agent: int, reward: Any) -> Handoff:
            now = (jnp.int32(agent), interface, mask)
            return Handoff(*now, reward, jnp.int32(1), jnp.float32(0.5), no, no, *now)

        first, second, third = turn(0, zero), turn(1, jnp.float32(3)), turn(0, earned)
        if not made.learner.bootstrap.startswith("own-turn"):
            return rollout.segment(first, jnp.int32(0), second).reward
        waiting: Pending = rollout.no_pending(first, 3)
        team = made.learner.bootstrap.endswith("team")
        for now, after in ((first, second), (second, third)):
            _, waiting = rollout.own_turn(waiting, now, jnp.int32(0), after, team)
        row, _ = rollout.own_turn(waiting, third, jnp.int32(0), first, team)
        return jnp.where(row.valid & (row.reward >= 3), row.reward, jnp.nan)

    earned = jax.jit(row_reward)
    assert not np.isnan(earned(np.float32(1)))
    return float(earned(np.float32(1))) != float(earned(np.float32(2)))


@pytest.mark.parametrize("method", METHODS)
def test_what_crosses_for_each_method(method: str) -> None:
    made = prepared(method)
    found = Facts(own_view(made), own_parameters(made), hears_values(made), hears_rewards(made))
    assert found == TABLE[method]


def test_the_table_is_complete_and_only_ic_q_lets_values_cross_as_scalars_alone() -> None:
    assert set(TABLE) == set(METHODS)
    private = {name for name, facts in TABLE.items() if facts.own_view and facts.own_parameters}
    assert private == {"ic_q", "no_message", "no_message_team", "immediate"}
    assert {name for name in private if TABLE[name].hears_values} == {"ic_q"}


def test_federated_agents_keep_to_themselves_between_averages() -> None:
    made = prepared("federated")
    for updates, apart in ((0, True), (8, True), (9, False)):
        before = start(made)._replace(updates=np.int32(updates))
        after = updated(made, before, segments(made))
        assert same_bits(np.asarray(before.params)[1:], after.params[1:]) == apart


def test_central_tables_tell_hidden_states_apart() -> None:
    """The tabular central learner: other parameters for two states that its agents could not tell apart."""
    made = setups.setup(model(), None, "central", "tabular", copies=COPIES, length=LENGTH)
    base = model()
    first = int(np.flatnonzero(base.agent == 0)[0])
    twin = int(np.flatnonzero((base.interface == base.interface[first]) & (np.arange(base.num_states) != first))[0])
    slots = [int(made.learner.values.slot(jnp.int32(0), jnp.int32(made.model.interface[s]))) for s in (first, twin)]
    assert slots[0] != slots[1] and made.learner.env.spec.num_agents == 1


def test_scalars_per_handoff_are_what_the_table_says() -> None:
    """One for IC-Q, none where nothing crosses, more where interfaces or parameters do."""
    counts = {name: prepared(name).scalars_per_handoff() for name in METHODS}
    assert counts["ic_q"] == counts["shared"] == counts["no_message_team"] == 1
    assert counts["no_message"] == counts["immediate"] == 0
    dim = prepared("ic_q").hyper.data.shape[1]
    assert counts["full_information"] == dim + 3 + 3  # features and owner's name, then option, reward and duration
    assert math.isnan(counts["central"])  # the whole state is no message
    size = 3 * OPTIONS * dim
    assert counts["federated"] == pytest.approx(1 + 2 * size / (10 * LENGTH * COPIES))


def test_immediate_learners_do_not_look_at_the_end_of_the_segment() -> None:
    """Receivers replaced altogether: the same bits."""
    made = prepared("immediate")
    state, rows = start(made), segments(made)
    other = rows._replace(
        final_agent=rows.final_agent * 0, final_interface=rows.final_interface * 0, discount=rows.reward
    )
    one, two = (updated(made, state, given) for given in (rows, other))
    assert same_bits(one.params, two.params)
    heard = dataclasses.replace(made, learner=dataclasses.replace(made.learner, bootstrap="message"))
    assert not same_bits(one.params, updated(heard, state, rows).params)
