"""The privacy boundary: one scalar crosses it, nothing else does; and learners behind it learn."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from icsmdp_jax.core.handoff import Handoff, Segment
from icsmdp_jax.envs.tabular import TabularState, tabular_env
from icsmdp_jax.exact import analyse
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.learner import networks, schedules, train
from icsmdp_jax.learner.icq import Inputs, Learner, LearnerState, take
from icsmdp_jax.learner.message import Protocol, best_value, protocol
from tests.helpers import as_model, learner_inputs, same_bits
from tests.reference.models import random_model, uniform_behaviour

NUM_AGENTS, NUM_OPTIONS, DIM = 2, 3, 4
CLASSES = ["tabular", "mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in ("linear", "two-layer"))]


@cache
def setting() -> tuple[Analysis, np.ndarray]:
    """A small model with masks, no gap (so that ``Q_phi = Q*`` under any behaviour), and features ``[Z, 4]``."""
    rng = np.random.default_rng(7)
    arrays = random_model(rng, masks=True, options=NUM_OPTIONS, gap=0.0, gamma=0.6, noise=0.1)
    analysis = analyse(as_model(arrays), uniform_behaviour(arrays))
    x = rng.normal(size=(analysis.interface.model.num_interfaces, DIM))
    return analysis, (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@cache
def learner(name: str, greedy: bool = False) -> Learner:
    model = setting()[0].interface.model
    env, _ = tabular_env(model)
    if name == "tabular":
        return Learner(env, networks.tabular(model.num_interfaces, NUM_OPTIONS), greedy=greedy)
    if name == "linear":
        return Learner(env, networks.linear(NUM_AGENTS, NUM_OPTIONS), project=True)
    build = {"mlp": networks.mlp, "two-layer": networks.two_layer}[name]
    return Learner(env, build(NUM_AGENTS, NUM_OPTIONS, 16), optimiser=optax.adam(1e-2))


@cache
def inputs_for(name: str, epsilon: float = 1.0) -> Inputs:
    analysis, features = setting()
    _, params = tabular_env(analysis.interface.model)
    behaviour = analysis.interface.chain.behaviour
    data = None if name == "tabular" else features
    step = schedules.polynomial(0.6)
    return jax.tree.map(jnp.asarray, learner_inputs(params, behaviour, step, data, radius=50.0, epsilon=epsilon))


def noisy(tree: Any, seed: int, positive: bool = False) -> Any:
    """The tree with its float leaves replaced by random numbers (positive ones: second moments are squares)."""
    rng = np.random.default_rng(seed)

    def one(leaf: np.ndarray) -> np.ndarray:
        if not np.issubdtype(leaf.dtype, np.floating):
            return leaf
        draw = rng.normal(size=leaf.shape)
        return np.asarray(np.abs(draw) + 0.1 if positive else draw, leaf.dtype)

    return jax.tree.map(one, tree)


@cache
def exchange(name: str) -> tuple[LearnerState, np.int32, Handoff]:
    """One handoff from an agent to another: the state before it, the option, and what the environment returned."""
    model = setting()[0].interface.model
    configured, inputs = learner(name), inputs_for(name)
    state = jax.device_get(jax.jit(configured.init)(jax.random.key(5), inputs))
    state = state._replace(params=noisy(state.params, 1), opt_state=noisy(state.opt_state, 2, positive=True))
    s = int(np.flatnonzero(model.agent == 0)[0])
    mask = model.option_mask[model.interface[s]]
    option = np.int32(np.flatnonzero(mask)[0])
    agent, interface = (np.int32(table[s]) for table in (model.agent, model.interface))
    now = state.handoff._replace(agent=agent, interface=interface, mask=mask)
    step = jax.jit(configured.env.step_env)
    _, params = tabular_env(model)
    for seed in range(50):
        handoff, entered = jax.device_get(step(jax.random.key(seed), TabularState(jnp.int32(s)), option, params))
        if int(handoff.final_agent) == 1 and int(handoff.final_mask.sum()) >= 2:
            return state._replace(handoff=now, env_state=entered, epoch=np.int32(3)), option, handoff
    raise AssertionError("no handoff to the other agent with a choice was drawn")


def updated(name: str, state: LearnerState, handoff: Handoff) -> tuple[LearnerState, np.ndarray]:
    """State after the update, and the temporal difference."""
    _, option, _ = exchange(name)
    new, (_, _, error) = compiled_update(name)(state, option, handoff, state.env_state, inputs_for(name))
    return jax.device_get((new, error))


@cache
def compiled_update(name: str) -> Any:
    return jax.jit(learner(name).update)


def slots(name: str) -> tuple[int, int]:
    """Slots of the sender i and the receiver j."""
    state, _, handoff = exchange(name)
    values = learner(name).values
    i = values.slot(state.handoff.agent, state.handoff.interface)
    j = values.slot(handoff.final_agent, handoff.final_interface)
    return int(i), int(j)


@pytest.mark.parametrize("name", CLASSES)
def test_an_offer_is_one_scalar(name: str) -> None:
    state, _, handoff = exchange(name)
    configured, inputs = learner(name), inputs_for(name)
    offer, _ = configured.protocol(inputs)
    _, j = slots(name)
    own, view = take(state.params, j), np.asarray(configured.values.view(inputs.data, handoff.final_interface))
    ask = jax.jit(offer)
    scalar = ask(own, view, handoff.final_mask)
    assert scalar.shape == () and scalar.dtype == jnp.float32
    values = np.asarray(jax.jit(configured.values.apply)(own, view))
    assert values.shape == (NUM_OPTIONS,)
    assert float(scalar) == values[np.asarray(handoff.final_mask)].max()
    nothing = ask(own, view, np.zeros(NUM_OPTIONS, bool))
    assert nothing.shape == () and float(nothing) == 0
    # One float32 number is all that the traced function returns, whatever the class.
    shapes = jax.eval_shape(offer, own, view, handoff.final_mask)
    assert jax.tree.leaves(shapes) == [jax.ShapeDtypeStruct((), jnp.float32)]


def test_best_value_by_hand() -> None:
    values = jnp.array([1.0, 5.0, -3.0])
    assert float(best_value(values, jnp.array([True, False, True]))) == 1.0
    assert float(best_value(values, jnp.array([False, False, True]))) == -3.0
    assert float(best_value(values, jnp.zeros(3, bool))) == 0.0
    grad = jax.grad(best_value)(values, jnp.array([True, False, True]))
    assert grad.tolist() == [1.0, 0.0, 0.0]


def test_absorb_by_hand() -> None:
    """y = R + gamma^tau v and a step of 1/2 on one entry of a table."""
    rule = schedules.stochastic_approximation(schedules.constant(0.5), "visits", True)
    _, absorb = protocol(lambda params, view: params, rule)
    params = jnp.array([4.0, -2.0])
    segment = Segment(jnp.int32(0), jnp.int32(1), jnp.float32(1.0), jnp.float32(0.25), jnp.int32(0))
    after, opt_state, error = absorb(params, rule.init(params), segment, jnp.float32(8.0))
    assert float(error) == 1.0 + 0.25 * 8.0 + 2.0
    assert after.tolist() == [4.0, 0.5] and opt_state.count.tolist() == [0, 1]


@dataclasses.dataclass(frozen=True)
class Fixed(Learner):
    """A learner whose every offer is the same constant: what is left depends on j through no other path."""

    def protocol(self, inputs: Inputs) -> Protocol:
        offer, absorb = super().protocol(inputs)
        return Protocol(
            lambda params, interface, mask: jnp.float32(0.75) + 0.0 * offer(params, interface, mask), absorb
        )


@dataclasses.dataclass(frozen=True)
class Leaky(Learner):
    """A learner that breaks the boundary: its absorb also sees the receiver's parameters. The tests must notice."""

    def update(self, state: LearnerState, option: Any, handoff: Handoff, env_state: Any, inputs: Inputs) -> Any:
        new, extra = super().update(state, option, handoff, env_state, inputs)
        i = self.values.slot(state.handoff.agent, state.handoff.interface)
        j = self.values.slot(handoff.final_agent, handoff.final_interface)
        leak = sum(jnp.sum(leaf[j]) for leaf in jax.tree.leaves(state.params))
        params = jax.tree.map(lambda leaf: leaf.at[i].add(1e-3 * leak), new.params)
        return new._replace(params=params), extra


def rebuilt(kind: type[Learner], name: str) -> Learner:
    base = learner(name)
    return kind(**{field.name: getattr(base, field.name) for field in dataclasses.fields(Learner)})


def sender_after(configured: Learner, name: str, params: Any, data: Any) -> jax.Array:
    """New parameters of the sender's slot, as one vector, as a function of all parameters and all features."""
    state, option, handoff = exchange(name)
    inputs = inputs_for(name)
    inputs = inputs if data is None else inputs._replace(data=data)
    state, option, handoff, inputs = jax.tree.map(jnp.asarray, (state, option, handoff, inputs))
    new, _ = configured.update(state._replace(params=params), option, handoff, state.env_state, inputs)
    return ravel_pytree(take(new.params, slots(name)[0]))[0]


def largest(tree: Any) -> float:
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", CLASSES)
def test_without_the_scalar_no_derivative_crosses(name: str) -> None:
    """With every offer held fixed, the sender's update has derivative exactly 0 in all that is not its own."""
    state, _, handoff = exchange(name)
    configured, data = rebuilt(Fixed, name), inputs_for(name).data
    i, _ = slots(name)
    arguments = (0, 1) if data is not None else (0,)
    derivative = jax.jacrev(lambda params, table: sender_after(configured, name, params, table), arguments)
    by_params, *by_data = jax.jit(derivative)(state.params, data)
    own = 0.0
    for block in jax.tree.leaves(by_params):  # [sender's parameters, slots, ...]
        assert (np.delete(np.asarray(block), i, axis=1) == 0).all()
        own = max(own, float(np.abs(block[:, i]).max()))
    assert own > 0
    if data is not None:
        assert int(handoff.final_interface) != int(state.handoff.interface)
        reached = np.abs(np.asarray(by_data[0])).sum(axis=(0, 2))  # [sender's parameters, Z, dim]
        assert (reached > 0).tolist() == [z == int(state.handoff.interface) for z in range(data.shape[0])]


def test_a_leak_would_be_noticed() -> None:
    """The same check on a learner that does leak: its derivative is not 0."""
    state, _, _ = exchange("tabular")
    _, j = slots("tabular")
    configured = rebuilt(Leaky, "tabular")

    def entry(part: Any) -> Any:
        return sender_after(configured, "tabular", jnp.asarray(state.params).at[j].set(part), None)

    assert largest(jax.jit(jax.jacrev(entry))(state.params[j])) > 0
    assert not same_bits(*map(jax.jit(entry), (state.params[j], changed_receiver("tabular").params[j])))


@pytest.mark.parametrize("name", ["tabular", "two-layer"])
def test_all_that_crosses_is_the_derivative_of_the_scalar(name: str) -> None:
    """Chain rule with one link: d theta_i' / d theta_j = (d theta_i' / d v) (d v / d theta_j), and v is a scalar."""
    state, option, handoff = exchange(name)
    configured, inputs = learner(name), inputs_for(name)
    i, j = slots(name)
    assert i != j
    offer, absorb = configured.protocol(inputs)
    view_i = np.asarray(configured.values.view(inputs.data, state.handoff.interface))
    view_j = np.asarray(configured.values.view(inputs.data, handoff.final_interface))
    segment = Segment(view_i, option, handoff.reward, handoff.discount, state.epoch)
    own, other = take(state.params, i), take(state.params, j)

    def whole(part: Any) -> Any:
        params = jax.tree.map(lambda leaf, value: jnp.asarray(leaf).at[j].set(value), state.params, part)
        return sender_after(configured, name, params, inputs.data)

    def from_scalar(scalar: jax.Array) -> jax.Array:
        return ravel_pytree(absorb(own, take(state.opt_state, i), segment, scalar)[0])[0]

    scalar, slopes = jax.jit(jax.value_and_grad(offer))(other, view_j, handoff.final_mask)
    full = jax.tree.leaves(jax.jit(jax.jacrev(whole))(other))
    rate = np.asarray(jax.jit(jax.jacfwd(from_scalar))(scalar))
    assert largest(full) > 0
    for block, slope in zip(full, jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(block, np.multiply.outer(rate, np.asarray(slope)), rtol=1e-5, atol=1e-7)


def changed_receiver(name: str) -> LearnerState:
    """The state with j's parameters changed wherever that leaves j's best value, to the bit, as it was."""
    state, _, handoff = exchange(name)
    configured, inputs = learner(name), inputs_for(name)
    _, j = slots(name)
    view = np.asarray(configured.values.view(inputs.data, handoff.final_interface))
    own = jax.tree.map(np.copy, take(state.params, j))
    values = np.asarray(jax.jit(configured.values.apply)(own, view))
    best = int(np.where(handoff.final_mask, values, -np.inf).argmax())
    others = [o for o in range(NUM_OPTIONS) if o != best]
    if name == "mlp":  # the head's columns of other options: pushed down by their biases
        head = max(own["params"], key=lambda layer: int(layer.split("_")[1]))
        own["params"][head]["bias"][others] -= 5.0
    elif name == "two-layer":
        own["params"]["w"][others, 1::2] *= 3.0  # units of negative sign
    else:
        own[others] -= 5.0 * np.sign(view) if name == "linear" else 5.0
    params = jax.tree.map(np.copy, state.params)
    for leaf, value in zip(jax.tree.leaves(params), jax.tree.leaves(own), strict=True):
        leaf[j] = value
    return state._replace(params=params)


@pytest.mark.parametrize("name", CLASSES)
def test_what_leaves_the_maximum_alone_leaves_the_update_alone(name: str) -> None:
    """Other parameters, other values of other options, other features of j: the sender's bits do not move."""
    state, _, handoff = exchange(name)
    configured, inputs = learner(name), inputs_for(name)
    offer = jax.jit(configured.protocol(inputs).offer)
    i, j = slots(name)
    changed = changed_receiver(name)
    view = np.asarray(configured.values.view(inputs.data, handoff.final_interface))
    assert same_bits(*(offer(take(s.params, j), view, handoff.final_mask) for s in (state, changed)))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, changed.params)
    assert any(jax.tree.leaves(moved)), "nothing was changed, so nothing was tested"
    first, error_first = updated(name, state, handoff)
    second, error_second = updated(name, changed, handoff)
    assert same_bits(error_first, error_second)
    mine = (jax.tree.leaves(take((s.params, s.opt_state), i)) for s in (first, second))
    assert all(same_bits(one, two) for one, two in zip(*mine, strict=True))


@pytest.mark.parametrize("name", CLASSES)
def test_agents_without_a_segment_do_not_move(name: str) -> None:
    """All other slots keep every bit of parameters and optimiser state; the sender's own do change."""
    state, _, handoff = exchange(name)
    new, _ = updated(name, state, handoff)
    i, _ = slots(name)
    for before, after in zip(
        jax.tree.leaves((state.params, state.opt_state)), jax.tree.leaves((new.params, new.opt_state)), strict=True
    ):
        others = np.arange(before.shape[0]) != i
        assert same_bits(before[others], after[others])
    assert largest(jax.tree.map(lambda a, b: a[i] - b[i], state.params, new.params)) > 0
    assert int(new.epoch) == int(state.epoch) + 1


def test_a_terminal_handoff_leaves_nothing_to_say() -> None:
    """With discount 0 the scalar has no effect at all, whatever the receiver holds."""
    state, _, handoff = exchange("tabular")
    ended = handoff._replace(discount=np.float32(0), terminated=np.bool_(True))
    first, _ = updated("tabular", state, ended)
    _, j = slots("tabular")
    louder = state.params.copy()
    louder[j] += 100.0
    second, _ = updated("tabular", state._replace(params=louder), ended)
    i, _ = slots("tabular")
    assert same_bits(first.params[i], second.params[i])


# Learning behind the boundary


def error_to_solution(name: str, params: Any) -> float:
    """``||Q - Q_phi||_d`` of one replica."""
    analysis, features = setting()
    owner, data = analysis.interface.model.interface_agent, None if name == "tabular" else features
    table = params
    if data is not None:
        table = jax.jit(lambda given: networks.value_table(learner(name).values, given, data, owner))(params)
    solution = np.where(analysis.interface.mask, analysis.q_phi.q, 0.0)
    return analysis.interface.norm(np.asarray(table, np.float64) - solution)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "two-layer"])
def test_networks_with_optax_approach_the_solution(name: str) -> None:
    """Adam on 4 interfaces: the error falls to less than a quarter of its start (fixed key, 3000 handoffs)."""
    result = train.train(learner(name), [inputs_for(name)], jax.random.key(0), 1, [250, 3000], 250)
    first = jax.jit(learner(name).init)(jax.random.key(0), inputs_for(name)).params
    replica = [jax.tree.map(lambda leaf: leaf[0, 0], s.last) for s in result.snapshots]
    errors = [error_to_solution(name, params) for params in (first, *replica)]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.25 * errors[0]


@pytest.mark.slow
def test_epsilon_greedy_learns_the_solution_and_prefers_the_best_options() -> None:
    """On a model without a gap Q_phi does not depend on behaviour: epsilon-greedy tables approach it as well."""
    greedy = learner("tabular", greedy=True)
    results = train.train(
        greedy, [inputs_for("tabular", 0.3), inputs_for("tabular", 1.0)], jax.random.key(0), 4, [1000, 20_000], 1000
    )
    for part in range(2):
        errors = [np.mean([error_to_solution("tabular", table) for table in s.last[part]]) for s in results.snapshots]
        start = error_to_solution("tabular", np.zeros_like(results.snapshots[0].last[0, 0]))
        assert errors[1] < errors[0] < start and errors[1] < 0.1 * start
    # Visits tell who chose greedily: with epsilon = 0.3 the best option is taken far more often than at random.
    inputs = inputs_for("tabular", 0.3)
    state = jax.device_get(jax.jit(greedy.init)(jax.random.key(1), inputs))
    state = state._replace(params=results.snapshots[-1].last[0, 0])
    words = jax.random.bits(jax.random.key(2), (4000, greedy.words_per_step), jnp.uint32)
    split = greedy.env.words_per_step
    act = jax.jit(jax.vmap(lambda row, *now: greedy.act(row[split:], *now), in_axes=(0, None, None)))
    options = np.asarray(act(words, state, inputs))
    values = np.where(state.handoff.mask, state.params[state.handoff.interface], -np.inf)
    share = float((options == int(values.argmax())).mean())
    available = int(state.handoff.mask.sum())
    # Hoeffding: 4000 draws miss the expected share by 0.05 with probability below 2 exp(-20), about 4e-9.
    assert share == pytest.approx(0.7 + 0.3 / available, abs=0.05)
    assert state.handoff.mask[options].all()
