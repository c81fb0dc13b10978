"""Our agents against aioice, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from stack.core.machine import Address, Path
from stack.ice import Candidate, IceAgent, IceCredentials, IceState, LiteAgent, PathSelected

pytestmark = pytest.mark.peer

Agent = IceAgent | LiteAgent


class Edge(asyncio.DatagramProtocol):
    """The least event loop that a machine can live in."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()
        self.events: list[Any] = []
        self.data: asyncio.Queue[bytes] = asyncio.Queue()
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.address = Address(*transport.get_extra_info("sockname")[:2])

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        if data[0] < 4:
            self.agent.handle_datagram(data, Path(self.address, Address(*source[:2])), self.loop.time())
            self.pump()
        else:
            self.data.put_nowait(data)

    def pump(self) -> None:
        for data, path in self.agent.drain_transmits():
            self.transport.sendto(data, tuple(path.remote))
        self.events += self.agent.drain_events()
        self.changed.set()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        at = self.agent.poll_timeout()
        if at is not None:
            self.timer = self.loop.call_at(at, self.timeout)

    def timeout(self) -> None:
        self.agent.handle_timeout(self.loop.time())
        self.pump()

    async def until(self, state: IceState) -> None:
        while self.agent.state is not state:
            self.changed.clear()
            await self.changed.wait()

    def close(self) -> None:
        self.agent.close(self.loop.time())
        self.pump()
        self.transport.close()


async def meet(agent: Agent, *, they_control: bool) -> float | None:
    """Connect, exchange data both ways, return the round-trip time that our side knows."""
    aioice = pytest.importorskip("aioice")
    loop = asyncio.get_running_loop()
    _, edge = await loop.create_datagram_endpoint(lambda: Edge(agent), local_addr=("127.0.0.1", 0))
    connection = aioice.Connection(ice_controlling=they_control)
    try:
        # Loopback is nothing that aioice gathers: give it a socket there.
        await _gather_on_loopback(connection)
        lite = isinstance(agent, LiteAgent)
        connection.remote_username = agent.credentials.ufrag
        connection.remote_password = agent.credentials.password
        connection.remote_is_lite = lite
        agent.add_local_candidate(Candidate.host_candidate(edge.address), loop.time())
        for ours in agent.local_candidates:
            line = ours.serialize().removeprefix("candidate:")
            await connection.add_remote_candidate(aioice.Candidate.from_sdp(line))
        await connection.add_remote_candidate(None)
        theirs = IceCredentials.parse(connection.local_username, connection.local_password)
        agent.set_remote_credentials(theirs, loop.time())
        for candidate in connection.local_candidates:
            agent.add_remote_candidate(Candidate.parse(candidate.to_sdp()), loop.time())
        agent.start(loop.time())
        edge.pump()
        await connection.connect()
        await edge.until(IceState.COMPLETED)
        assert [event.nominated for event in edge.events if isinstance(event, PathSelected)][-1]
        path = agent.selected_path
        assert path is not None
        await connection.send(b"\x80to us")
        assert await edge.data.get() == b"\x80to us"
        edge.transport.sendto(b"\x80to them", tuple(path.remote))
        assert await connection.recv() == b"\x80to them"
        return agent.round_trip_time
    finally:
        await connection.close()
        edge.close()


async def _gather_on_loopback(connection: Any) -> None:
    import aioice.ice

    original = aioice.ice.get_host_addresses
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    try:
        await connection.gather_candidates()
    finally:
        aioice.ice.get_host_addresses = original


@pytest.mark.parametrize("we_control", [True, False])
async def test_full_against_aioice(we_control: bool) -> None:
    agent = IceAgent(IceCredentials.generate(os.urandom), os.urandom, controlling=we_control)
    async with asyncio.timeout(20):
        round_trip_time = await meet(agent, they_control=not we_control)
    assert round_trip_time is not None
    assert 0 <= round_trip_time < 20


@pytest.mark.parametrize("controls", [True, False])
async def test_a_role_conflict_with_aioice(controls: bool) -> None:
    agent = IceAgent(IceCredentials.generate(os.urandom), os.urandom, controlling=controls)
    async with asyncio.timeout(20):
        await meet(agent, they_control=controls)


async def test_lite_against_aioice() -> None:
    agent = LiteAgent(IceCredentials.generate_for(os.urandom, 0, "node1"))
    async with asyncio.timeout(20):
        await meet(agent, they_control=True)
