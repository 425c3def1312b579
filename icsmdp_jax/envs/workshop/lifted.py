"""The workshop at the scale of its options: benches with fixed local policies, simulated and listed (D1, D2).

The local policy is ours: with probability ``care`` an agent takes the tool that fits the grain in view, which may mean
clamping it first; otherwise it keeps the tool that is clamped, whatever that does to the part. The defaults have two
tools and benches that mostly keep theirs, so that what other benches have clamped is hidden and matters.

The listing has the exact law of ``(tau, s')`` and the exact mean of the segment reward at every state and option, hence
the exact values, returns and constants of the theory; it does not have the scatter of the reward within a segment.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from icsmdp_jax.core.arguments import expect, flag, whole
from icsmdp_jax.core.primitive import Lifted, LiftedParams, LiftedState
from icsmdp_jax.envs.tabular import TabularEnv, TabularParams, tabular_env
from icsmdp_jax.envs.workshop.env import RAW, Workshop, workshop
from icsmdp_jax.envs.workshop.exact import workshop_model
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.exact.primitive import PrimitiveModel, option_moments
from icsmdp_jax.models.tabular import TabularModel, annuities

REMAINING = 1e-12  # probability that an option outlasts the listing; it goes to the last duration
NEVER = 1e-25  # odds below which an action counts as never taken
SHORTEST_LISTING = 40  # durations that any listing is assumed to need
MOST_ENTRIES = 2**25  # of the listed kernel: 256 MiB
TWO_GRAINS = np.array([[0.8, 0.2], [0.2, 0.8]])


@dataclasses.dataclass(frozen=True)
class LiftedWorkshop(Lifted):
    """A workshop with fixed local policies, stepped through tool by tool; make one with ``lifted_workshop``."""

    def global_view(self, state: LiftedState, params: LiftedParams) -> chex.Array:
        """``[N + 3 P + N A]`` float32: one-hot agent, status of the parts and all clamped tools."""
        inner = state.inner
        agents, tools = inner.clamped.shape[0], params.env.grain.shape[1]
        parts = [
            jax.nn.one_hot(inner.agent, agents, dtype=jnp.float32),
            jax.nn.one_hot(inner.status, 3, dtype=jnp.float32).reshape(-1),
            jax.nn.one_hot(inner.clamped, tools, dtype=jnp.float32).reshape(-1),
        ]
        return jnp.concatenate(parts)

    def exact_model(self, params: LiftedParams) -> TabularModel:
        """Lists the workshop; the last state is that of a delivered workpiece.

        With ``kept = 0`` the tools of other benches do not matter, and states that differ only in them are one state
        of the listing.

        Raises:
          ValueError: if the listing would be too large, or the local policy is not ``table_policy``.
        """
        if not isinstance(self.env, Workshop) or self.policy is not table_policy:
            raise ValueError("env: expected a workshop lifted with table_policy")
        return _listing(self.env, params)


def lifted_workshop(
    kept: float = 0.8, gamma: float = 0.95, num_tools: int = 2, care: float = 0.7
) -> tuple[LiftedWorkshop, LiftedParams]:
    """The workshop with fixed local policies.

    Args:
      kept: probability that a bench keeps its tool until the workpiece comes back; 0 hides nothing that matters.
      gamma: discount of one primitive step.
      num_tools: 2, or 3 as in ``workshop``.
      care: probability of taking the fitting tool at each primitive step, more than 0.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for a number out of range.
    """
    expect("a number from 0 to 1", kept=kept, care=care)
    expect("a number between 0 and 1", gamma=gamma)
    expect("a positive number", care=care)
    whole(2, num_tools=num_tools)
    if num_tools > 3:
        raise ValueError(f"num_tools = {num_tools}: expected 2 or 3")
    primitive, params = workshop(kept, gamma)
    if num_tools == 2:
        primitive = Workshop(num_tools=2)
        params = params._replace(grain=jnp.asarray(TWO_GRAINS, jnp.float32))
    table = np.log(np.maximum(local_policy(primitive, care), 1e-30))
    return LiftedWorkshop(primitive, table_policy), LiftedParams(params, jnp.asarray(table, jnp.float32))


def workshop_options(
    kept: float = 0.8, gamma: float = 0.95, num_tools: int = 2, care: float = 0.7, ticks: bool = False
) -> tuple[LiftedWorkshop | TabularEnv, LiftedParams | TabularParams]:
    """The workshop at the scale of its options, as ``make("workshop")`` gives it.

    Args:
      kept: see ``lifted_workshop``.
      gamma: see there.
      num_tools: see there.
      care: see there.
      ticks: whether options are stepped through tool by tool. Otherwise an option is drawn from the listing: the same
        law of ``(tau, s')``, the same mean rewards, and under ``vmap`` no copy waits for the longest option.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for a number out of range, or a listing that would be too large.
    """
    flag(ticks=ticks)
    env, params = lifted_workshop(kept, gamma, num_tools, care)
    if ticks:
        return env, params
    return tabular_env(env.exact_model(params), name="workshop")


def local_policy(env: Workshop, care: float) -> np.ndarray:
    """``[N, X, A]`` probabilities of the tools by agent and local observation."""
    agents, tools, layers = env.num_agents, env.num_tools, env.num_layers
    agent, _, clamped, grain, _ = np.indices((agents, 2, tools, tools, layers))
    table = care * np.eye(tools)[(grain - agent) % tools] + (1 - care) * np.eye(tools)[clamped]
    return table.reshape(agents, -1, tools)


def table_policy(
    policy: Any, agent: chex.Array, option: chex.Array, observation: chex.Array, action_mask: chex.Array
) -> chex.Array:
    """The ``LocalPolicy`` that reads its logits from a table ``[N, X, A]``, whatever the option."""
    return policy[agent, observation]


def _listing(inner: Workshop, params: LiftedParams) -> TabularModel:
    given, options = params.env, inner.spec.num_options
    if float(given.kept) > 0:  # states: bench, parts of which one is raw, all tools; and at least this many durations
        states = inner.num_agents * (3**inner.num_parts - 2**inner.num_parts) * inner.num_tools**inner.num_agents
        _check_size(states, options, SHORTEST_LISTING)
    logits = np.asarray(params.policy, np.float64)
    law = np.exp(logits - logits.max(axis=-1, keepdims=True))
    law = np.where(law > NEVER, law, 0.0)
    local = np.repeat((law / law.sum(axis=-1, keepdims=True)).reshape(-1, inner.num_tools), options, axis=0)
    model = workshop_model(inner, given)
    if float(given.kept) > 0:
        rows, member = np.arange(len(model.agent)), np.arange(len(model.agent))
    else:
        _, rows, member = np.unique(model.interface, return_index=True, return_inverse=True)
    kernel = _kernel(model, local, rows, member)
    reward = option_moments(model, local).reward[rows]
    return _assembled(inner, model, rows, np.bincount(member, weights=model.first), kernel, reward)


def _check_size(states: int, options: int, durations: int) -> None:
    if states * options * durations * (states + 1) > MOST_ENTRIES:
        raise ValueError(
            f"kept, num_tools: the listing needs {states} states and {durations} durations or more, expected kept = 0 "
            "or two tools"
        )


def _kernel(model: PrimitiveModel, local: np.ndarray, rows: np.ndarray, member: np.ndarray) -> np.ndarray:
    """``[n, O, T, n + 1]`` law of ``(tau, s')`` for the states ``rows``; next states count by ``member``, the last is
    delivery."""
    options, count = model.mask.shape[1], len(rows)
    inside_rows, actions = model.reward.shape
    law = local[model.situation].reshape(-1)
    choice = sparse.csr_array((law, (np.repeat(np.arange(inside_rows), actions), np.arange(law.size))))
    stay, leave = choice @ model.stay, choice @ model.leave
    ends = np.zeros((leave.shape[0], count + 1))
    np.add.at(ends.T, member, as_dense(leave).T)
    ends[:, count] = 1 - ends.sum(axis=1) - np.asarray(stay.sum(axis=1)).reshape(-1)
    pairs = (rows[:, None] * options + np.arange(options)).reshape(-1)
    inside = as_dense(model.begin[pairs])
    steps: list[np.ndarray] = []
    while not steps or inside.sum(axis=1).max() > REMAINING:
        steps.append(inside @ ends)
        inside = np.asarray((stay.T @ inside.T).T)
        _check_size(count, options, len(steps))
    steps[-1] += inside @ ends
    kernel = np.maximum(np.stack(steps, axis=1), 0.0)
    total = kernel.sum(axis=(1, 2), keepdims=True)
    return np.divide(kernel, total, out=kernel, where=total > 0).reshape(count, options, len(steps), count + 1)


def _assembled(
    env: Workshop, model: PrimitiveModel, rows: np.ndarray, first: np.ndarray, kernel: np.ndarray, reward: np.ndarray
) -> TabularModel:
    """The arrays of the model, one state for delivery added."""
    count, options, longest, _ = kernel.shape
    spec, mask = env.spec, model.mask[rows]
    law = np.zeros((count + 1, options, longest, count + 1))
    law[:count] = kernel
    law[~np.append(mask, np.zeros((1, options), bool), axis=0), 0, -1] = 1.0  # rows that nothing reads
    rate = np.where(mask, reward / np.einsum("sotn,t->so", law[:count], annuities(model.gamma, longest)), 0.0)
    raw = np.stack(
        [(np.arange(spec.num_interfaces) // env.num_tools // 3**p) % 3 == RAW for p in range(env.num_parts)], 1
    )
    available = np.repeat(raw, env.num_agents, axis=1)
    available[~available.any(axis=1)] = True  # delivered: never a decision
    delivered = env.num_tools * (3**env.num_parts - 1) // 2  # bench 0, all parts good
    return TabularModel(
        reward_rate=np.append(rate, np.zeros((1, options)), axis=0),
        agent=np.append(model.agent[rows], 0),
        interface=np.append(model.interface[rows], delivered),
        gamma=model.gamma,
        kernel=law,
        available=available,
        start=np.append(first, 0.0),
        terminal=np.append(np.zeros(count, bool), True),
    )
