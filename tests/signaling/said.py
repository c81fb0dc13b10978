"""One program that says all that a program can say, and clients that note what they are told in the same words.

Of whichever dialect: `("user", text)`, `("program", text)`, `("message", object)`, `("silent",)`, `("failed",)`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

import numpy as np

from stack import Call
from stack.events import Utterance
from stack.signaling.pipecat import RtviSession
from tests.listening import until

RATE = 16_000
TONE = (8000 * np.sin(2 * np.pi * 440 * np.arange(RATE // 4) / RATE)).astype(np.int16)
SPOKEN, TYPED, FAIL = "what was spoken", "what was typed", "fail"
LAMP = {"type": "lamp", "rooms": ["hall"], "on": True}
PIECES = ["You said ", "it."]
Note = tuple[Any, ...]


class SaysAll:
    """Tells what was said, sends a message, answers in words, and raises when it is told to."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, bool]] = []
        self.noted: list[tuple[str, bool]] = []  # what `call.events` says of them

    async def __call__(self, call: Call) -> None:
        noting = asyncio.create_task(self._note(call))
        async for utterance in call.utterances():
            text = utterance.text or SPOKEN
            self.taken.append((text, utterance.is_typed))
            if not utterance.is_typed:
                call.transcribed(SPOKEN[:8], final=False)
            call.transcribed(text)  # of a typed turn, too: it is to do no harm
            call.tell(LAMP)
            if text == FAIL:
                await until(lambda: len(self.noted) == len(self.taken))
                noting.cancel()
                raise ValueError("what no client may read")
            async with call.reply() as voice:
                for piece in PIECES:
                    voice.write_text(piece)
                    await voice.write(TONE, RATE)

    async def _note(self, call: Call) -> None:
        async for event in call.events:
            if isinstance(event, Utterance):
                self.noted.append((event.text or SPOKEN, event.is_typed))


class Client:
    """A client of the page's kind: what any has that opens the channel `events`."""

    path: ClassVar[str] = "/api/offer"
    label: ClassVar[str] = "events"

    def __init__(self, call: Call) -> None:
        self.notes: list[Note] = []
        self._call = call

    @staticmethod
    def prepare(call: Call) -> None:
        """Begin what the server has for this dialect beside its route; the call is the program's."""

    async def open(self) -> None:
        """Open the channel, and return when the program can be spoken to."""
        self._channel = await self._call.open_channel(self.label)
        self._reading = asyncio.create_task(self._read())
        await self.greet()

    async def greet(self) -> None:
        """Wait until it is known that turns are taken."""
        await until(lambda: ("takes turns",) in self.notes)

    async def _read(self) -> None:
        async for text in self._channel:
            self.notes.extend(self.understand(json.loads(text)))

    async def send(self, message: dict[str, Any]) -> None:
        """Send an object of JSON."""
        await self._channel.send(json.dumps(message))

    @staticmethod
    def understand(message: dict[str, Any]) -> list[Note]:
        """Return what a message says."""
        match message:
            case {"type": "takes_turns"}:
                return [("takes turns",)]
            case {"type": "transcript", "role": "user", "final": final, "text": text}:
                return [("user", text)] if final else [("so far", text)]
            case {"type": "transcript", "role": "agent", "text": text}:
                return [("program", text)]
            case {"type": "reply_finished"}:
                return [("silent",)]
            case {"type": "program_failed"}:
                return [("failed",)]
            case {"type": "lamp"}:
                return [("message", message)]
        return []

    async def type(self, text: str) -> None:
        """Type a turn."""
        await self.send({"type": "text", "text": text})


class WhipClient(Client):
    """An encoder that opens the channel, too."""

    path = "/whip"


class OpenAiClient(Client):
    """OpenAI's events."""

    path = "/v1/realtime/calls"
    label = "oai-events"

    async def greet(self) -> None:
        """Wait for the session."""
        await until(lambda: ("session",) in self.notes)

    @staticmethod
    def understand(message: dict[str, Any]) -> list[Note]:
        """Return what an event says."""
        match message:
            case {"type": "session.created"}:
                return [("session",)]
            case {"type": "conversation.item.input_audio_transcription.delta", "delta": text}:
                return [("so far", text)]
            case {"type": "conversation.item.input_audio_transcription.completed", "transcript": text}:
                return [("user", text)]
            case {"type": "response.output_audio_transcript.delta", "delta": text}:
                return [("program", text)]
            case {"type": "output_audio_buffer.stopped"}:
                return [("silent",)]
            case {"type": "error", "error": {"code": "program_failed"}}:
                return [("failed",)]
            case {"type": "program.message", "event_id": str(), "message": told}:
                return [("message", told)]
            case {"type": "conversation.item.added", "item": {"role": "user", "content": [part]}}:
                return [("item", part)]
        return []

    async def type(self, text: str) -> None:
        """Add an item, and ask for its answer."""
        part = {"type": "input_text", "text": text}
        item = {"type": "message", "role": "user", "content": [part]}
        await self.send({"type": "conversation.item.create", "item": item})
        await self.send({"type": "response.create"})


class PipecatClient(Client):
    """RTVI's messages."""

    label = "chat"

    @staticmethod
    def prepare(call: Call) -> None:
        """Our own caller does not post what tells Pipecat's clients from the page."""
        RtviSession(call)

    async def greet(self) -> None:
        """Say that the client is ready, and wait for the same of the program."""
        await self._say("client-ready", {"version": "2.1.0"})
        await until(lambda: ("ready",) in self.notes)

    async def _say(self, kind: str, data: dict[str, Any]) -> None:
        await self.send({"label": "rtvi-ai", "type": kind, "id": "1", "data": data})

    @staticmethod
    def understand(message: dict[str, Any]) -> list[Note]:
        """Return what a message says."""
        match message:
            case {"type": "bot-ready"}:
                return [("ready",)]
            case {"type": "user-transcription", "data": {"text": text, "final": final}}:
                return [("user", text)] if final else [("so far", text)]
            case {"type": "bot-output", "data": {"text": text, "spoken": True}}:
                return [("program", text)]
            case {"type": "bot-stopped-speaking"}:
                return [("silent",)]
            case {"type": "error", "data": {"fatal": True}}:
                return [("failed",)]
            case {"type": "server-message", "data": told}:
                return [("message", told)]
        return []

    async def type(self, text: str) -> None:
        """Send a text."""
        await self._say("send-text", {"content": text})


SAID = ("so far", "user", "message", "program", "silent", "failed")


def expected(kind: type[Client]) -> list[Note]:
    """Return what a client is told of a turn that is spoken, one that is typed, and one that is a failure."""
    answer: list[Note] = [("message", LAMP), *(("program", piece) for piece in PIECES), ("silent",)]
    on_page = kind.label == "events"  # it tells apart by itself what it has typed, and is told nevertheless
    typed, fail = ([("user", text)] if on_page else [] for text in (TYPED, FAIL))
    return [
        ("so far", SPOKEN[:8]),
        ("user", SPOKEN),
        *answer,
        *typed,
        *answer,
        *fail,
        ("message", LAMP),
        ("failed",),
    ]


CLIENTS: tuple[type[Client], ...] = (Client, WhipClient, OpenAiClient, PipecatClient)
