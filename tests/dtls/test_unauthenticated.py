"""Datagrams of a stranger who knows the addresses of a path and none of its keys: they cost nothing but time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from stack.core.counters import Counters
from stack.dtls import ApplicationData, DtlsEvent, DtlsFailed, DtlsRole, HandshakeComplete, NamedGroup, Version
from stack.dtls.handshake_layer import MAX_TIMEOUTS
from stack.dtls.messages import HandshakeType
from stack.dtls.messages13 import Ack
from stack.dtls.reassembly import Fragment
from stack.dtls.record import MAX_DEFERRED_RECORDS, ContentType, RecordLayer
from tests.sim.dtls import DtlsPair

V12, V13 = Version.DTLS_1_2, Version.DTLS_1_3
FAR = 1 << 40
HYBRID = (NamedGroup.X25519MLKEM768, NamedGroup.X25519)


def plaintext(kind: int, payload: bytes, sequence: int = FAR, epoch: int = 0) -> bytes:
    """A record in the clear, with any number."""
    header = bytes((kind, 0xFE, 0xFD)) + (epoch << 48 | sequence).to_bytes(8, "big")
    return header + len(payload).to_bytes(2, "big") + payload


def handshake(kind: int, seq: int, body: bytes, length: int | None = None, offset: int = 0) -> bytes:
    fragment = Fragment(kind, len(body) if length is None else length, seq, offset, body)
    return plaintext(ContentType.HANDSHAKE, fragment.serialize())


FORGED: dict[str, bytes] = {
    "fatal alert": bytes.fromhex("15fefd000000000000000900020228"),
    "close_notify": plaintext(ContentType.ALERT, b"\1\0"),
    "warning": plaintext(ContentType.ALERT, b"\1\x6e"),
    "bad level": plaintext(ContentType.ALERT, b"\3\x28"),
    "short alert": plaintext(ContentType.ALERT, b"\2"),
    "empty handshake record": plaintext(ContentType.HANDSHAKE, b""),
    "half a header": plaintext(ContentType.HANDSHAKE, b"\1\0"),
    "fragment beyond its message": handshake(HandshakeType.CLIENT_HELLO, 1, b"abc", length=2),
    "message of another length": handshake(HandshakeType.SERVER_HELLO, 1, b"a", length=77),
    "enormous message": handshake(HandshakeType.CERTIFICATE, 2, b"x", length=1 << 20),
    "piece of the next message": handshake(HandshakeType.FINISHED, 1, b"x", length=12, offset=3),
    "piece of a later message": handshake(HandshakeType.FINISHED, 3, bytes(32), length=40),
    "message_seq far ahead": handshake(HandshakeType.FINISHED, 60_000, bytes(32)),
    "bad ChangeCipherSpec": plaintext(ContentType.CHANGE_CIPHER_SPEC, b"\2"),
    "ChangeCipherSpec": plaintext(ContentType.CHANGE_CIPHER_SPEC, b"\1"),
    "application data": plaintext(ContentType.APPLICATION_DATA, b"x"),
    "unknown type": plaintext(99, b"x"),
    "odd ACK": plaintext(ContentType.ACK, b"\0"),
    "ACK of everything": plaintext(
        ContentType.ACK, Ack(tuple((e, n) for e in (0, 2) for n in range(6))).serialize()
    ),
    "epoch to come": plaintext(ContentType.APPLICATION_DATA, bytes(40), epoch=1),
    "later epoch": plaintext(ContentType.APPLICATION_DATA, bytes(40), epoch=2),
    "unified header": b"\x2f" + bytes(40),
    "highest number": plaintext(ContentType.CHANGE_CIPHER_SPEC, b"\1", (1 << 48) - 1),
}


def assert_unharmed(pair: DtlsPair, version: Version) -> None:
    """Both are connected, agree, and can talk."""
    kinds = [[type(event) for event in pair.events[role]] for role in DtlsRole]
    assert kinds == [[HandshakeComplete], [HandshakeComplete]], pair.events
    assert pair.client.version is version
    keys = [pair.endpoint(role).export_keying_material("EXTRACTOR-dtls_srtp", None, 60) for role in DtlsRole]
    assert keys[0] == keys[1]
    pair.mend()
    for role in DtlsRole:
        pair.endpoint(role).send(role.value.encode(), pair.now)
    pair.run(100)
    assert pair.events[DtlsRole.SERVER][-1] == ApplicationData(b"client")
    assert pair.events[DtlsRole.CLIENT][-1] == ApplicationData(b"server")


@pytest.mark.parametrize("later", [0.0, 3600.0])
@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("role", list(DtlsRole))
@pytest.mark.parametrize("name", list(FORGED))
def test_nothing_in_the_clear_touches_a_finished_handshake(
    name: str, role: DtlsRole, version: Version, later: float
) -> None:
    pair = DtlsPair({"max_version": version})
    pair.handshake()
    target, now = pair.endpoint(role), pair.now + later
    target.handle_datagram(FORGED[name], now)
    assert target.drain_events() == []
    assert target.drain_transmits() == []
    assert target.poll_timeout() is None
    pair.network.clock.advance_to(now)
    assert_unharmed(pair, version)


class Stranger:
    """Sends a datagram to a side each time before an honest one is sent to it."""

    def __init__(
        self, pair: DtlsPair, forged: Callable[[int], bytes], victims: tuple[DtlsRole, ...] = tuple(DtlsRole)
    ) -> None:
        self._pair, self._forged, self._victims = pair, forged, victims
        self.count = 0

    def __call__(self, sender: DtlsRole, data: bytes, number: int) -> bytes:
        victim = DtlsRole.SERVER if sender is DtlsRole.CLIENT else DtlsRole.CLIENT
        if victim in self._victims:
            self._pair.inject(victim, self._forged(self.count))
            self.count += 1
        return data


def attacked(settings: dict[str, Any], forged: Callable[[int], bytes], **link: Any) -> DtlsPair:
    pair = DtlsPair(settings, settings, **link)
    pair.filter = Stranger(pair, forged)
    pair.handshake(200.0)
    return pair


@pytest.mark.parametrize("mtu", [300, 1200])
@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("name", list(FORGED))
def test_nothing_in_the_clear_ends_a_handshake(name: str, version: Version, mtu: int) -> None:
    pair = attacked({"max_version": version, "mtu": mtu}, lambda _: FORGED[name])
    assert_unharmed(pair, version)


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("seed", range(12))
def test_all_of_it_on_a_bad_link_only_takes_longer(version: Version, seed: int) -> None:
    random = Random(seed)
    names = list(FORGED)
    settings = {"max_version": version, "key_shares": HYBRID}
    pair = attacked(
        settings, lambda _: FORGED[random.choice(names)], seed=seed, loss=0.15, jitter=0.1, duplicate=0.1
    )
    assert_unharmed(pair, version)


@pytest.mark.parametrize("group", [NamedGroup.X25519, NamedGroup.SECP256R1])  # the second asks for a retry
@pytest.mark.parametrize("lost", range(1, 5))
def test_a_forged_ack_does_not_keep_a_lost_datagram_lost(group: NamedGroup, lost: int) -> None:
    for sender in DtlsRole:
        pair = DtlsPair({}, {"groups": (group,), "mtu": 400})
        stranger = Stranger(pair, lambda _: FORGED["ACK of everything"])

        def lose(
            role: DtlsRole, data: bytes, number: int, sender: DtlsRole = sender, attack: Stranger = stranger
        ) -> bytes | None:
            attack(role, data, number)
            return None if (role, number) == (sender, lost) else data

        pair.filter = lose
        pair.handshake(100.0)
        assert_unharmed(pair, V13)


@pytest.mark.parametrize("version", [V12, V13])
def test_a_hello_that_is_repeated_for_ever_is_answered_so_often(version: Version) -> None:
    pair = DtlsPair({"max_version": version})
    pair.start()
    hello = list(pair.client.drain_transmits())
    for step in range(1000):
        for data in hello:
            pair.server.handle_datagram(data, step / 1000)
    flights = pair.server.counters["dtls.flight_repeated_on_request"]
    assert 0 < flights <= MAX_TIMEOUTS
    assert pair.server.counters["dtls.flight_repeat_refused"] > 900


def test_a_flood_delays_a_handshake_and_does_not_end_it() -> None:
    pair = DtlsPair()
    pair.server.start(0.0)
    pair.client.start(0.0)
    for _ in range(2000):
        pair.server.handle_datagram(bytes(1400), 0.0)
    assert pair.server.counters["dtls.dropped_handshake_bytes_exceeded"] > 0
    pair.run(100.0)
    assert_unharmed(pair, V13)


def test_records_that_wait_for_keys_are_looked_at_again_only_when_there_are_new_ones() -> None:
    counters = Counters()
    records = RecordLayer(counters)
    for _ in range(MAX_DEFERRED_RECORDS + 2):
        assert list(records.open(FORGED["epoch to come"], 0.0)) == []
    assert records.take_deferred() == []
    assert counters["dtls.record_deferred"] == MAX_DEFERRED_RECORDS
    assert counters["dtls.dropped_record_unknown_epoch"] == 2


def test_1_2_waits_for_no_second_epoch() -> None:
    pair = DtlsPair({"max_version": V12})
    pair.handshake()
    pair.server.handle_datagram(FORGED["later epoch"], pair.now)
    assert pair.server.counters["dtls.dropped_record_unknown_epoch"] == 1
    assert pair.server.counters["dtls.record_deferred"] == 0


def test_an_alert_under_keys_ends_the_connection_at_once() -> None:
    """What is authenticated is believed, in the handshake as after it."""
    pair = DtlsPair()
    pair.handshake()
    pair.client._layer.send_record(ContentType.ALERT, b"\2\x28")
    pair.run(1.0)
    events: list[DtlsEvent] = pair.events[DtlsRole.SERVER]
    assert isinstance(events[-1], DtlsFailed)
    assert events[-1].remote
