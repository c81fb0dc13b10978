"""A host's tickets: answers that need no session in memory, and tickets for a call to come.

`TicketIssuer` belongs to the program's loop. It has the keys (`ticket_file.py`, read again when the file is
another), makes answers whose username fragment is a ticket, and remembers, for a while and up to a bound, what an
HTTP request said that has no room in one: where the process that answered has the call, too, its program misses
nothing; where another one has it, the program is told what the ticket holds (`CallContext.claim` and the numbers).
"""

from __future__ import annotations

import os
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from stack.aio.call import Call
from stack.aio.context import CallContext
from stack.aio.ticket_file import KEPT_EPOCHS, make_key, read_ring, with_new_epoch
from stack.aio.ticket_site import CallMade, TicketMedia, TicketRingPem
from stack.audio.wav import FilePath
from stack.core.errors import LocalError
from stack.core.machine import Address
from stack.ice import MAX_WORKERS
from stack.sdp import LocalParameters, Negotiation, SessionDescription, Setup, choose_setup, negotiate_for
from stack.server.admission import CLOCK_SKEW
from stack.session import LocalWishes, make_local_parameters
from stack.session.ticket import CHAIN_SIZE, REFERENCE_SIZE, SessionTicket, TicketFlag, chain_of
from stack.session.ticket_keys import MAX_REVOKED, OpenedTicket, TicketRing, claim_room
from stack.session.ticket_terms import TicketSite, TicketWishes, local_parameters_of, make_ticket
from stack.voice.config import offered_codecs

MAX_AWAITED = 4096
"""Answers of which it is remembered what their requests said; the oldest is forgotten."""
REREAD_EVERY = 2.0
"""Seconds between two looks whether the file of the keys is another."""
RENEW_AFTER = 30 * 86_400.0
"""Seconds for which a key seals that this process has made for itself, and for which its certificate is shown."""


@dataclass(frozen=True, slots=True)
class TicketConfig:
    """Whether answers are tickets, and whether there are tickets for calls to come."""

    key_file: FilePath | None = None
    """The keys (`voice-stack ticket-key FILE` makes one); None: of this process alone, gone with it."""
    stateless: bool = True
    """Answer by a ticket where it holds all that was agreed on."""
    instant_connect: bool = False
    """Give clients tickets for their next call, which needs no HTTP then."""
    answer_lifetime: float = 60.0
    """Seconds in which the first check has to come after an answer."""
    instant_lifetime: float = 24 * 3600.0
    """Seconds after an answer over HTTP in which tickets for calls to come can be used, renewed ones, too."""
    claim_bytes: int = 0
    """Bytes of a claim that every ticket has to have room for: refused at the start where there is none.

    A longer claim may have room or not; where it has none, the answer is kept in memory."""


@dataclass(frozen=True, slots=True)
class TicketAnswer:
    """An answer that is a ticket, and the id that its call will have."""

    answer: str
    call_id: str
    negotiation: Negotiation
    reference: bytes
    ufrag: str


@dataclass(frozen=True, slots=True)
class InstantTicket:
    """What a client puts into the last answer that it had, to make itself one for its next call."""

    ufrag: str
    password: str
    fingerprint: str
    ssrc: int
    cname: str
    lifetime: float
    """Seconds from now on."""
    reference: str

    def describe(self) -> dict[str, str | int | float]:
        """Return it as clients are told, in JSON."""
        return {
            "ufrag": self.ufrag,
            "pwd": self.password,
            "fingerprint": self.fingerprint,
            "ssrc": self.ssrc,
            "cname": self.cname,
            "lifetime": self.lifetime,
        }


class _Awaited:
    """What the request of an answer said, and who wants to be told of its call."""

    __slots__ = ("context", "on_call", "reference", "until")

    def __init__(
        self, context: CallContext, reference: bytes, until: float, on_call: Callable[[Call], None] | None
    ) -> None:
        self.context = context
        self.reference = reference
        self.until = until
        self.on_call = on_call


class TicketIssuer:
    """Makes the tickets of one host. Raises `LocalError` for keys that cannot be read, or claims without room."""

    def __init__(
        self,
        config: TicketConfig,
        addresses: Sequence[Address],
        public_ips: Sequence[str] = (),
        setup: Setup | None = None,
        node: str = "",
        relays: Sequence[Address] = (),
    ) -> None:
        if config.claim_bytes > claim_room(node):
            where = f" beside the node's name, {node}" if node else ""
            raise LocalError(
                f"claims of {config.claim_bytes} bytes have no room in a ticket{where}: at most {claim_room(node)}"
            )
        self.config = config
        self._site = TicketSite(tuple(addresses), tuple(public_ips), offered_codecs(), relays=tuple(relays))
        self._setup = setup
        self._node = node
        self._stamp: tuple[int, int] | None = None
        self._made = time.time()  # the key of this process alone
        if config.key_file is None:
            self.ring = TicketRing.of([make_key(1)])
        else:
            self._stamp = _stamp(config.key_file)
            self.ring = read_ring(config.key_file)
        self._read = self.ring  # as the file has it: without what was revoked here
        self._drafts: dict[Setup, LocalParameters] = {}
        self._revoked: dict[bytes, float] = {}  # until when, in seconds since 1970
        self._withdrawn: OrderedDict[bytes, float] = (
            OrderedDict()
        )  # the same, of answers that their clients gave up
        self._awaited: OrderedDict[str, _Awaited] = OrderedDict()

    def set_tcp(self, addresses: Sequence[Address]) -> None:
        """Offer these addresses for ICE-TCP, too."""
        self._site = replace(self._site, tcp=tuple(addresses))
        self._drafts.clear()

    @property
    def lifetime(self) -> float:
        """Seconds in which the first check has to come after an answer."""
        return self.config.answer_lifetime

    @property
    def media(self) -> TicketMedia:
        """What the media sides need."""
        return TicketMedia(TicketRingPem.of(self.ring), tuple(self._site.public_ips), tuple(self._site.relays))

    def reread(self) -> bool:
        """Read the file again if it is another; True if there are other keys now, which seal and open.

        Without a file, a key that is `RENEW_AFTER` seconds old has another one follow it.
        Raises `LocalError` if it cannot be read: the former keys stay.
        """
        path = self.config.key_file
        if path is None:
            return self._renew()
        if (stamp := _stamp(path)) == self._stamp:
            return False
        self._read = read_ring(path)
        self._take_revoked()
        self._stamp = stamp
        return True

    def _renew(self) -> bool:
        now = time.time()
        if now - self._made < RENEW_AFTER:
            return False
        self._made = now
        self._read = with_new_epoch(self._read, self._read.keys[-KEPT_EPOCHS:])
        self._take_revoked()
        return True

    def revoke(self, reference: bytes) -> None:
        """Honour a ticket, and those of its chain, no more, in this process and its workers.

        Raises `LocalError` where `MAX_REVOKED` references are revoked already: it is honoured still.
        """
        self._forget_revoked()
        if len(self._read.revoked | self._revoked.keys() | {reference}) > MAX_REVOKED:
            raise LocalError(f"{MAX_REVOKED} tickets are revoked one by one: take their epoch out instead")
        longest = max(self.config.answer_lifetime, self.config.instant_lifetime)
        self._revoked[reference] = time.time() + longest + CLOCK_SKEW  # the end of its chain
        self._take_revoked()

    def answer(
        self,
        offer: SessionDescription,
        worker: int,
        context: CallContext,
        on_call: Callable[[Call], None] | None = None,
    ) -> TicketAnswer | None:
        """Return the answer to an offer; None where a ticket cannot hold what comes of it.

        Raises `NegotiationError` as `negotiate` does.
        """
        expiry = time.time() + self.config.answer_lifetime
        opened: OpenedTicket | None = None

        def seal(agreed: Negotiation) -> LocalParameters | None:
            nonlocal opened
            opened = self._sealed(agreed, context, expiry, worker, is_instant=False)
            return None if opened is None else local_parameters_of(opened, self._site)

        negotiation = negotiate_for(offer, self._drafted(self._setup or choose_setup(offer)), seal)
        if negotiation is None or opened is None:
            return None
        call_id = opened.key.call_id(f"{opened.ufrag}:{negotiation.remote_ice_ufrag}")
        reference = opened.ticket.reference
        self._forget_old()
        self._awaited[call_id] = _Awaited(context, reference, expiry, on_call)
        return TicketAnswer(negotiation.answer.serialize(), call_id, negotiation, reference, opened.ufrag)

    def expect(self, call_id: str, context: CallContext, reference: bytes, lifetime: float) -> None:
        """Remember what the request of an answer said that another process gave."""
        self._forget_old()
        self._awaited[call_id] = _Awaited(context, reference, time.time() + lifetime, None)

    def instant(
        self, agreed: Negotiation, context: CallContext, former: bytes | None = None
    ) -> InstantTicket | None:
        """Return a ticket for a client's next call, made from what was agreed on for this one.

        `former` is the reference of this one's ticket, if it has one: the two are of one chain. There is none
        where the request said what the next call would miss: a `session`, or what an application noted (`state`).
        """
        if not self.config.instant_connect or context.session or context.state:
            return None
        expiry = time.time() + self.config.instant_lifetime
        worker = random.randrange(MAX_WORKERS)
        opened = self._sealed(agreed, context, expiry, worker, is_instant=True, former=former)
        return None if opened is None else self._describe(opened)

    def renewed(self, made: CallMade) -> InstantTicket | None:
        """Return a fresh ticket for the call after one that a ticket has made; None if its chain is at its end.

        It is of the same chain, and expires when that does: `instant_lifetime` after the answer over HTTP.
        """
        if not self.config.instant_connect:
            return None
        former = SessionTicket.parse(made.ticket)
        expiry = former.expiry
        if not former.is_instant:
            expiry += int(self.config.instant_lifetime - self.config.answer_lifetime)
        if expiry <= time.time():
            return None
        ticket = replace(
            former,
            expiry=expiry,
            reference=_reference(former.reference),
            flags=(former.flags | TicketFlag.INSTANT) & ~TicketFlag.SNAP,
            init=None,
        )
        opened = self._seal(ticket, random.randrange(MAX_WORKERS))
        return None if opened is None else self._describe(opened)

    def awaits(self, call_id: str) -> bool:
        """Return True for an answer whose first check may still come."""
        awaited = self._awaited.get(call_id)
        return awaited is not None and awaited.until >= time.time()

    def withdraw(self, call_id: str) -> bool:
        """Honour an answer no more whose call has not come yet; False if there is none.

        It is remembered until its ticket has expired everywhere, or `MAX_REVOKED` references are revoked: then the
        answer that was withdrawn first can be used again, by the client that has withdrawn it.
        """
        awaited = self._awaited.pop(call_id, None)
        if awaited is None:
            return False
        until = awaited.until
        if self.config.instant_connect:
            until += max(0.0, self.config.instant_lifetime - self.config.answer_lifetime)  # the end of its chain
        self._withdrawn[awaited.reference] = until + CLOCK_SKEW
        return True

    def is_withdrawn(self, reference: bytes) -> bool:
        """Return True for the ticket of an answer that was withdrawn; the ring has it after `take_withdrawn`."""
        return reference in self._withdrawn

    def take_withdrawn(self) -> None:
        """Have what was withdrawn in the ring: with thousands of references that takes milliseconds."""
        self._take_revoked()

    def take(self, made: CallMade) -> tuple[CallContext, Callable[[Call], None] | None]:
        """Return what is known of a call that has come, and who wants to be told."""
        awaited = self._awaited.pop(made.call, None)
        ticket = SessionTicket.parse(made.ticket)
        if awaited is not None:
            return replace(awaited.context, ticket=ticket.reference.hex()), awaited.on_call
        context = CallContext(
            remote=made.remote,
            ticket=ticket.reference.hex(),
            claim=ticket.claim,
            program=ticket.program,
            tenant=ticket.tenant,
        )
        return context, None

    def _take_revoked(self) -> None:
        """Have the keys of the file, and what is revoked there and here, in the ring; never more than it holds."""
        self._forget_revoked()
        revoked = set(self._read.revoked)
        for references in (reversed(self._revoked), reversed(self._withdrawn)):  # the latest first
            revoked.update(islice(references, max(0, MAX_REVOKED - len(revoked))))
        self.ring = replace(self._read, revoked=frozenset(revoked))
        self._drafts.clear()

    def _forget_revoked(self) -> None:
        now = time.time()
        for references in (self._revoked, self._withdrawn):
            for reference in [each for each, until in references.items() if until < now]:
                del references[reference]
        while len(self._withdrawn) > MAX_REVOKED:
            self._withdrawn.popitem(last=False)

    def _drafted(self, setup: Setup) -> LocalParameters:
        """Return our side with the certificate of the newest epoch; its credentials go nowhere."""
        draft = self._drafts.get(setup)
        if draft is None:
            site = self._site
            wishes = LocalWishes(ice_lite=True, tcp=site.tcp, setup=setup, codecs=site.codecs)
            draft = self._drafts[setup] = make_local_parameters(
                os.urandom, self.ring.newest.certificate, site.addresses, wishes, site.public_ips, site.relays
            )
        return draft

    def _sealed(
        self,
        agreed: Negotiation,
        context: CallContext,
        expiry: float,
        worker: int,
        *,
        is_instant: bool,
        former: bytes | None = None,
    ) -> OpenedTicket | None:
        wishes = TicketWishes(
            int(expiry), _reference(former), context.program, context.tenant, context.claim, is_instant
        )
        ticket = make_ticket(agreed, self._site, wishes)
        return None if ticket is None else self._seal(ticket, worker)

    def _seal(self, ticket: SessionTicket, worker: int) -> OpenedTicket | None:
        """Seal it by the newest key; None if the fragment has no room for it beside the node's name."""
        key = self.ring.newest
        try:
            return OpenedTicket(ticket, key.seal(ticket, worker, self._node), key)
        except LocalError:
            return None

    def _describe(self, opened: OpenedTicket) -> InstantTicket:
        local = local_parameters_of(opened, self._site)
        return InstantTicket(
            ufrag=local.ice_ufrag,
            password=local.ice_pwd,
            fingerprint=local.fingerprint.serialize(),
            ssrc=local.audio.ssrc if local.audio is not None else 0,
            cname=local.audio.cname if local.audio is not None else "",
            lifetime=max(0.0, opened.ticket.expiry - time.time()),
            reference=opened.ticket.reference.hex(),
        )

    def _forget_old(self) -> None:
        now = time.time()
        while self._awaited:
            oldest = next(iter(self._awaited))
            if len(self._awaited) < MAX_AWAITED and self._awaited[oldest].until >= now:
                break
            del self._awaited[oldest]


def _reference(former: bytes | None) -> bytes:
    """Return a new reference, of the chain of `former` if there is one."""
    made = os.urandom(REFERENCE_SIZE)
    return made if former is None else chain_of(former) + made[CHAIN_SIZE:]


def _stamp(path: FilePath) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise LocalError(f"cannot read the ticket keys in {os.fsdecode(path)}: {error.strerror}") from error
    return status.st_mtime_ns, status.st_ino


__all__ = ["InstantTicket", "TicketAnswer", "TicketConfig", "TicketIssuer"]
