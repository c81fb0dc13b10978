"""What it costs when a whole flight is lost, and paths that never carry a large datagram, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from stack.dtls import DtlsRole, HandshakeComplete, NamedGroup, Version
from stack.dtls.handshake_layer import DATAGRAM_SIZE_BACKOFF, MAX_TIMEOUTS, RETRANSMISSION_HOLDOFF_FRACTION
from tests.sim.dtls import DtlsPair

V12, V13 = Version.DTLS_1_2, Version.DTLS_1_3
HYBRID = (NamedGroup.X25519MLKEM768, NamedGroup.X25519)
DELAY = 0.005


def connected_after(pair: DtlsPair) -> float:
    """Shake hands; return how long it took until both sides were through."""
    began = pair.now
    pair.start()
    assert pair.run(100.0, lambda: all(pair.host(role).seen(HandshakeComplete) for role in DtlsRole)), (
        "never connected"
    )
    return pair.now - began


def lossy(version: Version, victim: DtlsRole, lost: range, **server: Any) -> DtlsPair:
    """An impatient client (50 ms, as Chromium's), a server with the default timeout, and flights that are lost."""

    def lose(role: DtlsRole, data: bytes, number: int) -> bytes | None:
        return None if role is victim and number in lost else data

    return DtlsPair({"max_version": version, "initial_timeout": 0.05}, server, delay=DELAY, filter=lose)


@pytest.mark.parametrize(
    ("version", "lost", "limit"),
    [
        # The whole first flight is lost; the client repeats its hello after 50 ms, then after 100 ms more.
        (V13, range(1, 2), 0.05 + 4 * DELAY),
        (V12, range(1, 2), 0.05 + 4 * DELAY),
        (V13, range(1, 3), 0.15 + 4 * DELAY),
        (V12, range(1, 3), 0.15 + 4 * DELAY),
        (V12, range(2, 3), 0.05 + 6 * DELAY),  # the last flight
    ],
)
def test_a_lost_server_flight_costs_what_the_client_waits(version: Version, lost: range, limit: float) -> None:
    assert connected_after(lossy(version, DtlsRole.SERVER, lost)) <= limit + 0.002


@pytest.mark.parametrize("settings", [{"groups": (NamedGroup.SECP256R1,)}, {"cookie": True}])
def test_a_lost_retry_request_is_asked_for_again(settings: dict[str, Any]) -> None:
    pair = lossy(V13, DtlsRole.SERVER, range(1, 2), **settings)
    assert connected_after(pair) <= 0.05 + 6 * DELAY + 0.002
    assert pair.client.negotiated.hello_retried


def test_a_lost_hello_verify_request_is_asked_for_again() -> None:
    assert connected_after(lossy(V12, DtlsRole.SERVER, range(1, 2), cookie=True)) <= 0.05 + 8 * DELAY + 0.002


@pytest.mark.parametrize("version", [V12, V13])
def test_a_repeated_server_flight_calls_for_the_clients(version: Version) -> None:
    """The other way round: the server is the impatient one."""

    def lose(role: DtlsRole, data: bytes, number: int) -> bytes | None:
        return None if (role, number) == (DtlsRole.CLIENT, 2) else data

    pair = DtlsPair({"max_version": version}, {"initial_timeout": 0.05}, delay=DELAY, filter=lose)
    assert connected_after(pair) <= 0.05 + 6 * DELAY + 0.002


@pytest.mark.parametrize("version", [V12, V13])
def test_a_copy_that_the_network_made_is_no_repeat(version: Version) -> None:
    pair = DtlsPair({"max_version": version}, duplicate=1.0, delay=DELAY)
    connected_after(pair)
    assert pair.server.counters["dtls.flight_repeated_on_request"] == 0
    assert pair.server._layer._initial_timeout / RETRANSMISSION_HOLDOFF_FRACTION > DELAY


def test_a_server_flight_that_crossed_ours_calls_for_nothing() -> None:
    pair = DtlsPair({}, {"initial_timeout": 0.012}, delay=0.01)  # repeated before our flight can have arrived
    connected_after(pair)
    pair.run(1.0)
    assert pair.server.counters["dtls.flight_retransmitted"] > 0
    assert pair.client.counters["dtls.flight_repeat_refused"] > 0
    assert pair.client.counters["dtls.flight_repeated_on_request"] == 0


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("shares", [None, HYBRID])
@pytest.mark.parametrize("narrow", [tuple(DtlsRole), (DtlsRole.CLIENT,), (DtlsRole.SERVER,)])
@pytest.mark.parametrize("path_mtu", [800, 548, 300])
def test_a_path_that_drops_large_datagrams_is_found_out(
    version: Version, shares: tuple[NamedGroup, ...] | None, narrow: tuple[DtlsRole, ...], path_mtu: int
) -> None:
    pair = DtlsPair(
        {"max_version": version, "key_shares": shares},
        filter=lambda role, data, n: None if role in narrow and len(data) > path_mtu else data,
    )
    took = connected_after(pair)
    waits = (
        3 if path_mtu >= DATAGRAM_SIZE_BACKOFF[0][1] else 15
    )  # 0.4 s doubling: two, or four, vain transmissions
    assert took <= 0.4 * waits * 2 + 1.0


def test_a_path_whose_limit_is_known_is_not_doubted() -> None:
    pair = DtlsPair({"mtu_is_known": True, "key_shares": HYBRID}, loss=1.0)
    pair.handshake(100.0)
    assert {len(data) for data in pair.sent[DtlsRole.CLIENT]} == set(map(len, pair.sent[DtlsRole.CLIENT][:2]))


def test_an_ack_of_a_part_calls_for_the_rest_at_once() -> None:
    """RFC 9147 §7.2. The server's second datagram is lost; its own timer is far longer."""

    def lose(role: DtlsRole, data: bytes, number: int) -> bytes | None:
        return None if (role, number) == (DtlsRole.SERVER, 2) else data

    pair = DtlsPair({"initial_timeout": 0.2}, {"initial_timeout": 0.6, "mtu": 400}, delay=DELAY, filter=lose)
    assert connected_after(pair) <= 0.2 / 4 + 6 * DELAY + 0.002  # the client waits a quarter
    assert pair.server.counters["dtls.flight_repeated_on_ack"] == 1
    assert pair.server.counters["dtls.flight_retransmitted"] == 0


def test_a_lost_server_hello_is_asked_for_by_an_empty_ack() -> None:
    """RFC 9147 §7.1. What follows the ServerHello is there and cannot be read."""

    def lose(role: DtlsRole, data: bytes, number: int) -> bytes | None:
        return None if (role, number) == (DtlsRole.SERVER, 1) else data

    pair = DtlsPair({"initial_timeout": 0.4}, {"initial_timeout": 0.8, "mtu": 300}, delay=DELAY, filter=lose)
    assert connected_after(pair) <= 0.4 / 4 + 6 * DELAY + 0.002
    assert pair.client.counters["dtls.flight_retransmitted"] == 0
    assert pair.server.counters["dtls.flight_repeated_on_request"] == 1


def test_empty_acks_call_for_a_flight_only_so_often() -> None:
    pair = DtlsPair()
    pair.start()
    for data in pair.client.drain_transmits():
        pair.server.handle_datagram(data, 0.0)
    empty = bytes.fromhex("1afefd") + bytes(7) + b"\x09" + b"\x00\x02\x00\x00"
    for step in range(1000):
        pair.server.handle_datagram(empty, step / 1000)
    assert 0 < pair.server.counters["dtls.flight_repeated_on_request"] <= MAX_TIMEOUTS
    assert pair.server.counters["dtls.flight_repeat_refused"] > 900


def test_the_doubling_stops_where_it_was_told_to() -> None:
    pair = DtlsPair({"initial_timeout": 0.5, "max_timeout": 2.0}, loss=1.0)
    pair.start()
    pair.run(12.0)
    times = [sent.at - pair.left.sent[0].at for sent in pair.left.sent]
    assert times == pytest.approx([0, 0.5, 1.5, 3.5, 5.5, 7.5, 9.5, 11.5])


def test_small_datagrams_that_are_lost_make_later_ones_no_smaller() -> None:
    """A ClientHello of 200 bytes that is lost four times says nothing of the size of a datagram."""

    def lose(role: DtlsRole, data: bytes, number: int) -> bytes | None:
        return None if role is DtlsRole.CLIENT and number <= 5 else data

    pair = DtlsPair({}, {}, delay=DELAY, filter=lose)
    connected_after(pair)
    assert max(map(len, pair.sent[DtlsRole.CLIENT][:5])) < 228
    assert max(map(len, pair.sent[DtlsRole.CLIENT])) > 400


@pytest.mark.parametrize("seed", range(12))
def test_a_handshake_gets_through_what_loses_four_of_ten(seed: int) -> None:
    """With timers that follow from a measured round trip, in seconds and not in minutes."""
    times = {"initial_timeout": 0.3, "max_timeout": 3.0}
    assert connected_after(DtlsPair(times, times, seed=seed, loss=0.4, delay=0.05)) < 20
