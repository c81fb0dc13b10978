"""What a ticket's parsers are fed with: the message itself, and fragments under a key."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress

from stack.core.errors import ParseError
from stack.core.machine import Address
from stack.dtls import Certificate
from stack.session.ticket import SessionTicket
from stack.session.ticket_keys import OpenedTicket, TicketKey, TicketRing
from stack.session.ticket_terms import TicketSite, parameters_of
from tests.sim.certificates import EPOCH
from tests.sim.entropy import entropy

_KEY = TicketKey(1, hashlib.sha256(b"fuzz").digest(), Certificate.generate(entropy("fuzz"), EPOCH))
_RING = TicketRing.of([_KEY])
_SITE = TicketSite([Address("192.0.2.1", 3478)])


def message(data: bytes) -> None:
    """Any bytes as what a key has sealed: what is read is the same when it is written; it may make a session."""
    try:
        ticket = SessionTicket.parse(data)
    except ParseError:
        return
    assert ticket.serialize() == data
    with suppress(ParseError):  # a section of a newer version
        parameters_of(OpenedTicket(ticket, "0+fuzz" + "0" * 10, _KEY), _SITE, "abcd")


def fragment(data: bytes) -> None:
    """Any bytes as a fragment: as text, and behind what a ticket of this key begins with."""
    text, sealed = data.decode("latin-1"), b64encode(bytes((0x11,)) + data).decode().rstrip("=")
    for whole in (text, f"0+{text}", f"0+{sealed}", f"{text}+{sealed}", f"0+{sealed[:2]}{text}"):
        try:
            _RING.open(whole)
        except ParseError:
            continue
        raise AssertionError("a forged ticket was opened")


TARGETS: dict[str, Callable[[bytes], None]] = {"ticket": message, "ticket_fragment": fragment}
