"""The sockets, on loopback."""

from __future__ import annotations

import socket

import ifaddr
import pytest

from stack.aio.udp import MAX_BATCH, UdpSocket, bind_all, local_addresses
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
    assert udp.counters["socket.dropped_send_emsgsize"] == 1
    sockets.send([Transmit(b"x", Path(Address("127.0.0.1", 1), Address("127.0.0.1", 9)))])
    assert sockets.counters["socket.dropped_no_such_local_address"] == 1
    sockets.close()


def test_what_listening_means() -> None:
    assert local_addresses("127.0.0.1") == ["127.0.0.1"]
    assert "0.0.0.0" not in local_addresses("0.0.0.0")
    with pytest.raises(LocalError, match="unknown host"):
        local_addresses("no such host")


def test_told_nothing_it_listens_on_every_address_and_on_loopback_last(monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = [
        adapter("lo", "127.0.0.1", ("::1", 0, 0)),
        adapter("lan", "192.0.2.7", ("2001:db8::7", 0, 0), ("fe80::7", 0, 2), "169.254.1.2"),
        adapter("vpn", "198.51.100.7"),
    ]
    monkeypatch.setattr("ifaddr.get_adapters", lambda: adapters)
    assert local_addresses(None) == ["192.0.2.7", "2001:db8::7", "198.51.100.7", "127.0.0.1"]
    assert local_addresses("0.0.0.0") == ["192.0.2.7", "2001:db8::7", "198.51.100.7"]
    monkeypatch.setattr("ifaddr.get_adapters", lambda: adapters[:1])
    assert local_addresses(None) == ["127.0.0.1"]
    assert local_addresses("0.0.0.0") == ["127.0.0.1"]


def adapter(name: str, *ips: str | tuple[str, int, int]) -> ifaddr.Adapter:
    return ifaddr.Adapter(name, name, [ifaddr.IP(ip, 24, name) for ip in ips])


def test_an_address_that_cannot_be_had_now_is_left_out_while_there_are_others() -> None:
    sockets = bind_all(["192.0.2.1", "127.0.0.1"], 0)
    assert [address.host for address in sockets.addresses] == ["127.0.0.1"]
    sockets.close()
    with pytest.raises(LocalError, match=r"cannot bind UDP 192\.0\.2\.1:9999: Cannot assign requested address"):
        bind_all(["192.0.2.1"], 9999)


def test_a_free_port_is_free_on_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address names a port that is taken on the second: another is tried."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.2", 0))
        ports = [taken.getsockname()[1], 0]

        class Socket(UdpSocket):
            def __init__(self, host: str, port: int) -> None:
                super().__init__(host, port or ports.pop(0))

        monkeypatch.setattr("stack.aio.udp.UdpSocket", Socket)
        sockets = bind_all(["127.0.0.1", "127.0.0.2"], 0)
        assert len({address.port for address in sockets.addresses}) == 1
        assert taken.getsockname()[1] not in {address.port for address in sockets.addresses}
        sockets.close()
