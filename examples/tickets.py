"""A support desk of four agents with hand-written routing, or a fitted one, that logs every handoff.

    python examples/tickets.py tickets.jsonl --runs 3000                            # as it is
    icsmdp fit tickets.jsonl --config examples/tickets.toml --out results/tickets
    python examples/tickets.py after.jsonl --runs 3000 --policy results/tickets     # as the log says it should be

Customers name a topic, and one in four names the wrong one. The triage sees what they name and how long they write; the
topic itself shows when a specialist reads the ticket. Whoever gets an answer that does not help is back at the triage,
at most three times.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from icsmdp_jax.runtime.agent import Agent
from icsmdp_jax.runtime.policies import load_policy

OPTIONS = {
    "triage": ["to billing", "to technical", "to senior"],
    "billing": ["answer", "to technical", "to senior"],
    "technical": ["answer", "to billing", "to senior"],
    "senior": ["answer", "close"],
}
SEES = {"triage": ["stated", "length", "returns"], "billing": ["topic"], "technical": ["topic"], "senior": ["topic"]}
HELPS = {("billing", "billing"): 0.9, ("technical", "technical"): 0.8, ("senior", "billing"): 0.95}
HOURS = {"triage": 1.0, "billing": 4.0, "technical": 8.0, "senior": 16.0}  # mean time that an agent takes
COST = {"triage": 0.02, "billing": 0.1, "technical": 0.15, "senior": 0.5}
FOLLOWED = 0.7  # how often people do what the rules say


def by_hand(agent: str, facts: dict[str, Any]) -> str:
    """The routing by hand-written rules."""
    if agent == "triage":
        return f"to {facts['stated']}"
    return "answer"


def choose(
    agent: str, facts: dict[str, Any], seen: dict[str, Any], policy: dict[str, Agent], rng: random.Random
) -> tuple[str, float]:
    """An option, and the probability with which it is taken."""
    options = OPTIONS[agent]
    if policy:
        choice = policy[agent].act(seen, options)
        return choice.name, choice.probability
    rule = by_hand(agent, facts)
    rest = (1 - FOLLOWED) / len(options)
    option = rule if rng.random() < FOLLOWED else rng.choice(options)
    return option, rest + FOLLOWED * (option == rule)


def ticket(run: int, policy: dict[str, Agent], rng: random.Random) -> list[dict[str, Any]]:
    """One ticket from the first handoff to the last, a line for each."""
    topic = rng.choice(["billing", "technical"])
    wrong = {"billing": "technical", "technical": "billing"}[topic]
    facts = {"topic": topic, "stated": topic if rng.random() < 0.75 else wrong, "returns": 0}
    facts["length"] = round(
        rng.random() ** (1 if facts["stated"] == topic else 3), 3
    )  # who rambles is more often right
    lines, agent, step = [], "triage", 0
    while agent:
        seen = {name: facts[name] for name in SEES[agent]}
        option, probability = choose(agent, facts, seen, policy, rng)
        hours, solved, follower = rng.expovariate(1 / HOURS[agent]), False, option.removeprefix("to ")
        if option == "answer":
            solved = rng.random() < HELPS.get((agent, topic), 0.9 if agent == "senior" else 0.1)
            follower = "" if solved or facts["returns"] == 3 else "triage"
        elif option == "close":
            follower = ""
        lines.append({
            "run": f"ticket {run}", "step": step, "agent": agent, "seen": seen,
            "hidden": {name: value for name, value in facts.items() if name not in seen}, "options": OPTIONS[agent],
            "option": option, "probability": probability, "duration": round(hours, 2), "next": follower or None,
            "reward": {"outcome": float(solved), "cost": -COST[agent]},
        })  # fmt: skip
        facts = {**facts, "returns": facts["returns"] + (option == "answer")}
        agent, step = follower, step + 1
    return lines


def main() -> None:
    """Writes the log and prints what a ticket is worth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--runs", type=int, default=3000)
    parser.add_argument("--policy", default=None, help="folder of a fitted policy")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, policy = random.Random(args.seed), {}
    if args.policy is not None:
        policy = {name: Agent(load_policy(args.policy), name) for name in OPTIONS}
    tickets = [ticket(run, policy, rng) for run in range(args.runs)]
    args.out.write_text("".join(json.dumps(line) + "\n" for lines in tickets for line in lines), encoding="utf-8")
    solved = sum(lines[-1]["reward"]["outcome"] for lines in tickets) / args.runs
    cost = -sum(line["reward"]["cost"] for lines in tickets for line in lines) / args.runs
    hours = sum(line["duration"] for lines in tickets for line in lines) / args.runs
    print(f"{args.runs} tickets: {100 * solved:.1f} % solved, cost {cost:.3f}, {hours:.1f} hours")


if __name__ == "__main__":
    main()
