"""Does an environment keep the contract? The conformance test of docs/rfc/environment.md, as a function for users.

``check_environment`` runs random options and compares what they return with each clause of the contract. It raises
``ContractError`` with the clause's number, the field and the value. It returns what it saw, so that a test can also
check that anything was seen at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.arguments import of_type, one_key, whole
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff

if TYPE_CHECKING:
    from icsmdp_jax.models.tabular import TabularModel

SEGMENT = ("reward", "duration", "discount", "terminated", "truncated")
DECISION = ("agent", "interface", "mask")
TYPES = {
    "agent": jnp.int32,
    "mask": jnp.bool_,
    "reward": jnp.float32,
    "duration": jnp.int32,
    "discount": jnp.float32,
    "terminated": jnp.bool_,
    "truncated": jnp.bool_,
    "final_agent": jnp.int32,
    "final_mask": jnp.bool_,
}


VANISHING = 2e-38  # gamma^tau that float32 may round to 0


class ContractError(ValueError):
    """An environment breaks a clause of the contract; the message is one line."""


class Seen(NamedTuple):
    """What a check came across.

    Attributes:
      handoffs: segments run.
      terminated: how many of them ended in a terminal handoff.
      truncated: how many were cut.
      agents: how many agents were active at some time.
      longest: longest duration, in primitive steps.
    """

    handoffs: int
    terminated: int
    truncated: int
    agents: int
    longest: int


def check_environment(env: Environment, params: Any, key: chex.PRNGKey, copies: int = 16, handoffs: int = 64) -> Seen:
    """Runs ``copies`` copies for ``handoffs`` random options each and checks every clause of the contract.

    Args:
      env: the environment.
      params: its parameters.
      key: source of randomness.
      copies: number of copies side by side.
      handoffs: number of options that each copy runs.

    Returns:
      What was seen.

    Raises:
      ContractError: in one line, naming clause, field and value.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> env, params = ic.make("planted", gap=0.2)
      >>> ic.check_environment(env, params, jax.random.key(0), copies=4, handoffs=8).handoffs
      32
    """
    of_type(Environment, "an Environment", env=env)
    whole(1, copies=copies, handoffs=handoffs)
    key_reset, key_run, key_one = jax.random.split(one_key(key), 3)
    first, state = jax.jit(jax.vmap(env.reset, in_axes=(0, None)))(jax.random.split(key_reset, copies), params)
    check_types(env, first, "reset")
    for name in SEGMENT:
        value = np.asarray(getattr(first, name))
        _require(2, not value.any(), f"reset: {name} = {value.reshape(-1)[0]}, expected zero before any segment")
    _check_decisions(env, jax.tree.map(lambda leaf: np.asarray(leaf)[None], first))
    _check_functional(env, params, key_one)
    after, views = _run(env, params, key_run, first, state, handoffs)
    check_types(env, jax.tree.map(lambda leaf: leaf[0], after), "step")
    host: Handoff = jax.tree.map(np.asarray, after)
    _check_segments(env, host)
    _check_decisions(env, host)
    _check_restart(host)
    if env.has_global_view:
        _check_view(np.asarray(views), host, env.global_view_size(params))
    if env.has_exact_model:
        _check_model(env, env.exact_model(params), host)
    return Seen(
        handoffs=int(host.duration.size),
        terminated=int(host.terminated.sum()),
        truncated=int(host.truncated.sum()),
        agents=len(np.unique(host.agent)),
        longest=int(host.duration.max()),
    )


def random_option(key: chex.PRNGKey, mask: chex.Array) -> chex.Array:
    """``[]`` int32, one of the available options, all equally likely; 0 if there is none."""
    score = jax.random.uniform(key, mask.shape, jnp.float32)
    return jnp.argmax(jnp.where(mask, score, -1.0)).astype(jnp.int32)


def _run(
    env: Environment, params: Any, key: chex.PRNGKey, first: Handoff, state: Any, handoffs: int
) -> tuple[Handoff, Any]:
    """``[handoffs, copies]`` outcomes of ``step`` under random options, and their global views, if there are any."""

    def body(carry: tuple[Handoff, Any], step_key: chex.PRNGKey) -> tuple[tuple[Handoff, Any], tuple[Handoff, Any]]:
        now, current = carry
        key_option, key_step = jax.random.split(step_key)
        copies = now.agent.shape[0]
        option = jax.vmap(random_option)(jax.random.split(key_option, copies), now.mask)
        after, current = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            jax.random.split(key_step, copies), current, option, params
        )
        view = jax.vmap(env.global_view, in_axes=(0, None))(current, params) if env.has_global_view else None
        return (after, current), (after, view)

    try:
        return jax.jit(lambda k, h, s: jax.lax.scan(body, (h, s), jax.random.split(k, handoffs))[1])(key, first, state)
    except TypeError as error:
        line = " ".join(str(error).split())[:200]
        raise ContractError(f"clause 9: step changes the types of what it carries ({line})") from None


def check_types(env: Environment, handoff: Handoff, where: str) -> None:
    """Clause 1: shapes and dtypes of a handoff whose leading axis are copies."""
    spec = env.spec
    expected = dict(TYPES, interface=spec.interface_dtype, final_interface=spec.interface_dtype)
    shapes: dict[str, tuple[int, ...]] = {name: () for name in expected}
    shapes |= dict.fromkeys(("mask", "final_mask"), (spec.num_options,))
    shapes |= dict.fromkeys(("interface", "final_interface"), tuple(spec.interface_shape))
    for name, dtype in expected.items():
        leaf = getattr(handoff, name)
        _require(1, hasattr(leaf, "dtype"), f"{where}: {name} is {type(leaf).__name__}, expected one array")
        _require(
            1, leaf.shape[1:] == shapes[name], f"{where}: {name} has shape {leaf.shape[1:]}, expected {shapes[name]}"
        )
        _require(1, leaf.dtype == dtype, f"{where}: {name} is {leaf.dtype}, expected {np.dtype(dtype).name}")


def _check_decisions(env: Environment, seen: Handoff) -> None:
    """Clause 3: what a decision may look like; ``[T, B]`` arrays."""
    spec = env.spec
    for prefix in ("", "final_"):
        agent, mask = getattr(seen, prefix + "agent"), getattr(seen, prefix + "mask")
        inside = (agent >= 0) & (agent < spec.num_agents)
        stray = agent.min() if (agent < 0).any() else agent.max()
        _require(3, inside.all(), f"{prefix}agent = {stray}, expected 0 to {spec.num_agents - 1}")
        over = seen.terminated if prefix else np.zeros_like(seen.terminated)
        _require(3, (mask.any(axis=-1) | over).all(), f"{prefix}mask: no option is available at a decision")
        interface = getattr(seen, prefix + "interface")
        if spec.num_interfaces:
            inside = (interface >= 0) & (interface < spec.num_interfaces)
            _require(3, (inside | over).all(), f"{prefix}interface: expected 0 to {spec.num_interfaces - 1}")
        if np.issubdtype(interface.dtype, np.floating):
            _require(3, np.isfinite(interface).all(), f"{prefix}interface: expected finite numbers")


def _check_segments(env: Environment, seen: Handoff) -> None:
    """Clauses 4 to 6: duration, discount, how a segment may end."""
    longest = env.spec.longest_duration
    _require(4, (seen.duration >= 1).all(), f"duration = {seen.duration.min()}, expected 1 or more")
    if longest:
        _require(4, (seen.duration <= longest).all(), f"duration = {seen.duration.max()}, expected at most {longest}")
    _require(4, np.isfinite(seen.reward).all(), "reward: expected finite numbers")
    _require(5, not seen.discount[seen.terminated].any(), "discount: expected 0 at a terminal handoff")
    going = seen.discount[~seen.terminated].astype(np.float64)
    _require(5, ((going >= 0) & (going <= 1)).all(), "discount: expected a number in [0, 1]")
    tau = seen.duration[~seen.terminated]
    rates = going ** (1.0 / tau)
    for value in np.unique(tau):
        # float32 products of tau factors are off by about tau roundings, their tau-th roots by one
        spread = np.ptp(rates[tau == value])
        _require(5, spread <= 1e-5, f"discount: more than one gamma among segments of duration {value}")
    lost = tau[going == 0]  # gamma^tau may be too small for float32, but then gamma is what the others say
    wrong = lost[rates.max(initial=0.0) ** lost >= VANISHING]
    _require(
        5, not len(wrong), f"discount: 0 after {wrong.min(initial=2**30)} steps, expected gamma^tau unless terminated"
    )
    _require(6, not (seen.terminated & seen.truncated).any(), "terminated and truncated are both set")


def _check_restart(seen: Handoff) -> None:
    """Clause 7: without an end, the next decision is the one that the segment led to."""
    going = ~(seen.terminated | seen.truncated)
    for name in DECISION:
        now, final = getattr(seen, name)[going], getattr(seen, "final_" + name)[going]
        _require(7, np.array_equal(now, final), f"step: {name} differs from final_{name} although nothing ended")


def _check_view(view: np.ndarray, seen: Handoff, size: int) -> None:
    """Clause 11: ``[T, B, V]`` global views, of which every decision is a function."""
    _require(11, view.shape[2:] == (size,), f"global_view has shape {view.shape[2:]}, expected ({size},)")
    _require(11, view.dtype == np.float32, f"global_view is {view.dtype}, expected float32")
    _require(11, np.isfinite(view).all(), "global_view: expected finite numbers")
    rows = view.reshape(-1, size)
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    for name in DECISION:
        value = getattr(seen, name).reshape(len(rows), -1)
        same = (value == value[first[group.reshape(-1)]]).all()
        _require(11, same, f"global_view: {name} differs between two states with one view, expected all in the view")


def _check_model(env: Environment, model: TabularModel, seen: Handoff) -> None:
    """Clause 12: the exact model has the sizes of ``spec``, and owners, options and gamma as they were seen."""
    spec = env.spec
    for name in ("num_agents", "num_options", "num_interfaces"):
        found, expected = getattr(model, name), getattr(spec, name)
        _require(12, found == expected, f"exact_model: {name} = {found}, expected {expected} as in spec")
    longest = model.longest_duration
    fits = not spec.longest_duration or longest <= spec.longest_duration
    _require(12, fits, f"exact_model: longest_duration = {longest}, expected at most {spec.longest_duration}")
    owner, mask = model.interface_agent[seen.interface], model.option_mask[seen.interface]
    _require(12, np.array_equal(owner, seen.agent), "exact_model: an interface has another owner than in step")
    _require(12, np.array_equal(mask, seen.mask), "exact_model: an interface has other available options than in step")
    going = ~seen.terminated
    expected = model.gamma ** seen.duration[going].astype(np.float64)
    close = np.allclose(seen.discount[going], expected, rtol=1e-5 * max(1, seen.duration.max()), atol=VANISHING)
    _require(12, close, f"exact_model: gamma = {model.gamma}, expected the one behind the discounts of step")


def _check_functional(env: Environment, params: Any, key: chex.PRNGKey) -> None:
    """Clauses 7 to 10 on one copy: exact final state, functions of their arguments only, stable types, words."""
    key_reset, key_step = jax.random.split(key)
    first, state = env.reset(key_reset, params)
    option = random_option(key_step, first.mask)
    before = jax.tree.map(np.asarray, state)
    plain, entered = env.step_env(key_step, state, option, params)
    for name in DECISION:
        same = np.array_equal(np.asarray(getattr(plain, name)), np.asarray(getattr(plain, "final_" + name)))
        _require(7, same, f"step_env: {name} differs from final_{name}, expected no restart")
    again, entered_again = env.step_env(key_step, state, option, params)
    _require(8, _same((plain, entered), (again, entered_again)), "step_env: two calls with the same arguments differ")
    _require(8, _same(before, state), "step_env changes the state that it is given")
    compiled = jax.jit(env.step_env)(key_step, state, option, params)
    close = jax.tree.map(lambda a, b: np.allclose(a, b, rtol=1e-5, atol=1e-6), compiled, (plain, entered))
    _require(8, all(jax.tree.leaves(close)), "step_env: the compiled result differs")
    for name, one, two in (("state", state, entered), ("handoff", first, plain)):
        agree = same_types(one, two)
        _require(9, agree, f"the {name} of reset and that of step_env differ in structure, shape or dtype")
    words = jax.random.bits(key_step, (env.words_per_step,), jnp.uint32)
    drawn = jax.eval_shape(env.step_from_words, words, state, option, params)
    agree = same_types(drawn, (plain, entered))
    _require(10, agree, "step_from_words and step_env differ in structure, shape or dtype of what they return")


def same_types(one: Any, two: Any) -> bool:
    """Whether two trees agree in structure, shapes and dtypes."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=False)
    return str(jax.tree.structure(one)) == str(jax.tree.structure(two)) and all(
        jnp.shape(a) == jnp.shape(b) and jnp.result_type(a) == jnp.result_type(b) for a, b in pairs
    )


def _same(one: Any, two: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def _require(clause: int, holds: Any, message: str) -> None:
    if not bool(holds):
        raise ContractError(f"clause {clause}: {message}")
