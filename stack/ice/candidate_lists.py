"""The local and the remote candidates known so far, and which remote ones can be used."""

from __future__ import annotations

from stack.core.errors import LocalError
from stack.core.machine import Address, TransportProtocol
from stack.ice.candidate import COMPONENT, Candidate, CandidatePriority, CandidateType, compute_foundation

MAX_LOCAL_CANDIDATES = 32
MAX_REMOTE_CANDIDATES = 64


class CandidateLists:
    """Local and remote. UDP addresses of component 1 are used; names, TCP and other components are not."""

    __slots__ = ("local", "remote")

    def __init__(self) -> None:
        self.local: list[Candidate] = []
        self.remote: list[Candidate] = []

    def add_local(self, candidate: Candidate) -> None:
        """Add a UDP host candidate of component 1; anything else is a `LocalError`."""
        if not candidate.is_address or candidate.protocol is not TransportProtocol.UDP:
            raise LocalError("a local candidate is a UDP address")
        if candidate.type is not CandidateType.HOST or candidate.component != COMPONENT:
            raise LocalError("a local candidate is of type host and component 1")
        if len(self.local) >= MAX_LOCAL_CANDIDATES:
            raise LocalError(f"more than {MAX_LOCAL_CANDIDATES} local candidates")
        self.local.append(candidate)

    def add_remote(self, candidate: Candidate) -> str | None:
        """Add a candidate of the peer; return why not if it cannot be used."""
        reason = self._unusable(candidate)
        if reason is None:
            self.remote.append(candidate)
        return reason

    def _unusable(self, candidate: Candidate) -> str | None:
        if candidate.protocol is not TransportProtocol.UDP:
            return "not_udp"
        if candidate.component != COMPONENT:
            return "other_component"
        if not candidate.is_address:
            return "name"
        if candidate.port == 0:
            return "no_port"
        if any(known.address == candidate.address for known in self.remote):
            return "repeated"
        if len(self.remote) >= MAX_REMOTE_CANDIDATES:
            return "too_many"
        return None

    def local_at(self, address: Address) -> Candidate | None:
        """Return our candidate with this address."""
        return next((known for known in self.local if known.address == address), None)

    def remote_at(self, address: Address, priority: CandidatePriority) -> Candidate:
        """Return the peer's candidate with this address; a peer-reflexive one if none was signalled.

        RFC 8445 §7.3.1.3: its priority is what the check said, its foundation differs from all others. It is not
        kept here, so a peer that sends checks from many addresses fills no list.
        """
        known = next((known for known in self.remote if known.address == address), None)
        if known is not None:
            return known
        kind, udp = CandidateType.PEER_REFLEXIVE, TransportProtocol.UDP
        foundation = compute_foundation(kind, str(address), udp)
        return Candidate(foundation, COMPONENT, udp, priority, address.host, address.port, kind)
