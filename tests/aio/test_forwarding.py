"""One process in front: which worker gets a datagram, and what happens when a side is new, slow or gone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from stack.aio import forwarding
from stack.aio.forwarding import (
    BEGIN,
    BIND,
    DATAGRAM,
    MAX_ASKED_OF_ALL,
    RELEASE,
    ForwardedDriver,
    ForwardedRecord,
    Forwarding,
    PathKeys,
    RecordSocket,
    forwarding_pair,
    parse_records,
)
from stack.aio.udp import UdpSocket, UdpSockets
from stack.core.counters import Counters
from stack.core.errors import ParseError
from stack.core.machine import Address, Path
from stack.core.ufrag import new_transaction
from stack.ice import Ufrag
from stack.server import Endpoint, PathChange
from stack.stun import Message, MessageClass, Method, Priority, TransactionId, Username
from stack.voice.events import ConversationEvent
from tests.listening import until

pytestmark = pytest.mark.real_clock

HOST = "127.0.0.1"
RTP = b"\x80\x6f" + bytes(30)
DTLS = b"\x16\xfe\xfd" + bytes(30)


def check(worker: int) -> bytes:
    ufrag = Ufrag.generate(os.urandom, worker).serialize()
    attributes = (Username(f"{ufrag}:them"), Priority(1))
    return Message(MessageClass.REQUEST, Method.BINDING, TransactionId(os.urandom(12)), attributes).serialize()


class Worker:
    """A worker's end."""

    def __init__(self, end: socket.socket, keys: PathKeys) -> None:
        self.counters = Counters()
        self.socket = RecordSocket(end, self.counters)
        self.keys = keys
        self.got: list[ForwardedRecord] = []

    def say(self, kind: int, path: Path | None = None) -> None:
        self.socket.put_note(kind, b"" if path is None else self.keys.key(path))
        self.socket.flush()

    def take(self) -> list[ForwardedRecord]:
        self.got += self.socket.receive()
        return self.got

    def datagrams(self) -> list[tuple[bytes, Path]]:
        return [(each.data, self.keys.path(each.key)) for each in self.take() if each.kind == DATAGRAM]

    def kinds(self) -> list[int]:
        return [each.kind for each in self.take()]


class Front:
    """A forwarder with three workers, on this loop."""

    def __init__(self) -> None:
        self.udp = UdpSocket(HOST, 0)
        self.address = self.udp.address
        self.keys = PathKeys([self.address])
        pairs = [forwarding_pair() for _ in range(3)]
        self.ends = [end for end, _ in pairs]
        self.forwarding = self.make()
        self.workers = [Worker(end, self.keys) for _, end in pairs]

    def make(self) -> Forwarding:
        sockets = UdpSockets([UdpSocket.adopt(socket.socket(fileno=os.dup(self.udp.fileno())))])
        return Forwarding(sockets, [socket.socket(fileno=os.dup(end.fileno())) for end in self.ends])

    def replace(self) -> None:
        self.forwarding.close()
        self.forwarding = self.make()

    @property
    def counters(self) -> Counters:
        return self.forwarding.counters

    def close(self) -> None:
        self.forwarding.close()
        self.udp.close()
        for worker in self.workers:
            worker.socket.close()
        for end in self.ends:
            end.close()


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    made = Front()
    yield made
    made.close()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        yield sock


def path_of(front: Front, peer: socket.socket) -> Path:
    return Path(front.address, Address(*peer.getsockname()))


# -- records -----------------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written() -> None:
    records = [
        ForwardedRecord(DATAGRAM, b"key", b"data"),
        ForwardedRecord(BEGIN, b""),
        ForwardedRecord(BIND, b"k", b""),
    ]
    message = b"".join(each.serialize() for each in records)
    assert list(parse_records(memoryview(message))) == records


@pytest.mark.parametrize("cut", [1, 3, 5, 8])
def test_a_record_that_is_cut_off_is_refused(cut: int) -> None:
    message = ForwardedRecord(DATAGRAM, b"key", b"data").serialize()
    with pytest.raises(ParseError):
        list(parse_records(memoryview(message[:-cut])))


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::17"])
def test_a_path_is_read_from_its_key(host: str) -> None:
    keys = PathKeys([Address("198.51.100.1", 3478), Address("2001:db8::1", 3478)])
    path = Path(Address("2001:db8::1", 3478), Address(host, 50_000))
    assert keys.path(keys.key(path)) == path


@pytest.mark.parametrize("key", [b"", b"\x00\x01", b"\x02\x00\x01192.0.2.1", b"\x00\x00\x01\xff\xff"])
def test_what_is_no_key_of_a_path_is_refused(key: bytes) -> None:
    with pytest.raises(ParseError):
        PathKeys([Address(HOST, 1), Address(HOST, 2)]).path(key)


# -- which worker ------------------------------------------------------------------------------------------


async def test_a_check_goes_to_the_worker_that_it_names(front: Front, peer: socket.socket) -> None:
    path = path_of(front, peer)
    sent = [check(worker) for worker in (0, 1, 2)]
    for data in sent:
        peer.sendto(data, front.address)
    for worker, data in zip(front.workers, sent, strict=True):
        await until(worker.datagrams)
        assert worker.datagrams() == [(data, path)]


async def test_a_response_goes_to_the_worker_that_has_asked(front: Front, peer: socket.socket) -> None:
    ufrag = Ufrag.generate(os.urandom, 2).serialize()
    asked = Message(MessageClass.REQUEST, Method.BINDING, TransactionId(new_transaction(os.urandom, ufrag)))
    answer = asked.respond(MessageClass.SUCCESS_RESPONSE).serialize()
    peer.sendto(answer, front.address)
    await until(front.workers[2].datagrams)
    assert front.workers[2].datagrams()[0][0] == answer
    assert not front.workers[0].datagrams() + front.workers[1].datagrams()


async def test_all_else_goes_to_the_worker_that_has_bound_the_path(front: Front, peer: socket.socket) -> None:
    path = path_of(front, peer)
    front.workers[1].say(BIND, path)
    sent = [
        RTP,
        DTLS,
        b"\x00",
        Message(MessageClass.INDICATION, Method.BINDING, TransactionId(bytes(12))).serialize(),
    ]
    for data in sent:
        peer.sendto(data, front.address)  # at once: the note is read first, whichever socket is
    await until(lambda: len(front.workers[1].datagrams()) == len(sent))
    assert front.workers[1].datagrams() == [(data, path) for data in sent]
    front.workers[1].say(RELEASE, path)
    peer.sendto(DTLS, front.address)
    await until(lambda: front.counters[forwarding.DROPPED_UNKNOWN_PATH] == 1)


async def test_what_belongs_to_no_worker_is_dropped_and_counted(front: Front, peer: socket.socket) -> None:
    strays = [DTLS, b"", b"\x00", b"\x80short"]
    for data in strays:
        peer.sendto(data, front.address)
    await until(lambda: front.counters[forwarding.DROPPED_UNKNOWN_PATH] == len(strays))
    assert not any(worker.datagrams() for worker in front.workers)


async def test_a_client_that_has_moved_is_shown_to_all_within_bounds(front: Front, peer: socket.socket) -> None:
    for _ in range(MAX_ASKED_OF_ALL + 30):
        peer.sendto(RTP, front.address)
    counters = front.counters
    await until(lambda: counters[forwarding.DROPPED_UNKNOWN_PATH] + counters[forwarding.ASKED_ALL] >= 230)
    for worker in front.workers:
        await until(lambda: len(worker.datagrams()) >= counters[forwarding.ASKED_ALL])  # noqa: B023
        assert len(worker.datagrams()) == counters[forwarding.ASKED_ALL]
    assert counters[forwarding.DROPPED_UNKNOWN_PATH] > 0


async def test_a_path_belongs_to_the_latest_that_has_proven_it(front: Front, peer: socket.socket) -> None:
    path = path_of(front, peer)
    front.workers[0].say(BIND, path)
    front.workers[1].say(BIND, path)
    await until(lambda: RELEASE in front.workers[0].kinds())
    front.workers[0].say(RELEASE, path)  # its session has lost it: that of the other has it still
    peer.sendto(RTP, front.address)
    await until(front.workers[1].datagrams)
    assert front.counters[forwarding.MOVED_PATH] == 1
    assert not front.workers[0].datagrams()


# -- a side that is new, slow or gone ----------------------------------------------------------------------


async def test_paths_of_a_worker_that_was_replaced_are_forgotten(front: Front, peer: socket.socket) -> None:
    path = path_of(front, peer)
    front.workers[0].say(BIND, path)
    peer.sendto(RTP, front.address)
    await until(front.workers[0].datagrams)
    front.workers[0].say(BEGIN)
    peer.sendto(DTLS, front.address)
    await until(lambda: front.counters[forwarding.DROPPED_UNKNOWN_PATH] == 1)


async def test_a_new_forwarder_asks_for_the_paths(front: Front, peer: socket.socket) -> None:
    worker = front.workers[0]
    await until(lambda: BEGIN in worker.kinds())
    worker.got.clear()
    front.replace()
    await until(lambda: BEGIN in worker.kinds())
    worker.say(BIND, path_of(front, peer))
    peer.sendto(RTP, front.address)
    await until(worker.datagrams)


async def test_what_a_slow_worker_does_not_take_is_dropped_the_oldest_first(
    front: Front, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding, "MAX_WAITING", 20)
    slow, other = front.workers[0], front.workers[1]
    slow.say(BIND, path_of(front, peer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
        second.bind((HOST, 0))
        other.say(BIND, path_of(front, second))
        sent = 0
        while not front.counters[forwarding.DROPPED_LATE]:  # how much the kernel keeps is a setting of it
            peer.sendto(RTP + sent.to_bytes(4, "big"), front.address)
            sent += 1
            await asyncio.sleep(0)
        second.sendto(RTP, front.address)  # the other worker has its own
        await until(other.datagrams)
    await until(lambda: len(slow.datagrams()) + front.counters[forwarding.DROPPED_LATE] == sent)
    assert slow.datagrams()[-1][0] == RTP + (sent - 1).to_bytes(4, "big")


async def test_the_forwarder_sees_when_all_workers_are_gone(front: Front) -> None:
    for worker in front.workers:
        for _ in range(2):  # one that is gone stays gone, however often it is looked for
            assert front.forwarding.has_workers
        worker.socket.close()
    assert not front.forwarding.has_workers
    assert not front.forwarding.has_workers


async def test_a_full_socket_is_tried_again_and_notes_go_first() -> None:
    one, other = forwarding_pair()
    counters = Counters()
    sender, receiver = RecordSocket(one, counters), RecordSocket(other, counters)
    big = ForwardedRecord(DATAGRAM, b"key", bytes(60_000)).serialize()
    for _ in range(50):
        sender.put_datagram(big)
        sender.flush()
    assert sender.waiting
    sender.put_note(BIND, b"note")
    got: list[ForwardedRecord] = []

    def all_there() -> bool:
        got.extend(receiver.receive())
        return len(got) == 51

    await until(all_there)
    assert not sender.waiting
    assert [each.kind for each in got].index(BIND) < 50
    sender.close()
    receiver.close()


# -- the driver of a worker --------------------------------------------------------------------------------


async def test_a_driver_says_which_paths_it_has_and_takes_what_comes() -> None:
    udp = UdpSocket(HOST, 0)
    ours, theirs = forwarding_pair()
    keys = PathKeys([udp.address])
    front = Worker(ours, keys)
    seen: list[tuple[bytes, Path]] = []

    class Seen(Endpoint[ConversationEvent]):
        def handle_datagrams(self, batch: object, now: float) -> None:
            seen.extend(batch)  # type: ignore[call-overload]

    endpoint: Endpoint[ConversationEvent] = Seen(reports_paths=True)
    driver = ForwardedDriver(endpoint, UdpSockets([udp]), lambda events: None, None, end=theirs)
    try:
        path = Path(udp.address, Address(HOST, 5000))
        driver._follow([PathChange(path, True), PathChange(Path(udp.address, Address(HOST, 5001)), True)])
        driver._follow([PathChange(Path(udp.address, Address(HOST, 5001)), False)])
        assert front.kinds() == [BEGIN, BIND, BIND, RELEASE]
        front.got.clear()
        front.say(BEGIN)  # as a new forwarder does
        await until(lambda: len(front.kinds()) == 2)
        assert front.kinds() == [BEGIN, BIND]
        assert keys.path(front.got[1].key) == path
        front.socket.put_datagram(ForwardedRecord(DATAGRAM, keys.key(path), RTP).serialize())
        front.socket.flush()
        await until(lambda: seen)
        assert seen == [(RTP, path)]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"straight to the port", udp.address)
            front.say(9)  # no kind of record: a bug, which is survived
            await until(lambda: driver.counters["driver.fault_receive"] == 1)
        assert seen == [(RTP, path)]  # the sockets are the forwarder's
    finally:
        driver.close()
        front.socket.close()
