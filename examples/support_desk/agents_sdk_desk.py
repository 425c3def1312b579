"""The desk in the OpenAI Agents SDK, offline: a deterministic stand-in for each agent's model calls handoff tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Model, ModelResponse, RunConfig, Runner, Usage, handoff, set_trace_processors
from agents.items import TResponseInputItem
from agents.tracing import TracingProcessor
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from examples.support_desk.desk import AGENTS
from examples.support_desk.office import Office


class StandIn(Model):
    """Plays one agent's turn on the desk and says who comes next, as a language model would: by calling a tool."""

    def __init__(self, office: Office) -> None:
        """All agents work in one office."""
        self.office = office

    async def get_response(
        self, system_instructions: str | None, input: str | list[TResponseInputItem], *args: Any, **kwargs: Any
    ) -> ModelResponse:
        """Reads the ticket's number off the conversation, takes the turn, answers with a handoff or a last message."""
        ticket = input if isinstance(input, str) else str(input[0]["content"])  # type: ignore[typeddict-item]
        to = self.office.turn(ticket)
        step = f"{ticket}-{self.office.steps[ticket]}"
        output: Any
        if to is None:
            text = ResponseOutputText(annotations=[], text="closed", type="output_text")
            output = ResponseOutputMessage(
                id=step, content=[text], role="assistant", status="completed", type="message"
            )
        else:
            output = ResponseFunctionToolCall(arguments="{}", call_id=step, name=f"to_{to}", type="function_call")
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Not used."""
        raise NotImplementedError("the desk does not stream")


class Spans(TracingProcessor):
    """Keeps the handoffs that the SDK itself traced, instead of sending traces anywhere."""

    def __init__(self) -> None:
        """None yet."""
        self.handoffs: list[tuple[str, str]] = []

    def on_span_end(self, span: Any) -> None:
        """A span of any kind has ended."""
        told = span.export()["span_data"]
        if told["type"] == "handoff":
            self.handoffs.append((told["from_agent"], told["to_agent"]))

    def on_trace_start(self, trace: Any) -> None:
        """Nothing to do."""

    def on_trace_end(self, trace: Any) -> None:
        """Nothing to do."""

    def on_span_start(self, span: Any) -> None:
        """Nothing to do."""

    def shutdown(self) -> None:
        """Nothing to do."""

    def force_flush(self) -> None:
        """Nothing to do."""


def build(office: Office) -> Agent[Any]:
    """Triage, who can reach the others."""
    people: dict[str, Agent[Any]] = {name: Agent(name=name, model=StandIn(office)) for name in AGENTS}
    for name, one in people.items():
        one.handoffs = [
            handoff(other, tool_name_override=f"to_{other.name}") for other in people.values() if other.name != name
        ]
    return people[AGENTS[0]]


def run(office: Office, tickets: int) -> Spans:
    """Sends tickets through the SDK's runner, one after another; returns what the SDK traced."""
    spans, first = Spans(), build(office)
    set_trace_processors([spans])

    async def work() -> None:
        for _ in range(tickets):
            ticket = office.open()
            result = await Runner.run(first, ticket, max_turns=1000, run_config=RunConfig(workflow_name="desk"))
            assert result.final_output == "closed"

    asyncio.run(work())
    return spans
