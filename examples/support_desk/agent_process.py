"""What runs in one agent's own process: NumPy, SQLite and the runtime, no JAX.

Standard input brings what the agent itself observes. Scalars of other agents come through the inbox, a pipe into which
any agent may write a message as docs/rfc/message.md has it: a header line and a body line.
"""

from __future__ import annotations

import json
import os
import select
import sys
from typing import Any

from icsmdp_jax.runtime import messages
from icsmdp_jax.runtime.agent import Agent, Segment
from icsmdp_jax.runtime.policies import load_policy


def work(setup: dict[str, Any]) -> None:
    """Answers one line with one line until it is told to finish.

    Args:
      setup: ``policy, name, store, epsilon, seed, inbox, out``; ``out`` are the inboxes of the others.
    """
    policy = load_policy(setup["policy"])
    agent = Agent(policy, setup["name"], store=setup["store"], epsilon=setup["epsilon"], seed=setup["seed"])
    sent = heard = 0

    def read_inbox() -> int:
        if not select.select([setup["inbox"]], [], [], 0)[0]:
            return 0
        lines = os.read(setup["inbox"], 2**20).splitlines()  # messages are short: each comes in one piece
        for header, body in zip(lines[::2], lines[1::2], strict=True):
            agent.deliver(header.decode("ascii"), body)
        return len(lines) // 2

    for line in sys.stdin:
        told = json.loads(line)
        heard += read_inbox()
        answer: dict[str, Any] = {}
        if told["do"] == "act":
            choice = agent.act(told["facts"], told["options"])
            answer = {"option": choice.name, "probability": choice.probability}
        elif told["do"] == "wait":
            option = policy.options.index(told["option"])
            agent.wait(told["segment"], Segment(told["facts"], option, told["reward"], told["discount"]))
        elif told["do"] == "offer":
            header, body = messages.encode(told["segment"], agent.offer(told["facts"]))
            os.write(setup["out"][told["back"]], f"{header}\n".encode() + body + b"\n")
            sent += 1
        else:
            known = [agent.values(number) for number in range(len(policy.agents[0].params["q"]))]
            answer = {
                "counts": agent.counts(),
                "sent": sent,
                "heard": heard,
                "values": known,
                "jax": "jax" in sys.modules,
            }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))
