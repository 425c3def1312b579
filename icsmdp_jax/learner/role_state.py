"""What policy gradients for teams of roles take, carry and measure; ``role_gradients.py`` is the trainer.

``B`` episodes, ``T`` decisions, ``Z`` interfaces, ``O`` options, ``N`` agents, ``R`` roles, ``P`` parameters of a set.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex


class Inputs(NamedTuple):
    """Traced inputs of a run.

    Attributes:
      env_params: parameters of the environment.
      data: ``[Z, D]`` float32, what the policies read of each interface.
      interface_agent: ``[Z]`` int32 owner of each interface; -1 where no agent ever decides.
      mask: ``[Z, O]`` bool, options that are available.
      group_of_agent: ``[N]`` int32 set of parameters that each agent uses, see ``groups_of``.
      scaled: ``[]`` bool, whether returns, less the baseline, are divided by their standard deviation over the prompt.
      own_credit: ``[]`` bool, whether a decision is reinforced by what the segments of its own role bring in the
        episode, instead of the whole return, which is broadcast to every role.
      learning_rate: ``[]`` float32.
      anchor: ``[R]`` float32 weight of each role's anchor to its first policy.
      damping: ``[]`` float32, lambda of the damping; 0 switches it off.
      memory: ``[]`` float32, share of the moving averages that one update leaves in place.
    """

    env_params: Any
    data: chex.Array
    interface_agent: chex.Array
    mask: chex.Array
    group_of_agent: chex.Array
    scaled: chex.Array
    own_credit: chex.Array
    learning_rate: chex.Array
    anchor: chex.Array
    damping: chex.Array
    memory: chex.Array


class Episodes(NamedTuple):
    """``B`` episodes of up to ``T`` decisions, side by side; all leaves start with ``[T, B]``.

    Attributes:
      agent, interface, option: int32.
      reward: float32 segment reward of the option.
      weight: float32 product of the discounts since the prompt.
      active: bool, whether the episode had not ended yet.
    """

    agent: chex.Array
    interface: chex.Array
    option: chex.Array
    reward: chex.Array
    weight: chex.Array
    active: chex.Array


class State(NamedTuple):
    """What a run carries from one update to the next.

    Attributes:
      params: parameters of the policies, stacked over ``G`` groups of agents.
      start: the parameters at the beginning, for the anchors.
      optimiser: state of the optimiser.
      average: ``[R, P]`` float32 moving average of the roles' gradients; zeros at first.
      expected: ``[R]`` float32 running baselines.
      count: ``[]`` int32 updates so far.
    """

    params: Any
    start: Any
    optimiser: Any
    average: chex.Array
    expected: chex.Array
    count: chex.Array


class Metrics(NamedTuple):
    """What one update measured; ``R`` roles. NaN where there is nothing to measure.

    Attributes:
      value: ``[]`` mean discounted return of the batch.
      visits: ``[R]`` decisions of each role.
      norm: ``[R]`` norm of the role's gradient, its agents added up, without anchor and damping.
      mass: ``[R]`` gradient mass per step, ``diagnostics.gradient_mass``.
      cosine: ``[R, R]`` cosines between the roles' gradients.
      amplification: ``[R]`` norm of the role's gradient over the mean norm of its agents' own: ``n`` for ``n`` agents
        whose gradients are equal, about ``sqrt(n)`` for unrelated ones; NaN for roles of one agent.
      alignment: ``[R]`` cosine between the role's gradient and the step that its parameters take; NaN if one is 0.
      factor: ``[R]`` factor of the damping.
      entropy: ``[R]`` mean entropy of the role's policy where it decided, in nats.
    """

    value: chex.Array
    visits: chex.Array
    norm: chex.Array
    mass: chex.Array
    cosine: chex.Array
    amplification: chex.Array
    alignment: chex.Array
    factor: chex.Array
    entropy: chex.Array


class History(NamedTuple):
    """A run at ``n`` points.

    Attributes:
      policy: ``[n + 1, Z, O]`` float32 policies, the first one before any update.
      metrics: means over the updates between two points, ``[n, ...]``.
    """

    policy: chex.Array
    metrics: Metrics
