"""What the maker of tickets remembers, for how long, and how much of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from stack.aio import CallContext, ticket_file
from stack.aio.ticket_site import CallMade
from stack.aio.tickets import RENEW_AFTER, TicketAnswer, TicketConfig, TicketIssuer
from stack.core.errors import LocalError
from stack.core.machine import Address
from stack.core.ufrag import MAX_LOCAL_UFRAG, MAX_NODE
from stack.sdp import SessionDescription
from stack.server.admission import CLOCK_SKEW
from stack.session.ticket import SessionTicket
from stack.session.ticket_keys import claim_room

TEXT = (Path(__file__).parent.parent / "vectors/offers/chromium156-audio_dc.sdp").read_text()
OFFER = SessionDescription.parse(TEXT)
CHROMIUM_INIT = "AQAAHqXTF4MAUAAA/////7WEcU/AAAAEgAgABoLA"
SNAP_OFFER = SessionDescription.parse(
    TEXT.replace("a=sctp-port:5000", f"a=sctp-port:5000\r\na=sctp-init:{CHROMIUM_INIT}")
)
NOW = 1_900_000_000.0


class Clock:
    """The clock of the module: seconds since 1970."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        monkeypatch.setattr("stack.aio.tickets.time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def issuer(key_file: Path | None = None, *, instant: bool = False) -> TicketIssuer:
    return TicketIssuer(TicketConfig(key_file, instant_connect=instant), [Address("192.0.2.1", 3478)])


def withdraw(tickets: TicketIssuer, number: int) -> None:
    for _ in range(number):
        answer = tickets.answer(OFFER, 0, CallContext())
        assert answer is not None
        assert tickets.withdraw(answer.call_id)
        assert tickets.is_withdrawn(answer.reference)
    tickets.take_withdrawn()


def test_what_was_withdrawn_is_forgotten_when_it_has_expired(clock: Clock) -> None:
    tickets = issuer()
    withdraw(tickets, 3)
    assert len(tickets.ring.revoked) == 3
    clock.now += tickets.config.answer_lifetime + CLOCK_SKEW - 1
    withdraw(tickets, 1)
    assert len(tickets.ring.revoked) == 4
    clock.now += 2
    withdraw(tickets, 1)
    assert len(tickets.ring.revoked) == 2


def test_withdrawals_do_not_keep_a_server_from_following_its_keys(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.aio.tickets.MAX_REVOKED", 5)
    monkeypatch.setattr("stack.session.ticket_keys.MAX_REVOKED", 5)
    path = tmp_path / "keys"
    ticket_file.add_epoch(path)
    tickets = issuer(path)
    tickets.revoke(b"operator")
    withdraw(tickets, 10)
    assert len(tickets.ring.revoked) == 5
    assert b"operator" in tickets.ring.revoked
    ticket_file.add_epoch(path, [bytes((number,)) * 8 for number in range(3)])
    assert tickets.reread()
    assert tickets.ring.newest.epoch == 2
    assert len(tickets.ring.revoked) == 5
    assert tickets.ring.revoked >= {b"operator", bytes(8), b"\x02" * 8}


def test_one_reference_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.aio.tickets.MAX_REVOKED", 1)
    tickets = issuer()
    tickets.revoke(b"12345678")
    tickets.revoke(b"12345678")
    with pytest.raises(LocalError, match="take their epoch out"):
        tickets.revoke(b"87654321")


def test_a_file_that_could_not_be_read_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    ticket_file.add_epoch(path)
    tickets = issuer(path)
    ticket_file.add_epoch(path)
    whole = path.read_bytes()
    os.truncate(path, 10)
    for _ in range(2):
        with pytest.raises(LocalError):
            tickets.reread()
    path.write_bytes(whole)
    assert tickets.reread()
    assert tickets.ring.newest.epoch == 2
    assert not tickets.reread()


def agreed_on(tickets: TicketIssuer) -> tuple[TicketAnswer, CallMade]:
    """Return an answer, and the call that it will make."""
    answer = tickets.answer(OFFER, 0, CallContext())
    assert answer is not None
    return answer, made_by(tickets, answer.negotiation.answer.media[0].values("ice-ufrag")[0])


def made_by(tickets: TicketIssuer, ufrag: str) -> CallMade:
    return CallMade("call", tickets.ring.open(ufrag).ticket.serialize(), "192.0.2.2")


def test_a_chain_of_tickets_ends_when_its_first_one_does(clock: Clock) -> None:
    tickets = issuer(instant=True)
    answer, made = agreed_on(tickets)
    given = tickets.instant(answer.negotiation, CallContext(), answer.reference)
    renewed = tickets.renewed(made)
    assert given is not None
    assert renewed is not None
    assert given.lifetime == renewed.lifetime == tickets.config.instant_lifetime
    clock.now += 3600
    again = tickets.renewed(made_by(tickets, renewed.ufrag))
    assert again is not None
    assert again.lifetime == tickets.config.instant_lifetime - 3600
    assert again.ufrag != renewed.ufrag
    clock.now += tickets.config.instant_lifetime
    assert tickets.renewed(made_by(tickets, again.ufrag)) is None


def test_one_reference_revokes_all_tickets_of_its_chain() -> None:
    tickets = issuer(instant=True)
    answer, made = agreed_on(tickets)
    given = tickets.instant(answer.negotiation, CallContext(), answer.reference)
    renewed = tickets.renewed(made)
    assert given is not None
    assert renewed is not None
    again = tickets.renewed(made_by(tickets, renewed.ufrag))
    _, of_another = agreed_on(tickets)
    assert again is not None
    references = {answer.reference.hex(), given.reference, renewed.reference, again.reference}
    assert len(references) == 4  # two of a chain may be used at once, each for a call
    for reference in references:
        tickets._revoked.clear()
        tickets.revoke(bytes.fromhex(reference))
        for ticket in (made.ticket, *(made_by(tickets, each.ufrag).ticket for each in (given, renewed, again))):
            assert tickets.ring.is_revoked(SessionTicket.parse(ticket))
        assert not tickets.ring.is_revoked(SessionTicket.parse(of_another.ticket))


def test_what_was_withdrawn_is_so_for_the_next_call_too(clock: Clock) -> None:
    tickets = issuer(instant=True)
    withdraw(tickets, 1)
    clock.now += tickets.config.instant_lifetime + CLOCK_SKEW - 1
    withdraw(tickets, 1)
    assert len(tickets.ring.revoked) == 2


@pytest.mark.parametrize(
    "context", [CallContext(session={"voice": "alloy"}), CallContext(state={"user": "alice"})]
)
def test_no_ticket_for_a_call_that_would_miss_something(context: CallContext) -> None:
    tickets = issuer(instant=True)
    answer, _ = agreed_on(tickets)
    assert tickets.instant(answer.negotiation, context) is None
    assert tickets.instant(answer.negotiation, CallContext(claim="alice")) is not None


@pytest.mark.parametrize(("offer", "size"), [(OFFER, 94), (SNAP_OFFER, 85)])
@pytest.mark.parametrize(("node", "less"), [("", 0), ("n1", 1), ("n" * MAX_NODE, 48)])
def test_how_long_a_claim_may_be(offer: SessionDescription, size: int, node: str, less: int) -> None:
    size -= less
    tickets = TicketIssuer(TicketConfig(), [Address("192.0.2.1", 3478)], node=node)
    made = tickets.answer(offer, 0, CallContext(claim="x" * size))
    assert made is not None
    assert MAX_LOCAL_UFRAG - 3 <= len(made.ufrag) <= MAX_LOCAL_UFRAG
    assert tickets.ring.open(made.ufrag).ticket.claim == "x" * size
    assert tickets.answer(offer, 0, CallContext(claim="x" * (size + 1))) is None
    assert tickets.answer(offer, 0, CallContext(claim="x" * (size - 6), tenant=1)) is not None
    assert tickets.answer(offer, 0, CallContext(claim="x" * (size - 5), tenant=1)) is None


@pytest.mark.parametrize(("node", "room"), [("", 79), ("n1", 78), ("n" * MAX_NODE, 31)])
def test_claims_that_have_to_have_room(node: str, room: int) -> None:
    addresses = [Address("192.0.2.1", 3478)]
    assert claim_room(node) == room
    tickets = TicketIssuer(TicketConfig(claim_bytes=room, instant_connect=True), addresses, node=node)
    context = CallContext(claim="x" * room, program=1, tenant=2)
    made = tickets.answer(SNAP_OFFER, 0, context)
    assert made is not None
    assert tickets.instant(made.negotiation, context) is not None
    with pytest.raises(LocalError, match=f"at most {room}"):
        TicketIssuer(TicketConfig(claim_bytes=room + 1), addresses, node=node)


def test_a_key_without_a_file_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.time()
    clock = Clock(monkeypatch)
    clock.now = began
    tickets = issuer(instant=True)
    first = tickets.ring.newest
    assert not tickets.reread()
    clock.now += RENEW_AFTER - 1
    tickets.revoke(b"reference")
    assert not tickets.reread()
    clock.now += 2
    before = tickets.answer(OFFER, 0, CallContext())
    assert before is not None
    assert tickets.reread()
    assert not tickets.reread()
    newest = tickets.ring.newest
    assert newest.epoch == 2
    assert newest.certificate.fingerprint() != first.certificate.fingerprint()
    after = tickets.answer(OFFER, 0, CallContext())
    assert after is not None
    for made, key in ((before, first), (after, newest)):
        ufrag = made.negotiation.answer.media[0].ice_ufrag
        assert ufrag is not None
        assert tickets.ring.open(ufrag).key is key
    assert tickets.ring.revoked == {b"reference"}
    for _ in range(5):
        clock.now += RENEW_AFTER + 1
        assert tickets.reread()
    assert [key.epoch for key in tickets.ring.keys] == [4, 5, 6, 7]
