"""A STUN and TURN server (RFC 8489, RFC 8656) as a machine, strict, for tests: what the client must not do fails
here.

It has one address for its clients, by UDP and TCP, and a stock of relayed ones. Permissions, channels and
allocations expire by the clock of the caller.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from stack.core.errors import ParseError
from stack.core.machine import Address, Instant, Path, TerminalEvents, Transmit, TransportProtocol
from stack.ice.turn_framing import channel_data, parse_channel_data
from stack.stun import (
    AdditionalAddressFamily,
    AddressFamily,
    AlternateServer,
    Attribute,
    ChannelNumber,
    Data,
    ErrorCode,
    Lifetime,
    Message,
    MessageClass,
    Method,
    Nonce,
    Realm,
    RequestedAddressFamily,
    RequestedTransport,
    TransactionId,
    Username,
    XorMappedAddress,
    XorPeerAddress,
    XorRelayedAddress,
    long_term_key,
    verify_integrity,
)

REALM = "example.com"
PERMISSION_LIFETIME = 300.0
CHANNEL_LIFETIME = 600.0


@dataclass(slots=True, eq=False)
class Allocation:
    """What one client has."""

    client: Path
    relayed: tuple[Address, ...]
    expires_at: Instant
    permissions: dict[str, Instant] = field(default_factory=dict)
    channels: dict[int, tuple[Address, Instant]] = field(default_factory=dict)


class TurnServer:
    """A `Machine` without events. Users are by name and password; none: it grants everything."""

    terminal_events: ClassVar[TerminalEvents] = ()

    def __init__(
        self,
        relayed: Sequence[Address],
        users: dict[str, str] | None = None,
        *,
        alternate: Address | None = None,
        forbidden: Sequence[str] = (),
        max_lifetime: int = 600,
        knows_ipv6: bool = True,
    ) -> None:
        self.nonce = "nonce-1"
        self.alternate = alternate
        self.forbidden = set(forbidden)
        self.requests: Counter[str] = Counter()
        """By method and outcome."""
        self.relayed_bytes: Counter[str] = Counter()
        """Datagrams relayed, by the message that carried them."""
        self.allocations: dict[Path, Allocation] = {}
        self._free = list(relayed)
        self._users = users or {}
        self._max_lifetime = max_lifetime
        self._knows_ipv6 = knows_ipv6
        self._transmits: list[Transmit] = []
        self._indications = 0

    def handle_datagrams(self, batch: Iterable[tuple[bytes, Path]], now: Instant) -> None:
        """Take what clients and peers have sent."""
        for data, path in batch:
            self._expire(now)
            owner = next((a for a in self.allocations.values() if path.local in a.relayed), None)
            if owner is not None:
                self._to_client(owner, data, path.remote, now)
                continue
            bound = parse_channel_data(data)
            if bound is not None:
                self._from_channel(path, *bound)
                continue
            try:
                self._handle(data, Message.parse(data), path, now)
            except ParseError:
                self.requests["unparsed"] += 1

    def handle_timeout(self, now: Instant) -> None:
        """Nothing is due: what has expired goes with the next datagram."""

    def poll_timeout(self) -> Instant | None:
        """Never."""
        return None

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return responses and what is relayed."""
        transmits, self._transmits = self._transmits, []
        return transmits

    def drain_events(self) -> Sequence[Any]:
        """Return nothing."""
        return ()

    # --- relaying -------------------------------------------------------------------------------------------

    def _expire(self, now: Instant) -> None:
        for client, allocation in list(self.allocations.items()):
            if now >= allocation.expires_at:
                self._free += allocation.relayed
                del self.allocations[client]
            allocation.permissions = {h: at for h, at in allocation.permissions.items() if now < at}
            allocation.channels = {n: (p, at) for n, (p, at) in allocation.channels.items() if now < at}

    def _to_client(self, allocation: Allocation, data: bytes, peer: Address, now: Instant) -> None:
        if peer.host not in allocation.permissions:
            self.requests["peer without permission"] += 1
            return
        number = next((n for n, (bound, _) in allocation.channels.items() if bound == peer), None)
        if number is not None:
            padded = allocation.client.protocol is TransportProtocol.TCP
            self.relayed_bytes["channel data down"] += 1
            self._transmits.append(Transmit(channel_data(number, data, padded=padded), allocation.client))
            return
        self._indications += 1
        transaction_id = TransactionId(self._indications.to_bytes(12, "big"))
        message = Message(MessageClass.INDICATION, Method.DATA, transaction_id, (XorPeerAddress(peer), Data(data)))
        self.relayed_bytes["data indication"] += 1
        self._transmits.append(Transmit(message.serialize(), allocation.client))

    def _from_channel(self, client: Path, number: int, data: bytes) -> None:
        allocation = self.allocations.get(client)
        if allocation is None or number not in allocation.channels:
            self.requests["unbound channel"] += 1
            return
        self.relayed_bytes["channel data up"] += 1
        self._to_peer(allocation, allocation.channels[number][0], data)

    def _to_peer(self, allocation: Allocation, peer: Address, data: bytes) -> None:
        relayed = next((own for own in allocation.relayed if own.is_ipv6 == peer.is_ipv6), None)
        if relayed is None or peer.host not in allocation.permissions:
            self.requests["send without permission"] += 1
            return
        self._transmits.append(Transmit(data, Path(relayed, peer)))

    # --- requests -------------------------------------------------------------------------------------------

    def _handle(self, data: bytes, message: Message, path: Path, now: Instant) -> None:
        if message.message_class is MessageClass.INDICATION:
            allocation = self.allocations.get(path)
            peer, carried = message.get(XorPeerAddress), message.get(Data)
            if message.method == Method.SEND and allocation and peer and carried:
                self.relayed_bytes["send indication"] += 1
                self._to_peer(allocation, peer.address, carried.value)
            return
        name = Method(message.method).name.lower()
        if message.method == Method.BINDING:
            self._respond(message, path, None, XorMappedAddress(path.remote))
            return
        if self.alternate is not None:
            self._refuse(message, path, 300, AlternateServer(self.alternate))
            return
        key = self._authenticate(data, message, path)
        if self._users and key is None:
            return
        attributes = self._serve(message, path, now)
        if isinstance(attributes, int):
            self._refuse(message, path, attributes, key=key)
        else:
            self.requests[name] += 1
            self._respond(message, path, key, *attributes)

    def _authenticate(self, data: bytes, message: Message, path: Path) -> bytes | None:
        username, nonce = message.get(Username), message.get(Nonce)
        challenge = (Realm(REALM), Nonce(self.nonce))
        if not self._users:
            return None
        if username is None or nonce is None or username.value not in self._users:
            self._refuse(message, path, 401, *challenge)
            return None
        key = long_term_key(username.value, REALM, self._users[username.value])
        if not verify_integrity(data, key):
            self._refuse(message, path, 401, *challenge)
            return None
        if nonce.value != self.nonce:
            self._refuse(message, path, 438, *challenge)
            return None
        return key

    def _serve(self, message: Message, path: Path, now: Instant) -> tuple[Attribute, ...] | int:
        allocation = self.allocations.get(path)
        if message.method == Method.ALLOCATE:
            return self._allocate(message, path, now)
        if allocation is None:
            return 437
        lifetime, peer, channel = message.get(Lifetime), message.get(XorPeerAddress), message.get(ChannelNumber)
        if message.method == Method.REFRESH:
            seconds = min(lifetime.value if lifetime else 600, self._max_lifetime)
            allocation.expires_at = now + seconds
            self._expire(now)
            return (Lifetime(seconds),)
        if peer is None:
            return 400
        if peer.address.host in self.forbidden:
            return 403
        binds = message.method == Method.CHANNEL_BIND
        if binds and (channel is None or not self._bind(allocation, channel.value, peer.address, now)):
            return 400
        allocation.permissions[peer.address.host] = now + PERMISSION_LIFETIME
        return ()

    def _bind(self, allocation: Allocation, number: int, peer: Address, now: Instant) -> bool:
        """RFC 8656 §12.2: a channel keeps its peer, and a peer its channel."""
        bound = {n: p for n, (p, _) in allocation.channels.items()}
        if bound.get(number, peer) != peer or any(p == peer and n != number for n, p in bound.items()):
            return False
        allocation.channels[number] = (peer, now + CHANNEL_LIFETIME)
        return True

    def _allocate(self, message: Message, path: Path, now: Instant) -> tuple[Attribute, ...] | int:
        transport, family = message.get(RequestedTransport), message.get(RequestedAddressFamily)
        if path in self.allocations:
            return 437
        if transport is None or transport.value != 17:
            return 442
        families = [family.value if family else AddressFamily.IPV4]
        if message.get(AdditionalAddressFamily) is not None:
            if not self._knows_ipv6:
                return 440
            families.append(AddressFamily.IPV6)
        relayed = [self._take(each == AddressFamily.IPV6) for each in families]
        if relayed[0] is None:
            return 508
        seconds = min(600, self._max_lifetime)
        given = tuple(address for address in relayed if address is not None)
        self.allocations[path] = Allocation(path, given, now + seconds)
        return (*map(XorRelayedAddress, given), XorMappedAddress(path.remote), Lifetime(seconds))

    def _take(self, ipv6: bool) -> Address | None:
        found = next((address for address in self._free if address.is_ipv6 == ipv6), None)
        if found is not None:
            self._free.remove(found)
        return found

    def _respond(self, message: Message, path: Path, key: bytes | None, *attributes: Attribute) -> None:
        response = message.respond(MessageClass.SUCCESS_RESPONSE, *attributes)
        data = response.serialize_with_fingerprint() if key is None else response.sign(key)
        self._transmits.append(Transmit(data, path))

    def _refuse(
        self, message: Message, path: Path, code: int, *attributes: Attribute, key: bytes | None = None
    ) -> None:
        self.requests[f"{Method(message.method).name.lower()} {code}"] += 1
        response = message.respond(MessageClass.ERROR_RESPONSE, ErrorCode(code), *attributes)
        data = response.serialize_with_fingerprint() if key is None else response.sign(key)
        self._transmits.append(Transmit(data, path))
