"""What it costs when a whole flight is lost, and paths that never carry a large datagram, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from stack.dtls import DtlsRole, HandshakeComplete, NamedGroup, Version
from stack.dtls.handshake_layer import DATAGRAM_SIZE_BACKOFF, RETRANSMISSION_HOLDOFF_FRACTION
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
