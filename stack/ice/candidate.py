"""Candidates: their types, priorities and foundations, and how SDP writes them.

RFC 8445 §5.1.1.2 (base), §5.1.1.3 (foundation), §5.1.2 (priority); RFC 8839 §5.1 (grammar); RFC 6544 §4.2 and
§4.5 (TCP). The grammar is read generously: either case, a leading "a=", mDNS names (".local"), component 2,
unknown extension attributes. What a browser wrote is written again as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import NewType, Self
from zlib import crc32

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Address, TransportProtocol

Foundation = NewType("Foundation", str)
"""The same for candidates that are likely to succeed or fail together (RFC 8445 §5.1.1.3)."""
CandidatePriority = NewType("CandidatePriority", int)
"""RFC 8445 §5.1.2; greater is better."""
ComponentId = NewType("ComponentId", int)
"""1 to 256 (RFC 8445 §13)."""

COMPONENT = ComponentId(1)
"""The only one in use: everything is multiplexed over one transport."""

MAX_LOCAL_PREFERENCE = 65535
MAX_CANDIDATE_LENGTH = 1024
"""Longer candidate lines are not read."""
MAX_REMEMBERED = 256
"""Addresses of which the canonical form is remembered: ours are in every call, and a client's in several lines."""


class CandidateType(Enum):
    """RFC 8445 §5.1.1; the value is the token of RFC 8839."""

    HOST = "host"
    SERVER_REFLEXIVE = "srflx"
    PEER_REFLEXIVE = "prflx"
    RELAYED = "relay"


class TcpType(Enum):
    """RFC 6544 §4.5."""

    ACTIVE = "active"
    PASSIVE = "passive"
    SIMULTANEOUS_OPEN = "so"


TYPE_PREFERENCE = {
    # RFC 8445 §5.1.2.2
    CandidateType.HOST: 126,
    CandidateType.PEER_REFLEXIVE: 110,
    CandidateType.SERVER_REFLEXIVE: 100,
    CandidateType.RELAYED: 0,
}
TCP_TYPE_PREFERENCE = {
    # RFC 6544 §4.2: below those of UDP, so that TCP carries media only where UDP does not.
    CandidateType.HOST: 90,
    CandidateType.PEER_REFLEXIVE: 80,
    CandidateType.SERVER_REFLEXIVE: 70,
    CandidateType.RELAYED: 0,
}
DIRECTION_PREFERENCE = {
    # RFC 6544 §4.2, for host candidates: the side that connects is the more likely to get through a NAT.
    TcpType.ACTIVE: 6,
    TcpType.PASSIVE: 4,
    TcpType.SIMULTANEOUS_OPEN: 2,
}
OPPOSITE_TCP_TYPE = {
    # RFC 6544 §6.2: which types fit each other
    TcpType.ACTIVE: TcpType.PASSIVE,
    TcpType.PASSIVE: TcpType.ACTIVE,
    TcpType.SIMULTANEOUS_OPEN: TcpType.SIMULTANEOUS_OPEN,
}
ACTIVE_PORT = 9
"""The discard port, which stands for the unknown one of a connection that is to be made (RFC 6544 §4.5)."""


def compute_priority(
    candidate_type: CandidateType,
    local_preference: int = MAX_LOCAL_PREFERENCE,
    component: ComponentId = COMPONENT,
    protocol: TransportProtocol = TransportProtocol.UDP,
) -> CandidatePriority:
    """Return 2^24·type preference + 2^8·local preference + 256 - component (RFC 8445 §5.1.2.1)."""
    if not 0 <= local_preference <= MAX_LOCAL_PREFERENCE or not 1 <= component <= 256:
        raise LocalError("local preference is 0 to 65535, component 1 to 256")
    preferences = TYPE_PREFERENCE if protocol is TransportProtocol.UDP else TCP_TYPE_PREFERENCE
    return CandidatePriority(preferences[candidate_type] << 24 | local_preference << 8 | 256 - component)


def compute_tcp_preference(tcp_type: TcpType, other_preference: int = 0x1FFF) -> int:
    """Return the local preference of a TCP candidate, 2^13·direction + other (0 to 8191); RFC 6544 §4.2."""
    return DIRECTION_PREFERENCE[tcp_type] << 13 | min(other_preference, 0x1FFF)


def compute_foundation(
    candidate_type: CandidateType, base_host: str, protocol: TransportProtocol, server: str = ""
) -> Foundation:
    """Return a string that is the same for the same type, base, protocol and STUN server (RFC 8445 §5.1.1.3)."""
    return Foundation(str(crc32(f"{candidate_type.value} {base_host} {protocol.value} {server}".encode())))


@lru_cache(MAX_REMEMBERED)
def _canonical_host(text: str) -> str:
    """Return an IP address in canonical form without scope; a name as it is."""
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        return text


def _number(text: str, low: int, high: int, what: str) -> int:
    # str.isdigit() alone would take digits of other scripts, int() signs and underscores.
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
        raise ParseError(f"{what} of a candidate is not a number from {low} to {high}")
    return int(text)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A transport address at which an agent may be reached."""

    foundation: Foundation
    component: ComponentId
    protocol: TransportProtocol
    priority: CandidatePriority
    host: str
    """An IP address in canonical form, or a name, which is not resolved here."""
    port: int
    type: CandidateType
    related_host: str | None = None
    related_port: int | None = None
    tcp_type: TcpType | None = None
    extensions: tuple[tuple[str, str], ...] = ()
    """Extension attributes, in order, as they were written."""
    base: Address | None = None
    """A local candidate's: the address from which what is sent on it leaves (RFC 8445 §5.1.1.2). None: its own,
    as of host and relayed candidates. SDP does not carry it."""

    @property
    def base_address(self) -> Address:
        """The base of a local candidate."""
        return self.base or self.address

    @property
    def is_address(self) -> bool:
        """True if `host` is an IP address, False if it is a name (mDNS or otherwise)."""
        try:
            ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def address(self) -> Address:
        """The transport address; `LocalError` if `host` is a name."""
        if not self.is_address:
            raise LocalError("this candidate has a name, not an address")
        return Address(self.host, self.port)

    def through_nat64(self, prefix: str) -> Self:
        """Return an IPv4 candidate of the peer as a host with IPv6 alone reaches it; any other as it is.

        RFC 6052 §2.2, with a prefix of 96 bits, as `64:ff9b::`: the IPv4 address is its last 32.
        """
        if not self.is_address or self.address.is_ipv6:
            return self
        synthesised = int(IPv6Address(prefix)) | int(ip_address(self.host))
        return replace(self, host=str(IPv6Address(synthesised)))

    @classmethod
    def host_candidate(
        cls, address: Address, local_preference: int = MAX_LOCAL_PREFERENCE, component: ComponentId = COMPONENT
    ) -> Self:
        """Return the UDP host candidate of a local socket.

        With several addresses each needs a local preference of its own (RFC 8445 §5.1.2.1), higher is better;
        RFC 8421 asks to interleave IPv6 and IPv4.
        """
        host = _canonical_host(address.host)
        return cls(
            foundation=compute_foundation(CandidateType.HOST, host, TransportProtocol.UDP),
            component=component,
            protocol=TransportProtocol.UDP,
            priority=compute_priority(CandidateType.HOST, local_preference, component),
            host=host,
            port=address.port,
            type=CandidateType.HOST,
        )

    @classmethod
    def tcp_candidate(cls, tcp_type: TcpType, address: Address, other_preference: int = 0x1FFF) -> Self:
        """Return a TCP host candidate (RFC 6544 §4.1); an active one has `ACTIVE_PORT` in place of its own.

        That port stands in the paths of its pairs, too: whatever the port of the connection that is made is, one
        local host has one connection to each remote address.
        """
        host = _canonical_host(address.host)
        return cls(
            foundation=compute_foundation(CandidateType.HOST, host, TransportProtocol.TCP),
            component=COMPONENT,
            protocol=TransportProtocol.TCP,
            priority=compute_priority(
                CandidateType.HOST,
                compute_tcp_preference(tcp_type, other_preference),
                protocol=TransportProtocol.TCP,
            ),
            host=host,
            port=ACTIVE_PORT if tcp_type is TcpType.ACTIVE else address.port,
            type=CandidateType.HOST,
            tcp_type=tcp_type,
        )

    @classmethod
    def server_reflexive(
        cls, mapped: Address, base: Address, server: Address, local_preference: int = MAX_LOCAL_PREFERENCE
    ) -> Self:
        """Return the candidate of a local socket, `base`, that a STUN or TURN server sees as `mapped`."""
        kind = CandidateType.SERVER_REFLEXIVE
        return cls(
            foundation=compute_foundation(kind, base.host, TransportProtocol.UDP, str(server)),
            component=COMPONENT,
            protocol=TransportProtocol.UDP,
            priority=compute_priority(kind, local_preference),
            host=_canonical_host(mapped.host),
            port=mapped.port,
            type=kind,
            related_host=base.host,  # RFC 8839 §5.1: the base
            related_port=base.port,
            base=base,
        )

    @classmethod
    def relayed(
        cls, relayed: Address, mapped: Address, server: Address, local_preference: int = MAX_LOCAL_PREFERENCE
    ) -> Self:
        """Return the candidate that a TURN server has allocated; `mapped` is how it sees us."""
        kind = CandidateType.RELAYED
        return cls(
            foundation=compute_foundation(kind, relayed.host, TransportProtocol.UDP, str(server)),
            component=COMPONENT,
            protocol=TransportProtocol.UDP,
            priority=compute_priority(kind, local_preference),
            host=_canonical_host(relayed.host),
            port=relayed.port,
            type=kind,
            related_host=mapped.host,  # RFC 8839 §5.1: the mapped address
            related_port=mapped.port,
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the value of `a=candidate`, with or without "a=" and "candidate:"; raise `ParseError` otherwise."""
        if len(text) > MAX_CANDIDATE_LENGTH:
            raise ParseError("candidate is too long")
        text = text.strip().removeprefix("a=").removeprefix("candidate:")
        fields = text.split()
        if len(fields) < 8 or fields[6].lower() != "typ":
            raise ParseError("candidate has too few fields")
        foundation, component, protocol, priority, host, port, _, candidate_type = fields[:8]
        if not 1 <= len(foundation) <= 32:
            raise ParseError("foundation of a candidate has 1 to 32 characters")
        try:
            transport = TransportProtocol(protocol.lower())
            kind = CandidateType(candidate_type.lower())
        except ValueError as error:
            raise ParseError("candidate of unknown transport or type") from error
        related_host: str | None = None
        related_port: int | None = None
        tcp_type: TcpType | None = None
        extensions: list[tuple[str, str]] = []
        # RFC 8839 §5.1: what follows comes in pairs of name and value; an odd one at the end is dropped.
        for name, value in zip(fields[8::2], fields[9::2], strict=False):
            if name == "raddr":
                related_host = _canonical_host(value)
            elif name == "rport":
                related_port = _number(value, 0, 65535, "related port")
            elif name == "tcptype":
                try:
                    tcp_type = TcpType(value.lower())
                except ValueError as error:
                    raise ParseError("candidate of unknown tcptype") from error
            else:
                extensions.append((name, value))
        return cls(
            foundation=Foundation(foundation),
            component=ComponentId(_number(component, 1, 256, "component")),
            protocol=transport,
            # RFC 8445 §5.1.2 ends at 2^31 - 1, but the field is 32 bits wide, and some use all of them.
            priority=CandidatePriority(_number(priority, 0, 2**32 - 1, "priority")),
            host=_canonical_host(host),
            port=_number(port, 0, 65535, "port"),
            type=kind,
            related_host=related_host,
            related_port=related_port,
            tcp_type=tcp_type,
            extensions=tuple(extensions),
        )

    def serialize(self) -> str:
        """Return the value of `a=candidate`, beginning with "candidate:"."""
        fields: list[object] = [
            self.foundation,
            self.component,
            self.protocol.value,
            self.priority,
            self.host,
            self.port,
            "typ",
            self.type.value,
        ]
        if self.related_host is not None:
            fields += ["raddr", self.related_host]
        if self.related_port is not None:
            fields += ["rport", self.related_port]
        if self.tcp_type is not None:
            fields += ["tcptype", self.tcp_type.value]
        for extension in self.extensions:
            fields += extension
        return "candidate:" + " ".join(str(item) for item in fields)
