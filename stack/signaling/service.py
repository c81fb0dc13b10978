"""What all dialects share: authorisation, bounded bodies, refusals as HTTP errors, handing the offer to the host.

Errors are `{"error": "…"}`; under `/v1/` they have the form that OpenAI's clients read. No message holds anything
that was sent as a secret, and the headers that a program gets have lost theirs.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from stack.aio import Call, CallContext, CallElsewhere, Host, HostFull, IceMode, Renegotiated
from stack.aio.tickets import MAX_AWAITED, InstantTicket
from stack.core.errors import LocalError, ParseError
from stack.sdp import NegotiationError, NegotiationFailure, SessionDescription
from stack.session import EndReason
from stack.signaling.config import MAX_BODY, SignalingConfig
from stack.signaling.connections import ConnectionIdentity, Connections, PlacedCall, digest_of
from stack.signaling.http import AppKey, HttpRequest, RequestRefused
from stack.signaling.metrics import Metrics
from stack.signaling.proxy import TrustedProxies
from stack.signaling.security import (
    ANONYMOUS,
    Keys,
    Principal,
    RateLimits,
    Scope,
    allows,
    is_same_origin,
)

MAX_ENDS = 10_000
"""Calls that are over of which it is remembered why; the oldest is forgotten."""
MAX_HEADER = 8190
"""Bytes of the request line, and of each header field."""
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


StateT = TypeVar("StateT")


@dataclass(frozen=True, slots=True)
class AcceptedOffer:
    """What came of an offer: a new call, or one that was up already."""

    answer: str
    call: Call
    is_new: bool = True
    instant: InstantTicket | None = None
    """For the client's next call, where that is allowed."""


@dataclass(frozen=True, slots=True)
class AnsweredOffer:
    """What came of an offer whose call may be made by its first packet: then there is no `call` yet."""

    answer: str
    call_id: str
    call: Call | None = None
    is_new: bool = True
    instant: InstantTicket | None = None
    """For the client's next call, where that is allowed."""


class SignalingService:
    """What the dialects of one server share: its host, keys, limits and metrics, and who placed which call."""

    def __init__(self, host: Host, config: SignalingConfig | None = None) -> None:
        self.host = host
        self.config = config or SignalingConfig()
        self.proxies = TrustedProxies(self.config.trusted_proxies)
        self.keys = Keys(self.config.tokens, time.time, os.urandom)
        self.metrics = Metrics(host)
        self.draining = False
        self.drain_asked = asyncio.Event()
        """Set by `POST /drain`: the process is to end as after SIGTERM."""
        self.find_elsewhere: Callable[[], str | None] = lambda: None
        """Returns where the HTTP of another machine is that takes calls, for when this one takes none."""
        self.describe_readiness: Callable[[], tuple[bool, Mapping[str, str]]] = lambda: (True, {})
        """Returns whether new calls are welcome as far as our surroundings go, and what those are like."""
        self._rates = RateLimits(self.config.offers_per_second, self.config.offers_per_client, time.monotonic)
        self._calls_of: Tally[str] = Tally()
        self._connections = Connections()
        self._states: dict[str, dict[tuple[int, str], Callable[[], None]]] = {}  # what to forget with a call
        self._ends: dict[str, EndReason] = {}
        self._awaited: OrderedDict[str, Principal] = OrderedDict()  # who has answers whose calls have not come
        self._placing: dict[tuple[str, ...], asyncio.Event] = {}  # offers that are with the host, by certificate
        host.on_ticket_call = self._note_ticket_call

    def authorise(self, request: HttpRequest, scope: Scope) -> Principal:
        """Return whose token the request bears; raises `RequestRefused` (401, 403) without one for `scope`."""
        principal = self.keys.identify(request.headers.get("Authorization"))
        if principal is None:
            raise RequestRefused(
                401, "a valid bearer token is needed; this one is missing, unknown or expired",
                **{"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if scope not in principal.scopes:
            raise RequestRefused(403, f"this token may not do that: it lacks the scope {scope.value!r}")
        return principal

    def find_call(self, request: HttpRequest, call_id: str) -> Call:
        """Return a call that the client may steer: its own, or any with scope `control`; else `RequestRefused`."""
        principal = self.keys.identify(request.headers.get("Authorization"))
        call = self.host.calls.get(call_id)
        if principal is None:
            self.authorise(request, Scope.CALL)
        elif Scope.CONTROL not in principal.scopes:
            placed = self._connections.get(call_id)
            # Of a call by a ticket that no request here has announced, its client alone was told the id.
            is_by_ticket = placed is None and call is not None and bool(call.context.ticket)
            is_its = placed.principal == principal if placed is not None else is_by_ticket
            if not is_its or Scope.CALL not in principal.scopes:
                call = None  # another client learns no more than if there were no such call
        if call is None:
            raise RequestRefused(404, "no such call")
        return call

    async def accept(
        self,
        request: HttpRequest,
        principal: Principal,
        offer: str,
        session: Mapping[str, Any] | None = None,
        *,
        replaces: Call | None = None,
    ) -> AcceptedOffer:
        """Hand an offer to the host, or to the call that it continues; raises `RequestRefused`, with its status.

        `replaces` is a call that this one takes the place of: the client has said so.
        """
        self._check_rate(request)
        return await self._accept(request, principal, offer, _read_offer(offer), session, replaces)

    async def answer(
        self,
        request: HttpRequest,
        principal: Principal,
        offer: str,
        session: Mapping[str, Any] | None = None,
        moved_from: str = "",
        avoid: str = "",
    ) -> AnsweredOffer:
        """Do the same where it does not matter that there may be no call before its first packet.

        A ticket is the answer if it holds all that was agreed on, and the request says nothing that a program in
        another process would miss: no `session`, and nothing that an application around this one has noted.
        `moved_from` is the call that this one takes the place of, on another machine, as the client says; `avoid`
        the node at which it was lost.
        """
        self._check_rate(request)
        description = _read_offer(offer)
        identity = ConnectionIdentity.of(description)
        is_plain = not session and not request.state
        if is_plain and identity is not None and next(self._connections.find(identity), None) is None:
            client, digest = request.remote or "", digest_of(offer)
            self._check_room(request)

            def note(call: Call) -> None:
                answer = answered.answer if answered is not None else ""
                placed = PlacedCall(call.id, principal, client, identity, digest, answer)
                self._awaited.pop(call.id, None)
                self._note_made(call, client, placed)

            with _refusing(request, self.find_elsewhere):
                context = self._context(request, session, moved_from, avoid)
                answered = await self.host.answer(description, context, note, _ice_asked_for(request))
            if answered is not None:
                self._note_awaited(answered.call_id, principal)
                return AnsweredOffer(answered.answer, answered.call_id, instant=answered.instant)
        taken = await self._accept(request, principal, offer, description, session, None, moved_from)
        return AnsweredOffer(taken.answer, taken.call.id, taken.call, taken.is_new, taken.instant)

    async def _accept(
        self,
        request: HttpRequest,
        principal: Principal,
        offer: str,
        description: SessionDescription,
        session: Mapping[str, Any] | None,
        replaces: Call | None,
        moved_from: str = "",
    ) -> AcceptedOffer:
        identity = ConnectionIdentity.of(description)
        place = partial(self._place, request, principal, offer, description, session, identity, moved_from)
        if identity is None or replaces is not None:
            return await place()
        while (placing := self._placing.get(identity.fingerprints)) is not None:
            await placing.wait()  # the same request twice at once
        placing = self._placing[identity.fingerprints] = asyncio.Event()
        try:
            for placed in self._connections.find(identity):
                call = self.host.calls.get(placed.call_id)
                if call is not None and not call.ended:
                    return await self._accept_again(request, principal, offer, description, placed, call, identity)
            return await place()
        finally:
            del self._placing[identity.fingerprints]
            placing.set()

    async def _accept_again(
        self,
        request: HttpRequest,
        principal: Principal,
        offer: str,
        description: SessionDescription,
        placed: PlacedCall,
        call: Call,
        identity: ConnectionIdentity,
    ) -> AcceptedOffer:
        """Take an offer of a connection that is up and was not named; see `connections.py` for who may."""
        if call.connected is None and placed.is_repeated_by(principal, request.remote or "", offer):
            return AcceptedOffer(placed.answer, call, is_new=False)
        if principal is not ANONYMOUS and principal == placed.principal:
            return AcceptedOffer((await self._renegotiate(call, description, identity)).answer, call, is_new=False)
        raise RequestRefused(
            409,
            "this offer belongs to a connection that is up; a further offer of it has to name the call (PATCH its "
            "Location with application/sdp, or pc_id), and a new call needs a new RTCPeerConnection",
        )

    async def renegotiate(self, request: HttpRequest, call: Call, offer: str) -> Renegotiated:
        """Hand a further offer to a call that the client may steer; after `RequestRefused` the call goes on."""
        self._check_rate(request)
        description = _read_offer(offer)
        return await self._renegotiate(call, description, ConnectionIdentity.of(description))

    async def _renegotiate(
        self, call: Call, offer: SessionDescription, identity: ConnectionIdentity | None
    ) -> Renegotiated:
        placed = self._connections.get(call.id)
        if placed is not None and identity is not None and identity.precedes(placed.identity):
            raise RequestRefused(409, "this offer was overtaken by a later one")  # RFC 3264 §8: versions only rise
        try:
            changed = await self.host.renegotiate(call, offer)
        except LocalError as error:
            raise RequestRefused(404, str(error)) from error
        except NegotiationError as error:
            raise _refusal(error) from error
        if identity is not None:
            self._connections.update(call.id, identity)
        return changed

    async def _place(
        self,
        request: HttpRequest,
        principal: Principal,
        offer: str,
        description: SessionDescription,
        session: Mapping[str, Any] | None,
        identity: ConnectionIdentity | None,
        moved_from: str,
    ) -> AcceptedOffer:
        client = request.remote or ""
        self._check_room(request)
        with _refusing(request, self.find_elsewhere):
            context = self._context(request, session, moved_from)
            ice = _ice_asked_for(request)
            accepted = await self.host.accept(description, context, ice, offer_size=len(offer))
        call = accepted.call
        placed = None
        if identity is not None:
            placed = PlacedCall(call.id, principal, client, identity, digest_of(offer), accepted.answer)
        self._note_placed(call, client, placed)
        return AcceptedOffer(accepted.answer, call, instant=accepted.instant)

    def _context(
        self, request: HttpRequest, session: Mapping[str, Any] | None, moved_from: str, avoid: str = ""
    ) -> CallContext:
        headers = {
            name.lower(): value for name, value in request.headers.items() if name.lower() not in _SECRET_HEADERS
        }
        claim = headers.get((self.config.claim_header or "").lower(), "")
        return CallContext(
            headers,
            session or {},
            request.remote or "",
            request.state,
            claim=claim,
            moved_from=moved_from,
            avoid=avoid,
        )

    def _note_placed(self, call: Call, client: str, placed: PlacedCall | None) -> None:
        """There is a call: it is counted, and found again, until its end."""
        if placed is not None:
            self._connections.note(placed)
        self._calls_of[client] += 1
        self.metrics.follow(call, lambda: self._forget(call, client))
        self._states[call.id] = {}

    def _note_ticket_call(self, call: Call) -> None:
        """A ticket has made a call that no request to this process has announced."""
        self._note_made(call, call.context.remote, None)

    def _note_made(self, call: Call, client: str, placed: PlacedCall | None) -> None:
        """A ticket has made a call: whether there is room was not known, or not for sure, when it was sealed."""
        if self.draining or self._calls_of[client] >= self.config.calls_per_client:
            call.hang_up()
        self._note_placed(call, client, placed)

    def _note_awaited(self, call_id: str, principal: Principal) -> None:
        self._awaited[call_id] = principal
        if len(self._awaited) > MAX_AWAITED:
            self._awaited.popitem(last=False)

    def find_awaited(self, request: HttpRequest, call_id: str) -> bool:
        """Return True if the client may steer a call that its first packet will make; False if none is awaited.

        Raises `RequestRefused` as `find_call` does.
        """
        if not self.host.awaits(call_id):
            return False
        principal = self.authorise(request, Scope.CALL)
        if Scope.CONTROL not in principal.scopes and self._awaited.get(call_id) != principal:
            raise RequestRefused(404, "no such call")
        return True

    def keep(self, call_id: str, states: dict[str, StateT], name: str, state: StateT) -> None:
        """Put a dialect's state of a call under a name into the dialect's table, until the call is over."""
        kept = self._states.get(call_id)
        if kept is not None:  # otherwise it has just ended
            states[name] = state
            kept[id(states), name] = partial(_drop, states, name, state)

    def note_restart(self, call: Call, ice_ufrag: str) -> None:
        """The peer has restarted ICE with these credentials, in a way that no offer says."""
        self._connections.note_restart(call.id, ice_ufrag)

    def remote_ufrag(self, call: Call) -> str | None:
        """Return the peer's ufrag, as it said it last."""
        placed = self._connections.get(call.id)
        return placed.identity.ice_ufrag if placed is not None else None

    def _check_rate(self, request: HttpRequest) -> None:
        wait = self._rates.take(request.remote or "")
        if wait > 0.0:
            raise RequestRefused(429, "too many offers", **{"Retry-After": str(math.ceil(wait))})

    def _check_room(self, request: HttpRequest) -> None:
        client = request.remote or ""
        if self.draining:
            elsewhere = self.find_elsewhere()
            if elsewhere is not None:
                raise _redirection(request, elsewhere)
            raise RequestRefused(
                503, "the server takes no new calls: it is shutting down", **{"Retry-After": "10"}
            )
        if self._calls_of[client] >= self.config.calls_per_client:
            raise RequestRefused(429, "too many calls from your address", **{"Retry-After": "30"})

    def end_of(self, call_id: str) -> EndReason | None:
        """Return why a call ended whose id the client knows; None for one that is up, or long forgotten."""
        call = self.host.calls.get(call_id)
        if call is not None:
            return call.end.reason if call.end is not None else None
        return self._ends.get(call_id)

    def _forget(self, call: Call, client: str) -> None:
        for drop in self._states.pop(call.id, {}).values():
            drop()
        self._connections.forget(call.id)
        if call.end is not None:
            self._ends[call.id] = call.end.reason
            if len(self._ends) > MAX_ENDS:
                del self._ends[next(iter(self._ends))]
        self._calls_of[client] -= 1
        if self._calls_of[client] <= 0:
            del self._calls_of[client]


def _redirection(request: HttpRequest, base: str) -> RequestRefused:
    """Return what sends a client to another machine; it repeats its request there (RFC 9110 §15.4.8)."""
    return RequestRefused(307, "call there", Location=base.rstrip("/") + request.path)


@contextmanager
def _refusing(request: HttpRequest, find_elsewhere: Callable[[], str | None]) -> Iterator[None]:
    """Context: what the host raises becomes what a client is told."""
    try:
        yield
    except CallElsewhere as error:
        raise _redirection(request, error.url) from error
    except NegotiationError as error:
        raise _refusal(error) from error
    except (HostFull, LocalError) as error:
        elsewhere = find_elsewhere() if isinstance(error, HostFull) else None
        if elsewhere is not None:
            raise _redirection(request, elsewhere) from error
        raise RequestRefused(503, str(error), **{"Retry-After": "5"}) from error


def _drop(states: dict[str, StateT], name: str, state: StateT) -> None:
    if states.get(name) == state:  # it may be that of another call by now
        del states[name]


def _read_offer(text: str) -> SessionDescription:
    try:
        return SessionDescription.parse(text)
    except ParseError as error:
        raise RequestRefused(400, f"the offer is not valid SDP: {error}") from error


def _ice_asked_for(request: HttpRequest) -> IceMode | None:
    """Return the agent that a client asks for by `?ice=full` or `?ice=lite`; anything else is `RequestRefused`."""
    asked = request.query.get("ice")
    if asked is None:
        return None
    try:
        return IceMode(asked)
    except ValueError:
        raise RequestRefused(400, "ice is lite, full or auto") from None


def _refusal(error: NegotiationError) -> RequestRefused:
    """Return what a client is told of an offer that cannot be taken."""
    if error.failure is NegotiationFailure.CANNOT_CHANGE:
        return RequestRefused(409, str(error))
    # RFC 9725 §4.4.4: 422 for an a=setup that cannot be; §4.4.3: 406 for what is not supported
    status = 422 if error.failure is NegotiationFailure.SETUP_CONFLICT else 406
    return RequestRefused(status, f"nothing to agree on: {error}")


SERVICE: AppKey[SignalingService] = AppKey("signaling service", SignalingService)


def check_origin(request: HttpRequest) -> None:
    """Raise `RequestRefused` (403) for a page from elsewhere that is not on the list."""
    origin = request.headers.get("Origin")
    if origin is not None and is_same_origin(origin, request.scheme, request.host):
        return
    if not allows(request.app[SERVICE].config.origins, origin):
        raise RequestRefused(403, f"pages from {origin} may not call here: allow it with --origin")


def seen_through_proxies(request: HttpRequest) -> HttpRequest:
    """Return the request as its client has sent it, if a trusted proxy has forwarded it."""
    proxies, peer = request.app[SERVICE].proxies, request.remote or ""
    if not proxies.trusts(peer):
        return request
    client = proxies.client(peer, request.headers.getall("X-Forwarded-For", ()))
    scheme = proxies.scheme(peer, request.scheme, request.headers.getall("X-Forwarded-Proto", ()))
    return replace(request, remote=client, scheme=scheme)


__all__ = [
    "MAX_BODY",
    "MAX_HEADER",
    "SERVICE",
    "AcceptedOffer",
    "RequestRefused",
    "SignalingConfig",
    "SignalingService",
    "check_origin",
    "seen_through_proxies",
]
