"""The desk from the shell: ``python -m examples.support_desk langgraph by-hand --log handoffs.jsonl``."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from examples.support_desk.desk import AGENTS, OPTIONS, OWN, Desk, by_hand
from examples.support_desk.office import ByHand, ByPolicy, Facts, Office, Online, Routing, empty_policy
from icsmdp_jax.runtime.policies import load_policy

CLIENTS = {"langgraph": "examples.support_desk.langgraph_desk", "agents-sdk": "examples.support_desk.agents_sdk_desk"}


def learned(said: dict[str, dict[str, Any]]) -> Any:
    """The routing by the best options of the agents' own values, as their processes reported them."""
    policy = empty_policy()

    def choose(agent: str, facts: Facts) -> str:
        values = said[agent]["values"][policy.agent(agent).number_of(facts)]
        return max(OWN[AGENTS.index(agent)], key=lambda option: values[OPTIONS.index(option)])

    return choose


def main() -> None:
    """Runs tickets through a client and prints what came of them."""
    parser = argparse.ArgumentParser(prog="python -m examples.support_desk", description=__doc__)
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("routing", choices=("by-hand", "policy", "online"))
    parser.add_argument("--tickets", type=int, default=1000)
    parser.add_argument("--log", type=Path, default=None, help="a line for each handoff (JSON lines)")
    parser.add_argument("--policy", type=Path, default=None, help="folder of a policy, for the routing 'policy'")
    parser.add_argument("--tries", type=float, default=0.2, help="share of options that are tried instead of chosen")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if (args.routing == "policy") != (args.policy is not None):
        parser.error("--policy: expected with the routing 'policy' and only there")
    desk = Desk()
    with ExitStack() as stack:
        log = stack.enter_context(open(args.log, "w", encoding="utf-8")) if args.log else None
        online = None
        if args.routing == "online":
            online = Online(Path(stack.enter_context(tempfile.TemporaryDirectory())), args.tries, args.seed)
        routing: Routing
        choose: Any = by_hand
        if online is not None:
            routing = online
        elif args.policy is not None:
            routing = ByPolicy(load_policy(args.policy))
            choose = lambda agent, facts: routing.choose(agent, facts, OWN[AGENTS.index(agent)])[0]  # noqa: E731
        else:
            routing = ByHand(args.tries, args.seed)
        office = Office(desk, routing, log, args.seed)
        import_module(CLIENTS[args.client]).run(office, args.tickets)
        mean, half = office.interval()
        print(f"{args.tickets} tickets: {mean:.3f} +- {half:.3f} each, {sum(office.steps.values())} turns")
        if online is not None:
            said = online.close()
            choose = learned(said)
            sent = sum(one["sent"] for one in said.values())
            print(f"{online.handoffs} handoffs between {len(said)} processes, {sent} scalars")
        print(
            f"without trying: {desk.value(desk.table(choose)):.3f}; random 0, exact oracle 1: {desk.gain(choose):.3f}"
        )


if __name__ == "__main__":
    main()
