"""The runtime's agent against the JAX learner, segment by segment, and what its choices say of themselves."""

from __future__ import annotations

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from icsmdp_jax.core.handoff import Segment as Told
from icsmdp_jax.learner import networks, schedules
from icsmdp_jax.learner.export import network_policy, table_policy
from icsmdp_jax.learner.message import protocol
from icsmdp_jax.runtime.agent import Agent, Segment
from icsmdp_jax.runtime.functions import Adam, Steps
from icsmdp_jax.runtime.policies import AgentPolicy, Field, Policy
from tests.helpers import golden

MODEL = golden("plain")  # 3 agents, 12 interfaces, 2 options
WHO = 1
OWN = np.flatnonzero(MODEL.interface_agent == WHO)
STEP = (0.3, 0.2, 0.6, 0.25)  # scale, rescale, power, cap: the cap binds at first
SIZES = (MODEL.num_agents, MODEL.num_options)
CLASSES = {
    "tabular": networks.tabular(MODEL.num_interfaces, MODEL.num_options),
    "linear": networks.linear(*SIZES),
    "two-layer": networks.two_layer(*SIZES, 6),
    "two-layer frozen": networks.two_layer(*SIZES, 6, "frozen"),
    "mlp": networks.mlp(*SIZES, 5, 2),
}


def both(name: str, adam: bool, clock: str = "visits", count: int = 60) -> tuple[Any, Any, Agent]:
    """Values and errors of the JAX learner and of the agent after the same segments and scalars."""
    rng = np.random.default_rng(3)
    values: Any = CLASSES[name]
    data = rng.standard_normal((MODEL.num_interfaces, 3)).astype(np.float32) / 2
    params = values.init(jax.random.key(5), None if name == "tabular" else data)
    if name in ("tabular", "linear"):
        params = params + rng.standard_normal(params.shape).astype(np.float32) / 4
    if name == "tabular":
        policy = table_policy(MODEL, np.asarray(params, np.float64))
    else:
        policy = network_policy(MODEL, values, params, data)
    rule = schedules.stochastic_approximation(
        schedules.polynomial(STEP[2], STEP[1], STEP[0], STEP[3]), clock, values.per_option
    )
    if adam:
        rule = schedules.from_optax(optax.adam(3e-3))
    offer, absorb = protocol(values.apply, rule)
    opt_state = jax.vmap(rule.init)(params)
    agent = Agent(policy, f"agent {WHO}", rule=Adam() if adam else Steps(*STEP, clock=clock))

    step = jax.jit(absorb)
    offered = jax.jit(lambda p, v: offer(p, v, jnp.ones(MODEL.num_options, bool)))
    found, wanted = [], []
    for epoch in range(count):
        z = int(rng.choice(OWN))
        option, reward, scalar = int(rng.integers(2)), float(rng.normal()), float(rng.normal())
        discount = float(np.float32(0.0 if epoch % 7 == 6 else 0.9 ** rng.integers(1, 5)))
        reward, scalar = float(np.float32(reward)), float(np.float32(scalar))
        slot = z if name == "tabular" else WHO
        own, state = jax.tree.map(lambda leaf, at=slot: leaf[at], (params, opt_state))
        view = values.view(data, jnp.int32(z))
        told = Told(view, jnp.int32(option), jnp.float32(reward), jnp.float32(discount), jnp.int32(epoch))
        wanted.append((float(offered(own, view)), float(scalar)))
        new, state, error = step(own, state, told, jnp.float32(scalar))
        params = jax.tree.map(lambda leaf, one, at=slot: leaf.at[at].set(one), params, new)
        opt_state = jax.tree.map(lambda leaf, one, at=slot: leaf.at[at].set(one), opt_state, state)
        wanted[-1] = (wanted[-1][0], float(error))
        value = agent.offer(z)
        found.append((value, agent.absorb(Segment(z, option, reward, discount, epoch), scalar)))
    return np.array(found), np.array(wanted), agent


@pytest.mark.parametrize(
    ("name", "adam", "clock"),
    [("tabular", False, "visits"), ("tabular", False, "epoch"), ("linear", False, "visits"),
     ("two-layer", False, "visits"), ("two-layer frozen", False, "visits"), ("mlp", False, "visits"),
     ("mlp", True, "visits")],
)  # fmt: skip
def test_offers_and_errors_are_those_of_the_jax_learner(name: str, adam: bool, clock: str) -> None:
    # JAX works in float32, the runtime in float64: 1e-6 is the rounding of numbers of the order of 1. Adam's
    # corrections 1 - 0.999^n are rounded to 6e-5 of their size in float32, which adds up: fewer segments.
    found, wanted, agent = both(name, adam, clock, 25 if adam else 60)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    assert agent.counts()["absorbed"] == len(found) and agent.counts()["terminal"] == len(found) // 7


@pytest.mark.parametrize("soft", [False, True])
def test_probabilities_are_those_of_the_choices(soft: bool) -> None:
    q = np.array([[1.0, 3.0, 2.0, 9.0]])
    open_at = np.array([[True, True, True, False]])
    policy = Policy(
        ("a", "b", "c", "d"), (AgentPolicy("x", {"q": q}, interfaces=np.array([4]), available=open_at),), 0.9
    )
    agent = Agent(policy, "x", epsilon=0.3, temperature=1.5 if soft else None, seed=0)
    told = {choice.name: choice.probability for choice in (agent.act(4) for _ in range(300))}
    weight = np.exp(np.array([1.0, 3.0, 2.0]) / 1.5) if soft else np.array([0.0, 1.0, 0.0])
    law = 0.7 * weight / weight.sum() + 0.1
    assert told == pytest.approx(dict(zip("abc", law, strict=True)))
    count = 20_000
    seen = Counter(agent.act(4).name for _ in range(count))
    for name, chance in zip("abc", law, strict=True):
        assert abs(seen[name] - count * chance) < 5 * np.sqrt(count * chance * (1 - chance))
    # the caller's mask and the policy's, and the caller's alone where the two leave nothing
    agent.epsilon, agent.temperature = 0.0, None
    assert agent.act(4, ["a", "c", "d"]).name == "c" and agent.offer(4, [True, False, False, True]) == 1.0
    assert agent.act(4, ["d"]) == (3, "d", 1.0)
    for wrong in ([], ["e"], [True], [False] * 4):
        with pytest.raises(ValueError, match="available"):
            agent.act(4, wrong)


def test_facts_become_interfaces_and_new_ones_start_at_zero() -> None:
    fields = (Field("topic", ("billing", "bug")), Field("waited", edges=(10.0, 60.0)))
    q = np.array([[1.0, 2.0], [5.0, 4.0]])
    agent = AgentPolicy("desk", {"q": q}, fields, interfaces=np.array([1, 7]))
    one = Agent(Policy(("keep", "pass"), (agent,), 0.9), "desk", rule=Steps(0.5, 0.0, 0.0, 1.0))
    assert one.act({"topic": "billing", "waited": 12, "secret": "never read"}).name == "pass"
    assert agent.number_of({"topic": "bug", "waited": float("nan")}) == 1 * 4 + 3
    assert one.offer({"topic": "bug"}) == 5.0
    assert one.offer({"topic": "law", "waited": 60.0}) == 0.0
    assert one.absorb(Segment({"topic": "law", "waited": 60.0}, 1, 2.0, 0.5), 4.0) == 4.0
    assert one.values({"topic": "tax", "waited": 1000}) == [0.0, 2.0]  # the same interface: not listed, in the last bin


def test_scalars_are_clipped_to_the_range_of_values_except_at_the_end() -> None:
    one = AgentPolicy("x", {"q": np.zeros((1, 2))}, interfaces=np.array([0]))
    agent = Agent(Policy(("a", "b"), (one,), 0.9, value_range=(1.0, 4.0)), "x", rule=Steps(1.0, 0.0, 0.0, 1.0))
    assert agent.absorb(Segment(0, 0, 1.0, 0.5), 1e6) == 3.0  # 1 + 0.5 * 4
    assert agent.absorb(Segment(0, 1, 1.0, 0.0), 1e6) == 1.0  # no scalar crosses, and 0 may lie outside of the range
    assert agent.counts() == {"absorbed": 2, "clipped": 1, "terminal": 1, "waiting": 0, "lost": 0}


@pytest.mark.parametrize(
    ("segment", "scalar"),
    [(Segment(0, 0, np.nan, 0.5), 1.0), (Segment(0, 0, 1.0, 1.0), 1.0), (Segment(0, 0, 1.0, -0.1), 1.0),
     (Segment(0, 2, 1.0, 0.5), 1.0), (Segment(0, -1, 1.0, 0.5), 1.0), (Segment(0, 0, 1.0, 0.5), np.inf),
     (Segment(5, 0, 1.0, 0.5), 1.0), (Segment({"a": 1}, 0, 1.0, 0.5), 1.0), (Segment([1.0], 0, 1.0, 0.5), 1.0)],
)  # fmt: skip
def test_what_cannot_be_learned_from_changes_nothing(segment: Segment, scalar: float) -> None:
    one = AgentPolicy("x", {"q": np.array([[1.0, 2.0]])}, interfaces=np.array([0]))
    agent = Agent(Policy(("a", "b"), (one,), 0.9), "x")
    with pytest.raises(ValueError, match="segment|scalar|agent"):
        agent.absorb(segment, scalar, "id")
    assert agent.values(0) == [1.0, 2.0] and agent.counts() == {"waiting": 0, "lost": 0}
    assert agent.absorb(Segment(0, 0, 1.0, 0.5), 1.0, "id") is not None
