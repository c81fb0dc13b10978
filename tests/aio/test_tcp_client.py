"""Connections that a client makes: to a passive peer and to a TURN server, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from stack.aio import tcp_client
from stack.aio.tcp_client import (
    DROPPED_STREAM_CLOSED,
    DROPPED_STREAM_FULL,
    MAX_WAITING,
    STREAM_FAILED,
    STREAM_LOST,
    ClientConnections,
)
from stack.core.machine import Address, Path, TransportProtocol
from stack.ice.candidate import ACTIVE_PORT
from stack.ice.framing import StreamFramer, frame
from stack.ice.servers import IceServer
from tests.listening import until

HOST = "127.0.0.1"
TURN = IceServer(HOST, 1, TransportProtocol.TCP, False, True, "u", "p")


@dataclass
class Peer:
    """Accepts connections, and keeps what comes."""

    port: int = 0
    received: bytes = b""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while data := await reader.read(4096):
            self.received += data


@asynccontextmanager
async def listening() -> AsyncIterator[Peer]:
    peer = Peer()
    server = await asyncio.start_server(peer.accept, HOST, 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for writer in peer.writers:
            writer.close()


@dataclass
class Client:
    """Connections, and what they have told."""

    find: Callable[[Path], IceServer | None] = lambda path: None
    taken: list[tuple[bytes, Path]] = field(default_factory=list)
    lost: list[Path] = field(default_factory=list)
    connections: ClientConnections = field(init=False)

    def __post_init__(self) -> None:
        self.connections = ClientConnections(self.take, lambda path, _: self.lost.append(path), self.find)

    def take(self, batch: Sequence[tuple[bytes, Path]]) -> None:
        self.taken += batch


def path_to(port: int) -> Path:
    return Path(Address(HOST, ACTIVE_PORT), Address(HOST, port), TransportProtocol.TCP)


async def test_datagrams_to_a_peer_are_framed_and_its_frames_are_datagrams() -> None:
    async with asyncio.timeout(10), listening() as peer:
        client, path = Client(), path_to(peer.port)
        client.connections.send(b"first", path)
        client.connections.send(b"second", path)
        await until(lambda: len(peer.received) == 15)
        assert StreamFramer().feed(peer.received) == [b"first", b"second"]
        peer.writers[0].write(frame(b"re") + frame(b"again"))
        await until(lambda: len(client.taken) == 2)
        assert client.taken == [(b"re", path), (b"again", path)]
        client.connections.close()


async def test_messages_to_a_turn_server_go_as_they_are() -> None:
    message = b"\x40\x00\x00\x02hi\0\0"
    async with asyncio.timeout(10), listening() as peer:
        client, path = Client(lambda path: TURN), path_to(peer.port)
        client.connections.send(message, path)
        await until(lambda: len(peer.received) == len(message))
        assert peer.received == message
        peer.writers[0].write(message[:3])
        peer.writers[0].write(message[3:])
        await until(lambda: bool(client.taken))
        assert client.taken == [(message, path)]
        client.connections.close()


async def test_a_connection_that_is_refused_is_told_and_not_tried_again_at_once() -> None:
    async with listening() as peer:
        path = path_to(peer.port)
    async with asyncio.timeout(10):
        client = Client()
        client.connections.send(b"x", path)
        await until(lambda: client.lost == [path])
        client.connections.send(b"x", path)
    assert client.connections.counters[STREAM_FAILED] == 1
    assert client.connections.counters[DROPPED_STREAM_CLOSED] == 1


async def test_a_connection_that_ends_is_told() -> None:
    async with asyncio.timeout(10), listening() as peer:
        client, path = Client(), path_to(peer.port)
        client.connections.send(b"x", path)
        await until(lambda: bool(peer.received))
        peer.writers[0].close()
        await until(lambda: client.lost == [path])
        assert client.connections.counters[STREAM_LOST] == 1


async def test_a_connection_that_had_lasted_is_made_again_by_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_client, "STEADY", 0.0)
    check = b"\x00\x01" + bytes(18)
    async with asyncio.timeout(10), listening() as peer:
        client, path = Client(), path_to(peer.port)
        client.connections.send(b"media", path)
        await until(lambda: bool(peer.received))
        peer.writers[0].close()
        await until(lambda: client.lost == [path])
        peer.received = b""
        client.connections.send(b"late", path)  # the peer would not know whose it is
        client.connections.send(check, path)
        client.connections.send(b"more", path)
        await until(lambda: len(peer.received) == 2 + 20 + 2 + 4)
        assert StreamFramer().feed(peer.received) == [check, b"more"]
        assert client.connections.counters[DROPPED_STREAM_CLOSED] == 1
        client.connections.close()


async def test_one_that_ends_at_once_is_not_made_again_at_once() -> None:
    async with asyncio.timeout(10), listening() as peer:
        client, path = Client(), path_to(peer.port)
        for number in range(3):
            client.connections.send(b"\x00\x01" + bytes(18), path)
            if number == 0:
                await until(lambda: bool(peer.received))
                peer.writers[0].close()
                await until(lambda: client.lost == [path])
        assert client.connections.counters[DROPPED_STREAM_CLOSED] == 2
        assert len(peer.writers) == 1
        client.connections.close()


async def test_a_stream_that_cannot_be_read_is_closed() -> None:
    async with asyncio.timeout(10), listening() as peer:
        client, path = Client(lambda path: TURN), path_to(peer.port)
        client.connections.send(b"\x40\0\0\0", path)
        await until(lambda: bool(peer.writers))
        peer.writers[0].write(b"\x16\x03\x01\x00")
        await until(lambda: client.lost == [path])
        assert client.taken == []


async def test_few_datagrams_wait_for_a_connection() -> None:
    async with asyncio.timeout(10), listening() as peer:
        client, path = Client(), path_to(peer.port)
        for number in range(MAX_WAITING + 3):
            client.connections.send(b"%02d" % number, path)
        assert client.connections.counters[DROPPED_STREAM_FULL] == 3
        await until(lambda: len(peer.received) == 4 * MAX_WAITING)
        client.connections.close()


async def test_the_connections_of_others_are_not_made() -> None:
    client = Client()
    client.connections.send(b"x", Path(Address(HOST, 5000), Address(HOST, 1), TransportProtocol.TCP))
    assert client.connections.counters[DROPPED_STREAM_CLOSED] == 1


@pytest.mark.parametrize("size", [0, 65536])
async def test_what_no_frame_carries_is_counted(size: int) -> None:
    async with listening() as peer:
        client = Client()
        client.connections.send(bytes(size), path_to(peer.port))
        assert client.connections.counters[DROPPED_STREAM_FULL] == 1
        client.connections.close()
