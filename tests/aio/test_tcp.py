"""The TCP port and its connections: what is taken for ICE, what waits, what is dropped, and the bounds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from stack.aio import tcp_connections, tcp_listener
from stack.aio.tcp_connections import MAX_FRAME, MAX_MEDIA_AGE, MAX_WAITING, TcpConnection, TcpConnections
from stack.aio.tcp_listener import TcpListener, listen_all
from stack.core.errors import LocalError
from stack.core.machine import Address, Path, Transmit, TransportProtocol
from stack.ice.framing import StreamFramer, frame
from stack.stun import Message, MessageClass, Method, TransactionId, Username
from tests.listening import until

HOST = "127.0.0.1"
MEDIA = b"\x80\x6f" + b"m" * 98
RTCP = b"\x80\xc8" + b"r" * 98
RECORD = b"\x17\xfe\xfd" + b"d" * 1000


def check(username: str = "1node+000000000000:them") -> bytes:
    attributes = (Username(username),)
    return Message(MessageClass.REQUEST, Method.BINDING, TransactionId(bytes(12)), attributes).serialize()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours and the client's end of a connection."""
    with socket.create_server((HOST, 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    yield ours, client
    ours.close()
    client.close()


def read(client: socket.socket, framer: StreamFramer | None = None) -> list[bytes]:
    """What has arrived at the client by now."""
    framer, datagrams = framer or StreamFramer(), []
    client.setblocking(False)
    while True:
        try:
            data = client.recv(1 << 20)
        except BlockingIOError:
            return datagrams
        if not data:
            return datagrams
        datagrams += framer.feed(data)


def fill(connection: TcpConnection, now: float = 0.0) -> int:
    """Send until the network takes no more; return how many datagrams have left whole or in part."""
    for number in range(100_000):
        if connection.waiting:
            return number
        connection.send(RECORD, now)
    raise AssertionError("the network takes everything")


# --- a connection ---


def test_frames_in_and_out(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, client = pair
    connection = TcpConnection(ours, frame(b"begun") + frame(b"whole")[:4])
    assert connection.path == Path(
        Address(*ours.getsockname()), Address(*client.getsockname()), TransportProtocol.TCP
    )
    assert connection.receive() == [(b"begun", connection.path)]
    client.sendall(frame(b"whole")[4:] + frame(b"more"))
    assert [data for data, _ in connection.receive()] == [b"whole", b"more"]
    connection.send(b"answer", 0.0)
    assert read(client) == [b"answer"]
    client.close()
    assert connection.receive() == []
    assert connection.is_broken
    assert connection.counters["tcp.closed_by_peer"] == 1


def test_a_frame_that_is_too_long_ends_it(pair: tuple[socket.socket, socket.socket]) -> None:
    connection = TcpConnection(pair[0], (MAX_FRAME + 1).to_bytes(2, "big"))
    assert connection.receive() == []
    assert connection.is_broken
    assert connection.counters["tcp.closed_malformed"] == 1


def test_sound_that_is_late_is_dropped_and_all_else_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    connection = TcpConnection(pair[0])
    left = fill(connection)
    for number in range(50):  # a second of sound, with a report each 100 ms
        connection.send(MEDIA, number * 0.02)
        if number % 5 == 0:
            connection.send(RTCP, number * 0.02)
    client, framer, arrived = pair[1], StreamFramer(), []
    for _ in range(10_000):
        arrived += read(client, framer)
        if not connection.waiting:
            break
        connection.flush(0.99)
    assert connection.waiting == 0
    assert [data for data in arrived if data[0] == 0x17] == [RECORD] * left
    assert arrived.count(RTCP) == 10
    assert arrived.count(MEDIA) == 10  # of the last 200 ms
    assert connection.counters["tcp.dropped_stale_media"] == 40


def test_what_waits_is_bounded_and_sound_makes_room(pair: tuple[socket.socket, socket.socket]) -> None:
    connection = TcpConnection(pair[0])
    fill(connection)
    for _ in range(2 * MAX_WAITING // len(MEDIA)):
        connection.send(MEDIA, 0.0)
    assert connection._size <= MAX_WAITING
    for _ in range(MAX_WAITING // len(RECORD) + 10):
        connection.send(RECORD, 0.0)
    assert connection._size <= MAX_WAITING
    assert not any(waiting.is_media for waiting in connection._waiting)
    assert connection.counters["tcp.dropped_no_room"] > 0


def test_the_kernel_is_given_little_ahead(pair: tuple[socket.socket, socket.socket]) -> None:
    """What it had taken and not sent could not be dropped any more."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
    TcpConnection(pair[0])
    assert pair[0].getsockopt(socket.IPPROTO_TCP, option) == tcp_connections.NOT_SENT
    assert MAX_MEDIA_AGE < 1.0


# --- the connections of a loop ---


async def test_connections_are_paths_and_unbound_ones_close(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, client = pair
    taken: list[tuple[bytes, Path]] = []
    connections = TcpConnections(taken.extend)
    connections.adopt(ours, frame(b"first"))
    ((data, path),) = taken
    assert data == b"first"
    udp = path._replace(protocol=TransportProtocol.UDP)
    gone = path._replace(remote=Address(HOST, 9))
    rest = connections.send([Transmit(b"a", path), Transmit(b"b", udp), Transmit(b"c", gone)])
    assert rest == [Transmit(b"b", udp)]
    assert read(client) == [b"a"]
    connections.note_path(path, True)
    client.sendall(frame(b"second"))
    await until(lambda: len(taken) == 2)
    connections.note_path(path, False)
    assert len(connections) == 0
    client.setblocking(True)
    assert client.recv(1) == b""
    assert connections.all_counters()["tcp.dropped_no_connection"] == 1


async def test_what_proves_no_path_is_closed(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_connections, "PROOF_PATIENCE", 0.02)
    connections = TcpConnections(lambda _: None)
    connections.adopt(pair[0], frame(check()))
    await until(lambda: len(connections) == 0)
    assert connections.all_counters()["tcp.closed_unproven"] == 1


async def test_the_oldest_unproven_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_connections, "MAX_UNPROVEN", 2)
    monkeypatch.setattr(tcp_connections, "MAX_CONNECTIONS", 3)
    connections = TcpConnections(lambda _: None)
    with socket.create_server((HOST, 0)) as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
        ours = [listener.accept()[0] for _ in clients]
    for sock in ours[:3]:
        connections.adopt(sock, b"")
    assert [sock.fileno() < 0 for sock in ours[:3]] == [True, False, False]
    connections.note_path(tcp_connections.path_of(ours[1]), True)
    connections.adopt(ours[3], b"")
    connections.adopt(ours[4], b"")
    assert len(connections) == 3
    assert ours[4].fileno() < 0
    assert connections.all_counters()["tcp.closed_too_many"] == 1
    connections.close()
    assert len(connections) == 0
    for client in clients:
        client.close()


# --- the port ---


class Port:
    """A listener, and what it has decided."""

    def __init__(self, *, http: bool, workers: int = 2) -> None:
        self.ice: list[tuple[bytes, int]] = []
        self.http: list[bytes] = []
        self.kept: list[socket.socket] = []
        self.workers = workers
        self.listener = TcpListener(listen_all([HOST], 0), self.on_ice, self.on_http if http else None)

    def on_ice(self, sock: socket.socket, begun: bytes, worker: int) -> bool:
        if worker >= self.workers:
            return False
        self.ice.append((begun, worker))
        self.kept.append(sock)
        return True

    def on_http(self, sock: socket.socket) -> None:
        try:
            self.http.append(sock.recv(1000))
        except BlockingIOError:
            self.http.append(b"")
        self.kept.append(sock)

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.listener.addresses[0])
        self.kept.append(client)
        return client

    def close(self) -> None:
        self.listener.close()
        for sock in self.kept:
            sock.close()


async def test_one_byte_tells_ice_from_http_and_tls() -> None:
    port = Port(http=True)
    begins = [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0", frame(check())]
    for data in begins:
        port.connect().sendall(data)
    await until(lambda: len(port.http) == 3 and port.ice)
    assert port.http == begins[:3]  # whole: nothing was read of them
    assert port.ice == [(begins[3], 1)]
    port.close()


async def test_a_check_may_come_in_pieces_and_what_follows_it_goes_along() -> None:
    port = Port(http=False)
    client, whole = port.connect(), frame(check())
    for place in range(len(whole)):
        client.sendall(whole[place : place + 1])
        await asyncio.sleep(0)
    await until(lambda: port.ice)
    begun, worker = port.ice[0]
    assert worker == 1
    assert begun == whole
    port.close()


@pytest.mark.parametrize(
    "begins",
    [frame(check("~no worker:them")), frame(check("9+000000000000:them")), frame(b"\x00\x01\x00\x00" + b"x" * 20),
     b"\x00\x13" + b"x" * 19, frame(check())[:2] + b"\x00\x01\x00\x00\x21\x12\xa4\x43", b"GET /"],
)  # fmt: skip
async def test_what_names_no_call_is_closed(begins: bytes) -> None:
    port = Port(http=False)
    client = port.connect()
    client.setblocking(False)
    client.sendall(begins)
    data = await asyncio.wait_for(_rest(client), 5)
    assert data == b""
    assert port.ice == []
    assert sum(port.listener.counters.snapshot().values()) == 1
    port.close()


async def _rest(client: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(client, 100)
    except ConnectionResetError:
        return b""


async def test_what_shows_nothing_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_listener, "MAX_UNDECIDED", 3)
    port = Port(http=True)
    clients = [port.connect() for _ in range(2)]
    clients[0].sendall(b"\x00")  # it may be ICE, and not HTTP any more
    await until(lambda: len(port.listener._undecided) == 2)
    clients += [port.connect() for _ in range(3)]
    await until(lambda: port.http)
    assert len(port.listener._undecided) == 3
    assert port.http == [b""]  # the second oldest: HTTP waits for it
    assert port.listener.counters["tcp.refused_slow"] == 1
    port.close()


async def test_what_shows_nothing_in_time_is_left_to_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_listener, "FIRST_FRAME_PATIENCE", 0.02)
    port = Port(http=True)
    port.connect()
    port.connect().sendall(b"\x00")
    await until(lambda: port.http and not port.listener._undecided)
    assert port.listener.counters["tcp.refused_slow"] == 1
    port.close()


def test_a_port_that_cannot_be_had() -> None:
    with socket.create_server((HOST, 0)) as taken, pytest.raises(LocalError, match="--tcp-port"):
        listen_all([HOST], taken.getsockname()[1])
