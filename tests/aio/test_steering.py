"""One UDP port for several workers: whom the kernel gives a datagram to, before and after a path is connected."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator

import pytest

from stack.aio.forwarding import forwarding_pair
from stack.aio.steering import (
    MAX_SHOWN,
    CannotSteer,
    ConnectedSocket,
    SteeredDriver,
    SteeredSockets,
    bind_group,
    can_share_a_port,
    steering_program,
)
from stack.aio.udp import UdpSocket, UdpSockets, bind_all
from stack.core.errors import LocalError
from stack.core.machine import Address, Path
from stack.core.ufrag import WORKER_DIGITS, new_transaction
from stack.ice import MAX_WORKERS, Ufrag
from stack.server import Endpoint
from stack.stun import (
    Attribute,
    Message,
    MessageClass,
    Method,
    Priority,
    Software,
    TransactionId,
    Username,
)
from stack.voice.events import ConversationEvent
from tests.listening import until
from tests.server.test_endpoint import Recorder
from tests.sim.entropy import entropy

pytestmark = pytest.mark.skipif(not can_share_a_port(), reason="several workers on one port need Linux")

HOST = "127.0.0.1"


def check(ufrag: str, *before: Attribute) -> bytes:
    attributes = (*before, Username(f"{ufrag}:them"), Priority(1))
    return Message(MessageClass.REQUEST, Method.BINDING, TransactionId(os.urandom(12)), attributes).serialize()


@pytest.fixture
def stranger() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        yield sock


@pytest.fixture
def group() -> Iterator[list[UdpSockets]]:
    made = bind_group([HOST], 0, 3)
    yield made
    for each in made:
        each.close()


def taken(group: list[UdpSockets]) -> list[list[bytes]]:
    return [[data for udp in sockets for data, _ in udp.receive()] for sockets in group]


def test_a_check_reaches_the_worker_that_it_names(group: list[UdpSockets], stranger: socket.socket) -> None:
    (address,) = {each.addresses[0] for each in group}
    random_bytes = entropy(5)
    for _ in range(20):  # more often than the kernel's hash would be right by chance
        sent = [check(Ufrag.generate(random_bytes, worker, "node").serialize()) for worker in range(3)]
        for data in sent:
            stranger.sendto(data, address)
        assert taken(group) == [[data] for data in sent]


def test_a_response_reaches_the_worker_that_has_asked(group: list[UdpSockets], stranger: socket.socket) -> None:
    for _ in range(20):
        for worker in range(3):
            ufrag = Ufrag.generate(os.urandom, worker).serialize()
            asked = Message(
                MessageClass.REQUEST, Method.BINDING, TransactionId(new_transaction(os.urandom, ufrag))
            )
            for kind in (MessageClass.SUCCESS_RESPONSE, MessageClass.ERROR_RESPONSE):
                stranger.sendto(asked.respond(kind).serialize(), group[0].addresses[0])
            assert [len(each) for each in taken(group)] == [2 * int(each == worker) for each in range(3)]


@pytest.mark.parametrize("amount", [1, 2, 3])
def test_other_attributes_may_stand_in_front(
    amount: int, group: list[UdpSockets], stranger: socket.socket
) -> None:
    before = (Software("x" * 21), Priority(7), Software("yz"))[:amount]
    for worker in range(3):
        stranger.sendto(check(Ufrag.generate(entropy(1), worker).serialize(), *before), group[0].addresses[0])
        assert [len(each) for each in taken(group)] == [int(each == worker) for each in range(3)]


def test_what_names_no_worker_reaches_one_of_them_and_no_call(
    group: list[UdpSockets], stranger: socket.socket
) -> None:
    address = group[0].addresses[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as friend:
        friend.bind((HOST, 0))
        connected = ConnectedSocket(Path(address, Address(*friend.getsockname())))
        try:
            strays = [check(digit + "+000000000000") for digit in "9zA~"] + [b"\x80media", b"\x16dtls", b"\x00"]
            for data in strays:
                stranger.sendto(data, address)
            assert connected.receive() == []
            assert sum(map(len, taken(group))) == len(strays)
        finally:
            connected.close()


def test_what_comes_from_a_connected_path_comes_there_alone(
    group: list[UdpSockets], stranger: socket.socket
) -> None:
    address = group[0].addresses[0]
    path = Path(address, Address(*stranger.getsockname()))
    sockets = SteeredSockets(list(group[1]))
    made = sockets.connect(path)
    assert made is not None
    assert sockets.connect(path) is None
    sent = [b"\x80media%d" % number for number in range(10)] + [check("0+000000000000")]
    for data in sent:
        stranger.sendto(data, address)
    assert made.receive() == [(data, path) for data in sent]
    assert taken(group) == [[], [], []]
    sockets.send([(b"answer", path), (b"elsewhere", path._replace(remote=Address(HOST, 9)))])  # type: ignore[list-item]
    assert stranger.recvfrom(100) == (b"answer", tuple(address))
    gone = sockets.disconnect(path)
    assert gone is made
    gone.close()
    stranger.sendto(check("2+000000000000"), address)
    assert [len(each) for each in taken(group)] == [0, 0, 1]


def test_a_port_of_another_server_is_not_shared(group: list[UdpSockets]) -> None:
    port = group[0].addresses[0].port
    for workers in (1, 2):
        with pytest.raises(LocalError, match="cannot bind"):
            bind_group([HOST], port, workers)
    alone = bind_all([HOST], 0)
    with pytest.raises(LocalError, match="cannot bind"):
        bind_group([HOST], alone.addresses[0].port, 2)
    alone.close()


@pytest.mark.parametrize("workers", [0, MAX_WORKERS + 1])
def test_the_number_of_workers_has_bounds(workers: int) -> None:
    with pytest.raises(LocalError, match="workers"):
        bind_group([HOST], 0, workers)


def test_a_kernel_without_steering_does_for_one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(udp: UdpSocket, option: int, value: bytes) -> None:
        raise OSError(errno.ENOPROTOOPT, "no such option")

    monkeypatch.setattr(UdpSocket, "set_option", refuse)
    (alone,) = bind_group([HOST], 0, 1)
    (udp,) = alone
    assert not udp.is_shared
    alone.close()
    with pytest.raises(CannotSteer, match="ENOPROTOOPT"):
        bind_group([HOST], 0, 2)


def test_a_path_without_a_socket_is_counted() -> None:
    (sockets,) = bind_group([HOST], 0, 1)
    steered = SteeredSockets(list(sockets))
    assert steered.connect(Path(Address(HOST, 1), Address("no address", 1))) is None
    assert steered.counters["worker.failed_connect"] == 1
    steered.close()


def test_every_digit_has_its_place() -> None:
    made = bind_group([HOST], 0, MAX_WORKERS)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for digit in WORKER_DIGITS:
                sender.sendto(check(f"{digit}+000000000000"), made[0].addresses[0])
        assert [len(each) for each in taken(made)] == [1] * MAX_WORKERS
    finally:
        for each in made:
            each.close()
    assert len(steering_program(2)) % 8 == 0


@pytest.mark.parametrize("workers", [2, 3])
def test_a_digit_counts_modulo_the_workers(workers: int) -> None:
    """A ticket of a server that had more workers has one here, the same for the kernel and for all others."""
    made = bind_group([HOST], 0, workers)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number, digit in enumerate(WORKER_DIGITS):
                sender.sendto(check(f"{digit}+000000000000"), made[0].addresses[0])
                assert [len(each) for each in taken(made)] == [
                    int(each == number % workers) for each in range(workers)
                ]
    finally:
        for each in made:
            each.close()


def test_the_socket_of_a_path_gives_one_datagram_and_all_when_there_are_more(
    group: list[UdpSockets], stranger: socket.socket
) -> None:
    address = group[0].addresses[0]
    path = Path(address, Address(*stranger.getsockname()))
    made = ConnectedSocket(path)
    try:
        for number in range(5):
            stranger.sendto(b"\x80%d" % number, address)
        assert made.receive_in(7) == [(b"\x800", path)]
        assert made.receive_in(8) == [(b"\x80%d" % number, path) for number in range(1, 5)]  # there was more
        assert made.receive_in(20) == []
        stranger.sendto(b"\x80a", address)
        stranger.sendto(b"\x80b", address)
        assert made.receive_in(30) == [(b"\x80a", path)]
    finally:
        made.close()


async def test_a_client_that_has_moved_is_shown_to_the_worker_that_has_its_call() -> None:
    """SRTP from an unknown path reaches the session that knows its SSRC, whichever worker the kernel gives it."""
    group = bind_group([HOST], 0, 2)
    (address,) = {each.addresses[0] for each in group}
    pairs = [forwarding_pair() for _ in group]
    drivers, endpoints = [], []
    for number, sockets in enumerate(group):
        endpoint: Endpoint[ConversationEvent] = Endpoint(reports_paths=True, keeps_strays=True)
        endpoints.append(endpoint)
        drivers.append(
            SteeredDriver(
                endpoint,
                SteeredSockets(list(sockets)),
                lambda events: None,
                None,
                number=number,
                workers=2,
                pass_on=lambda worker, data, path: None,
                on_path_taken=lambda path: None,
                others=[pairs[1 - number][1].dup()],
                shown=pairs[number][0].dup(),
            )
        )
    machine = Recorder("call")
    machine.ssrcs = (0x01020304,)
    ufrag = Ufrag.generate(os.urandom, 0).serialize()
    endpoints[0].add("call", machine, ufrag)  # type: ignore[arg-type]
    media = b"\x80\x6f\x00\x01" + bytes(4) + b"\x01\x02\x03\x04" + bytes(20)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first:
        first.sendto(check(ufrag), address)
        await until(lambda: len(machine.received) == 1)
        movers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(16)]
        for mover in movers:
            mover.sendto(media, address)
        await until(lambda: machine.received.count(media) == len(movers))
        counted = [driver.counters for driver in drivers]
        assert counted[0]["worker.shown"] == 0  # the one that has the call asks no other
        assert counted[1]["worker.shown"] == counted[0]["worker.tried_shown"] > 0
        for _ in range(MAX_SHOWN + 50):  # a flood from one of those whom the other worker hears
            for mover in movers:
                mover.sendto(bytes([0x80]) + bytes(30), address)
            await asyncio.sleep(0)
        await until(lambda: counted[1]["worker.dropped_unshown"] > 0)
        assert counted[1]["worker.shown"] <= 2 * MAX_SHOWN
        for mover in movers:
            mover.close()
    for driver in drivers:
        driver.close()
    for end in (end for pair in pairs for end in pair):
        end.close()
