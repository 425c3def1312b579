"""What every client does at a turn: an agent chooses an option, the desk says what came of it, the log gets a line.

A *routing* decides. ``ByHand`` is the one in place, ``ByPolicy`` follows a policy file, ``Online`` asks the agents'
own processes, which learn from one scalar for each handoff.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np

from examples.support_desk.desk import (
    AGENTS,
    COST,
    FIELDS,
    GAMMA,
    OPTIONS,
    OWN,
    TOPICS,
    Desk,
    State,
    by_hand,
    drawn,
    duration_law,
    first_states,
    next_states,
    outcome,
)
from icsmdp_jax.runtime.agent import Agent
from icsmdp_jax.runtime.policies import AgentPolicy, Field, Policy, save_policy

Facts = dict[str, str]
WORDS = {"wording": TOPICS, "own": ("no", "yes"), "hard": ("easy", "hard"), "verdict": ("wrong", "right")}


class Ended(NamedTuple):
    """A segment as its agent sees it, and who got the ticket: None at the end, else name and facts."""

    segment: str
    agent: str
    facts: Facts
    option: str
    reward: float
    discount: float
    to: str | None
    then: Facts


class Routing(Protocol):
    """Who decides, and who is told what came of it."""

    def choose(self, agent: str, facts: Facts, options: tuple[str, ...]) -> tuple[str, float]:
        """An option and its probability."""

    def ended(self, ended: Ended) -> None:
        """The option has ended."""


class ByHand:
    """The routing in place; now and then another option is tried, which is all that a log can be learned from."""

    def __init__(self, tries: float = 0.0, seed: int = 0) -> None:
        """``tries`` is the probability of an option drawn uniformly."""
        self.tries, self.rng = tries, np.random.default_rng(seed)

    def choose(self, agent: str, facts: Facts, options: tuple[str, ...]) -> tuple[str, float]:
        """The usual option, or any."""
        usual, even = by_hand(agent, facts), self.tries / len(options)
        option = str(self.rng.choice(options)) if self.rng.random() < self.tries else usual
        return option, even + (1 - self.tries) * (option == usual)

    def ended(self, ended: Ended) -> None:
        """Learns nothing."""


class ByPolicy:
    """Follows a policy; nothing is learned."""

    def __init__(self, policy: Policy) -> None:
        """One agent for each name."""
        self.agents = {name: Agent(policy, name) for name in AGENTS}

    def choose(self, agent: str, facts: Facts, options: tuple[str, ...]) -> tuple[str, float]:
        """The agent's best option."""
        choice = self.agents[agent].act(facts, options)
        return choice.name, choice.probability

    def ended(self, ended: Ended) -> None:
        """Learns nothing."""


def empty_policy() -> Policy:
    """What an agent knows before its first ticket: its fields, its options, and zeros."""
    agents = []
    for name, own in zip(AGENTS, OWN, strict=True):
        fields = tuple(Field(field, WORDS[field]) for field in FIELDS[name])
        rows = int(np.prod([field.size for field in fields]))
        mask = np.tile([option in own for option in OPTIONS], (rows, 1))
        agents.append(AgentPolicy(name, {"q": np.zeros((rows, len(OPTIONS)))}, fields, np.arange(rows), (), mask))
    return Policy(OPTIONS, tuple(agents), GAMMA, value_range=(-60.0, 10.0))


class Online:
    """Every agent in a process of its own; all that crosses between two of them is one scalar for each handoff."""

    def __init__(self, folder: Path, epsilon: float, seed: int = 0) -> None:
        """Starts the processes; states and policies of the agents go into ``folder``."""
        pipes = {name: os.pipe() for name in AGENTS}
        self.workers: dict[str, subprocess.Popen[str]] = {}
        self.scalars = self.handoffs = 0
        program = Path(__file__).with_name("agent_process.py")
        for number, name in enumerate(AGENTS):
            save_policy(folder / name, empty_policy().only(name))
            out = {other: pipes[other][1] for other in AGENTS}
            setup = {
                "policy": str(folder / name), "name": name, "store": str(folder / f"{name}.db"),
                "inbox": pipes[name][0], "out": out, "epsilon": epsilon, "seed": seed + number,
            }  # fmt: skip
            self.workers[name] = subprocess.Popen(
                [sys.executable, str(program), json.dumps(setup)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=(pipes[name][0], *out.values()),
            )
        for pipe in pipes.values():
            os.close(pipe[0])
            os.close(pipe[1])

    def ask(self, name: str, **question: Any) -> dict[str, Any]:
        """One line to an agent's process and one line back: what the agent itself observes, and what it says."""
        worker = self.workers[name]
        assert worker.stdin is not None and worker.stdout is not None
        print(json.dumps(question), file=worker.stdin, flush=True)
        answer: dict[str, Any] = json.loads(worker.stdout.readline())
        return answer

    def choose(self, agent: str, facts: Facts, options: tuple[str, ...]) -> tuple[str, float]:
        """What the agent's process says."""
        told = self.ask(agent, do="act", facts=facts, options=options)
        return told["option"], told["probability"]

    def ended(self, ended: Ended) -> None:
        """The agent is told its own segment; whoever has the ticket now offers one scalar, from process to process."""
        own = {"facts": ended.facts, "option": ended.option, "reward": ended.reward, "discount": ended.discount}
        self.ask(ended.agent, do="wait", segment=ended.segment, **own)
        if ended.to is not None:
            self.handoffs += 1
            self.ask(ended.to, do="offer", facts=ended.then, segment=ended.segment, back=ended.agent)

    def close(self) -> dict[str, dict[str, Any]]:
        """Ends the processes; what each says of itself: its counts, scalars sent and heard, and best options."""
        said = {name: self.ask(name, do="finish") for name in self.workers}
        for worker in self.workers.values():
            worker.communicate()
        return said


class Office:
    """Tickets on the desk; a client calls ``turn`` until it returns None."""

    def __init__(self, desk: Desk, routing: Routing, log: IO[str] | None = None, seed: int = 0) -> None:
        """Writes a line for each handoff into ``log`` (docs/logs.md)."""
        self.desk, self.routing, self.log, self.rng = desk, routing, log, np.random.default_rng(seed)
        self.tickets: dict[str, State] = {}
        self.steps: dict[str, int] = {}
        self.returns: dict[str, float] = {}
        self.minutes: dict[str, int] = {}

    def open(self) -> str:
        """A new ticket; triage has it."""
        ticket = f"ticket-{len(self.tickets)}"
        self.tickets[ticket] = drawn(first_states(), self.rng)
        self.steps[ticket] = self.minutes[ticket] = 0
        self.returns[ticket] = 0.0
        return ticket

    def turn(self, ticket: str) -> str | None:
        """The active agent's turn; returns who has the ticket now, None if it is closed."""
        now, step = self.tickets[ticket], self.steps[ticket]
        agent, facts = AGENTS[now.agent], now.facts()
        option, probability = self.routing.choose(agent, facts, OWN[now.agent])
        minutes = 1 + int(self.rng.choice(12, p=duration_law(option)))
        after = drawn(next_states(now, option), self.rng)
        paid, to = outcome(now, option), None if after is None else AGENTS[after.agent]
        reward = -COST * (1 - GAMMA**minutes) / (1 - GAMMA) + GAMMA ** (minutes - 1) * paid
        if self.log is not None:
            line = {
                "run": ticket, "step": step, "agent": agent, "seen": facts, "hidden": now.hidden(),
                "options": OWN[now.agent], "option": option, "probability": probability,
                "reward": {"outcome": paid, "cost": -COST * minutes}, "duration": minutes, "next": to,
            }  # fmt: skip
            print(json.dumps(line), file=self.log)
        self.returns[ticket] += GAMMA ** self.minutes[ticket] * reward
        self.minutes[ticket] += minutes
        self.steps[ticket] += 1
        discount = 0.0 if after is None else GAMMA**minutes
        then = {} if after is None else after.facts()
        self.routing.ended(Ended(f"{ticket}/{step}", agent, facts, option, reward, discount, to, then))
        if after is not None:
            self.tickets[ticket] = after
        return to

    def interval(self) -> tuple[float, float]:
        """Mean discounted reward of the tickets so far, and the half-width of its 95 % interval."""
        values = np.array(list(self.returns.values()))
        return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


Client = Callable[[Office, int], None]  # sends that many tickets through
