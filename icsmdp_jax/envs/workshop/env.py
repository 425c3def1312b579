"""A workshop of benches: who works on which part, and with which tool (D1). The model is ours.

The artifact is a workpiece of ``P`` parts, each raw, good or spoiled. It lies on one of ``N`` benches. The agent there
chooses an *option*: a raw part to work on, and the bench that gets the workpiece afterwards (which may be its own).
Working on a part means getting through ``L`` layers. Each layer has a grain, drawn from the part's own law, which shows
only while it is being worked on. At each primitive step the agent chooses the *local action*: a tool.

* Another tool than the one that is clamped: the step goes into clamping it.
* The clamped tool, and it fits the grain: the layer is done with probability ``skill[i, p]``.
* The clamped tool, and it does not fit: the part is spoiled with probability ``spoil[i]``; else the layer is done with
  probability ``rough``.

Which tool fits which grain differs from bench to bench. The option ends when the part is good or spoiled, or with
probability ``interrupt`` at each step, the part then still raw. When no part is raw the workpiece is delivered, and
what the good parts are worth is paid; time, clamping and carrying cost something on the way.

The *private state* of an agent is the tool that it has clamped. When the workpiece comes in from another bench, the
agent finds its tool as it left it with probability ``kept``, otherwise any tool, all with the same probability. An
*interface* shows the parts and the agent's own clamped tool. With ``kept = 0`` it hides nothing that matters (epsilon =
delta = 0, D6); with ``kept > 0`` the tools that others have clamped do matter, and no interface shows them.

Both levels count: bad tools make every workflow poor, and benches differ in skill. What a spoiled part costs is paid
long after the option in which it happened, so local policies cannot be learned from rewards inside the option alone.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from icsmdp_jax.core.handoff import EnvSpec
from icsmdp_jax.core.primitive import Decision, LocalSpec, PrimitiveEnvironment, Tick
from icsmdp_jax.core.words import in_short
from icsmdp_jax.envs.finite import one_hot

RAW, GOOD, SPOILED = 0, 1, 2


class WorkshopState(NamedTuple):
    """State of one copy, all int32.

    Attributes:
      agent: ``[]`` bench at which the workpiece lies.
      status: ``[P]`` raw, good or spoiled.
      clamped: ``[N]`` tool that every bench has clamped.
      part: ``[]`` part under work, while an option runs.
      receiver: ``[]`` bench that gets the workpiece next.
      grain: ``[]`` grain of the layer under work.
      layer: ``[]`` layers of the part that are done.
    """

    agent: chex.Array
    status: chex.Array
    clamped: chex.Array
    part: chex.Array
    receiver: chex.Array
    grain: chex.Array
    layer: chex.Array


class WorkshopParams(NamedTuple):
    """Traced numbers, float32; two workshops of the same sizes share one compilation.

    Attributes:
      grain: ``[P, A]`` law of the grain of a layer.
      skill: ``[N, P]`` probability that a fitting tool finishes a layer in one step.
      rough: ``[]`` the same for a tool that does not fit and does not spoil the part.
      spoil: ``[N]`` probability that a tool that does not fit spoils the part.
      interrupt: ``[]`` probability, per step, that work stops with the part still raw.
      step_cost: ``[]`` price of a primitive step.
      clamp_cost: ``[]`` price of clamping another tool, in addition to the step.
      carry_cost: ``[]`` price of carrying the workpiece to another bench.
      worth: ``[P]`` what a good part is worth on delivery.
      kept: ``[]`` probability that a bench keeps its tool until the workpiece comes back.
      gamma: ``[]`` discount of one primitive step.
    """

    grain: chex.Array
    skill: chex.Array
    rough: chex.Array
    spoil: chex.Array
    interrupt: chex.Array
    step_cost: chex.Array
    clamp_cost: chex.Array
    carry_cost: chex.Array
    worth: chex.Array
    kept: chex.Array
    gamma: chex.Array

    def __repr__(self) -> str:
        return in_short(self)


@dataclasses.dataclass(frozen=True)
class Workshop(PrimitiveEnvironment[WorkshopState, WorkshopParams]):
    """The workshop as a primitive environment.

    Option ``p * N + j``: work on part ``p``, then hand the workpiece to bench ``j``. Local action: a tool. Interface:
    ``(agent, status of the parts, own clamped tool)`` as one number. Local observation: ``(whether another part is
    raw, own clamped tool, grain, layer)`` as one number. The first entry counts most; the status of the parts enters
    as ``sum_p status[p] 3^p``.

    Attributes:
      num_agents: ``N``.
      num_parts: ``P``.
      num_tools: ``A``, also the number of grains.
      num_layers: ``L``.
    """

    num_agents: int = 3
    num_parts: int = 2
    num_tools: int = 3
    num_layers: int = 2

    @property
    def spec(self) -> EnvSpec:
        """Static facts at the option scale."""
        return EnvSpec(
            name="workshop",
            num_agents=self.num_agents,
            num_options=self.num_parts * self.num_agents,
            num_interfaces=self.num_agents * 3**self.num_parts * self.num_tools,
            interface_shape=(),
            interface_dtype=jnp.int32,
            longest_duration=0,
            exact_oracle=True,
        )

    @property
    def local_spec(self) -> LocalSpec:
        """Static facts of what happens inside an option."""
        return LocalSpec(self.num_tools, 2 * self.num_tools**2 * self.num_layers, (), jnp.int32)

    def gamma(self, params: WorkshopParams) -> chex.Array:
        """``[]`` float32 discount of one primitive step."""
        return params.gamma

    def reset(self, key: chex.PRNGKey, params: WorkshopParams) -> tuple[Decision, WorkshopState]:
        """All parts raw, the workpiece on any bench, any tools clamped."""
        chance = jax.random.uniform(key, (1 + self.num_agents,), jnp.float32)
        zero = jnp.zeros((), jnp.int32)
        state = WorkshopState(
            agent=_any_of(self.num_agents, chance[0]),
            status=jnp.full((self.num_parts,), RAW, jnp.int32),
            clamped=_any_of(self.num_tools, chance[1:]),
            part=zero,
            receiver=zero,
            grain=zero,
            layer=zero,
        )
        return self._decision(state), state

    def begin(
        self, key: chex.PRNGKey, state: WorkshopState, option: chex.Array, params: WorkshopParams
    ) -> tuple[Tick, WorkshopState]:
        """Lays the part out: the grain of its first layer shows."""
        part = jnp.asarray(option // self.num_agents, jnp.int32)
        state = state._replace(
            part=part,
            receiver=jnp.asarray(option % self.num_agents, jnp.int32),
            grain=self._draw_grain(jax.random.uniform(key, (), jnp.float32), part, params),
            layer=jnp.zeros((), jnp.int32),
        )
        no = jnp.zeros((), bool)
        return self._tick(state, jnp.zeros((), jnp.float32), no, no), state

    def tick(
        self, key: chex.PRNGKey, state: WorkshopState, action: chex.Array, params: WorkshopParams
    ) -> tuple[Tick, WorkshopState]:
        """One step with tool ``action``."""
        chance = jax.random.uniform(key, (6,), jnp.float32)
        i, part, to = state.agent, state.part, state.receiver
        change = action != state.clamped[i]
        fits = self.fits(i, action, state.grain)
        spoiled = ~change & ~fits & (chance[0] < params.spoil[i])
        through = ~change & ~spoiled & (chance[1] < jnp.where(fits, params.skill[i, part], params.rough))
        layer = state.layer + through.astype(jnp.int32)
        good = layer == self.num_layers
        ended = good | spoiled | (chance[2] < params.interrupt)
        outcome = jnp.where(good, GOOD, jnp.where(spoiled, SPOILED, RAW))
        status = jnp.where(jnp.arange(self.num_parts, dtype=jnp.int32) == part, outcome, state.status).astype(jnp.int32)
        delivered = jnp.all(status != RAW)
        carried = ended & ~delivered & (to != i)
        pays = jnp.where(delivered, jnp.sum(params.worth * (status == GOOD).astype(jnp.float32)), 0.0)
        reward = pays - params.step_cost - params.clamp_cost * change.astype(jnp.float32)
        reward = reward - params.carry_cost * carried.astype(jnp.float32)

        clamped = state.clamped.at[i].set(action)
        changed = carried & (chance[3] >= params.kept)
        found = jnp.where(changed, _any_of(self.num_tools, chance[5]), clamped[to])
        new = WorkshopState(
            agent=jnp.where(ended, to, i),
            status=status,
            clamped=clamped.at[to].set(found),
            part=part,
            receiver=to,
            grain=jnp.where(through, self._draw_grain(chance[4], part, params), state.grain),
            layer=jnp.minimum(layer, self.num_layers - 1),
        )
        return self._tick(new, reward.astype(jnp.float32), ended, delivered), new

    def fits(self, agent: chex.Array, tool: chex.Array, grain: chex.Array) -> chex.Array:
        """Whether a tool fits a grain at a bench: tool ``grain - agent`` modulo ``A``."""
        return (tool + agent) % self.num_tools == grain

    def _draw_grain(self, chance: chex.Array, part: chex.Array, params: WorkshopParams) -> chex.Array:
        below = jnp.cumsum(params.grain[part])[:-1]
        return jnp.sum(chance >= below, dtype=jnp.int32)

    def _tick(self, state: WorkshopState, reward: chex.Array, ended: chex.Array, terminated: chex.Array) -> Tick:
        more = jnp.any((state.status == RAW) & (jnp.arange(self.num_parts, dtype=jnp.int32) != state.part))
        tools = (more.astype(jnp.int32) * self.num_tools + state.clamped[state.agent]) * self.num_tools + state.grain
        seen = tools * self.num_layers + state.layer
        return Tick(
            observation=seen.astype(jnp.int32),
            action_mask=jnp.ones((self.num_tools,), bool),
            reward=reward,
            ended=ended,
            terminated=terminated,
            truncated=jnp.zeros((), bool),
            decision=self._decision(state),
        )

    def _decision(self, state: WorkshopState) -> Decision:
        own = state.clamped[state.agent]
        interface = (state.agent * 3**self.num_parts + self._status_code(state)) * self.num_tools + own
        mask = jnp.repeat(state.status == RAW, self.num_agents)
        return Decision(state.agent.astype(jnp.int32), interface.astype(jnp.int32), mask)

    def _status_code(self, state: WorkshopState) -> chex.Array:
        return jnp.sum(state.status * 3 ** jnp.arange(self.num_parts, dtype=jnp.int32), dtype=jnp.int32)


def workshop(kept: float = 0.0, gamma: float = 0.95) -> tuple[Workshop, WorkshopParams]:
    """The workshop of the documentation: three benches, two parts, three tools, two layers.

    Bench 0 is good at part 0, bench 1 at part 1, bench 2 is middling at both.

    Args:
      kept: probability that a bench keeps its tool until the workpiece comes back.
      gamma: discount of one primitive step.

    Returns:
      ``(env, params)``.
    """
    params = WorkshopParams(
        grain=np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]),
        skill=np.array([[0.9, 0.3], [0.3, 0.9], [0.5, 0.5]]),
        rough=np.array(0.7),
        spoil=np.array([0.6, 0.6, 0.05]),
        interrupt=np.array(0.03),
        step_cost=np.array(0.05),
        clamp_cost=np.array(0.02),
        carry_cost=np.array(0.05),
        worth=np.array([1.0, 1.5]),
        kept=np.array(kept),
        gamma=np.array(gamma),
    )
    return Workshop(), jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)


def feature_tables(env: Workshop) -> tuple[np.ndarray, np.ndarray]:
    """What networks read instead of numbers, one-hot digits and a constant.

    Args:
      env: a workshop.

    Returns:
      ``(interfaces [Z, dim], situations [N*X*O, dim'])`` float32; a situation is ``(agent, observation, option)``
      numbered as ``icsmdp_jax.learner.adaptable_state.situation_index`` does.
    """
    parts, tools = [3] * env.num_parts, env.num_tools
    interfaces = _one_hot_digits([env.num_agents, *parts, tools])
    inside = [env.num_agents, 2, tools, tools, env.num_layers, env.num_parts, env.num_agents]
    return interfaces, _one_hot_digits(inside)


def _any_of(count: int, chance: chex.Array) -> chex.Array:
    """int32 in ``0..count-1``, all with the same probability, from uniform numbers below 1."""
    return jnp.minimum((jnp.float32(count) * chance).astype(jnp.int32), count - 1)


def _one_hot_digits(bases: list[int]) -> np.ndarray:
    """``[prod(bases), sum(bases) + 1]`` float32: row ``n`` holds the digits of ``n``, most significant base first."""
    code = one_hot(list(np.indices(bases).reshape(len(bases), -1)), bases)
    return np.pad(code, ((0, 0), (0, 1)), constant_values=1.0).astype(np.float32)
