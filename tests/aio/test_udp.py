"""The sockets, on loopback."""

from __future__ import annotations

import socket

import pytest

from stack.aio.udp import MAX_BATCH, bind_all, local_addresses
from stack.core.errors import LocalError
from stack.core.machine import Address, Path, Transmit


def readable(udp, count: int):
    """Datagrams on loopback are there at once, but let a slow kernel have a moment: wait on the descriptor."""
    import select

    batch = []
    while len(batch) < count:
        ready, _, _ = select.select([udp], [], [], 5)
        assert ready, f"{len(batch)} of {count} datagrams arrived"
        batch += udp.receive()
    return batch


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_datagram_is_answered_from_the_address_that_it_was_sent_to(host: str) -> None:
    try:
        sockets = bind_all([host], 0)
    except LocalError:
        pytest.skip(f"{host} is not there")
    (udp,) = sockets
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.settimeout(5)
        peer.bind((host, 0))
        peer.sendto(b"question", (udp.address.host, udp.address.port))
        ((data, path),) = readable(udp, 1)
        assert (data, path) == (b"question", Path(udp.address, Address(*peer.getsockname()[:2])))
        sockets.send([Transmit(b"answer", path)])
        answer, source = peer.recvfrom(100)
        assert (answer, source[:2]) == (b"answer", tuple(udp.address))
    sockets.close()


def test_a_burst_is_taken_in_bounded_batches_and_nothing_is_lost() -> None:
    sockets = bind_all(["127.0.0.1"], 0)
    (udp,) = sockets
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for index in range(MAX_BATCH + 50):
            peer.sendto(index.to_bytes(2, "big"), tuple(udp.address))
        first = udp.receive()
        assert len(first) <= MAX_BATCH
        rest = readable(udp, MAX_BATCH + 50 - len(first))
    assert [int.from_bytes(data, "big") for data, _ in first + rest] == list(range(MAX_BATCH + 50))
    sockets.close()


def test_a_port_in_use_is_one_clear_line() -> None:
    sockets = bind_all(["127.0.0.1"], 0)
    (udp,) = sockets
    with pytest.raises(LocalError, match=f"cannot bind UDP 127.0.0.1:{udp.address.port}: Address already in use"):
        bind_all(["127.0.0.1"], udp.address.port)
    sockets.close()


def test_what_cannot_be_sent_is_counted() -> None:
    sockets = bind_all(["127.0.0.1"], 0)
    (udp,) = sockets
    udp.send(bytes(65_536), Address("127.0.0.1", 9))
    assert udp.counters["dropped_send_emsgsize"] == 1
    sockets.send([Transmit(b"x", Path(Address("127.0.0.1", 1), Address("127.0.0.1", 9)))])
    assert sockets.counters["dropped_no_such_local_address"] == 1
    sockets.close()


def test_what_listening_means() -> None:
    assert local_addresses("127.0.0.1") == ["127.0.0.1"]
    assert "0.0.0.0" not in local_addresses("0.0.0.0")
    with pytest.raises(LocalError, match="unknown host"):
        local_addresses("no such host")
