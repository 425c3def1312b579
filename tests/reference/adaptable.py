"""One primitive step of the adaptable learner with tables, in plain loops: actor, critic, option values.

The trajectory is data. Segment rewards and discounts are added up here again, one primitive step after the other, and
the scalar that crosses is looked up in the tables as they were before the step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

Array = np.ndarray


class Moment(NamedTuple):
    """What happened in one copy at one primitive step.

    Attributes:
        interface: z of the decision under which the option runs.
        option: that option.
        situation: number of (agent, x, o) before the step.
        action_mask: local actions available there, bool `[A]`.
        action: the one taken.
        reward: of the primitive step.
        ended: whether the option ended.
        terminated: whether in a terminal handoff.
        next_situation: number of (agent, x', o).
        next_interface: z' if it ended.
        next_mask: options available at z', bool `[O]`.
    """

    interface: int
    option: int
    situation: int
    action_mask: Array
    action: int
    reward: float
    ended: bool
    terminated: bool
    next_situation: int
    next_interface: int
    next_mask: Array


class Step(NamedTuple):
    """Step size `min(cap, scale (1 + rescale c)^-power)` with clock c."""

    scale: float
    rescale: float
    power: float
    cap: float

    def at(self, clock: float) -> float:
        return min(self.cap, self.scale * (1 + self.rescale * clock) ** -self.power)


class Tables:
    """Tables of all agents, and what has to be remembered between primitive steps."""

    def __init__(self, shape: tuple[int, int], situations: int, actions: int, copies: int, gamma: float) -> None:
        self.values, self.value_clock = np.zeros(shape), np.zeros(shape)
        self.actor, self.actor_clock = np.zeros((situations, actions)), np.zeros(situations)
        self.critic, self.critic_clock = np.zeros(situations), np.zeros(situations)
        self.earned, self.discount = np.zeros(copies), np.ones(copies)
        self.gamma = gamma
        self.scalars = 0

    def learn(self, moments: list[Moment], steps: tuple[Step, Step, Step], entropy: float) -> list[float | None]:
        """Learns from one primitive step of every copy; returns the scalars that crossed."""
        value_errors: dict[tuple[int, int], list[float]] = {}
        critic_errors: dict[int, list[float]] = {}
        directions: dict[int, list[Array]] = {}
        messages: list[float | None] = []
        for copy, m in enumerate(moments):
            self.earned[copy] += self.discount[copy] * m.reward
            self.discount[copy] *= self.gamma
            scalar = None
            if m.ended:
                scalar = max((self.values[m.next_interface, o] for o in np.flatnonzero(m.next_mask)), default=0.0)
                ahead = 0.0 if m.terminated else scalar
                target = self.earned[copy] + (0.0 if m.terminated else self.discount[copy] * scalar)
                error = target - self.values[m.interface, m.option]
                value_errors.setdefault((m.interface, m.option), []).append(error)
                self.earned[copy], self.discount[copy] = 0.0, 1.0
                self.scalars += 1
            else:
                ahead = self.critic[m.next_situation]
            messages.append(scalar)
            error = m.reward + self.gamma * ahead - self.critic[m.situation]
            critic_errors.setdefault(m.situation, []).append(error)
            law = np.where(m.action_mask, np.exp(self.actor[m.situation]), 0.0)
            law /= law.sum()
            log_law = np.log(np.where(law > 0, law, 1.0))
            randomness = -np.sum(law * log_law)
            direction = error * (np.eye(len(law))[m.action] - law) - entropy * law * (log_law + randomness)
            directions.setdefault(m.situation, []).append(direction)
        value_step, actor_step, critic_step = steps
        for entry, errors in value_errors.items():
            alpha = min(value_step.at(self.value_clock[entry]), 1.0)
            self.values[entry] += (1 - (1 - alpha) ** len(errors)) * np.mean(errors)
            self.value_clock[entry] += len(errors)
        for entry, errors in critic_errors.items():
            alpha = min(critic_step.at(self.critic_clock[entry]), 1.0)
            self.critic[entry] += (1 - (1 - alpha) ** len(errors)) * np.mean(errors)
            self.critic_clock[entry] += len(errors)
        for entry, several in directions.items():
            self.actor[entry] += actor_step.at(self.actor_clock[entry]) * np.mean(several, axis=0)
            self.actor_clock[entry] += 1
        return messages
