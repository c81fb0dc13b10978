"""Tickets under a key: nothing but the very fragment opens, and what follows from one never changes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.core.errors import LocalError, ParseError
from stack.dtls import Certificate
from stack.session.ticket import SessionTicket, TicketAudio, TicketFlag
from stack.session.ticket_keys import MAX_EPOCHS, TicketKey, TicketRing
from tests.sim.certificates import EPOCH
from tests.sim.entropy import entropy

CERTIFICATE = Certificate.generate(entropy("tickets"), EPOCH)
ICE_CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def key(epoch: int = 1) -> TicketKey:
    return TicketKey(epoch, hashlib.sha256(f"epoch {epoch}".encode()).digest(), CERTIFICATE)


TICKET = SessionTicket(
    expiry=2_000_000_000,
    reference=b"12345678",
    fingerprint=bytes(range(32)),
    flags=TicketFlag.AUDIO | TicketFlag.DATA | TicketFlag.ADDRESSED,
    data_mid=1,
    audio=TicketAudio(0, 0, 0, 111, 63, 110, 1, 3),
    message_size=0,
    tenant=7,
    claim="alice",
)
RING = TicketRing.of([key()])
UFRAG = key().seal(TICKET, 3, "eu1/a")


def test_a_sealed_ticket_opens() -> None:
    opened = RING.open(UFRAG)
    assert opened.ticket == TICKET
    assert opened.ufrag == UFRAG
    assert UFRAG.startswith("3eu1/a+")
    assert len(UFRAG) < 190
    assert set(UFRAG) <= set(ICE_CHARS)


@pytest.mark.parametrize("at", range(len(UFRAG)))
def test_no_other_character_opens_anywhere(at: int) -> None:
    for other in ICE_CHARS:
        if other != UFRAG[at]:
            with pytest.raises(ParseError):
                RING.open(UFRAG[:at] + other + UFRAG[at + 1 :])


@pytest.mark.parametrize(
    "other", [UFRAG[:-1], UFRAG + "A", UFRAG + "=", "0" + UFRAG, "4" + UFRAG[1:], "3+" + UFRAG]
)
def test_no_other_length_or_place_opens(other: str) -> None:
    with pytest.raises(ParseError):
        RING.open(other)


@settings(max_examples=500)
@given(text=st.text(ICE_CHARS, max_size=130) | st.text(max_size=40))
def test_any_text_is_refused(text: str) -> None:
    for ufrag in (text, f"0+{text}"):
        with pytest.raises(ParseError):
            RING.open(ufrag)


def test_two_tickets_that_differ_in_their_reference_have_nothing_in_common_that_shows() -> None:
    other = key().seal(replace(TICKET, reference=b"12345679"), 3, "eu1/a")
    same = sum(a == b for a, b in zip(UFRAG[9:], other[9:], strict=True))
    assert same < len(UFRAG) // 8


def test_the_newest_key_seals_and_every_key_opens() -> None:
    former, ring = key(1), TicketRing.of([key(2), key(1)])
    assert ring.newest.epoch == 2
    assert ring.open(former.seal(TICKET, 0)).key.epoch == 1
    assert ring.open(ring.newest.seal(TICKET, 0)).key.epoch == 2


def test_taking_a_key_out_revokes_what_it_has_sealed() -> None:
    with pytest.raises(ParseError, match="no ticket of a key of ours"):
        TicketRing.of([key(2)]).open(UFRAG)
    with pytest.raises(ParseError, match="no ticket of a key of ours"):
        TicketRing.of([key(1 + MAX_EPOCHS)]).open(UFRAG)  # the same key id


def test_one_ticket_is_revoked_by_its_reference() -> None:
    ring = TicketRing.of([key()], [b"12345678"])
    assert ring.is_revoked(ring.open(UFRAG).ticket)
    assert not RING.is_revoked(RING.open(UFRAG).ticket)


def test_rings_that_cannot_be() -> None:
    for keys in ([], [key(1), key(1)], [key(1), key(1 + MAX_EPOCHS)]):
        with pytest.raises(LocalError):
            TicketRing.of(keys)
    with pytest.raises(LocalError):
        TicketRing.of([key()], [number.to_bytes(8, "big") for number in range(10_001)])
    for epoch, secret in ((0, bytes(32)), (1, bytes(16))):
        with pytest.raises(LocalError):
            TicketKey(epoch, secret, CERTIFICATE)


def test_a_secret_does_not_show() -> None:
    assert key().secret.hex() not in repr(RING)


def test_what_follows_from_a_ticket_never_changes() -> None:
    """Another value here is another version: servers of two versions share keys while one replaces the other."""
    fixed = key()
    take = fixed.entropy("0+ticket")
    assert fixed.password("0+ticket") == "nDHr4I9dTPBCcN7AL2+qYXl8"
    assert fixed.call_id("0+ticket:abcd") == "eb4b8ec8f933f3d3d4633538"
    assert take(4).hex() + take(4).hex() == "28985e2b59be36a2"
    assert fixed.seal(TICKET, 3, "eu1/a") == (
        "3eu1/a+ESjNZhr6RQyKrK/mWx+KuhRuzsV0+pUZl88KR1MuOJq14bKn+/A3t"
        "niyyH2QqRb9TmMD08hJuyx3YdqiV9Vp2C5OGfCYWVlJM9GViu68fAefhg"
    )


def test_the_random_half_goes_on_and_ends() -> None:
    whole, parts = key().entropy("0+ticket"), key().entropy("0+ticket")
    assert whole(200) == parts(90) + parts(10) + parts(100)
    with pytest.raises(LocalError):
        whole(8000)


def test_each_label_has_secrets_of_its_own() -> None:
    one, other = key(1), key(2)
    values = [each.password(ufrag) for each in (one, other) for ufrag in ("0+a", "0+b")]
    assert len(set(values)) == 4
    assert one.call_id("0+a") != one.call_id("0+b")
    assert one.entropy("0+a")(18) != one.entropy("0+b")(18)
