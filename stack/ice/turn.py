"""A TURN client (RFC 8656): one allocation at one server, from one local address.

`start` asks for the allocation; the server refuses with 401 and tells realm and nonce, with which the client asks
again (RFC 8489 §9.2). From then on the relayed address is one more local address: `send` takes a datagram whose
path begins there, and what peers sent to it comes out of `drain_received` with such a path. How it travels is
decided here:

- Nothing reaches a peer before there is a *permission* for its host (§9). The first datagrams to it ask for one
  and wait, a few of them. It is renewed as long as something is sent there.
- STUN goes in Send indications (§11), for most candidates are checked and never used. With the first datagram that
  is not STUN, the address of the peer gets a *channel* (§12), whose overhead is 4 bytes.

The allocation is refreshed (§8), over UDP at once when the server was not heard for a while: one that has started
anew does not say so, and relays nothing. A nonce that grew stale (438) is replaced; 300 sends us elsewhere.
Over TCP and TLS a request is sent once; otherwise nothing differs here (the carrying is `stack.aio`'s).

Responses count if they belong to a pending request and, if that was signed, are signed (RFC 8489 §9.2.5). What the
server relays is not signed: ICE, DTLS and SRTP judge it, as if it had come straight.

Left out: TCP allocations (RFC 6062), RESERVATION-TOKEN, EVEN-PORT, DONT-FRAGMENT, mobility (RFC 8016), OAuth
(RFC 7635), and SHA-256 in place of MD5 for the key (RFC 8489 §9.2.3): no server in use asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from stack.core.counters import Counters, declare
from stack.core.errors import ParseError
from stack.core.machine import Address, Entropy, Instant, Path, TerminalEvents, Transmit, TransportProtocol
from stack.core.timers import TimerName, Timers, earliest
from stack.ice.candidate_lists import is_usable
from stack.ice.turn_events import (
    TurnAllocated,
    TurnClientState,
    TurnCredentials,
    TurnError,
    TurnEvent,
    TurnFailed,
    TurnFailureReason,
)
from stack.ice.turn_framing import channel_data, parse_channel_data
from stack.ice.turn_peers import MAX_HOSTS, TurnPeers
from stack.stun import (
    AdditionalAddressFamily,
    AddressFamily,
    AlternateServer,
    Attribute,
    ChannelNumber,
    ClientTransaction,
    Data,
    ErrorCode,
    ErrorNumber,
    Lifetime,
    Message,
    MessageClass,
    MessageIntegrity,
    Method,
    Nonce,
    Realm,
    RequestedAddressFamily,
    RequestedTransport,
    RetransmissionPolicy,
    TransactionId,
    TransactionState,
    Username,
    XorMappedAddress,
    XorPeerAddress,
    XorRelayedAddress,
    is_stun,
    long_term_key,
    verify_integrity,
)

DROPPED_TURN_MALFORMED = declare(
    "ice", "dropped_turn_malformed", "Datagrams of a TURN server that could not be parsed, or lack what they need"
)
DROPPED_TURN_UNEXPECTED = declare(
    "ice",
    "dropped_turn_unexpected",
    "Messages of a TURN server that belong to no request, peer or channel of ours",
)
DROPPED_TURN_WRONG_INTEGRITY = declare(
    "ice", "dropped_turn_wrong_integrity", "Responses of a TURN server that our password did not sign"
)
DROPPED_TURN_NOT_ALLOCATED = declare(
    "ice",
    "dropped_turn_not_allocated",
    "Datagrams to be sent from a relayed address that is not allocated any more",
)
TURN_STALE_NONCE = declare("ice", "turn_stale_nonce", "Nonces that a TURN server has replaced by a new one (438)")

LIFETIME = 600
"""Seconds of an allocation that we ask for: the default of RFC 8656 §3.2."""
REFRESH_BEFORE = 60.0
"""Seconds before its end at which an allocation is refreshed (§8)."""
KEEPALIVE = 15.0
"""Seconds without any datagram to the server until one keeps the bindings of NATs open (RFC 8445 §11: Tr)."""
MAX_ATTEMPTS = 4
"""How often one request is signed anew with another nonce before it has failed."""
MAX_SERVERS = 5
"""How many servers are asked, each sending us to the next (RFC 8489 §10), before the allocation has failed."""
STREAM_TRANSACTION = RetransmissionPolicy(rto=0.5, rc=1, rm=79)
"""Over TCP: sent once, given up after Ti = 39.5 s (RFC 8489 §6.2.2)."""


class TurnTimer(TimerName):
    """The timers of a client."""

    RETRANSMISSION = "retransmission"
    REFRESH = "refresh"
    KEEPALIVE = "keepalive"
    PEERS = "peers"
    """A permission or a channel is to be renewed."""


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """A request that is pending: CreatePermission for a `host`, ChannelBind for a `peer`."""

    method: Method
    attributes: tuple[Attribute, ...]
    transaction: ClientTransaction
    signed_with: bytes | None
    attempt: int
    host: str
    peer: Address | None


class TurnClient:
    """A `Machine[TurnEvent]` for one allocation; its datagrams are those to and from `server`, a path."""

    terminal_events: ClassVar[TerminalEvents] = (TurnFailed,)

    def __init__(
        self,
        server: Path,
        credentials: TurnCredentials,
        entropy: Entropy,
        *,
        family: AddressFamily | None = None,
        policy: RetransmissionPolicy | None = None,
        max_hosts: int = MAX_HOSTS,
    ) -> None:
        """`family` asks for one family; None for IPv4, and IPv6 beside it where the server has it.

        `max_hosts`: see `TurnPeers`.
        """
        self.state = TurnClientState.NEW
        self.server = server
        self.relayed: tuple[Address, ...] = ()
        self.counters = Counters()
        self._credentials = credentials
        self._entropy = entropy
        self._family = family
        self._stream = server.protocol is TransportProtocol.TCP
        self._policy = STREAM_TRANSACTION if self._stream else policy or RetransmissionPolicy()
        self._realm = ""
        self._nonce = ""
        self._key: bytes | None = None
        self._requests: dict[TransactionId, _Request] = {}
        self._peers = TurnPeers(self.counters, max_hosts)
        self._now: Instant = 0.0
        self._idle = False
        self._heard = False
        self._asked = {server.remote}
        self._timers: Timers[TurnTimer] = Timers()
        self._transmits: list[Transmit] = []
        self._events: list[TurnEvent] = []
        self._received: list[tuple[bytes, Path]] = []

    # --- commands -------------------------------------------------------------------------------------------

    def start(self, now: Instant) -> None:
        """Ask for the allocation; harmless if that has been done."""
        self._now = now
        if self.state is TurnClientState.NEW:
            self.state = TurnClientState.ALLOCATING
            self._allocate(now, attempt=1)
            self._arm(now)

    def close(self, now: Instant) -> None:
        """Give the allocation back (§8: a lifetime of 0) and send nothing any more."""
        if self.state is TurnClientState.ALLOCATED:
            self._request(Method.REFRESH, (Lifetime(0),), now)
        self._end()

    def wrap(self, data: bytes, path: Path) -> Transmit | None:
        """Return a datagram from the relayed address `path.local` to `path.remote` as it travels to the server.

        None if it waits for a permission, or cannot be sent. It needs no clock, as it is called while transmits
        are drained: what is to be asked of the server for it is asked when `handle_timeout` is called, which is
        due.
        """
        if self.state is not TurnClientState.ALLOCATED:
            self.counters.add(DROPPED_TURN_NOT_ALLOCATED)
            return None
        peer, peers, now = path.remote, self._peers, self._now
        self._idle = False
        channel = peers.channel_of(peer, now)
        if channel is not None:
            if peers.wanted:
                self._timers.set(TurnTimer.PEERS, now)
            return Transmit(channel_data(channel, data, padded=self._stream), self.server)
        permitted = peers.may_send(data, peer, now)
        if not is_stun(data):
            peers.want_channel(peer)
        if peers.wanted:
            self._timers.set(TurnTimer.PEERS, now)
        return Transmit(self._send_indication(data, peer), self.server) if permitted else None

    def note_connection_lost(self, now: Instant) -> None:
        """The connection to the server, of TCP or TLS, has failed: there is no allocation any more."""
        if self.state is not TurnClientState.CLOSED:
            self._fail(TurnFailureReason.CONNECTION_LOST)

    # --- the machine ----------------------------------------------------------------------------------------

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take what the server has sent."""
        for data, path in batch:
            if self.state in (TurnClientState.NEW, TurnClientState.CLOSED) or path != self.server:
                self.counters.add(DROPPED_TURN_UNEXPECTED)
                continue
            self._heard = True
            bound = parse_channel_data(data)
            if bound is None:
                self._handle_message(data, now)
            else:
                self._receive(self._peers.peer_of(bound[0]), bound[1])
        self._arm(now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self._timers.fire(now, self._handle_timer)
        self._arm(now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called."""
        return self._timers.next

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return what is to be sent to the server."""
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_events(self) -> Sequence[TurnEvent]:
        """Return what happened."""
        events, self._events = self._events, []
        return events

    def drain_received(self) -> Sequence[tuple[bytes, Path]]:
        """Return what peers have sent to the relayed addresses, with paths that begin there."""
        received, self._received = self._received, []
        return received

    # --- time -----------------------------------------------------------------------------------------------

    def _handle_timer(self, timer: TurnTimer, now: Instant) -> None:
        match timer:
            case TurnTimer.RETRANSMISSION:
                self._retransmit(now)
            case TurnTimer.REFRESH:
                self._request(Method.REFRESH, (Lifetime(LIFETIME),), now)
            case TurnTimer.KEEPALIVE:
                if not (self._heard or self._stream or self._requests):
                    self._request(Method.REFRESH, (Lifetime(LIFETIME),), now)
                elif self._idle:
                    indication = Message(MessageClass.INDICATION, Method.BINDING, self._transaction_id())
                    self._transmit(indication.serialize_with_fingerprint())
                self._idle, self._heard = True, False
                self._timers.set(TurnTimer.KEEPALIVE, now + KEEPALIVE)
            case TurnTimer.PEERS:
                for host in self._peers.permissions_to_ask(now):
                    self._request(Method.CREATE_PERMISSION, (XorPeerAddress(Address(host, 0)),), now, host=host)
                for peer, number in self._peers.channels_to_bind(now):
                    attributes = (ChannelNumber(number), XorPeerAddress(peer))
                    self._request(Method.CHANNEL_BIND, attributes, now, peer=peer)

    def _arm(self, now: Instant) -> None:
        self._now = now
        if self.state is TurnClientState.CLOSED:
            return
        self._timers.set(
            TurnTimer.RETRANSMISSION, earliest(*(r.transaction.poll_timeout() for r in self._requests.values()))
        )
        self._timers.set(TurnTimer.PEERS, now if self._peers.wanted else self._peers.renew_at)

    def _retransmit(self, now: Instant) -> None:
        for transaction_id, request in list(self._requests.items()):
            data = request.transaction.handle_timeout(now)
            if data is not None:
                self._transmit(data)
            elif request.transaction.state is TransactionState.TIMED_OUT:
                del self._requests[transaction_id]
                self._handle_failure(request, 0, now)

    # --- requests -------------------------------------------------------------------------------------------

    def _allocate(self, now: Instant, attempt: int) -> None:
        attributes: list[Attribute] = [RequestedTransport(), Lifetime(LIFETIME)]
        if self._family is None:
            attributes.append(AdditionalAddressFamily(AddressFamily.IPV6))  # §7.1
        elif self._family is AddressFamily.IPV6:
            attributes.append(RequestedAddressFamily(self._family))
        self._request(Method.ALLOCATE, tuple(attributes), now, attempt=attempt)

    def _request(
        self,
        method: Method,
        attributes: tuple[Attribute, ...],
        now: Instant,
        *,
        attempt: int = 1,
        host: str = "",
        peer: Address | None = None,
    ) -> None:
        signing: tuple[Attribute, ...] = ()
        if self._key is not None:
            signing = (Username(self._credentials.username), Realm(self._realm), Nonce(self._nonce))
        transaction_id = self._transaction_id()
        message = Message(MessageClass.REQUEST, method, transaction_id, attributes + signing)
        data = message.serialize_with_fingerprint() if self._key is None else message.sign(self._key)
        transaction = ClientTransaction(data, now, self._policy)
        self._requests[transaction_id] = _Request(method, attributes, transaction, self._key, attempt, host, peer)
        self._transmit(data)

    def _transaction_id(self) -> TransactionId:
        return TransactionId(self._entropy(12))

    def _send_indication(self, data: bytes, peer: Address) -> bytes:
        attributes = (XorPeerAddress(peer), Data(data))
        return Message(MessageClass.INDICATION, Method.SEND, self._transaction_id(), attributes).serialize()

    def _transmit(self, data: bytes) -> None:
        self._idle = False
        self._transmits.append(Transmit(data, self.server))

    # --- what the server says -------------------------------------------------------------------------------

    def _handle_message(self, data: bytes, now: Instant) -> None:
        try:
            message = Message.parse(data)
        except ParseError:
            self.counters.add(DROPPED_TURN_MALFORMED)
            return
        if message.message_class is MessageClass.INDICATION:
            self._handle_indication(message)
            return
        request = self._requests.get(message.transaction_id)
        if request is None or message.message_class is MessageClass.REQUEST or message.method != request.method:
            self.counters.add(DROPPED_TURN_UNEXPECTED)
            return
        error = message.get(ErrorCode)
        code = error.code if error is not None else ErrorNumber.BAD_REQUEST
        if not self._is_authentic(data, message, request, code):
            self.counters.add(DROPPED_TURN_WRONG_INTEGRITY)
            return
        del self._requests[message.transaction_id]
        if message.message_class is MessageClass.SUCCESS_RESPONSE:
            self._handle_success(message, request, now)
        elif not self._ask_again(message, request, code, now):
            self._handle_failure(request, code, now)

    @staticmethod
    def _is_authentic(data: bytes, message: Message, request: _Request, code: int) -> bool:
        """RFC 8489 §9.2.5: a signed request has a signed response; only 401, 438 and 300 need not be.

        A server without authentication grants what was asked for unsigned.
        """
        if request.signed_with is None:
            return True
        if message.get(MessageIntegrity) is not None:
            return verify_integrity(data, request.signed_with)
        unsigned = (TurnError.UNAUTHENTICATED, TurnError.STALE_NONCE, TurnError.TRY_ALTERNATE)
        return message.message_class is MessageClass.ERROR_RESPONSE and code in unsigned

    def _handle_indication(self, message: Message) -> None:
        peer, data = message.get(XorPeerAddress), message.get(Data)
        if message.method != Method.DATA or peer is None or data is None:
            self.counters.add(DROPPED_TURN_UNEXPECTED)
            return
        self._receive(peer.address, data.value)

    def _receive(self, peer: Address | None, data: bytes) -> None:
        relayed = next((own for own in self.relayed if peer and own.is_ipv6 == peer.is_ipv6), None)
        if peer is None or relayed is None:
            self.counters.add(DROPPED_TURN_UNEXPECTED)
            return
        self._received.append((data, Path(relayed, peer)))

    def _handle_success(self, message: Message, request: _Request, now: Instant) -> None:
        lifetime = message.get(Lifetime)
        if lifetime is not None and not lifetime.value:  # so an allocation is given back (§8): there is none
            self._fail(TurnFailureReason.REFUSED)
            return
        match request.method:
            case Method.ALLOCATE:
                relayed = tuple(each.address for each in message.get_all(XorRelayedAddress))[:2]
                mapped = message.get(XorMappedAddress)
                if mapped is None or not relayed or not all(map(is_usable, relayed)):
                    self.counters.add(DROPPED_TURN_MALFORMED)
                    self._fail(TurnFailureReason.REFUSED)
                    return
                self.state, self.relayed = TurnClientState.ALLOCATED, relayed
                self._events.append(TurnAllocated(relayed, mapped.address))
                self._arm_refresh(lifetime, now)
            case Method.REFRESH:
                self._arm_refresh(lifetime, now)
            case Method.CREATE_PERMISSION:
                for data, peer in self._peers.note_permitted(request.host, now):
                    self._transmit(self._send_indication(data, peer))
            case Method.CHANNEL_BIND if request.peer is not None:
                self._peers.note_bound(request.peer, now)
            case _:
                pass

    def _arm_refresh(self, lifetime: Lifetime | None, now: Instant) -> None:
        seconds = float(lifetime.value) if lifetime is not None else float(LIFETIME)
        # A server that grants less than two minutes is asked half-way, and at most once a second.
        wait = max(seconds - REFRESH_BEFORE, seconds / 2, 1.0)
        self._timers.set(TurnTimer.REFRESH, now + wait)
        self._timers.set(TurnTimer.KEEPALIVE, now + KEEPALIVE)

    def _ask_again(self, message: Message, request: _Request, code: int, now: Instant) -> bool:
        """Send a refused request anew, if the refusal says how; False if that is of no use."""
        realm, nonce, other = message.get(Realm), message.get(Nonce), message.get(AlternateServer)
        if code == TurnError.TRY_ALTERNATE and request.method is Method.ALLOCATE and other is not None:
            return self._turn_to(other.address, now)
        if request.attempt >= MAX_ATTEMPTS:
            return False
        attempt = request.attempt + 1
        if code == TurnError.ADDRESS_FAMILY_NOT_SUPPORTED and request.method is Method.ALLOCATE:
            if self._family is not None:
                return False
            self._family = AddressFamily.IPV4
            self._allocate(now, attempt)
            return True
        challenged = code == TurnError.UNAUTHENTICATED and request.signed_with is None and realm is not None
        if nonce is None or not (challenged or code == TurnError.STALE_NONCE):
            return False
        if code == TurnError.STALE_NONCE:
            self.counters.add(TURN_STALE_NONCE)
        self._nonce = nonce.value
        self._realm = realm.value if realm is not None else self._realm
        self._key = long_term_key(self._credentials.username, self._realm, self._credentials.password)
        method, attributes = request.method, request.attributes
        self._request(method, attributes, now, attempt=attempt, host=request.host, peer=request.peer)
        return True

    def _turn_to(self, address: Address, now: Instant) -> bool:
        """Ask another server, of the same family and by the same transport; none twice (RFC 8489 §10)."""
        is_other = address not in self._asked and len(self._asked) < MAX_SERVERS
        if address.is_ipv6 != self.server.remote.is_ipv6 or not is_other:
            return False
        self._asked.add(address)
        self.server = self.server._replace(remote=address)
        self._key = None
        self._allocate(now, attempt=1)
        return True

    def _handle_failure(self, request: _Request, code: int, now: Instant) -> None:
        """A request has failed for good."""
        if code == TurnError.ALLOCATION_MISMATCH or request.method in (Method.ALLOCATE, Method.REFRESH):
            if (
                code == TurnError.ALLOCATION_MISMATCH
                and request.method is Method.ALLOCATE
                and self._key is not None
            ):
                # RFC 8656 §7.4: one of ours from before is there still; given back, the next attempt succeeds.
                self._request(Method.REFRESH, (Lifetime(0),), now)
            unauthenticated = code == TurnError.UNAUTHENTICATED
            reason = TurnFailureReason.WRONG_CREDENTIALS if unauthenticated else TurnFailureReason.REFUSED
            self._fail(TurnFailureReason.NO_RESPONSE if code == 0 else reason, code)
        elif request.method is Method.CREATE_PERMISSION:
            self._peers.note_forbidden(request.host, now)
        elif request.peer is not None:
            self._peers.note_unbound(request.peer, now)

    def _fail(self, reason: TurnFailureReason, code: int = 0) -> None:
        self._end()
        self._events.append(TurnFailed(reason, code))

    def _end(self) -> None:
        self.state = TurnClientState.CLOSED
        self._requests.clear()
        self._timers.clear_all()
