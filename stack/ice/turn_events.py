"""What a TURN client is given and what it reports: credentials, its state, its events, and why it failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TypeAlias

from stack.core.machine import Address


@dataclass(frozen=True, slots=True)
class TurnCredentials:
    """Long-term credentials (RFC 8489 §9.2); the password stays out of `repr`."""

    username: str
    password: str = field(repr=False)


class TurnError(IntEnum):
    """The error codes on which the client acts (RFC 8656 §19, RFC 8489 §14.8)."""

    TRY_ALTERNATE = 300
    UNAUTHENTICATED = 401
    ALLOCATION_MISMATCH = 437
    STALE_NONCE = 438
    ADDRESS_FAMILY_NOT_SUPPORTED = 440


class TurnFailureReason(Enum):
    """Why there is no allocation, or none any more."""

    NO_RESPONSE = "the TURN server did not respond"
    REFUSED = "the TURN server refused"
    WRONG_CREDENTIALS = "the TURN server does not take our username and password"
    CONNECTION_LOST = "the connection to the TURN server was lost"


@dataclass(frozen=True, slots=True)
class TurnAllocated:
    """The relayed addresses, one of each family that the server has, and how it sees us."""

    relayed: tuple[Address, ...]
    mapped: Address


@dataclass(frozen=True, slots=True)
class TurnFailed:
    """There is no allocation. `code` is the server's error, 0 without one."""

    reason: TurnFailureReason
    code: int = 0


TurnEvent: TypeAlias = TurnAllocated | TurnFailed


class TurnClientState(Enum):
    """In protocol order."""

    NEW = "new"
    ALLOCATING = "allocating"
    ALLOCATED = "allocated"
    CLOSED = "closed"
