"""What is attached to checks and responses, and what is taken from them (draft-hancke-webrtc-sped)."""

from __future__ import annotations

from zlib import crc32

import pytest

from stack.core.counters import Counters
from stack.core.machine import Address, Path
from stack.session.dtls_in_stun import MAX_ACKNOWLEDGEMENTS, MAX_PENDING, DtlsCarrier
from stack.stun import (
    Attribute,
    DtlsInStun,
    DtlsInStunAcknowledgement,
    Message,
    MessageClass,
    Method,
    TransactionId,
)

PATH = Path(Address("10.0.0.1", 1), Address("10.0.0.2", 2))
HELLO = b"\x16" + bytes(range(99))
SECOND = b"\x16" + bytes(range(50))


def message(*attributes: Attribute) -> Message:
    return Message(MessageClass.REQUEST, Method.BINDING, TransactionId(bytes(12)), attributes)


def check(*attributes: Attribute, into: DtlsCarrier) -> DtlsCarrier:
    into.receive(message(*attributes), PATH, 0.0)
    return into


def acknowledging(*datagrams: bytes) -> DtlsInStunAcknowledgement:
    return DtlsInStunAcknowledgement(b"".join(crc32(data).to_bytes(4, "big") for data in datagrams))


def attached(carrier: DtlsCarrier, room: int = 1000) -> list[Attribute]:
    return list(carrier.attach(MessageClass.SUCCESS_RESPONSE, room))


def test_a_request_says_that_we_speak_it_and_a_response_only_to_one_who_does() -> None:
    carrier = DtlsCarrier(Counters())
    assert list(carrier.attach(MessageClass.REQUEST, 1000)) == [DtlsInStunAcknowledgement(b""), DtlsInStun(b"")]
    check(into=carrier)
    assert carrier.peer_supports is False
    assert attached(carrier) == []
    check(acknowledging(), into=carrier)
    assert attached(carrier) == [], "the first authenticated message decides"


@pytest.mark.parametrize("shown", [DtlsInStun(b""), DtlsInStunAcknowledgement(b"")])
def test_either_attribute_says_that_the_peer_speaks_it(shown: Attribute) -> None:
    carrier = check(shown, into=DtlsCarrier(Counters()))
    assert carrier.peer_supports is True
    assert carrier.take_arrived() == ()
    assert attached(carrier) == [DtlsInStunAcknowledgement(b"")]


def test_what_arrives_is_handed_on_once_and_acknowledged() -> None:
    counters = Counters()
    carrier = check(DtlsInStun(HELLO), into=DtlsCarrier(counters))
    carrier.note_received(SECOND)
    assert carrier.take_arrived() == (HELLO,)
    assert carrier.take_arrived() == ()
    assert attached(carrier) == [acknowledging(HELLO, SECOND)]
    assert counters["session.dtls_in_stun"] == 1
    for number in range(10):
        carrier.note_received(bytes((22, number)))
    assert attached(carrier) == [acknowledging(*(bytes((22, n)) for n in range(10 - MAX_ACKNOWLEDGEMENTS, 10)))]


@pytest.mark.parametrize("value", [b"\x00\x01", b"\x80" + bytes(50), b"\x13", b"\x40"])
def test_what_is_no_dtls_is_counted_and_dropped(value: bytes) -> None:
    counters = Counters()
    carrier = check(DtlsInStun(value), into=DtlsCarrier(counters))
    assert carrier.take_arrived() == ()
    assert counters["session.dropped_dtls_in_stun"] == 1
    assert attached(carrier) == [acknowledging()]


def test_a_flight_travels_in_turn_until_it_is_acknowledged() -> None:
    carrier = check(DtlsInStun(b""), into=DtlsCarrier(Counters()))
    carrier.set_pending([HELLO, SECOND])
    assert [attached(carrier)[1] for _ in range(3)] == [DtlsInStun(HELLO), DtlsInStun(SECOND), DtlsInStun(HELLO)]
    check(acknowledging(HELLO, b"unknown"), into=carrier)
    assert [attached(carrier)[1] for _ in range(2)] == [DtlsInStun(SECOND), DtlsInStun(SECOND)]
    carrier.set_pending([b"\x17other"])
    assert attached(carrier)[1] == DtlsInStun(b"\x17other")
    check(acknowledging(b"\x17other"), into=carrier)
    assert attached(carrier) == [acknowledging()]


def test_a_datagram_that_does_not_fit_waits_for_its_own_way() -> None:
    carrier = check(DtlsInStun(b""), into=DtlsCarrier(Counters()))
    carrier.set_pending([HELLO, SECOND])
    assert attached(carrier, 90) == [acknowledging(), DtlsInStun(SECOND)]
    assert attached(carrier, 20) == [acknowledging()]
    assert carrier.undelivered == (HELLO,)


def test_a_peer_that_does_not_speak_it_is_sent_everything_plainly() -> None:
    carrier = DtlsCarrier(Counters())
    carrier.set_pending([HELLO])
    assert list(carrier.attach(MessageClass.REQUEST, 1000))[1] == DtlsInStun(HELLO)
    assert check(into=carrier).undelivered == (HELLO,)
    unwanted = DtlsCarrier(Counters(), wanted=False)
    unwanted.set_pending([HELLO])
    assert check(DtlsInStun(SECOND), into=unwanted).undelivered == (HELLO,)
    assert attached(unwanted) == []
    assert unwanted.take_arrived() == ()


def test_it_ends() -> None:
    carrier = check(DtlsInStun(b""), into=DtlsCarrier(Counters()))
    carrier.set_pending([HELLO])
    carrier.end()
    assert attached(carrier) == []
    carrier.set_pending([HELLO])
    check(DtlsInStun(SECOND), into=carrier)
    assert carrier.take_arrived() == ()
    assert carrier.undelivered == ()


def test_everything_has_a_bound() -> None:
    carrier = DtlsCarrier(Counters())
    carrier.set_pending([bytes((22, number)) for number in range(100)])
    assert len(carrier.undelivered) == MAX_PENDING
    for number in range(100):
        check(DtlsInStun(bytes((22, number))), into=carrier)
    assert len(carrier.take_arrived()) <= 16
