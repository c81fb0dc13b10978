"""The local and the remote candidates known so far, and which remote ones can be used."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

from stack.core.counters import CounterName, declare
from stack.core.errors import LocalError
from stack.core.machine import Address, Path, TransportProtocol
from stack.ice.candidate import (
    COMPONENT,
    OPPOSITE_TCP_TYPE,
    Candidate,
    CandidatePriority,
    CandidateType,
    compute_foundation,
)

_BROADCAST = IPv4Address("255.255.255.255")

MAX_LOCAL_CANDIDATES = 32
MAX_REMOTE_CANDIDATES = 64

DROPPED_LOCAL_CANDIDATE_TOO_MANY = declare(
    "ice", "dropped_local_candidate_too_many", "Candidates of our own beyond the number that is kept"
)
DROPPED_REMOTE_CANDIDATE_MALFORMED = declare(
    "ice", "dropped_remote_candidate_malformed", "Candidates of the peer that could not be parsed"
)
DROPPED_REMOTE_CANDIDATE_NO_TCP_TYPE = declare(
    "ice", "dropped_remote_candidate_no_tcp_type", "TCP candidates of the peer without a tcptype (RFC 6544 §4.5)"
)
DROPPED_REMOTE_CANDIDATE_OTHER_COMPONENT = declare(
    "ice", "dropped_remote_candidate_other_component", "Candidates of the peer for another component than 1"
)
DROPPED_REMOTE_CANDIDATE_NAME = declare(
    "ice", "dropped_remote_candidate_name", "Candidates of the peer with a host name, such as an mDNS name"
)
DROPPED_REMOTE_CANDIDATE_NOT_UNICAST = declare(
    "ice",
    "dropped_remote_candidate_not_unicast",
    "Candidates of the peer with an address of a group, of all hosts or of none, or of IPv4 written as IPv6",
)
DROPPED_REMOTE_CANDIDATE_NO_PORT = declare(
    "ice", "dropped_remote_candidate_no_port", "Candidates of the peer with the port 0"
)
DROPPED_REMOTE_CANDIDATE_REPEATED = declare(
    "ice", "dropped_remote_candidate_repeated", "Candidates of the peer with an address that is known"
)
DROPPED_REMOTE_CANDIDATE_TOO_MANY = declare(
    "ice", "dropped_remote_candidate_too_many", "Candidates of the peer beyond the number that is kept"
)


class CandidateLists:
    """Local and remote. Addresses of component 1 are used; names and other components are not."""

    __slots__ = ("local", "remote")

    def __init__(self) -> None:
        self.local: list[Candidate] = []
        self.remote: list[Candidate] = []

    def add_local(self, candidate: Candidate) -> Candidate | None:
        """Add a candidate of component 1 and return it with its base; None if it is known already.

        A server-reflexive one without a base has it in its related address, as SDP writes it (RFC 8839 §5.1).
        Anything but a host, server-reflexive or relayed candidate with an address is a `LocalError`. Where there
        is no room the caller is told by `is_full`.
        """
        if not candidate.is_address or candidate.component != COMPONENT:
            raise LocalError("a local candidate is an address of component 1")
        if candidate.type is CandidateType.PEER_REFLEXIVE:
            raise LocalError("a local candidate is of type host, srflx or relay: the others are found by checks")
        if candidate.protocol is TransportProtocol.TCP and candidate.tcp_type is None:
            raise LocalError("a TCP candidate has a tcptype")
        if candidate.type is CandidateType.SERVER_REFLEXIVE and candidate.base is None:
            if candidate.related_host is None or candidate.related_port is None:
                raise LocalError("a server-reflexive candidate has a base")
            candidate = replace(candidate, base=Address(candidate.related_host, candidate.related_port))
        for known in self.local:
            if _same_address(known, candidate) and known.base_address == candidate.base_address:
                return None  # RFC 8445 §5.1.3: the same address and base
        if self.is_full:
            return None
        self.local.append(candidate)
        return candidate

    @property
    def is_full(self) -> bool:
        """True if no local candidate is taken any more: many interfaces, each with many servers."""
        return len(self.local) >= MAX_LOCAL_CANDIDATES

    def add_remote(self, candidate: Candidate) -> CounterName | None:
        """Add a candidate of the peer; return the counter that says why not if it cannot be used."""
        reason = self._unusable(candidate)
        if reason is None:
            self.remote.append(candidate)
        return reason

    def _unusable(self, candidate: Candidate) -> CounterName | None:
        if candidate.protocol is TransportProtocol.TCP and candidate.tcp_type is None:
            return DROPPED_REMOTE_CANDIDATE_NO_TCP_TYPE
        if candidate.component != COMPONENT:
            return DROPPED_REMOTE_CANDIDATE_OTHER_COMPONENT
        if not candidate.is_address:
            return DROPPED_REMOTE_CANDIDATE_NAME
        if not _is_unicast(candidate.host):
            return DROPPED_REMOTE_CANDIDATE_NOT_UNICAST
        if candidate.port == 0:
            return DROPPED_REMOTE_CANDIDATE_NO_PORT
        if any(_same_address(known, candidate) for known in self.remote):
            return DROPPED_REMOTE_CANDIDATE_REPEATED
        if len(self.remote) >= MAX_REMOTE_CANDIDATES:
            return DROPPED_REMOTE_CANDIDATE_TOO_MANY
        return None

    def local_at(self, address: Address, protocol: TransportProtocol) -> Candidate | None:
        """Return our best candidate whose base is this address."""
        based = [c for c in self.local if c.base_address == address and c.protocol is protocol]
        return max(based, key=lambda candidate: candidate.priority, default=None)

    def reflexive_at(self, base: Address, mapped: Address) -> bool:
        """Return True if a server-reflexive candidate of ours has this base and this address."""
        return any(
            c.type is CandidateType.SERVER_REFLEXIVE and c.base_address == base and c.address == mapped
            for c in self.local
        )

    def remote_at(self, path: Path, priority: CandidatePriority, local: Candidate) -> Candidate:
        """Return the peer's candidate at the end of a path; a peer-reflexive one if none was signalled.

        RFC 8445 §7.3.1.3: its priority is what the check said, its foundation differs from all others. It is not
        kept here, so a peer that sends checks from many addresses fills no list. Over TCP it has the type that
        fits ours (RFC 6544 §7.2).
        """
        address, protocol = path.remote, path.protocol
        known = next((c for c in self.remote if c.address == address and c.protocol is protocol), None)
        if known is not None:
            return known
        kind = CandidateType.PEER_REFLEXIVE
        foundation = compute_foundation(kind, str(address), protocol)
        tcp_type = None if local.tcp_type is None else OPPOSITE_TCP_TYPE[local.tcp_type]
        return Candidate(
            foundation, COMPONENT, protocol, priority, address.host, address.port, kind, tcp_type=tcp_type
        )


def is_usable(address: Address) -> bool:
    """Return True for an address and a port where one host can be: a check may go there."""
    return bool(address.port) and _is_unicast(address.host)


def _is_unicast(host: str) -> bool:
    """Return True for an IP address of one host.

    RFC 8445 §5.1.1.1: no IPv4-mapped IPv6 address is a candidate.
    """
    address = ip_address(host)
    if address.is_multicast or address.is_unspecified or address == _BROADCAST:
        return False
    return isinstance(address, IPv4Address) or address.ipv4_mapped is None


def _same_address(one: Candidate, other: Candidate) -> bool:
    """Return True for one address; active TCP candidates all have the same port (RFC 6544 §4.5)."""
    same = one.address == other.address and one.protocol is other.protocol
    return same and one.tcp_type is other.tcp_type
