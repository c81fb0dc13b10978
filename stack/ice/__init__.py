"""ICE (RFC 8445): finding a path to the peer, and keeping it. Docs: `docs/ice.md`.

Two machines with the same commands and events: `LiteAgent` for a server with a public address, `IceAgent` for
every other host. Both are given datagrams that are STUN, with the path that each took, and nothing else.

Around them: `gathering` finds server-reflexive and relayed candidates, `turn` is the client of a TURN server, and
`relaying` gives a machine the relayed addresses; these three are imported as modules of their own.
"""

from __future__ import annotations

from stack.core.ufrag import MAX_WORKERS, Ufrag, worker_of
from stack.ice.agent import IceAgent
from stack.ice.candidate import Candidate, CandidateType, TcpType, compute_foundation, compute_priority
from stack.ice.candidate_lists import DROPPED_REMOTE_CANDIDATE_MALFORMED
from stack.ice.consent import ConsentSettings
from stack.ice.credentials import IceCredentials, split_username
from stack.ice.events import (
    ConsentExpired,
    ConsentLost,
    IceEvent,
    IceFailed,
    IceFailureReason,
    IceState,
    PathSelected,
    PathValidated,
)
from stack.ice.lite import LiteAgent, LiteSettings
from stack.ice.pair import CandidatePair, PairState
from stack.ice.piggyback import Piggyback
from stack.ice.settings import IceSettings

__all__ = [
    "DROPPED_REMOTE_CANDIDATE_MALFORMED",
    "MAX_WORKERS",
    "Candidate",
    "CandidatePair",
    "CandidateType",
    "ConsentExpired",
    "ConsentLost",
    "ConsentSettings",
    "IceAgent",
    "IceCredentials",
    "IceEvent",
    "IceFailed",
    "IceFailureReason",
    "IceSettings",
    "IceState",
    "LiteAgent",
    "LiteSettings",
    "PairState",
    "PathSelected",
    "PathValidated",
    "Piggyback",
    "TcpType",
    "Ufrag",
    "compute_foundation",
    "compute_priority",
    "split_username",
    "worker_of",
]
