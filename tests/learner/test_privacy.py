"""Decentralization of the batched learner, on the traced program: what reaches an agent's parameters, and what cannot.

Three kinds of evidence. *Data path*: the traced program is walked backwards from its outputs; an input that is not met
has no path to them at all. The walk takes every input of an operation for used, so it may miss independence but never a
path. *Derivative*: within stacked arrays, blocks of the Jacobian that must be exactly 0. *Bits*: each entry of each
input is replaced in turn, and whose result changes is written down. All three are also run on learners that break the
boundary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend.core import Var
from jax.flatten_util import ravel_pytree

from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.learner import networks, parallel, targets
from icsmdp_jax.learner.dispatch import gathered
from icsmdp_jax.learner.parallel import ParallelLearner, State
from icsmdp_jax.learner.rollout import Rows
from tests.helpers import same_bits
from tests.learner.courier import AGENTS, DIM, OPTIONS, gaussian, hyper, learner, random_like, random_rows

LENGTH, COPIES = 3, 4
ROWS = (LENGTH, COPIES)
GIVEN = hyper(0.2)
CLASSES = {
    "linear": networks.linear(AGENTS, OPTIONS, DIM),
    "mlp": networks.mlp(AGENTS, OPTIONS, 3, 1, DIM),
    "two-layer": networks.two_layer(AGENTS, OPTIONS, 4, "trained", DIM),
    "frozen": networks.two_layer(AGENTS, OPTIONS, 4, "frozen", DIM),
    "wide": networks.mlp(AGENTS, OPTIONS, 64, 1, DIM),  # large enough that rows are sorted by agent
}
KINDS = ["linear", "mlp", "wide", *(pytest.param(name, marks=pytest.mark.slow) for name in ("two-layer", "frozen"))]
OPTIMISERS = {"sgd": optax.sgd, "adam": optax.adam}


class Leaky(ParallelLearner):
    """Breaks the boundary in ``absorb``: the targets also contain a number of the receiver's interface."""

    def absorb(self, params: Any, opt_state: Any, rows: Rows, scalars: Any, hyper: Any) -> Any:
        return super().absorb(params, opt_state, rows, scalars + 1e-3 * rows.final_interface[..., 0], hyper)


class Gossiping(ParallelLearner):
    """Breaks it between parameters: every agent's new parameters contain a little of the mean of all."""

    def absorb(self, params: Any, opt_state: Any, rows: Rows, scalars: Any, hyper: Any) -> Any:
        after, opt_state, done = super().absorb(params, opt_state, rows, scalars, hyper)
        mixed = jax.tree.map(lambda leaf: leaf + 1e-3 * jnp.mean(leaf, axis=0, keepdims=True), after)
        return mixed, opt_state, done


def make(name: str, kind: type[ParallelLearner] = ParallelLearner, optimiser: str = "sgd", **static: Any) -> Any:
    base = learner(CLASSES[name], optimiser=OPTIMISERS[optimiser], copies=COPIES, length=LENGTH, **static)
    return kind(**{field.name: getattr(base, field.name) for field in dataclasses.fields(ParallelLearner)})


@cache
def given_state(name: str, optimiser: str = "sgd", slow: bool = False) -> State:
    params = gaussian(CLASSES[name], 1)
    opt_state = jax.eval_shape(jax.vmap(make(name, optimiser=optimiser).rule(GIVEN).init), params)
    opt_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), opt_state)
    opt_state = jax.tree.map(np.abs, random_like(opt_state, 2))  # second moments are not negative
    return State(params, opt_state, random_like(params, 3) if slow else None, *(None,) * 5, jnp.int32(0))  # type: ignore[arg-type]


def all_rows(seed: int = 6) -> Rows:
    rows = random_rows(seed, LENGTH, COPIES)
    agents = jnp.arange(LENGTH * COPIES, dtype=jnp.int32).reshape(ROWS) % AGENTS  # all of them, to each other
    return rows._replace(agent=agents, final_agent=(agents + 1 + (agents + rows.option) % 2) % AGENTS)


def paths_used(function: Callable[..., Any], **inputs: Any) -> set[str]:
    """Names of the leaves of ``inputs`` from which the traced program has a path to its outputs."""
    program = jax.make_jaxpr(lambda kw: function(**kw))(inputs).jaxpr
    live = {var for var in program.outvars if isinstance(var, Var)}
    for eqn in reversed(program.eqns):
        if live.intersection(eqn.outvars):
            live.update(var for var in eqn.invars if isinstance(var, Var))
    leaves = jax.tree_util.tree_leaves_with_path(inputs)
    assert len(leaves) == len(program.invars)
    found = {path for (path, _), var in zip(leaves, program.invars, strict=True) if var in live}
    names = {jax.tree_util.keystr(path[:2], simple=True, separator=".") for path in found}
    return {name.split(".")[0] if name.split(".")[0] not in ("rows", "now", "hyper") else name for name in names}


def absorb_of(made: ParallelLearner) -> Callable[..., Any]:
    return lambda params, opt_state, rows, scalars, hyper: made.absorb(params, opt_state, rows, scalars, hyper)[:2]


OWN_SEGMENT = {"rows.agent", "rows.interface", "rows.option", "rows.reward", "rows.discount", "rows.valid"}


@pytest.mark.parametrize("name", KINDS)
def test_absorb_has_no_path_from_the_receivers_side(name: str) -> None:
    """All that ``absorb`` uses: parameters, optimiser state, the segment's own fields, one scalar for each row."""
    state = given_state(name, "adam")
    inputs = {"params": state.params, "opt_state": state.opt_state, "rows": all_rows(), "hyper": GIVEN}
    inputs["scalars"] = jnp.ones(ROWS)
    used = paths_used(absorb_of(make(name, optimiser="adam")), **inputs)
    assert used == {"params", "opt_state", "scalars", "hyper.step_size"} | OWN_SEGMENT
    leaked = paths_used(absorb_of(make(name, Leaky, "adam")), **inputs)
    assert leaked - used == {"rows.final_interface"}


@pytest.mark.parametrize("double", [False, True])
def test_offers_use_the_receivers_side_only(double: bool) -> None:
    """Nothing of the segment that ended, not even whose it was, and one float32 for each handoff."""
    state = given_state("mlp", slow=double)

    def offers(state: State, rows: Rows, hyper: Any) -> jax.Array:
        return make("mlp", target_network=double, double=double).offers(state, rows, hyper)

    used = paths_used(
        lambda params, slow, rows, hyper: offers(state._replace(params=params, target_params=slow), rows, hyper),
        params=state.params,
        slow=state.target_params,
        rows=all_rows(),
        hyper=GIVEN,
    )
    assert used == {"params", "rows.final_agent", "rows.final_interface", "rows.final_mask"} | (
        {"slow"} & {"slow" * double}
    )
    assert jax.eval_shape(offers, state, all_rows(), GIVEN) == jax.ShapeDtypeStruct(ROWS, jnp.float32)


@pytest.mark.parametrize("explore", ["behaviour", "epsilon-greedy", "boltzmann"])
def test_acting_uses_the_decision_only(explore: str) -> None:
    """Words, own parameters, who decides, what it sees and what is open to it; not how the last segment went."""
    rows = jax.tree.map(lambda leaf: leaf[0], all_rows())
    zero, no = jnp.zeros(COPIES), jnp.zeros(COPIES, bool)
    now = Handoff(rows.agent, rows.interface, rows.mask, zero, rows.duration, zero, no, no, *rows[8:11])
    made = make("mlp", explore=explore)
    used = paths_used(
        lambda words, params, now, update, hyper: made.act(words, params, now, update, hyper),
        words=jnp.zeros((COPIES, made.act_words), jnp.uint32),
        params=given_state("mlp").params,
        now=now,
        update=jnp.int32(0),
        hyper=GIVEN,
    )
    wanted = {"words", "now.mask"}
    if explore != "behaviour":
        wanted |= {"params", "now.agent", "now.interface", "update", "hyper.exploration"}
    assert used == wanted


def flat_agents(tree: Any) -> jax.Array:
    """``[N, P]``: each agent's floats in one row."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.concatenate([leaf.reshape(AGENTS, -1) for leaf in leaves], axis=1)


def blocks(jacobian: Any, lead: int) -> np.ndarray:
    """Largest absolute derivative, ``[N, lead]``: of agent i's outputs in entry ``k`` of the input's first axis."""
    out = np.zeros((AGENTS, lead))
    for leaf in jax.tree.leaves(jacobian):  # [N, P, *shape of the input leaf]
        out = np.maximum(out, np.abs(np.asarray(leaf)).reshape(AGENTS, leaf.shape[1], lead, -1).max(axis=(1, 3)))
    return out


@pytest.fixture
def plain_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Derivatives are those of the plain gather: the fast dispatch brings derivative rules of its own."""

    def weighed(apply: Any, params: Any, slots: Any, views: Any, _: int, weigh: Any, rows: Any) -> Any:
        values, pull = jax.vjp(lambda p: gathered(apply, p, slots, views), params)
        return values, pull(jax.vmap(weigh)(values, rows))[0]

    monkeypatch.setattr(
        parallel, "by_slot", lambda apply, params, slots, views, _: gathered(apply, params, slots, views)
    )
    monkeypatch.setattr(parallel, "by_slot_weighed", weighed)


def absorb_blocks(made: ParallelLearner, name: str, optimiser: str) -> dict[str, np.ndarray]:
    """Derivatives of all agents' new parameters and optimiser states, scalars held fixed."""
    state, rows = given_state(name, optimiser), all_rows()
    scalars = jnp.asarray(np.random.default_rng(9).normal(size=ROWS), jnp.float32)

    def after(params: Any, interface: Any, reward: Any, discount: Any, scalars: Any) -> jax.Array:
        changed = rows._replace(interface=interface, reward=reward, discount=discount)
        return flat_agents(made.absorb(params, state.opt_state, changed, scalars, GIVEN)[:2])

    inputs = (state.params, rows.interface, rows.reward, rows.discount, scalars)
    parts = jax.jit(jax.jacrev(after, argnums=(0, 1, 2, 3, 4)))(*inputs)
    count = LENGTH * COPIES
    found = {"params": blocks(parts[0], AGENTS)}
    for label, part in zip(("interface", "reward", "discount", "scalar"), parts[1:], strict=True):
        found[label] = blocks(part.reshape(*part.shape[:2], count, -1), count)
    return found


@pytest.mark.usefixtures("plain_dispatch")
@pytest.mark.parametrize(("name", "optimiser"), [("linear", "sgd"), ("mlp", "adam")])
def test_with_the_scalars_fixed_no_derivative_crosses(name: str, optimiser: str) -> None:
    """Exactly 0 in others' parameters and in others' segments; not 0 in the agent's own, nor in its scalars."""
    found = absorb_blocks(make(name, optimiser=optimiser), name, optimiser)
    assert ((found["params"] > 0) == np.eye(AGENTS, dtype=bool)).all()
    mine = np.arange(AGENTS)[:, None] == np.asarray(all_rows().agent).ravel()
    for label in ("interface", "reward", "discount", "scalar"):
        assert not found[label][~mine].any() and found[label].any(axis=1).all(), label
    if name == "linear":  # elsewhere a ReLU may be shut for a whole row
        ended = np.asarray(all_rows().discount).ravel() == 0
        assert found["reward"][mine].all() and found["interface"][mine].all()
        assert (found["scalar"][:, ~ended][mine[:, ~ended]] > 0).all() and not found["scalar"][:, ended].any()


@pytest.mark.usefixtures("plain_dispatch")
def test_a_leak_between_parameters_would_be_noticed() -> None:
    found = absorb_blocks(make("linear", Gossiping), "linear", "sgd")
    assert (found["params"] > 0).all() and (found["reward"] > 0).all()
    reached = influence(make("linear", Gossiping), "linear", "sgd")
    assert reached["params"].all() and reached["reward"].all()


def bits_of(agent: int, *trees: Any) -> list[bytes]:
    return [np.asarray(leaf[agent]).tobytes() for tree in trees for leaf in jax.tree.leaves(tree)]


def influence(made: ParallelLearner, name: str, optimiser: str) -> dict[str, np.ndarray]:
    """``[N, entries]`` bool: whose new parameters or optimiser states change a bit as one entry of an input changes.

    Entries are agents for ``params`` and ``opt_state``, rows for all else.
    """
    count = LENGTH * COPIES
    state, rows = jax.device_get((given_state(name, optimiser), all_rows()))
    absorb, scalars = jax.jit(absorb_of(made)), np.linspace(-1.0, 1.0, count, dtype=np.float32)

    def after(
        params: Any = None, opt_state: Any = None, rows: Rows = rows, scalars: Any = scalars
    ) -> list[list[bytes]]:
        start = (state.params if params is None else params, state.opt_state if opt_state is None else opt_state)
        new = jax.device_get(absorb(*start, rows, scalars.reshape(ROWS), GIVEN))
        return [bits_of(i, *new) for i in range(AGENTS)]

    def one(tree: Any, other: Any, entry: int) -> Any:
        def changed(old: np.ndarray, new: Any) -> np.ndarray:
            old = np.copy(old)
            old[entry] = new[entry]
            return old

        return jax.tree.map(changed, tree, other)

    first = after()
    others = {"params": random_like(state.params, 7), "opt_state": jax.tree.map(lambda x: x * 2 + 1, state.opt_state)}
    others = jax.device_get(others)
    changed = {
        label: [after(**{label: one(getattr(state, label), other, j)}) for j in range(AGENTS)]
        for label, other in others.items()
    }
    new_rows = jax.device_get(all_rows(seed=99))._replace(option=(rows.option + 1) % OPTIONS, valid=~rows.valid)
    changed["scalar"] = [after(scalars=one(scalars, scalars + np.float32(0.7), r)) for r in range(count)]
    for field in set(Rows._fields) - {"agent"}:
        old, new = (getattr(table, field).reshape(count, -1) for table in (rows, new_rows))
        shape = getattr(rows, field).shape
        changed[field] = [after(rows=rows._replace(**{field: one(old, new, r).reshape(shape)})) for r in range(count)]
    return {
        label: np.array([[bits[i] != first[i] for bits in entries] for i in range(AGENTS)])
        for label, entries in changed.items()
    }


@pytest.mark.parametrize("name", KINDS)
def test_bits_change_where_they_may(name: str) -> None:
    """Each input, entry by entry: it reaches its own agent and nobody else, and nothing of the receiver anybody."""
    found = influence(make(name, optimiser="adam"), name, "adam")
    for label in ("params", "opt_state"):
        np.testing.assert_array_equal(found[label], np.eye(AGENTS, dtype=bool))
    mine = np.arange(AGENTS)[:, None] == np.asarray(all_rows().agent).ravel()
    for label in ("interface", "option", "reward", "discount", "valid", "scalar"):
        assert not found[label][~mine].any(), label
        assert found[label].any(axis=1).all(), label
        if name == "linear" and label in ("interface", "option", "reward", "valid"):
            assert found[label][mine].all(), label
    if name == "linear":
        np.testing.assert_array_equal(found["scalar"], mine & (np.asarray(all_rows().discount).ravel() > 0))
    for label in ("mask", "duration", "truncated", "final_agent", "final_interface", "final_mask"):
        assert not found[label].any(), label


@pytest.mark.usefixtures("plain_dispatch")
@pytest.mark.parametrize("name", ["linear", pytest.param("two-layer", marks=pytest.mark.slow)])
def test_all_that_crosses_is_the_derivative_of_the_scalar(name: str) -> None:
    """For j other than i, d theta_i' / d theta_j is the sum over rows of (d theta_i' / d v_r) (d v_r / d theta_j)."""
    made, state, rows = make(name), given_state(name), all_rows()
    flat, rebuild = ravel_pytree(state.params)
    order = ravel_pytree(
        jax.tree.map(
            lambda leaf: jnp.broadcast_to(jnp.arange(AGENTS).reshape(AGENTS, *(1,) * (leaf.ndim - 1)), leaf.shape),
            state.params,
        )
    )[0]  # whose number it is

    def offered(vector: Any) -> jax.Array:
        return made.offers(state._replace(params=rebuild(vector)), rows, GIVEN).ravel()

    def absorbed(vector: Any, scalars: Any) -> jax.Array:
        return ravel_pytree(made.absorb(rebuild(vector), state.opt_state, rows, scalars.reshape(ROWS), GIVEN)[0])[0]

    def updated(vector: Any) -> jax.Array:
        new, _ = made.update(jax.random.key(0), state._replace(params=rebuild(vector)), rows, GIVEN)
        return ravel_pytree(new.params)[0]

    whole = np.asarray(jax.jit(jax.jacrev(updated))(flat))
    through = np.asarray(jax.jit(jax.jacrev(absorbed, argnums=1))(flat, offered(flat)))
    link = np.asarray(jax.jit(jax.jacrev(offered))(flat))
    others = np.asarray(order)[:, None] != np.asarray(order)[None, :]
    np.testing.assert_allclose(whole[others], (through @ link)[others], rtol=1e-5, atol=1e-7)
    assert np.abs(whole[others]).max() > 1e-3
    # Each scalar has a derivative in its receiver's numbers only.
    foreign = np.asarray(rows.final_agent).ravel()[:, None] != np.asarray(order)[None, :]
    assert not link[foreign].any() and link.any(axis=1).sum() > LENGTH * COPIES // 2


@pytest.mark.parametrize("explore", ["epsilon-greedy", "boltzmann"])
def test_options_depend_on_own_parameters_only(explore: str) -> None:
    """Other agents' parameters replaced: agent 0 chooses as before, in all of many decisions, and they do not."""
    made = make("mlp", explore=explore)
    rows = random_rows(1, 1, 300)
    zero, no = np.zeros(300, np.float32), np.zeros(300, bool)
    rows = jax.device_get(rows)
    agent, interface, mask = rows.agent[0], rows.interface[0], rows.mask[0]
    now = Handoff(agent, interface, mask, zero, rows.duration[0], zero, no, no, agent, interface, mask)
    words = jax.random.bits(jax.random.key(0), (300, made.act_words), jnp.uint32)
    params, new = jax.device_get((given_state("mlp").params, random_like(given_state("mlp").params, 5, 3.0)))
    changed = jax.tree.map(lambda old, new: np.concatenate([old[:1], new[1:]]), params, new)
    act = jax.jit(made.act)
    first, second = (np.asarray(act(words, p, now, jnp.int32(0), GIVEN)) for p in (params, changed))
    mine = agent == 0
    assert (first[mine] == second[mine]).all() and (first[~mine] != second[~mine]).any()
    only_own = np.asarray(
        act(words, jax.tree.map(lambda p: np.broadcast_to(p[:1], p.shape), params), now, jnp.int32(0), GIVEN)
    )
    assert (only_own[mine] == first[mine]).all()


def test_longer_targets_need_relayed_scalars() -> None:
    """With lambda targets ``absorb`` reads the rewards of a whole chain, which no agent of a real system could.

    What agents would do is to pass the scalar of ``chain_targets`` backwards, one for each handoff. Absorbing these,
    one handoff at a time, gives the same parameters.
    """
    given = GIVEN._replace(lambda_=0.6)
    long, short, state, rows = make("linear", target="lambda"), make("linear"), given_state("linear"), all_rows()
    inputs = {
        "params": state.params,
        "opt_state": state.opt_state,
        "rows": rows,
        "scalars": jnp.ones(ROWS),
        "hyper": given,
    }
    assert "rows.truncated" in paths_used(absorb_of(long), **inputs)
    offers = jax.jit(short.offers)(state, rows, given)

    def of_rewards(reward: Any) -> jax.Array:
        return flat_agents(long.absorb(state.params, state.opt_state, rows._replace(reward=reward), offers, given)[0])

    count = LENGTH * COPIES
    crossing = blocks(jax.jit(jax.jacrev(of_rewards))(rows.reward).reshape(AGENTS, -1, count), count)
    mine = np.arange(AGENTS)[:, None] == np.asarray(rows.agent).ravel()
    assert crossing[~mine].any()  # the check of the plain learner would find it

    chain = (rows.reward, rows.discount, offers, rows.truncated)
    backwards = jax.vmap(lambda r, d, v, cut: targets.chain_targets(r, d, v, 0.6, cut).messages, in_axes=1, out_axes=1)
    messages = jax.jit(backwards)(*chain)
    assert messages.shape == ROWS
    absorb = jax.jit(lambda scalars: short.absorb(state.params, state.opt_state, rows, scalars, given)[0])
    whole = jax.jit(long.absorb)(state.params, state.opt_state, rows, offers, given)[0]
    np.testing.assert_allclose(absorb(messages), whole, rtol=1e-5, atol=1e-6)
    assert np.abs(np.asarray(whole) - absorb(offers)).max() > 1e-3
    assert not same_bits(messages, offers)
