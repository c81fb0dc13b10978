"""A model that is none: a WebSocket server that speaks OpenAI's Realtime protocol from a script."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
from aiohttp import web

RATE = 24_000


def tone(seconds: float, frequency: float = 700.0) -> np.ndarray:
    """Samples of a sine."""
    return (9000 * np.sin(2 * np.pi * frequency * np.arange(round(RATE * seconds)) / RATE)).astype("<i2")


class Upstream:
    """What one test's model has heard, and what it says when the test wants."""

    def __init__(self) -> None:
        self.received: list[dict] = []
        self.audio = bytearray()
        self.keys: list[str | None] = []
        self.connections = 0
        self.refuse_with: int | None = None
        self.socket: web.WebSocketResponse | None = None
        self._changed = asyncio.Condition()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers.get("Authorization"))
        if self.refuse_with is not None:
            return web.Response(status=self.refuse_with)
        self.connections += 1
        socket = self.socket = web.WebSocketResponse()
        await socket.prepare(request)
        await self.send("session.created", session={"type": "realtime", "model": "scripted"})
        async for message in socket:
            event = message.json()
            if event["type"] == "input_audio_buffer.append":
                self.audio += base64.b64decode(event["audio"])
            else:
                self.received.append(event)
            if event["type"] == "session.update":
                await self.send("session.updated", session=event["session"])
            async with self._changed:
                self._changed.notify_all()
        return socket

    async def send(self, kind: str, **fields) -> None:
        assert self.socket is not None
        await self.socket.send_json({"type": kind, "event_id": f"event_{id(fields):x}", **fields})

    async def speak(self, data: bytes, response: str = "resp_1", item: str = "item_1") -> None:
        """Say all of it at once, as models do."""
        where = {"response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        await self.send("response.created", response={"id": response, "status": "in_progress"})
        for at in range(0, len(data), 9600):
            delta = base64.b64encode(data[at : at + 9600]).decode()
            await self.send("response.output_audio.delta", delta=delta, **where)
        await self.send("response.output_audio.done", **where)
        await self.send("response.done", response={"id": response, "status": "completed", "output": []})

    async def wait_for(self, kind: str, **session: object) -> dict:
        """The first event of this kind that came or comes, with these fields in its session."""

        def found() -> dict | None:
            of_kind = (event for event in self.received if event["type"] == kind)
            return next((event for event in of_kind if session.items() <= event.get("session", {}).items()), None)

        async with self._changed:
            await self._changed.wait_for(lambda: found() is not None)
        event = found()
        assert event is not None
        return event

    async def wait_for_audio(self, size: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.audio) >= size)


@asynccontextmanager
async def scripted() -> AsyncIterator[Upstream]:
    """A server on a free port."""
    upstream = Upstream()
    app = web.Application()
    app.router.add_get("/v1/realtime", upstream.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    upstream.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/v1/realtime?model=scripted"
    try:
        yield upstream
    finally:
        if upstream.socket is not None:
            await upstream.socket.close()
        await runner.cleanup()
