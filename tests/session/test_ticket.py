"""The ticket as a message: written and read again, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.core.dtls_role import DtlsRole
from stack.core.errors import LocalError, ParseError
from stack.session.ticket import (
    MAX_TICKET_SIZE,
    MAX_WITHOUT_CLAIM,
    SessionTicket,
    TicketAudio,
    TicketFlag,
    TicketInit,
)

SOUND = TicketFlag.NACK | TicketFlag.TRANSPORT_CC | TicketFlag.STEREO | TicketFlag.CBR | TicketFlag.REDUCED_SIZE
PAYLOAD_TYPES = st.integers(0, 127)
IDS = st.integers(0, 14)


@st.composite
def tickets(draw: st.DrawFn) -> SessionTicket:
    """Any ticket that has room."""
    audio = draw(
        st.none()
        | st.builds(
            TicketAudio,
            st.integers(0, 3),
            st.integers(0, 3),
            st.integers(0, 15),
            PAYLOAD_TYPES,
            PAYLOAD_TYPES,
            PAYLOAD_TYPES,
            IDS,
            IDS,
            IDS,
            st.integers(0, 15),
        )
    )
    size = draw(st.integers(0, 255) if audio is None else st.none() | st.integers(0, 255))
    init = None
    if size is not None:
        four = st.binary(min_size=4, max_size=4)
        init = draw(st.none() | st.builds(TicketInit, st.integers(0, 255), four, four))
    program, tenant = draw(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)) | st.just((0, 0)))
    flags = draw(st.sampled_from((TicketFlag(0), TicketFlag.INSTANT, TicketFlag.DTLS_CLIENT)))
    if audio is not None:
        flags |= TicketFlag.AUDIO | draw(st.sampled_from((TicketFlag(0), SOUND, TicketFlag.RECEIVER_RTT)))
    if size is not None:
        flags |= TicketFlag.DATA
    if init is not None:
        flags |= TicketFlag.SNAP
    if program or tenant:
        flags |= TicketFlag.ADDRESSED
    return SessionTicket(
        expiry=draw(st.integers(0, 0xFFFF_FFFF)),
        reference=draw(st.binary(min_size=8, max_size=8)),
        fingerprint=draw(st.binary(min_size=32, max_size=32)),
        flags=flags,
        audio_mid=draw(st.integers(0, 15)) if audio is not None else 0,
        data_mid=draw(st.integers(0, 15)) if size is not None else 0,
        audio=audio,
        message_size=size,
        init=init,
        program=program,
        tenant=tenant,
        claim=draw(st.text(st.characters(codec="utf-8"), max_size=1)),
    )


def plain(**changes: object) -> SessionTicket:
    parts: dict[str, object] = {
        "expiry": 1,
        "reference": bytes(8),
        "fingerprint": bytes(32),
        "flags": TicketFlag.DATA,
        "message_size": 0,
    }
    return SessionTicket(**{**parts, **changes})  # type: ignore[arg-type]


@given(ticket=tickets())
def test_a_ticket_is_the_same_after_it_was_written_and_read(ticket: SessionTicket) -> None:
    data = ticket.serialize()
    assert len(data) <= MAX_TICKET_SIZE
    assert SessionTicket.parse(data) == ticket


@given(data=st.binary(max_size=MAX_TICKET_SIZE + 4))
def test_any_bytes_are_a_ticket_or_a_parse_error(data: bytes) -> None:
    try:
        ticket = SessionTicket.parse(data)
    except ParseError:
        return
    assert ticket.serialize() == data


@given(ticket=tickets(), at=st.integers(0, MAX_TICKET_SIZE), change=st.integers(1, 255))
def test_a_changed_byte_is_another_ticket_or_none(ticket: SessionTicket, at: int, change: int) -> None:
    data = bytearray(ticket.serialize())
    data[at % len(data)] ^= change
    try:
        other = SessionTicket.parse(bytes(data))
    except ParseError:
        return
    assert other != ticket
    assert other.serialize() == bytes(data)


def test_what_each_part_costs() -> None:
    audio = TicketAudio(0, 0, 0, 111, 63, 110, 1, 3)
    voice = plain(flags=TicketFlag.AUDIO | TicketFlag.DATA, audio=audio)
    snap = plain(
        flags=TicketFlag.AUDIO | TicketFlag.DATA | TicketFlag.SNAP,
        audio=audio,
        init=TicketInit(0, bytes(4), bytes(4)),
    )
    assert len(plain().serialize()) == 48
    assert len(voice.serialize()) == 54
    assert len(snap.serialize()) == 63
    assert len(plain(flags=TicketFlag.DATA | TicketFlag.ADDRESSED, tenant=7).serialize()) == 54


@pytest.mark.parametrize(
    "changes",
    [
        {"expiry": 1 << 32},
        {"reference": bytes(7)},
        {"fingerprint": bytes(20)},
        {"flags": TicketFlag(0), "message_size": None},
        {"flags": TicketFlag.AUDIO | TicketFlag.DATA},
        {"flags": TicketFlag.DATA | TicketFlag.NACK},
        {"flags": TicketFlag.DATA | TicketFlag.SNAP},
        {"flags": TicketFlag.DATA | TicketFlag.ADDRESSED},
        {"tenant": 1},
        {"data_mid": 16},
        {"audio_mid": 1},
        {"claim": "x" * (MAX_TICKET_SIZE + 1)},
        {"claim": "caf\udce9"},
        {"flags": TicketFlag.AUDIO, "message_size": None, "audio": TicketAudio(0, 0, 0, 111), "data_mid": 1},
    ],
)
def test_parts_that_make_no_ticket(changes: dict[str, object]) -> None:
    with pytest.raises(LocalError):
        plain(**changes)


@pytest.mark.parametrize("numbers", [(4, 0, 0, 0), (0, 4, 0, 0), (0, 0, 16, 0), (0, 0, 0, 128)])
def test_a_number_without_room(numbers: tuple[int, int, int, int]) -> None:
    ticket = plain(flags=TicketFlag.AUDIO, message_size=None, audio=TicketAudio(*numbers))
    with pytest.raises(LocalError):
        ticket.serialize()


def test_more_than_a_fragment_has_room_for() -> None:
    def with_all(claim: str) -> SessionTicket:
        return plain(
            flags=TicketFlag.AUDIO | TicketFlag.DATA | TicketFlag.SNAP | TicketFlag.ADDRESSED,
            audio=TicketAudio(0, 0, 0, 111),
            init=TicketInit(0, bytes(4), bytes(4)),
            program=1,
            claim=claim,
        )

    room = MAX_TICKET_SIZE - MAX_WITHOUT_CLAIM
    assert len(with_all("").serialize()) == MAX_WITHOUT_CLAIM
    assert len(with_all("x" * room).serialize()) == MAX_TICKET_SIZE
    with pytest.raises(LocalError):
        with_all("x" * (room + 1)).serialize()


def test_whose_part_of_dtls_is_ours() -> None:
    assert plain().dtls_role is DtlsRole.SERVER
    assert plain(flags=TicketFlag.DATA | TicketFlag.DTLS_CLIENT).dtls_role is DtlsRole.CLIENT
    assert not plain().is_instant
    assert plain(flags=TicketFlag.DATA | TicketFlag.INSTANT).is_instant
