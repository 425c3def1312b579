"""The desk in LangGraph: a node for each agent, ``Command(goto=...)`` for each handoff."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from examples.support_desk.desk import AGENTS
from examples.support_desk.office import Office


class Ticket(TypedDict):
    """What the graph passes on: only which ticket it is."""

    ticket: str


def build(office: Office) -> Any:
    """The compiled graph."""

    def node(name: str) -> Callable[[Ticket], Command[Any]]:
        def turn(state: Ticket) -> Command[Any]:
            to = office.turn(state["ticket"])
            return Command(goto=END if to is None else to)

        return turn

    graph = StateGraph(Ticket)
    for name in AGENTS:
        graph.add_node(name, node(name), destinations=(*AGENTS, END))
    graph.add_edge(START, AGENTS[0])
    return graph.compile()


def run(office: Office, tickets: int) -> None:
    """Sends tickets through the graph, one after another."""
    graph = build(office)
    for _ in range(tickets):
        graph.invoke({"ticket": office.open()}, {"recursion_limit": 1000})
