"""A client behind a network that lets only TCP through: its UDP goes through a relay that frames it (RFC 4571)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from interop.redirect import rewrite_candidates, without_candidates
from interop.web_page import on_loopback
from stack.ice.framing import StreamFramer, frame
from stack.sdp import SessionDescription

HOST = "127.0.0.1"


def tcp_port(answer: str) -> int | None:
    """Return the port of the first passive TCP candidate of an answer."""
    for media in SessionDescription.parse(answer).media:
        for candidate in media.candidates:
            fields = candidate.split()
            if fields[2].lower() == "tcp" and fields[-2:] == ["tcptype", "passive"]:
                return int(fields[5])
    return None


class TcpRelay(asyncio.DatagramProtocol):
    """Carries the datagrams of one client over one TCP connection, which it makes at the first."""

    def __init__(self) -> None:
        self.target = 0
        self.client: Any = None
        self.writer: asyncio.StreamWriter | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    @property
    def address(self) -> tuple[str, int]:
        """Where the client sends to."""
        host, port = self.transport.get_extra_info("sockname")
        return host, port

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.client is None:
            self.client = addr
            task = asyncio.get_running_loop().create_task(self._carry())
            self.tasks.add(task)
        if self.writer is None:
            self.early.append(data)
        else:
            self.writer.write(frame(data))

    async def _carry(self) -> None:
        reader, self.writer = await asyncio.open_connection(HOST, self.target)
        for data in self.early:
            self.writer.write(frame(data))
        framer = StreamFramer()
        while data := await reader.read(65536):
            for datagram in framer.feed(data):
                self.transport.sendto(datagram, self.client)


@asynccontextmanager
async def in_front(
    url: str, of_offer: Callable[[str], str] = str, of_answer: Callable[[str], str] = str
) -> AsyncIterator[str]:
    """Context: an address whose offers go to the server at `url`, changed on the way there and back."""

    async def forward(request: web.Request) -> web.Response:
        body = await request.json()
        connector = aiohttp.TCPConnector(ssl=False)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(f"{url}/api/offer", json={**body, "sdp": of_offer(body["sdp"])}) as response,
        ):
            said = await response.json()
            if "sdp" in said:
                said["sdp"] = of_answer(said["sdp"])
            return web.json_response(said, status=response.status)

    app = web.Application()
    app.router.add_post("/api/offer", forward)
    async with on_loopback(app) as front:
        yield front


@asynccontextmanager
async def tcp_only(url: str) -> AsyncIterator[tuple[TcpRelay, str]]:
    """Context: a relay, and an address; who calls there calls the server at `url` over TCP alone."""
    loop = asyncio.get_running_loop()
    transport, relay = await loop.create_datagram_endpoint(TcpRelay, local_addr=(HOST, 0))

    def lead(answer: str) -> str:
        port = tcp_port(answer)
        assert port is not None, "the answer has no TCP candidate"
        relay.target = port
        return rewrite_candidates(answer, relay.address)

    try:
        async with in_front(url, without_candidates, lead) as front:
            yield relay, front
    finally:
        for task in relay.tasks:
            task.cancel()
        if relay.writer is not None:
            relay.writer.close()
        transport.close()
