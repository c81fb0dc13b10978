"""A name is asked for over a socket, and the one that answers is believed."""

from __future__ import annotations

import asyncio
from typing import cast

from stack.aio import mdns
from stack.aio.mdns import resolve_mdns
from stack.core.wire import Writer

NAME = "somewhere.local"


class Responder(asyncio.DatagramProtocol):
    """Answers every second question, and sends something strange before."""

    def __init__(self) -> None:
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.asked += 1
        if self.asked < 2:
            return
        self.transport.sendto(b"strange", address)
        name = data[12 : 12 + len(NAME) + 2]
        writer = Writer().u16(0).u16(0x8400).u16(0).u16(1).u16(0).u16(0)
        self.transport.sendto(
            writer.put(name).u16(1).u16(1).u32(1).u16(4).put(bytes([10, 1, 2, 3])).finish(), address
        )


async def test_a_name_is_resolved_and_the_question_repeated() -> None:
    loop = asyncio.get_running_loop()
    transport, responder = await loop.create_datagram_endpoint(Responder, local_addr=("127.0.0.1", 0))
    try:
        group = transport.get_extra_info("sockname")
        assert await resolve_mdns(NAME, "127.0.0.1", group) == ["10.1.2.3"]
        assert responder.asked == 2
    finally:
        transport.close()


async def test_a_name_that_is_not_known_costs_the_patience_and_no_more() -> None:
    mdns_patience = mdns.PATIENCE
    try:
        mdns.PATIENCE = 0.05
        assert await resolve_mdns(NAME, "127.0.0.1", ("127.0.0.1", 9)) == []
    finally:
        mdns.PATIENCE = mdns_patience
    assert await resolve_mdns("..", "127.0.0.1") == []
    assert await resolve_mdns(NAME, "::1") == []
