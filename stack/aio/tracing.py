"""A call as OpenTelemetry spans, if `opentelemetry-api` is there (extra `otel`) and the process has a provider.

    call                      from the offer to the end; why it ended
    ├── setup                 from the offer to the connection; an event for each step
    ├── turn                  the person, from the first speech to the decision that it is over
    └── reply                 from its first sound to its last; events: held (stop latency), resumed

Only the API is used, so the operator chooses the SDK and where spans go. The call's span is a child of
what the request's `traceparent` header names, and it is the current one while the program runs: what the program
(or an HTTP client in it) records lands below it. Without the API, or without an SDK, nothing is made at all.

Spans carry times, numbers and reasons, and the exception of a program that fails; no sound, no messages.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from stack.session import Connected, Ended, EndReason
from stack.voice.events import (
    ConversationEvent,
    ReplyFinished,
    ReplyHeld,
    ReplyInterrupted,
    ReplyResumed,
    ReplyStarted,
    UserStartedSpeaking,
    UserStoppedSpeaking,
    Utterance,
)

if TYPE_CHECKING:
    from stack.aio.call import Call

otel: Any
try:
    from opentelemetry import propagate, trace

    otel = trace
except ImportError:
    otel = None

_ORDERLY = (EndReason.HUNG_UP, EndReason.PEER_CLOSED)
_MS = 1_000_000
"""Nanoseconds, in which OpenTelemetry counts, of a millisecond."""


class CallSpans:
    """The spans of one call; everything here belongs to the program's loop."""

    def __init__(self, call: Call, tracer: Any, span: Any, began: int) -> None:
        self._events = call.watch()
        self._tracer = tracer
        self._span = span
        self._began = began
        self._inside = otel.set_span_in_context(span)
        self._turn: Any = None
        self._reply: Any = None

    @classmethod
    def begin(cls, call: Call) -> CallSpans | None:
        """Follow a call until its end; None without a tracer."""
        if otel is None:
            return None
        began = time.time_ns()
        tracer = otel.get_tracer("stack")
        if isinstance(tracer, otel.ProxyTracer):
            return None  # no provider is set up
        span = tracer.start_span(
            "call",
            context=propagate.extract(call.context.headers),
            kind=otel.SpanKind.SERVER,
            start_time=began,
            attributes={"call.id": call.id},
        )
        if not span.is_recording():
            return None
        spans = cls(call, tracer, span, began)
        task = asyncio.get_running_loop().create_task(spans._follow(), name=f"spans of {call.id}")
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        return spans

    def current(self) -> AbstractContextManager[Any]:
        """Context: what is recorded inside belongs below the call's span."""
        context: AbstractContextManager[Any] = otel.use_span(self._span, end_on_exit=False)
        return context

    async def _follow(self) -> None:
        try:
            async for event in self._events:
                self.handle(event, time.time_ns())
        finally:
            self._end_all(time.time_ns())

    def handle(self, event: ConversationEvent, now: int) -> None:
        """Take an event of the call that reached us at `now` (nanoseconds since 1970)."""
        match event:
            case Connected():
                self._connected(event, now)
            case UserStartedSpeaking() if self._turn is None:
                self._turn = self._child("turn", now - round(event.decided_after_ms * _MS))
                self._turn.set_attribute("turn.detection_ms", event.decided_after_ms)
            case UserStoppedSpeaking() if self._turn is not None:
                self._turn.add_event("speech stopped", timestamp=now)
            case Utterance() if self._turn is not None:
                self._turn.set_attribute("turn.duration_ms", round(event.duration * 1000.0, 1))
                self._turn.set_attribute("turn.waited_ms", event.waited_ms)
                self._turn.end(now)
                self._turn = None
            case ReplyStarted():
                self._reply = self._child("reply", now)
                self._reply.set_attribute("reply.number", event.reply)
                if event.response_ms is not None:
                    self._reply.set_attribute("reply.response_ms", event.response_ms)
            case ReplyHeld() if self._reply is not None:
                details = {"stop_ms": event.stop_ms, "heard_ms": event.heard_ms}
                self._reply.add_event("held", details, timestamp=now)
            case ReplyResumed() if self._reply is not None:
                self._reply.add_event("resumed", {"from_ms": event.from_ms}, timestamp=now)
            case ReplyFinished() | ReplyInterrupted() if self._reply is not None:
                self._reply.set_attribute("reply.heard_ms", event.heard_ms)
                self._reply.set_attribute("reply.interrupted", isinstance(event, ReplyInterrupted))
                self._reply.end(now)
                self._reply = None
            case Ended():
                self._ended(event, now)

    def _child(self, name: str, start: int) -> Any:
        return self._tracer.start_span(name, context=self._inside, start_time=start)

    def _connected(self, event: Connected, now: int) -> None:
        # The steps count from the offer's arrival, a moment before we began; `now` may come late.
        setup = self._child("setup", self._began)
        for name, ms in event.steps.items():
            setup.add_event(name, timestamp=self._began + round(ms * _MS))
        setup.end(min(now, self._began + round(max(event.steps.values(), default=0.0) * _MS)))
        self._span.set_attributes(
            {
                "call.dtls_version": event.dtls_version,
                "call.cipher_suite": event.cipher_suite,
                "network.local.port": event.path.local.port,
            }
        )

    def _ended(self, event: Ended, now: int) -> None:
        self._span.set_attribute("call.end_reason", event.reason.name.lower())
        if event.reason not in _ORDERLY:
            self._span.set_status(otel.StatusCode.ERROR, event.reason.value)
        self._end_all(now)

    def _end_all(self, now: int) -> None:
        for span in (self._turn, self._reply, self._span):
            if span is not None and span.is_recording():
                span.end(now)
        self._turn = self._reply = None


_tasks: set[asyncio.Task[None]] = set()
