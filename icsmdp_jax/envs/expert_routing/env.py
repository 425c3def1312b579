"""Expert routing, simulated: no language model is run, chances, dollars and tokens come from published tables.

A query of hidden type and difficulty comes in at the front (agent 0). The agent that holds it answers, answers and
checks the answer, or hands it on to another agent. Each agent is a different language model (D1):

* artifact: the query, with two notes that everybody can read: how often it may still be handed on, and whether an
  answer was already noticed to be wrong;
* private state of an agent: its own reading of type and difficulty, each of which is drawn at random with probability
  ``noise blur[i]`` and otherwise true, and whether it has a backlog. Both are drawn when the query comes in;
* interface: agent, readings, backlog and notes as one number. With ``noise = 0`` it hides nothing that matters;
* option 0: answer, with the agent's own model, and deliver the answer. Option 1: answer and check: a wrong answer is
  noticed with probability ``notice``, and the query stays with the agent, noted as failed; any other answer is
  delivered. Option ``2 + j``: hand on to agent ``j``;
* duration: blocks of tokens. An answer of ``L`` tokens takes ``L / tokens_per_block`` blocks, rounded up or down at
  random with the right mean, at least one; a check lengthens it by the share ``check_share``; a backlog adds ``wait``
  blocks. Handing on takes one block.

``icsmdp_jax.envs.listed`` says what a segment pays. An episode is one query and ends when an answer is delivered.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from icsmdp_jax.core.arguments import each, expect, listed, whole
from icsmdp_jax.envs.expert_routing import queries as world
from icsmdp_jax.envs.expert_routing.queries import Queries, experts, queries
from icsmdp_jax.envs.finite import one_hot
from icsmdp_jax.envs.listed import Listed, ListedParams, listed_env, listed_params
from icsmdp_jax.exact import kernel_moments, optimal_q

TEAM = ("DeepSeek-v3", "DeepSeek-v3.1", "Qwen3-235b-thinking", "DeepSeek-R1", "GPT-5-medium")
BLUR = (1.0, 0.6, 0.6, 0.6, 0.6)  # the front reads hastily
BUSY = (0.1, 0.2, 0.3, 0.3, 0.3)


@dataclasses.dataclass(frozen=True)
class ExpertRouting(Listed):
    """Expert routing; make one with ``expert_routing``.

    Attributes:
      hops: how often a query may be handed on.
    """

    hops: int = 2
    name: str = "expert-routing"

    def interface_features(self, params: ListedParams) -> np.ndarray:
        """``[Z, dim]`` float64: what an interface number stands for, as zeros and ones; zeros at the end of a query."""
        sizes = (self.num_agents, len(world.KINDS), len(world.DIFFICULTIES), 2, 2, self.hops + 1)
        fields = [axis.reshape(-1) for axis in np.indices(sizes)]
        return np.pad(one_hot(fields[1:], sizes[1:]), ((0, 1), (0, 0)))


def expert_routing(
    models: tuple[str, ...] = TEAM,
    hops: int = 2,
    mix: float | None = None,
    slope: float = 2.5,
    noise: float = 0.2,
    blur: tuple[float, ...] | None = None,
    busy: tuple[float, ...] | None = None,
    wait: float = 3.0,
    tokens_per_block: float = 2000.0,
    check_share: float = 0.5,
    notice: float = 0.3,
    value: float = 1.0,
    dollar_weight: float = 3.0,
    block_cost: float = 0.01,
    gamma: float = 0.98,
) -> tuple[ExpertRouting, ListedParams]:
    """The environment ``expert-routing`` and its parameters.

    Args:
      models: language models of the agents, rows of the published tables; the first is the front.
      hops: how often a query may be handed on, 1 or more.
      mix: share of the first type, AIME; None takes the numbers of problems in the tables.
      slope: how fast chances fall with difficulty, 0 or more.
      noise: probability with which readings are drawn at random, before ``blur``; 0 closes the interface gap.
      blur: ``N`` factors of ``noise``; by default 1 for the front, 0.6 for everybody else.
      busy: ``N`` probabilities of a backlog; by default 0.1 for the front, 0.2 for the first expert, 0.3 for the rest.
      wait: blocks that a backlog adds to an answer.
      tokens_per_block: tokens in one block of latency.
      check_share: what a check adds to tokens and dollars of an answer, as a share of them.
      notice: probability that a check notices a wrong answer.
      value: worth of a right answer.
      dollar_weight: price of a dollar, in units of value.
      block_cost: price of a block of latency.
      gamma: discount of one block.

    Returns:
      ``(env, params)``.

    Raises:
      ValueError: for a model that the tables lack, or a number out of range.
    """
    models = listed("models", models, "names of two models or more", str)
    count = len(models)
    if count < 2:
        raise ValueError(f"models: found {count}, expected 2 or more")
    blur = _per_agent("blur", blur, BLUR, count)
    busy = _per_agent("busy", busy, BUSY, count)
    whole(1, hops=hops)
    expect("a number from 0 to 1", noise=noise, notice=notice, **each("blur", blur), **each("busy", busy))
    expect("0 or more", slope=slope, wait=wait, check_share=check_share)
    expect("a positive number", tokens_per_block=tokens_per_block)
    numbers = experts(models, mix, slope, tokens_per_block, wait, check_share, notice, noise, blur, busy)
    listing = world.listing(numbers, hops)
    params = listed_params(listing, gamma, value, dollar_weight, block_cost)
    return listed_env(ExpertRouting, listing, count, hops=hops), params


def _per_agent(name: str, given: tuple[float, ...] | None, default: tuple[float, ...], count: int) -> tuple[float, ...]:
    usual = (*default, *[default[-1]] * count)[:count]
    numbers = usual if given is None else listed(name, given, f"{count} numbers, one for each model")
    if len(numbers) != count:
        raise ValueError(f"{name}: {len(numbers)} numbers, expected {count}, one for each model")
    return numbers


def states(env: ExpertRouting) -> Queries:
    """The fields behind the numbers of the states that decide, ``[S]`` each; the two ends come after them."""
    return queries(env.num_agents, env.hops)


def best_agents(env: ExpertRouting, params: ListedParams) -> np.ndarray:
    """``[kinds, difficulties]`` the agent that should be the first to try a query, if type and difficulty were known.

    The best one's first attempt, plain or with a check, is worth most to the front, backlogs averaged, if all that
    comes after it is done as well as can be. The cost of handing on to it is counted.
    """
    value = optimal_q(kernel_moments(env.exact_model(params))).q[: env.num_deciding]
    rows, host = states(env), jax.tree.map(np.asarray, params)
    fresh = (rows.failed == 0) & (rows.hops == np.where(rows.agent == 0, env.hops, env.hops - 1))
    tries = value[:, : world.HAND].max(axis=1)
    gamma, cost = float(host.gamma), float(host.block_cost)
    tries = np.where(rows.agent == 0, tries, gamma * tries - cost)
    # An attempt does not depend on how the query is read: any reading stands for all.
    read_right = (rows.kind_read == rows.kind) & (rows.difficulty_read == rows.difficulty)
    table = np.zeros((len(world.KINDS), len(world.DIFFICULTIES), env.num_agents))
    at = np.flatnonzero(fresh & read_right)
    busy = backlogs(env, params)
    share = np.where(rows.backlog == 1, busy[rows.agent], 1 - busy[rows.agent])
    np.add.at(table, (rows.kind[at], rows.difficulty[at], rows.agent[at]), share[at] * tries[at])
    return table.argmax(axis=2)


def backlogs(env: ExpertRouting, params: ListedParams) -> np.ndarray:
    """``[N]`` probability that each agent has a backlog when a query comes in, read off the parameters."""
    rows, start = states(env), np.asarray(params.start, np.float64)
    busy = np.zeros(env.num_agents)
    busy[0] = start[rows.backlog == 1].sum()
    sender = int(np.flatnonzero((rows.agent == 0) & (rows.hops == env.hops))[0])
    for agent in range(1, env.num_agents):
        option = world.HAND + agent
        to = np.asarray(params.successor)[sender, option]
        busy[agent] = np.asarray(params.probability, np.float64)[sender, option] @ rows.backlog[to]
    return busy
