"""A call as spans, judged by the SDK's in-memory exporter; without the SDK there is nothing to judge by."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from stack.aio import Call, CallContext, control_of, tracing
from stack.aio.tracing import CallSpans
from stack.core.machine import Address, Path
from stack.session import Connected, Ended, EndReason
from stack.voice import events as ev

pytest.importorskip("opentelemetry.sdk", reason="the OpenTelemetry SDK is not installed")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

CONNECTED = Connected(
    Path(Address("127.0.0.1", 3478), Address("127.0.0.1", 5000)),
    "DTLS 1.3",
    "TLS_AES_128_GCM_SHA256",
    "x25519",
    "SRTP_AEAD_AES_128_GCM",
    {"check": 1.5, "handshake": 4.0},
)
PARENT = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Spans of this test alone: the process's provider can be set only once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


class NoLink:
    """A way to no conversation."""

    def submit(self, command: object) -> None: ...

    async def execute(self, command: Any) -> Any: ...


def make_call(**headers: str) -> Call:
    return Call("abcd", CallContext(headers=headers), NoLink(), lambda: 0.0)


async def play(call: Call, *events: ev.ConversationEvent) -> None:
    for event in events:
        control_of(call).deliver(event)
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_call_is_a_span_with_its_setup_turns_and_replies_below(exporter: InMemorySpanExporter) -> None:
    call = make_call(traceparent=PARENT)
    spans = CallSpans.begin(call)
    assert spans is not None
    with spans.current():
        trace.get_tracer("of the program").start_span("look it up").end()
    await play(
        call,
        CONNECTED,
        ev.UserStartedSpeaking(1.0, 60.0),
        ev.UserStoppedSpeaking(2.0),
        ev.Utterance(np.zeros(16_000, np.int16), 16_000, 1.0, 2.0, 500.0),
        ev.ReplyStarted(1, 120.0),
        ev.ReplyHeld(1, 400.0, 95.0),
        ev.ReplyResumed(1, 400.0),
        ev.ReplyInterrupted(1, 900.0, 960.0),
        ev.ReplyStarted(2, None),
        ev.ReplyFinished(2, 300.0),
        Ended(EndReason.PEER_CLOSED),
    )
    finished = {span.name: span for span in exporter.get_finished_spans() if span.name != "reply"}
    first, second = (span for span in exporter.get_finished_spans() if span.name == "reply")
    root, setup, turn = finished["call"], finished["setup"], finished["turn"]
    assert root.parent.span_id == 0x0123456789ABCDEF
    assert root.context.trace_id == 0x0123456789ABCDEF0123456789ABCDEF
    assert dict(root.attributes) == {
        "call.id": "abcd",
        "call.dtls_version": "DTLS 1.3",
        "call.cipher_suite": "TLS_AES_128_GCM_SHA256",
        "network.local.port": 3478,
        "call.end_reason": "peer_closed",
    }
    assert root.status.status_code is trace.StatusCode.UNSET
    for span in (setup, turn, first, second, finished["look it up"]):
        assert span.parent.span_id == root.context.span_id
    assert [event.name for event in setup.events] == ["check", "handshake"]
    assert setup.events[1].timestamp - root.start_time == 4_000_000
    assert turn.attributes["turn.waited_ms"] == 500.0
    assert turn.attributes["turn.duration_ms"] == 1000.0
    assert [(event.name, dict(event.attributes)) for event in first.events] == [
        ("held", {"stop_ms": 95.0, "heard_ms": 400.0}),
        ("resumed", {"from_ms": 400.0}),
    ]
    assert first.attributes["reply.interrupted"] is True
    assert first.attributes["reply.response_ms"] == 120.0
    assert second.attributes["reply.interrupted"] is False
    assert "reply.response_ms" not in second.attributes


async def test_a_call_that_breaks_off_ends_its_spans_and_is_an_error(exporter: InMemorySpanExporter) -> None:
    call = make_call()
    assert CallSpans.begin(call) is not None
    await play(call, CONNECTED, ev.ReplyStarted(1, None), Ended(EndReason.CONSENT_EXPIRED))
    finished = {span.name: span for span in exporter.get_finished_spans()}
    assert set(finished) == {"call", "setup", "reply"}
    assert finished["call"].status.status_code is trace.StatusCode.ERROR
    assert finished["call"].parent is None


async def test_without_a_provider_nothing_is_made() -> None:
    call = make_call()
    assert CallSpans.begin(call) is None
    assert control_of(call)._watchers == []


async def test_without_the_api_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "otel", None)
    assert CallSpans.begin(make_call()) is None
