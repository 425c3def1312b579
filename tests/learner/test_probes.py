"""Probe models: what every method must learn, and what it cannot, with every function class; vectors and wrappers."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import EnvSpec, Handoff
from icsmdp_jax.core.wrappers import Central, WithOwner
from icsmdp_jax.envs.tabular import TabularEnv, TabularState, tabular_env
from icsmdp_jax.exact.moments import kernel_moments
from icsmdp_jax.exact.solve import optimal_q
from icsmdp_jax.learner import networks, schedules, setups
from icsmdp_jax.learner.exploration import ramp
from icsmdp_jax.learner.methods import METHODS
from icsmdp_jax.learner.parallel import Hyper, ParallelLearner, State
from icsmdp_jax.learner.rollout import Rows
from icsmdp_jax.learner.schedules import StepSize
from icsmdp_jax.learner.setups import Setup
from tests.learner import probes
from tests.learner.courier import quick_jit

COPIES, LENGTH, UPDATES = 32, 4, 1500

# Function class, arguments of ``setup``, step size of plain gradient descent. Five one-hot interfaces: tiny widths do.
CLASSES: dict[str, tuple[str, dict[str, int], StepSize]] = {
    "tabular": ("tabular", {}, schedules.polynomial(0.7)),
    "linear": ("linear", {}, schedules.polynomial(1.0, rescale=0.01)),
    "mlp-1": ("mlp", {"width": 12, "depth": 1}, schedules.polynomial(1.0, rescale=0.01, scale=0.3)),
    "mlp-2": ("mlp", {"width": 10, "depth": 2}, schedules.polynomial(1.0, rescale=0.01, scale=0.3)),
    "mlp-3": ("mlp", {"width": 16, "depth": 3}, schedules.polynomial(1.0, rescale=0.01, scale=0.3)),
    "two-layer": ("two-layer", {"width": 48}, schedules.polynomial(1.0, rescale=0.01, scale=3.0)),
    "frozen": ("two-layer", {"width": 48}, schedules.polynomial(1.0, rescale=0.01, scale=2.0)),
}
# Largest error allowed, where the answers of different methods lie 0.3 and more apart. What random durations and random
# options leave in the last steps has a standard deviation below 0.01: noise alone reaches it less than once in 10^5.
TOLERANCE = 0.05
EXACT = 2e-4  # tables, where neither durations nor the options of others are random

QUICK = {("tabular", method) for method in METHODS} | {("linear", m) for m in ("shared", "federated")}
QUICK |= {("mlp-2", "ic_q")}
CASES = [
    pytest.param(name, method, marks=() if (name, method) in QUICK else pytest.mark.slow)
    for name in CLASSES
    for method in METHODS
]


@cache
def prepared(name: str, method: str, probe: str = "value") -> Setup:
    """The method on the probe, with plain gradient steps and uniform behaviour."""
    function_class, sizes, size = CLASSES[name]
    static = {"optimiser": None if name == "tabular" else optax.sgd, "copies": COPIES, "length": LENGTH}
    made = setups.setup(probes.probe(probe), None, method, function_class, step_size=size, **sizes, **static)
    values = made.learner.values
    if name == "frozen":
        values = networks.two_layer(made.learner.env.spec.num_agents, 2, sizes["width"], "frozen")
        values = networks.shared(values) if made.method.shared else values
    # Averaged often, or networks that were pulled apart in between would take more updates than a test has.
    every = min(made.learner.federated_every, 2)
    learner = dataclasses.replace(made.learner, values=values, explore="behaviour", federated_every=every)
    return dataclasses.replace(made, learner=learner)


@cache
def rollouts(method: str) -> Rows:
    """Rows ``[probe, update, T, B]``; behaviour is fixed, so they depend on no values and serve all classes."""
    made = [prepared("tabular", method, name) for name in probes.NAMES]
    learner = made[0].learner

    def run(key: jax.Array, hyper: Hyper) -> Rows:
        key_init, key_run = jax.random.split(key)
        keys = jax.random.split(key_run, UPDATES)
        return jax.lax.scan(lambda state, k: learner.collect(k, state, hyper), learner.init(key_init, hyper), keys)[1]

    hypers = jax.tree.map(lambda *leaves: np.stack(leaves), *(m.hyper for m in made))
    return quick_jit(jax.vmap(run))(jax.random.split(jax.random.key(0), len(made)), hypers)


def same_rows(method: str) -> str:
    """The method whose rows these are: what is seen and waited for decides, not how it is learned from."""
    if METHODS[method].view == "state" or METHODS[method].bootstrap.startswith("own-turn"):
        return method
    return "ic_q"


def drawn(learner: ParallelLearner, hyper: Hyper) -> Any:
    """First parameters of the class's shapes, drawn on the host: no time goes into compiling the draws."""
    rng = np.random.default_rng(1)

    def leaf(path: Any, like: jax.ShapeDtypeStruct) -> np.ndarray:
        kind = path[-1].key if path and hasattr(path[-1], "key") else ""
        scale = {"kernel": 1 / np.sqrt(like.shape[-2]), "w": 1.0}.get(kind, 0.0)  # biases, tables, frozen heads: 0
        return (scale * rng.normal(size=like.shape)).astype(np.float32)

    shapes = jax.eval_shape(learner.values.init, jax.random.key(0), hyper.data)
    return jax.tree_util.tree_map_with_path(leaf, shapes)


@cache
def learned(name: str, method: str) -> np.ndarray:
    """Tables ``[probe, Z, O]`` (``[probe, S, O]`` for the central learner) after ``UPDATES`` updates on all probes."""
    made = prepared(name, method)
    learner, hyper = made.learner, made.hyper

    def train(params: Any, rows: Rows) -> jax.Array:
        since = jnp.zeros((networks.num_slots(params),)) if learner.federated_every else None
        opt_state = jax.vmap(learner.rule(hyper).init)(params)
        state = State(params, opt_state, None, None, None, None, since, None, jnp.int32(0))  # type: ignore[arg-type]
        key = jax.random.key(0)  # for a channel, of which there is none
        state, _ = jax.lax.scan(lambda carry, row: (learner.update(key, carry, row, hyper)[0], None), state, rows)
        return networks.value_table(learner.values, state.params, hyper.data, made.model.interface_agent)

    first = drawn(learner, hyper)
    return np.asarray(jax.jit(jax.vmap(train, in_axes=(None, 0)))(first, rollouts(same_rows(method))))


@pytest.mark.parametrize(("name", "method"), CASES)
def test_methods_learn_what_they_can_know(name: str, method: str) -> None:
    """Every entry that is ever visited, on all five probes, is the method's own answer."""
    tables = learned(name, method)
    for k, probe in enumerate(probes.NAMES):
        random = probe == "discounting" or (probe == "receiver" and method == "no_message_team")
        for (z, o), value in probes.answers(probe, method).items():
            error = abs(float(tables[k, z, o]) - value)
            assert error < (EXACT if name == "tabular" and not random else TOLERANCE), (probe, z, o, error)


@pytest.mark.parametrize("name", probes.NAMES)
def test_answers_of_those_who_are_right_are_the_exact_solution(name: str) -> None:
    """Closed forms against the exact solver, and the others' answers against what they do not know."""
    solution = optimal_q(kernel_moments(probes.probe(name)))
    for method in probes.RIGHT:
        for (z, o), value in probes.answers(name, method).items():
            assert solution.q[z, o] == pytest.approx(value, abs=1e-6)
    assert set(METHODS) - set(probes.RIGHT) == {"immediate", "no_message", "no_message_team"}


def test_only_a_message_tells_whom_to_hand_to() -> None:
    """On the last probe three methods prefer the wrong receiver, each with a margin of its own."""
    lead = {m: probes.answers("receiver", m)[0, 0] - probes.answers("receiver", m)[0, 1] for m in METHODS}
    assert all((lead[method] > 0.2) == (method in probes.RIGHT) for method in METHODS)
    assert lead["immediate"] == pytest.approx(-0.3) and lead["no_message"] == pytest.approx(-0.3)
    assert lead["no_message_team"] == pytest.approx(-0.3 - 0.8 * 0.3)
    k = probes.NAMES.index("receiver")
    for method in METHODS:
        table = learned("tabular", method)[k]
        assert (table[0].argmax() == 0) == (method in probes.RIGHT)


@dataclasses.dataclass(frozen=True)
class Vectors(Environment[Any, Any]):
    """A tabular environment, stepped by keys, whose interfaces are one-hot vectors instead of numbers."""

    env: TabularEnv

    @property
    def spec(self) -> EnvSpec:
        spec = self.env.spec
        return spec._replace(interface_shape=(spec.num_interfaces,), interface_dtype=jnp.float32, num_interfaces=0)

    def _see(self, handoff: Handoff) -> Handoff:
        code = jnp.eye(self.env.num_interfaces, dtype=jnp.float32)
        return handoff._replace(interface=code[handoff.interface], final_interface=code[handoff.final_interface])

    def reset(self, key: jax.Array, params: Any) -> tuple[Handoff, TabularState]:
        handoff, state = self.env.reset(key, params)
        return self._see(handoff), state

    def step_env(self, key: jax.Array, state: Any, option: Any, params: Any) -> tuple[Handoff, TabularState]:
        handoff, state = self.env.step_env(key, state, option, params)
        return self._see(handoff), state

    def global_view(self, state: TabularState, params: Any) -> jax.Array:
        return jax.nn.one_hot(probes.END - state.index, params.agent.shape[0])  # no interface looks like this


def eyes(view: str) -> tuple[Environment, Any, networks.ValueClass, np.ndarray]:
    """Environment, its parameters, values, and what is seen at states 0 to 3 under ``view``."""
    env, params = tabular_env(probes.probe("receiver"))
    vectors, seen = Vectors(env), np.eye(5, dtype=np.float32)[:4]
    if view == "interface":
        return vectors, params, networks.linear(3, 2, 5), seen
    if view == "owner":
        owner = np.eye(3, dtype=np.float32)[probes.AGENT[:4]]
        return WithOwner(vectors), params, networks.shared(networks.linear(3, 2, 8)), np.hstack([seen, owner])
    return Central(vectors, 5), params, networks.linear(1, 2, 5), np.eye(5, dtype=np.float32)[probes.END - np.arange(4)]


@pytest.mark.parametrize("view", [*(pytest.param(v, marks=pytest.mark.slow) for v in ("interface", "owner")), "state"])
def test_environments_with_vectors_and_wrappers(view: str) -> None:
    """A whole ``train`` with ``data = None``: own interface, interface and owner for shared values, global state."""
    env, params, values, seen = eyes(view)
    learner = ParallelLearner(env, values, optax.sgd, COPIES, LENGTH)
    spec = env.spec
    assert spec.interface_shape == seen.shape[1:] and spec.num_agents == (1 if view == "state" else 3)
    hyper = Hyper(params, None, CLASSES["linear"][2], None, ramp(1.0, 0.3, 200))  # every entry goes on being visited
    state, _ = quick_jit(learner.train, static_argnums=2)(jax.random.key(2), hyper, 400)
    agent = np.zeros(4, np.int32) if view == "state" else probes.AGENT[:4].astype(np.int32)
    found = np.asarray(quick_jit(learner.values_at)(state.params, agent, seen, hyper))
    for (z, o), value in probes.answers("receiver", "ic_q").items():
        assert abs(found[z, o] - value) < TOLERANCE, (z, o)
    now = jax.device_get(state.handoff)
    at = np.asarray(state.env_state.index)
    np.testing.assert_array_equal(now.interface, seen[at])  # what is seen belongs to the state
    np.testing.assert_array_equal(now.agent, agent[at])


def test_wrappers_change_nothing_but_the_view() -> None:
    """Same key, same option: the same segment, mask and state behind all three views, and the view of that state."""
    made = [eyes(view) for view in ("interface", "owner", "state")]
    outcomes = []
    for env, params, _, _ in made:

        def run(key: jax.Array, env: Any = env, params: Any = params) -> Any:
            def step(state: Any, at: Any) -> Any:
                now, state = env.step(at[0], state, at[1], params)
                return state, (now, state)

            key_reset, *keys = jax.random.split(key, 4)
            now, state = env.reset(key_reset, params)
            options = jnp.array([1, 0, 0])  # over agent 2 and back, then to the end
            then = jax.lax.scan(step, state, (jnp.stack(keys), options))[1]
            return (now, state), then

        first, then = jax.device_get(quick_jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 20)))
        later = [jax.tree.map(lambda leaf, t=t: leaf[:, t], then) for t in range(3)]
        outcomes.append(tuple(zip(first, *later, strict=True)))
    plain, owner, central = (handoffs for handoffs, _ in outcomes)
    for handoffs, states in outcomes[1:]:
        for seen, like in zip(handoffs, plain, strict=True):
            for field in ("mask", "reward", "duration", "discount", "terminated", "truncated", "final_mask"):
                np.testing.assert_array_equal(getattr(seen, field), getattr(like, field))
        for state, like in zip(states, outcomes[0][1], strict=True):
            np.testing.assert_array_equal(state.index, like.index)
    code = np.eye(3)
    for seen, whole, like, state in zip(owner, central, plain, outcomes[0][1], strict=True):
        np.testing.assert_array_equal(seen.interface, np.hstack([like.interface, code[like.agent]]))
        np.testing.assert_array_equal(seen.final_interface, np.hstack([like.final_interface, code[like.final_agent]]))
        np.testing.assert_array_equal(seen.agent, like.agent)
        assert not whole.agent.any() and not whole.final_agent.any()
        np.testing.assert_array_equal(whole.interface, np.eye(5)[probes.END - state.index])
    assert plain[3].terminated.all() and (plain[3].interface[:, 0] == 1).all()  # begun again, and seen where it ended
    assert (plain[3].final_interface[:, probes.END] == 1).all() and (central[3].final_interface[:, 0] == 1).all()
    with pytest.raises(ValueError, match="global_view"):
        Central(made[1][0], 5)
    with pytest.raises(ValueError, match="interface_shape"):
        _ = WithOwner(tabular_env(probes.probe("value"))[0]).spec
