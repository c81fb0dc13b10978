"""A client behind a network that lets only TCP through: its UDP goes through a relay that frames it (RFC 4571)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from interop.redirect import rewrite_candidates, without_candidates
from stack.ice.framing import StreamFramer, frame
from stack.sdp import SessionDescription
from stack.signaling import client
from stack.signaling.client_http import OfferAnswered

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
async def tcp_only(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TcpRelay]:
    """Context: what `dial` places goes over TCP alone."""
    exchange: Any = client.exchange
    loop = asyncio.get_running_loop()
    transport, relay = await loop.create_datagram_endpoint(TcpRelay, local_addr=(HOST, 0))

    async def through_relay(url: str, offer: str, config: Any) -> OfferAnswered:
        answered: OfferAnswered = await exchange(url, without_candidates(offer), config)
        port = tcp_port(answered.sdp)
        assert port is not None, "the answer has no TCP candidate"
        relay.target = port
        return replace(answered, sdp=rewrite_candidates(answered.sdp, relay.address))

    monkeypatch.setattr(client, "exchange", through_relay)
    try:
        yield relay
    finally:
        for task in relay.tasks:
            task.cancel()
        if relay.writer is not None:
            relay.writer.close()
        transport.close()
