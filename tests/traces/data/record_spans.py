"""Records spans.otlp.jsonl: the support desk in the OpenAI Agents SDK, traced by OpenTelemetry's own instrumentation.

Needs the extra ``agents`` and opentelemetry-sdk, opentelemetry-exporter-otlp-proto-common and
opentelemetry-instrumentation-openai-agents-v2, none of which the tests need. From the root of the repository:
``python -m tests.traces.data.record_spans``. Nothing leaves the machine, and nothing is edited: one export request of
the protocol, as its exporters encode it, becomes one line of JSON (identifiers in hexadecimal, numbers for enums), as
the collector's file exporter writes it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

from agents import RunConfig, Runner, set_trace_processors
from google.protobuf.json_format import MessageToDict
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from examples.support_desk.agents_sdk_desk import build
from examples.support_desk.desk import Desk
from examples.support_desk.office import ByHand, Office

HERE = Path(__file__).parent
TICKETS = 4


def plain(value: Any) -> Any:
    """Identifiers as the JSON form of the protocol has them: hexadecimal, not base64."""
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        identifiers = ("traceId", "spanId", "parentSpanId")
        return {k: base64.b64decode(v).hex() if k in identifiers else plain(v) for k, v in value.items()}
    return value


def main() -> None:
    """Writes the spans, and the log of the same tickets in the schema of docs/logs.md."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    trace.set_tracer_provider(provider)
    set_trace_processors([])  # the SDK would send its traces away
    OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)
    log = io.StringIO()
    office = Office(Desk(), ByHand(0.3, 1), log, seed=2)

    async def work() -> None:
        for _ in range(TICKETS):
            await Runner.run(build(office), office.open(), max_turns=1000, run_config=RunConfig(workflow_name="desk"))

    asyncio.run(work())
    spans = kept.get_finished_spans()
    request = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    (HERE / "spans.otlp.jsonl").write_text(json.dumps(plain(request)) + "\n")
    (HERE / "spans.handoffs.jsonl").write_text(log.getvalue())


if __name__ == "__main__":
    main()
