"""The ways out: our environments as those of PettingZoo, Gymnasium, gymnax and JaxMARL.

Each function imports its library when it is called; the extra ``adapters`` installs them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import chex

from icsmdp_jax.core.arguments import flag, of_type, one_of, whole, within
from icsmdp_jax.core.environment import Environment
from icsmdp_jax.core.handoff import Handoff
from icsmdp_jax.core.optional import needed

if TYPE_CHECKING:
    from icsmdp_jax.adapters.gymnasium import OneAgent
    from icsmdp_jax.adapters.gymnax import OneLearner
    from icsmdp_jax.adapters.jaxmarl import Team
    from icsmdp_jax.adapters.pettingzoo import Turns

REWARDS = ("team", "own")


def to_pettingzoo(env: Environment, params: Any, *, rewards: str = "team", limit: int | None = None) -> Turns:
    """An environment as a PettingZoo ``AECEnv``: the agent that decides is ``agent_selection``, an action is an option.

    Agents are ``agent_0``, ``agent_1``, ...; an observation is ``{"observation": interface, "action_mask": [O] int8}``.
    ``infos`` say ``reward``, ``duration`` (primitive steps) and ``discount`` (``gamma^tau``) of the last segment.
    The agents that are not active observe what they saw last, with an empty mask.

    Args:
      env: the environment.
      params: its parameters.
      rewards: who gets a segment's reward: all agents (``"team"``), or the one whose option ended (``"own"``).
      limit: handoffs after which an episode is truncated; None for no limit but the environment's own.

    Raises:
      ModuleNotFoundError: if PettingZoo is not installed.
      ValueError: in one line, for wrong arguments and, in ``step``, for options that are not available.

    Example:
      >>> import icsmdp_jax as ic
      >>> game = ic.to_pettingzoo(*ic.make("planted", gap=0.2), limit=5)
      >>> game.reset(seed=0)
      >>> for agent in game.agent_iter(5):
      ...     seen, reward, terminated, truncated, info = game.last()
      ...     game.step(game.action_space(agent).sample(seen["action_mask"]))
      >>> all(game.truncations.values()), sorted(game.infos["agent_0"])
      (True, ['discount', 'duration', 'reward'])
    """
    of_type(Environment, "an Environment", env=env)
    one_of(REWARDS, rewards=rewards)
    if limit is not None:
        whole(1, limit=limit)
    return needed("icsmdp_jax.adapters.pettingzoo", "pettingzoo", "adapters").Turns(env, params, rewards, limit)


def to_gymnasium(
    env: Environment,
    params: Any,
    agent: int = 0,
    others: Callable[[chex.PRNGKey, Handoff], chex.Array] | None = None,
    *,
    strict: bool = False,
    patience: int = 10_000,
) -> OneAgent:
    """An environment as one agent meets it, a ``gymnasium.Env``: it learns while the others follow given policies.

    A step lasts until the agent's own next turn, in one compiled call: its reward is the discounted sum of the rewards
    of all segments in between, and ``info`` says ``duration``, ``discount`` and ``action_mask`` (also
    ``action_masks()``). Where an episode ends at another agent's turn, the observation is what the agent saw last.

    Args:
      env: the environment.
      params: its parameters.
      agent: number of the agent that learns.
      others: ``(key, handoff) -> option``, pure, for everybody else; uniform over available options if None.
      strict: whether an option that is not available is refused; else the first available one is taken, since plain
        Gymnasium knows no masks.
      patience: handoffs without the agent's turn after which an episode is truncated, or ``reset`` gives up.

    Raises:
      ModuleNotFoundError: if Gymnasium is not installed.
      ValueError: in one line, for wrong arguments and where the agent has no turn within ``patience``.

    Example:
      >>> import icsmdp_jax as ic
      >>> view = ic.to_gymnasium(*ic.make("planted", gap=0.2), agent=1)
      >>> seen, info = view.reset(seed=0)
      >>> seen, reward, terminated, truncated, info = view.step(int(info["action_mask"].argmax()))
      >>> sorted(info)
      ['action_mask', 'discount', 'duration']
    """
    of_type(Environment, "an Environment", env=env)
    whole(0, agent=agent)
    within(0, env.spec.num_agents - 1, agent=agent)
    if others is not None and not callable(others):
        raise ValueError(f"others = {others!r}: expected a function of key and handoff, or None")
    flag(strict=strict)
    whole(1, patience=patience)
    module = needed("icsmdp_jax.adapters.gymnasium", "gymnasium", "adapters")
    return module.OneAgent(env, params, agent, others, strict, patience)


def to_gymnax(env: Environment, params: Any) -> tuple[OneLearner, Any]:
    """An environment and its parameters as gymnax has them: one learner decides for all agents in turn.

    An observation is the active agent's interface; wrap the environment in ``core.wrappers.WithOwner`` where a vector
    should also say whose it is. ``info`` says ``agent``, ``action_mask``, ``duration`` and ``discount``.

    Args:
      env: the environment.
      params: its parameters, which become ``default_params``.

    Raises:
      ModuleNotFoundError: if gymnax is not installed.
      ValueError: for what is not an environment.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> view, params = ic.to_gymnax(*ic.make("planted", gap=0.2))
      >>> seen, state = view.reset(jax.random.key(0), params)
      >>> seen, state, reward, terminated, truncated, info = view.step(jax.random.key(1), state, 0, params)
      >>> view.observation_space(params).n, int(info["duration"]) > 0
      (40, True)
    """
    of_type(Environment, "an Environment", env=env)
    return needed("icsmdp_jax.adapters.gymnax", "gymnax", "adapters").OneLearner(env, params), params


def to_jaxmarl(env: Environment, params: Any, *, rewards: str = "team") -> Team:
    """An environment as a JaxMARL ``MultiAgentEnv``: dictionaries by agent, ``dones["__all__"]``, automatic reset.

    All agents submit an action at every handoff, but only the one of the active agent counts. The others observe
    zeros, with option 0 alone available. ``infos`` say ``agent``, ``duration``, ``discount`` and ``truncated``.

    Args:
      env: the environment.
      params: its parameters.
      rewards: who gets a segment's reward: all agents (``"team"``), or the one whose option ended (``"own"``).

    Raises:
      ModuleNotFoundError: if JaxMARL is not installed.
      ValueError: for wrong arguments.

    Example:
      >>> import jax, icsmdp_jax as ic
      >>> team = ic.to_jaxmarl(*ic.make("planted", gap=0.2))
      >>> seen, state = team.reset(jax.random.key(0))
      >>> actions = {agent: mask.argmax() for agent, mask in team.get_avail_actions(state).items()}
      >>> seen, state, rewards, dones, infos = team.step(jax.random.key(1), state, actions)
      >>> len(rewards), bool(dones["__all__"])
      (10, False)
    """
    of_type(Environment, "an Environment", env=env)
    one_of(REWARDS, rewards=rewards)
    return needed("icsmdp_jax.adapters.jaxmarl", "jaxmarl", "adapters").Team(env, params, rewards)
