"""The local and the remote candidates known so far, and which remote ones can be used."""

from __future__ import annotations

from stack.core.counters import CounterName, declare
from stack.core.errors import LocalError
from stack.core.machine import Address, TransportProtocol
from stack.ice.candidate import COMPONENT, Candidate, CandidatePriority, CandidateType, compute_foundation

MAX_LOCAL_CANDIDATES = 32
MAX_REMOTE_CANDIDATES = 64

DROPPED_REMOTE_CANDIDATE_MALFORMED = declare(
    "ice", "dropped_remote_candidate_malformed", "Candidates of the peer that could not be parsed"
)
DROPPED_REMOTE_CANDIDATE_NOT_UDP = declare(
    "ice", "dropped_remote_candidate_not_udp", "Candidates of the peer for another transport than UDP"
)
DROPPED_REMOTE_CANDIDATE_OTHER_COMPONENT = declare(
    "ice", "dropped_remote_candidate_other_component", "Candidates of the peer for another component than 1"
)
DROPPED_REMOTE_CANDIDATE_NAME = declare(
    "ice", "dropped_remote_candidate_name", "Candidates of the peer with a host name, such as an mDNS name"
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

    def add_remote(self, candidate: Candidate) -> CounterName | None:
        """Add a candidate of the peer; return the counter that says why not if it cannot be used."""
        reason = self._unusable(candidate)
        if reason is None:
            self.remote.append(candidate)
        return reason

    def _unusable(self, candidate: Candidate) -> CounterName | None:
        if candidate.protocol is not TransportProtocol.UDP:
            return DROPPED_REMOTE_CANDIDATE_NOT_UDP
        if candidate.component != COMPONENT:
            return DROPPED_REMOTE_CANDIDATE_OTHER_COMPONENT
        if not candidate.is_address:
            return DROPPED_REMOTE_CANDIDATE_NAME
        if candidate.port == 0:
            return DROPPED_REMOTE_CANDIDATE_NO_PORT
        if any(known.address == candidate.address for known in self.remote):
            return DROPPED_REMOTE_CANDIDATE_REPEATED
        if len(self.remote) >= MAX_REMOTE_CANDIDATES:
            return DROPPED_REMOTE_CANDIDATE_TOO_MANY
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
