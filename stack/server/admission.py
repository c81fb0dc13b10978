"""Which checks may make a session: the ticket in their USERNAME is opened, and what comes of it is bounded.

The endpoint asks for each check that names no session it knows (`Resolve`). In this order, cheapest first: the
fragment opens under a key of the ring, the ticket has not expired and is not revoked, the check is signed with
the password that follows from it (RFC 8445 §7.3), and no bound is reached. What fails costs microseconds and
leaves a counter. Only then is a session made, for the pair of fragments in USERNAME: another fragment of the
client is another connection of its page, and has a session of its own until one of them has proved who it is.

- A session is *half-open* until the handshake has shown the certificate whose fingerprint is in the ticket. A
  check that is copied off the wire gets no further than that. Half-open sessions are bounded by ticket, by address
  and altogether, and `HALF_OPEN_TIMEOUT` ends them.
- One reference is honoured once at a time: the session that proves itself takes the place of the one that has,
  and of those that were made before it. That is a page that was loaded again; its former call is over, whether it
  could say so or not. A move of the same connection has the same pair of fragments, and is none of this.
- A check that its ticket's password has signed, and of which no session comes any more (it has expired, was
  revoked, or the session of the same pair is over, or nothing proved itself in one, or its sender is in the middle
  of a session which this process does not have), is answered with an error of class 4 that the same password
  signs: so a client learns that its session died with its process. Chromium gives up then. The passwords of
  sessions that no ticket makes follow from the fragment, too, where there is a key, so that their checks are
  refused in the same way.
- The server may speak with its Finished, a round trip before the client has proved itself (RFC 8446 §4.4.4): to
  the first check of a pair only, as with early data (RFC 8446 §8.2). A pair that was seen before is answered, but
  spoken to when it has proved itself. `MAX_SEEN` pairs are remembered, while the process lives.

Time is an argument; `wall` is in seconds since 1970. All of this belongs to one loop.
"""

from __future__ import annotations

import hashlib
from collections import Counter as Tally
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, NamedTuple

from stack.core.counters import Counters, declare
from stack.core.errors import ParseError
from stack.core.machine import Instant, Path, Transmit
from stack.core.ufrag import RANDOM_SIZE, SEPARATOR
from stack.ice import split_username
from stack.session import SessionParameters
from stack.session.ticket_keys import OpenedTicket, TicketRing
from stack.session.ticket_terms import TicketSite, parameters_of
from stack.stun import ErrorCode, Message, MessageClass, Method, TransactionId, short_term_key, verify_integrity

MADE = declare("ticket", "made", "Sessions that were made by their first packet")
REPLAYED = declare(
    "ticket", "replayed", "First checks that have come before: not spoken to before the client has proved itself"
)
SUPERSEDED = declare(
    "ticket", "superseded", "Sessions that ended because their ticket was used again by the same certificate"
)
GIVEN_UP = declare("ticket", "given_up", "Sessions of tickets in which nothing proved itself in time")
DROPPED_FORGED = declare("ticket", "dropped_forged", "Checks whose fragment is no ticket of a key that we have")
DROPPED_EXPIRED = declare("ticket", "dropped_expired", "Checks whose ticket has expired")
DROPPED_REVOKED = declare("ticket", "dropped_revoked", "Checks whose ticket was revoked")
DROPPED_UNSIGNED = declare(
    "ticket", "dropped_unsigned", "Checks that the password of their ticket did not sign, or that are no requests"
)
REFUSED = declare(
    "ticket", "refused", "Signed checks answered with a signed error, as no session comes of their ticket any more"
)
ORPHANED = declare(
    "ticket", "orphaned", "Signed checks of clients in the middle of a session that is not here: refused"
)
DROPPED_HALF_OPEN = declare(
    "ticket", "dropped_half_open", "Checks beyond the half-open sessions that a ticket, an address or all may have"
)

CLOCK_SKEW: Final = 300.0
"""Seconds that a ticket is honoured beyond its expiry: two servers' clocks may differ by so much."""
HALF_OPEN_TIMEOUT: Final = 10.0
"""Seconds that a session of a ticket has to prove itself in."""
MAX_SEEN: Final = 50_000
"""Pairs of fragments that are remembered, the latest."""
NOT_FOUND: Final = 404
"""The error that is signed. RFC 8489 leaves the numbers of class 4 to the usage; 401 would have Chromium go on."""
_DISPLACE_AFTER = 2.0  # seconds after which a half-open session makes room for another one of its ticket
_BINDING_REQUEST = b"\x00\x01"
_TRANSACTION = slice(8, 20)
_MAX_TRIED = 2  # epochs, the latest, whose password is tried for a fragment without a ticket


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How many sessions may be half-open."""

    half_open: int = 256
    per_ticket: int = 4
    per_address: int = 32
    """Of one IP address; clients behind one NAT share it."""


class Admitted(NamedTuple):
    """A session that is to be made: its name is that of the call."""

    name: str
    parameters: SessionParameters
    opened: OpenedTicket
    may_speak_early: bool


class _Session:
    """One that was admitted and is not over."""

    __slots__ = ("host", "is_proven", "made", "reference")

    def __init__(self, reference: bytes, host: str, made: Instant) -> None:
        self.reference = reference
        self.host = host
        self.made = made
        self.is_proven = False


class TicketAdmission:
    """The sessions of one endpoint that tickets have made."""

    def __init__(self, ring: TicketRing, site: TicketSite, limits: AdmissionLimits | None = None) -> None:
        self.ring = ring
        """May be replaced: sessions that are up stay, whatever becomes of their key."""
        self.counters = Counters()
        self._site = site
        self._limits = limits or AdmissionLimits()
        self._sessions: dict[str, _Session] = {}
        self._by_reference: dict[bytes, dict[str, None]] = {}
        self._half_open = 0
        self._half_open_at: Tally[str] = Tally()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._displaced: list[str] = []
        self._given_up: OrderedDict[str, None] = OrderedDict()

    @property
    def half_open(self) -> int:
        """How many sessions have not proved themselves yet."""
        return self._half_open

    def admit(
        self, data: bytes, username: str, path: Path, now: Instant, wall: float, is_stray: bool = False
    ) -> Admitted | Transmit | None:
        """Return what is to be made of a check, or the signed refusal of it, or None; all are counted.

        `is_stray`: its sender is in the middle of a session that this process does not have (`strays.py`).
        """
        fragments = split_username(username)
        if fragments is None or data[:2] != _BINDING_REQUEST:
            self.counters.add(DROPPED_UNSIGNED)
            return None
        ufrag, remote_ufrag = fragments
        unsealed = self.ring.unseal(ufrag)
        if unsealed is None:
            refusal = self._refuse_without_ticket(data, ufrag, path)
            if refusal is None:
                self.counters.add(DROPPED_FORGED)
            return refusal
        (expiry, reference), key = unsealed.head, unsealed.key
        password = short_term_key(key.password(ufrag))
        if wall > expiry + CLOCK_SKEW:
            self.counters.add(DROPPED_EXPIRED)
            return self._refuse(data, password, path)
        if self.ring.revokes(unsealed.head.chain):
            self.counters.add(DROPPED_REVOKED)
            return self._refuse(data, password, path)
        if not verify_integrity(data, password):
            self.counters.add(DROPPED_UNSIGNED)
            return None
        name, host = key.call_id(username), path.remote.host
        if is_stray and name not in self._sessions:
            self.counters.add(ORPHANED)
            return self._refuse(data, password, path)
        if name in self._given_up:
            return self._refuse(data, password, path)
        if name in self._sessions or not self._has_room(reference, host, now):
            self.counters.add(DROPPED_HALF_OPEN)
            return None
        try:
            opened = unsealed.open()
            parameters = parameters_of(opened, self._site, remote_ufrag)
        except ParseError:  # of another server with the key, of a newer version, say
            self.counters.add(DROPPED_FORGED)
            return self._refuse(data, password, path)
        self._sessions[name] = _Session(reference, host, now)
        self._by_reference.setdefault(reference, {})[name] = None
        self._half_open += 1
        self._half_open_at[host] += 1
        self.counters.add(MADE)
        return Admitted(name, parameters, opened, self._is_first(username))

    def note_proven(self, name: str) -> list[str]:
        """The client of a session has proved that it has the certificate; return the sessions that end for it."""
        session = self._sessions.get(name)
        if session is None or session.is_proven:
            return []
        self._leave_half_open(session)
        session.is_proven = True
        others = [
            other
            for other in self._by_reference[session.reference]
            if other != name and (self._sessions[other].is_proven or self._sessions[other].made <= session.made)
        ]
        if any(self._sessions[other].is_proven for other in others):
            self.counters.add(SUPERSEDED)
        return others

    def _refuse(self, data: bytes, password: bytes, path: Path) -> Transmit | None:
        """Return the signed error to a check, if the password has signed that; it is shorter than the check."""
        if not verify_integrity(data, password):
            return None
        self.counters.add(REFUSED)
        transaction = TransactionId(data[_TRANSACTION])  # nothing else of the request is needed
        response = Message(MessageClass.ERROR_RESPONSE, Method.BINDING, transaction, (ErrorCode(NOT_FOUND),))
        return Transmit(response.sign(password), path)

    def _refuse_without_ticket(self, data: bytes, ufrag: str, path: Path) -> Transmit | None:
        """Refuse a check of a session that an offer has made, in a process that is gone; None if it is none."""
        if len(ufrag.partition(SEPARATOR)[2]) != 2 * RANDOM_SIZE:
            return None
        for key in self.ring.keys[: -_MAX_TRIED - 1 : -1]:
            refusal = self._refuse(data, short_term_key(key.password(ufrag)), path)
            if refusal is not None:
                self.counters.add(ORPHANED)
                return refusal
        return None

    def note_given_up(self, name: str) -> None:
        """No session comes of a pair any more: nothing has proved itself in time, or its call is over.

        Further checks are refused.
        """
        if len(self._given_up) >= MAX_SEEN:
            self._given_up.popitem(last=False)
        self._given_up[name] = None

    def is_half_open(self, name: str) -> bool:
        """Return True for a session that has proved nothing yet."""
        session = self._sessions.get(name)
        return session is not None and not session.is_proven

    def note_ended(self, name: str) -> None:
        """A session is over."""
        session = self._sessions.pop(name, None)
        if session is None:
            return
        if session.is_proven:  # a later call has another fragment of its client
            self.note_given_up(name)
        else:
            self._leave_half_open(session)
        of_ticket = self._by_reference[session.reference]
        del of_ticket[name]
        if not of_ticket:
            del self._by_reference[session.reference]

    def drain_displaced(self) -> list[str]:
        """Return the half-open sessions that have to make room: they are to be ended."""
        displaced, self._displaced = self._displaced, []
        return displaced

    def _has_room(self, reference: bytes, host: str, now: Instant) -> bool:
        """Return True if one more may be half-open; an old one of the same ticket may have to go for it."""
        limits = self._limits
        of_ticket = [name for name in self._by_reference.get(reference, ()) if not self._sessions[name].is_proven]
        oldest = None
        half_open, at_host = self._half_open, self._half_open_at[host]
        if len(of_ticket) >= limits.per_ticket:  # a copy of a check may not keep the client out for long
            oldest = of_ticket[0]
            session = self._sessions[oldest]
            if now - session.made < _DISPLACE_AFTER:
                return False
            half_open -= 1
            at_host -= session.host == host
        if half_open >= limits.half_open or at_host >= limits.per_address:
            return False
        if oldest is not None:
            self.note_ended(oldest)
            self._displaced.append(oldest)
        return True

    def _leave_half_open(self, session: _Session) -> None:
        self._half_open -= 1
        self._half_open_at[session.host] -= 1
        if not self._half_open_at[session.host]:
            del self._half_open_at[session.host]

    def _is_first(self, username: str) -> bool:
        digest = hashlib.blake2b(username.encode(), digest_size=12).digest()
        if digest in self._seen:
            self.counters.add(REPLAYED)
            return False
        if len(self._seen) >= MAX_SEEN:
            self._seen.popitem(last=False)
        self._seen[digest] = None
        return True
