"""What an ICE agent tells its owner: its state, its events, and why it failed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from stack.core.machine import Path


class IceState(Enum):
    """How far an agent has come, in protocol order."""

    NEW = "new"
    CHECKING = "checking"
    CONNECTED = "connected"
    """There is a path, though none is nominated."""
    COMPLETED = "completed"
    """A path is nominated."""
    FAILED = "failed"
    CLOSED = "closed"


class FailureReason(Enum):
    """Why an agent gave up before it had any path."""

    NO_CHECK_RECEIVED = "the peer sent no check that we could authenticate"
    NO_REMOTE_CREDENTIALS = "the peer's username fragment and password were never given"
    NO_CANDIDATE_PAIR = "there was never a pair of candidates to check"
    ALL_CHECKS_FAILED = "no check was answered"


@dataclass(frozen=True, slots=True)
class PathValidated:
    """The peer, authenticated, was heard on a path for the first time."""

    path: Path


@dataclass(frozen=True, slots=True)
class PathSelected:
    """`selected_path` is now this one, or was this one already and has just been nominated."""

    path: Path
    nominated: bool


@dataclass(frozen=True, slots=True)
class ConsentExpired:
    """The peer has been silent on every path for too long; stop sending (RFC 7675 §5.1).

    The agent does nothing more unless it is restarted.
    """

    path: Path
    still_heard: bool = False
    """The peer sent something authentic on the path until the end, but answered no check."""


@dataclass(frozen=True, slots=True)
class Failed:
    """No path was found. The agent does nothing more unless it is restarted."""

    reason: FailureReason


IceEvent: TypeAlias = PathValidated | PathSelected | ConsentExpired | Failed
