"""Pipecat's SmallWebRTC and RTVI 2: what its clients say on the channel `chat`, and what they are told there.

    ping: 1700000000000                                          each second, as plain text; not answered
    {"type": "signalling", "message": {…}}                       track status of the client; noted, nothing to do
    {"label": "rtvi-ai", "type": "client-ready", "id", "data"}   -> bot-ready, which `connect` awaits

Offers come in at `/api/offer` (`offer.py`); a restart is a new call under the same `pc_id`.

Left out: RTVI's screen snapshots and jobs, and its language-model messages beyond the text of a reply: what the
program does inside is not ours to tell.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from stack.aio import Call, DataChannel, control_of
from stack.core.errors import ParseError, StackError
from stack.core.values import read_json_object
from stack.voice import events as ev
from stack.voice.commands import TakeText

log = logging.getLogger("stack.pipecat")

CHANNEL = "chat"
LABEL = "rtvi-ai"
VERSION = "2.0.0"
MAX_MESSAGE = 64 * 1024
_BACKLOG = 1000

Message = dict[str, Any]


def _rtvi(kind: str, data: Mapping[str, Any] | None = None, message_id: str | None = None) -> Message:
    message: Message = {"label": LABEL, "type": kind, "id": message_id or secrets.token_hex(6)}
    if data is not None:
        message["data"] = dict(data)
    return message


def translate(event: ev.ConversationEvent) -> list[Message]:
    """Return what an RTVI client is told of an event of the call."""
    match event:
        case ev.UserStartedSpeaking():
            return [_rtvi("user-started-speaking")]
        case ev.UserStoppedSpeaking():
            return [_rtvi("user-stopped-speaking")]
        case ev.UserTranscript() if not event.typed:
            now = datetime.now(UTC).isoformat()
            data = {"text": event.text, "final": event.final, "timestamp": now, "user_id": "user"}
            return [_rtvi("user-transcription", data)]
        case ev.ReplyStarted():
            metrics = []
            if event.response_ms is not None:
                ttfb = [{"processor": "program", "value": event.response_ms / 1000.0}]
                metrics = [_rtvi("metrics", {"ttfb": ttfb})]
            return [_rtvi("bot-started-speaking"), _rtvi("bot-tts-started"), *metrics]
        case ev.ReplyText():
            output = {"text": event.text, "spoken": True, "aggregated_by": "sentence"}
            return [_rtvi("bot-output", output), _rtvi("bot-tts-text", {"text": event.text})]
        case ev.ProgramMessage():
            return [_rtvi("server-message", event.message)]
        case ev.ProgramFailed():
            return [_rtvi("error", {"error": "the program failed", "fatal": True})]
        case ev.ReplyFinished() | ev.ReplyInterrupted():
            return [_rtvi("bot-tts-stopped"), _rtvi("bot-stopped-speaking")]
    return []


class RtviSession:
    """The RTVI side of one call. It lives as long as the call."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._control = control_of(call)
        self._control.dialect_channels.add(CHANNEL)
        self._out: asyncio.Queue[Message] = asyncio.Queue(_BACKLOG)
        self._ready = False
        self._watching = call.watch()
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"pipecat {call.id}")

    async def _run(self) -> None:
        call = self._call
        following = asyncio.create_task(self._follow())
        try:
            channel = await call.channels.wait_for(CHANNEL)
            call.listen()
            sending = asyncio.create_task(self._send(channel))
            try:
                async for text in channel:
                    self.receive(text)
            finally:
                sending.cancel()
        except StackError:
            pass  # the call ended before there was a channel
        finally:
            following.cancel()

    async def _follow(self) -> None:
        async for event in self._watching:
            if self._ready:
                for message in translate(event):
                    self._enqueue(message)

    async def _send(self, channel: DataChannel) -> None:
        while True:
            message = await self._out.get()
            try:
                await channel.send(json.dumps(message))
            except StackError:
                return

    def _enqueue(self, message: Message) -> None:
        if not self._out.full():
            self._out.put_nowait(message)

    def receive(self, text: str | bytes) -> None:
        """Take one message of the client; what is none is answered with `error`."""
        if isinstance(text, str) and text.startswith("ping"):
            return
        try:
            message = read_json_object(text, MAX_MESSAGE)
        except ParseError:
            self._enqueue(_rtvi("error", {"error": "a message is a JSON object", "fatal": False}))
            return
        if message.get("type") == "signalling" or message.get("label") != LABEL:
            return
        data = message.get("data")
        self._on_rtvi(str(message.get("type")), str(message.get("id")), data if isinstance(data, dict) else {})

    def _on_rtvi(self, kind: str, message_id: str, data: Mapping[str, Any]) -> None:
        match kind:
            case "client-ready":
                self._ready = True
                about = {"library": "voice-stack"}
                self._enqueue(_rtvi("bot-ready", {"version": VERSION, "about": about}, message_id))
            case "disconnect-bot":
                self._call.hang_up()
            case "send-text":
                self._send_text(message_id, data)
            case _:
                self._refuse(message_id, f"unknown message {kind[:64]!r}")

    def _send_text(self, message_id: str, data: Mapping[str, Any]) -> None:
        """Let the program answer what was typed at once, or know it before the next turn."""
        content, options = data.get("content"), data.get("options") or {}
        if not isinstance(content, str) or not content.strip() or not isinstance(options, dict):
            self._refuse(message_id, "a text has a content, and an object as options")
        elif options.get("run_immediately") is False:
            self._control.inform(ev.ContextAdded("user", content))
        elif options.get("audio_response") is False:
            self._refuse(message_id, "an answer without sound is not supported here: it is spoken")
        else:
            self._control.command(TakeText(content))

    def _refuse(self, message_id: str, why: str) -> None:
        self._enqueue(_rtvi("error-response", {"error": why}, message_id))
