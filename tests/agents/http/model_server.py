"""A server that speaks OpenAI's HTTP protocol as real ones do, and misbehaves as they do.

It writes its responses by hand on the socket, so that they are cut wherever a test wants them cut: inside a line,
inside a character, with LF or CRLF. What was asked is kept, and whether the client stayed to the end.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

RATE = 24_000
HANG = object()
"""Sent as a part of a response: nothing follows, and the connection stays open."""
REPEAT = object()
"""Sent as a part of a response: the part before it is sent again and again until the client goes."""
BREAK = object()
"""Sent as a part of a response: the connection is cut. (An `asyncio.Event`: what follows waits for it.)"""


@dataclass
class Asked:
    """One request; `left_early` is true if the client went before the response had ended."""

    path: str
    headers: dict[str, str]
    body: bytes
    left_early: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """A response: its parts are written one by one, each as a chunk of HTTP."""

    parts: Sequence[Any]
    content_type: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    return Reply([json.dumps(value).encode()], status=status, headers=headers)


def refusal(status: int, message: str, **headers: str) -> Reply:
    return as_json({"error": {"message": message, "type": "server_error"}}, status, **headers)


def events(
    *deltas: dict[str, Any],
    line: str = "\n",
    cut: int = 0,
    done: bool = True,
    finish: str = "stop",
    escaped: bool = False,
) -> Reply:
    """A stream of chat chunks, the usage with empty `choices` at its end, cut every `cut` bytes (0: by event).

    `escaped`: what is not ASCII is written as escapes, halves of surrogate pairs as well.
    """
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks: list[Any] = [
        {**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}
    ]
    chunks += [{**head, "choices": [{"index": 0, "delta": each, "finish_reason": None}]} for each in deltas]
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    chunks.append({**head, "choices": [], "usage": usage})
    texts = [f": keep-alive{line}{line}"]
    texts += [f"data: {json.dumps(chunk, ensure_ascii=escaped)}{line}{line}" for chunk in chunks]
    if done:
        texts.append(f"data: [DONE]{line}{line}")
    parts = [text.encode() for text in texts]
    if cut:
        whole = b"".join(parts)
        parts = [whole[at : at + cut] for at in range(0, len(whole), cut)]
    return Reply(parts, "text/event-stream")


def words(text: str, **settings: Any) -> Reply:
    """An answer that comes word by word."""
    return events(*({"content": piece} for piece in re.findall(r"\S+\s*", text)), **settings)


def tone(seconds: float, hertz: float = 440.0) -> bytes:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype("<i2").tobytes()


def speech(seconds: float, piece: int = 4801) -> Reply:
    """PCM in pieces of an odd number of bytes."""
    sound = tone(seconds)
    return Reply([sound[at : at + piece] for at in range(0, len(sound), piece)], "audio/pcm")


Script = Callable[[Asked], Reply]


class ModelServer:
    """By path, what is answered; each entry is a script, or a list of which each request takes one."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.models = ["m"]
        self.others: list[Script] = []
        self.transcripts: list[Script] = []
        self.chats: list[Script] = []
        self.speeches: list[Script] = []
        self.url = ""

    def of(self, name: str) -> list[Asked]:
        """What was asked at a path that ends in `name`."""
        return [asked for asked in self.asked if asked.path.endswith(name)]

    def _list(self) -> Reply:
        return as_json({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

    def _answer(self, asked: Asked) -> Reply:
        def take(scripts: list[Script], default: Reply) -> Reply:
            return scripts.pop(0)(asked) if scripts else default

        if asked.path.endswith("/models"):
            if "nothing" in asked.path:
                return refusal(404, "no such path")
            return take(self.others, self._list())
        if asked.path.endswith("/audio/transcriptions"):
            return take(self.transcripts, as_json({"text": "hello there"}))
        if asked.path.endswith("/chat/completions"):
            return take(self.chats, words("Good morning. How are you?"))
        if asked.path.endswith("/audio/speech"):
            return take(self.speeches, speech(0.4))
        return refusal(404, "no such path")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                _method, path, _ = head.split(" ", 2)
                headers = {
                    name.lower(): value
                    for name, value in (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(path, headers, body)
                self.asked.append(asked)
                if not await self._write(self._answer(asked), asked, reader, writer):
                    break
        writer.close()

    async def _write(
        self, reply: Reply, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        fields = {"Content-Type": reply.content_type, "Transfer-Encoding": "chunked", **reply.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode())
        gone, last = asyncio.ensure_future(reader.read(1)), b""
        try:
            for part in reply.parts:
                if part is BREAK:
                    return False
                if isinstance(part, asyncio.Event):
                    await part.wait()
                    continue
                if part is HANG:
                    await gone
                    asked.left_early.set()
                    return False
                if part is REPEAT:
                    while not gone.done():
                        await self._send(last, writer)
                        await asyncio.sleep(0.01)
                    asked.left_early.set()
                    return False
                last = part
                await self._send(part, writer)
                if len(reply.parts) < 100:
                    await asyncio.sleep(0.002)  # the parts are to arrive apart
                if gone.done():
                    asked.left_early.set()
                    return False
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        except ConnectionError:
            asked.left_early.set()
            return False
        finally:
            gone.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await gone

    async def _send(self, part: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        await writer.drain()


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    """The server on a free port of loopback."""
    models = ModelServer()
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await models.serve(reader, writer)
        except asyncio.CancelledError:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    models.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield models
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
