"""The state and the events of an ICE agent, and why it failed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from stack.core.machine import Path


class IceState(Enum):
    """In protocol order; `ICE_TRANSITIONS` are the steps from one to another."""

    NEW = "new"
    CHECKING = "checking"
    CONNECTED = "connected"
    """There is a path, though none is nominated."""
    COMPLETED = "completed"
    """A path is nominated."""
    DISCONNECTED = "disconnected"
    """Consent was lost, and nothing may be sent until a path is validated anew: of a lite agent, and of a full one
    in an ICE restart."""
    FAILED = "failed"
    CLOSED = "closed"


ICE_TRANSITIONS = {
    # A lite agent answers checks before it is started, and a check may nominate.
    IceState.NEW: {IceState.CHECKING, IceState.CONNECTED, IceState.COMPLETED, IceState.CLOSED},
    IceState.CHECKING: {IceState.CONNECTED, IceState.COMPLETED, IceState.FAILED, IceState.CLOSED},
    IceState.CONNECTED: {IceState.COMPLETED, IceState.DISCONNECTED, IceState.FAILED, IceState.CLOSED},
    # To CONNECTED by a restart, or where another path takes the place of a silent one.
    IceState.COMPLETED: {IceState.CONNECTED, IceState.DISCONNECTED, IceState.FAILED, IceState.CLOSED},
    # To CHECKING by a restart.
    IceState.DISCONNECTED: {
        IceState.CHECKING,
        IceState.CONNECTED,
        IceState.COMPLETED,
        IceState.FAILED,
        IceState.CLOSED,
    },
    # By a restart.
    IceState.FAILED: {IceState.CHECKING, IceState.CLOSED},
    IceState.CLOSED: set[IceState](),
}
"""From each state to those that can follow it."""


class IceFailureReason(Enum):
    """Why an agent has no path, or none any more."""

    NO_CHECK_RECEIVED = "the peer sent no check that we could authenticate"
    NO_REMOTE_CREDENTIALS = "the peer's username fragment and password were never given"
    NO_CANDIDATE_PAIR = "there was never a pair of candidates to check"
    ALL_CHECKS_FAILED = "no check was answered"
    REFUSED = "the peer has the session no more"
    """It has signed an error to the checks that ask for consent: one who has the password says so."""


@dataclass(frozen=True, slots=True)
class PathValidated:
    """A path is valid: an authenticated check, or response to one of ours, arrived on it for the first time."""

    path: Path


@dataclass(frozen=True, slots=True)
class PathSelected:
    """`selected_path` is now this one, or was this one already and has just been nominated."""

    path: Path
    nominated: bool


@dataclass(frozen=True, slots=True)
class ConsentLost:
    """Nothing came of the peer for so long that nothing may be sent (RFC 7675 §5.1), and it is waited for.

    To a lite agent the next authenticated check validates a path anew; `ConsentExpired` follows if none comes. A
    full one is in an ICE restart, which goes on; `IceFailed` follows if it finds no path.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class ConsentExpired:
    """Consent has expired on every path; stop sending (RFC 7675 §5.1).

    The agent is idle unless it is restarted.
    """

    path: Path
    still_receiving: bool = False
    """Authenticated packets of the peer arrived on the path until the end, but no response to a check."""


@dataclass(frozen=True, slots=True)
class IceFailed:
    """No path was found. The agent is idle unless it is restarted."""

    reason: IceFailureReason


IceEvent: TypeAlias = PathValidated | PathSelected | ConsentLost | ConsentExpired | IceFailed
