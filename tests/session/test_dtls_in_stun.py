"""What is attached to checks and responses, and what is taken from them (draft-hancke-webrtc-sped)."""

from __future__ import annotations

from zlib import crc32

import pytest

from stack.core.counters import Counters
from stack.core.machine import Address, Path
from stack.session.dtls_in_stun import MAX_ACKNOWLEDGEMENTS, MAX_CHECKS, MAX_PENDING, DtlsCarrier
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


RESPONSE = MessageClass.SUCCESS_RESPONSE


def message(*attributes: Attribute, kind: MessageClass = MessageClass.REQUEST, number: int = 0) -> Message:
    return Message(kind, Method.BINDING, TransactionId(number.to_bytes(12, "big")), attributes)


def check(*attributes: Attribute, into: DtlsCarrier) -> DtlsCarrier:
    into.receive(message(*attributes), PATH, 0.0)
    return into


def requested(carrier: DtlsCarrier, number: int = 0) -> list[Attribute]:
    return list(carrier.attach(message(number=number), 1000))


def acknowledging(*datagrams: bytes) -> DtlsInStunAcknowledgement:
    return DtlsInStunAcknowledgement(b"".join(crc32(data).to_bytes(4, "big") for data in datagrams))


def attached(carrier: DtlsCarrier, room: int = 1000) -> list[Attribute]:
    return list(carrier.attach(message(kind=RESPONSE), room))


EMPTY = DtlsInStun(b"")


def test_a_request_says_that_we_speak_it_and_a_response_only_to_one_who_does() -> None:
    carrier = DtlsCarrier(Counters())
    assert requested(carrier) == [DtlsInStunAcknowledgement(b""), EMPTY]
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
    assert attached(carrier) == [DtlsInStunAcknowledgement(b""), EMPTY]


def test_what_arrives_is_handed_on_once_and_acknowledged() -> None:
    counters = Counters()
    carrier = check(DtlsInStun(HELLO), into=DtlsCarrier(counters))
    carrier.note_received(SECOND)
    assert carrier.take_arrived() == (HELLO,)
    assert carrier.take_arrived() == ()
    assert attached(carrier) == [acknowledging(HELLO, SECOND), EMPTY]
    assert counters["session.dtls_in_stun"] == 1
    for number in range(10):
        for _ in range(2):  # a copy takes no place in the list
            carrier.note_received(bytes((22, number)))
    latest = [bytes((22, number)) for number in range(10 - MAX_ACKNOWLEDGEMENTS, 10)]
    assert attached(carrier) == [acknowledging(*latest), EMPTY]


def test_the_agent_waits_only_for_what_dtls_may_answer() -> None:
    carrier = DtlsCarrier(Counters())
    received = [
        carrier.receive(message(*attributes), PATH, 0.0)
        for attributes in ((EMPTY,), (DtlsInStun(HELLO),), (acknowledging(),), (DtlsInStun(b"\x80no DTLS"),))
    ]
    assert received == [False, True, False, False]
    silent = DtlsCarrier(Counters())
    assert not silent.receive(message(), PATH, 0.0)
    assert not silent.receive(message(DtlsInStun(HELLO)), PATH, 0.0), "the first message has decided"


@pytest.mark.parametrize("value", [b"\x00\x01", b"\x80" + bytes(50), b"\x13", b"\x40"])
def test_what_is_no_dtls_is_counted_and_dropped(value: bytes) -> None:
    counters = Counters()
    carrier = check(DtlsInStun(value), into=DtlsCarrier(counters))
    assert carrier.take_arrived() == ()
    assert counters["session.dropped_dtls_in_stun"] == 1
    assert attached(carrier) == [acknowledging(), EMPTY]


def test_a_flight_travels_in_turn_until_it_is_acknowledged() -> None:
    carrier = check(DtlsInStun(b""), into=DtlsCarrier(Counters()))
    carrier.set_pending([HELLO, SECOND])
    assert [attached(carrier)[1] for _ in range(3)] == [DtlsInStun(HELLO), DtlsInStun(SECOND), DtlsInStun(HELLO)]
    check(acknowledging(HELLO, b"unknown"), into=carrier)
    assert [attached(carrier)[1] for _ in range(2)] == [DtlsInStun(SECOND), DtlsInStun(SECOND)]
    carrier.set_pending([b"\x17other"])
    assert attached(carrier)[1] == DtlsInStun(b"\x17other")
    check(acknowledging(b"\x17other"), into=carrier)
    assert attached(carrier) == [acknowledging(), EMPTY]


def test_a_datagram_that_does_not_fit_waits_for_its_own_way_and_is_not_overtaken() -> None:
    """Without the ServerHello the rest of a flight cannot be read, and is dropped (RFC 9147 §4.2.1 lets one)."""
    carrier = check(DtlsInStun(b""), into=DtlsCarrier(Counters()))
    carrier.set_pending([HELLO, SECOND])
    assert attached(carrier, 90) == [acknowledging(), EMPTY]
    assert carrier.undelivered == (HELLO, SECOND)
    carrier.note_sent([HELLO])
    assert [attached(carrier, 90) for _ in range(2)] == [[acknowledging(), DtlsInStun(SECOND)]] * 2
    assert attached(carrier, 20) == [acknowledging(), EMPTY]
    assert carrier.undelivered == ()
    assert not carrier.is_delivered(HELLO)
    assert carrier.is_delivered(SECOND), "by a response"


def test_a_success_response_acknowledges_what_its_check_held() -> None:
    carrier = DtlsCarrier(Counters())
    carrier.set_pending([HELLO, SECOND])
    assert [requested(carrier, number)[1] for number in (1, 2)] == [DtlsInStun(HELLO), DtlsInStun(SECOND)]
    for kind, number in ((MessageClass.ERROR_RESPONSE, 2), (MessageClass.REQUEST, 2), (RESPONSE, 3)):
        carrier.receive(message(EMPTY, kind=kind, number=number), PATH, 0.0)
    assert [requested(carrier, number)[1] for number in (4, 5)] == [DtlsInStun(HELLO), DtlsInStun(SECOND)]
    carrier.receive(message(EMPTY, kind=RESPONSE, number=1), PATH, 0.0)
    assert [requested(carrier, number)[1] for number in (6, 7)] == [DtlsInStun(SECOND)] * 2
    carrier.set_pending([HELLO])
    carrier.receive(message(EMPTY, kind=RESPONSE, number=7), PATH, 0.0)
    assert requested(carrier)[1] == DtlsInStun(HELLO), "the response was to a check with another flight"


def test_a_peer_that_does_not_speak_it_is_sent_everything_plainly() -> None:
    carrier = DtlsCarrier(Counters())
    carrier.set_pending([HELLO])
    assert requested(carrier)[1] == DtlsInStun(HELLO)
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


@pytest.mark.parametrize(
    "last",
    [(), (acknowledging(),), (acknowledging(HELLO), EMPTY), None],
    ids=["neither attribute", "an acknowledgement alone", "acknowledged", "the response to its check"],
)
def test_the_last_flight_is_carried_until_the_peer_has_it(last: tuple[Attribute, ...] | None) -> None:
    carrier = check(EMPTY, into=DtlsCarrier(Counters()))
    carrier.set_pending([HELLO])
    carrier.complete(ours_is_last=True)
    check(acknowledging(SECOND), DtlsInStun(SECOND), into=carrier)
    assert carrier.take_arrived() == (SECOND,), "the peer's flight again: ours was lost"
    assert requested(carrier, 7) == [acknowledging(SECOND), DtlsInStun(HELLO)]
    if last is None:
        carrier.receive(message(EMPTY, kind=RESPONSE, number=7), PATH, 0.0)
    else:
        check(*last, into=carrier)
    assert not carrier.is_active
    assert requested(carrier) == []


def test_the_other_side_ends_with_the_handshake() -> None:
    carrier = check(EMPTY, into=DtlsCarrier(Counters()))
    carrier.set_pending([HELLO])
    carrier.complete(ours_is_last=False)
    assert not carrier.is_active
    assert not carrier.is_ending


def test_everything_has_a_bound() -> None:
    carrier = DtlsCarrier(Counters())
    carrier.set_pending([bytes((22, number)) for number in range(100)])
    assert len(carrier.undelivered) == MAX_PENDING
    for number in range(100):
        check(DtlsInStun(bytes((22, number))), into=carrier)
    assert len(carrier.take_arrived()) <= 16
    for number in range(100):
        requested(carrier, number)
    carrier.receive(message(EMPTY, kind=RESPONSE, number=99 - MAX_CHECKS), PATH, 0.0)
    assert len(carrier.undelivered) + len({requested(carrier)[1] for _ in range(MAX_PENDING)}) == MAX_PENDING
    carrier.receive(message(EMPTY, kind=RESPONSE, number=99), PATH, 0.0)
    assert len({requested(carrier)[1] for _ in range(MAX_PENDING)}) == MAX_PENDING - 1
