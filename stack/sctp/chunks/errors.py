"""ABORT and ERROR with their causes (RFC 9260 §3.3.7, §3.3.10)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from struct import pack
from typing import Self

from stack.sctp.chunks.control import FLAG_T
from stack.sctp.chunks.kinds import ChunkType
from stack.sctp.chunks.tlv import RawParameter, build_chunk, build_parameters, parse_parameters


class Cause(IntEnum):
    """Error cause codes (RFC 9260 §3.3.10)."""

    INVALID_STREAM_IDENTIFIER = 1
    MISSING_MANDATORY_PARAMETER = 2
    STALE_COOKIE = 3
    OUT_OF_RESOURCE = 4
    UNRESOLVABLE_ADDRESS = 5
    UNRECOGNIZED_CHUNK_TYPE = 6
    INVALID_MANDATORY_PARAMETER = 7
    UNRECOGNIZED_PARAMETERS = 8
    NO_USER_DATA = 9
    COOKIE_RECEIVED_WHILE_SHUTTING_DOWN = 10
    RESTART_WITH_NEW_ADDRESSES = 11
    USER_INITIATED_ABORT = 12
    PROTOCOL_VIOLATION = 13


@dataclass(frozen=True, slots=True)
class ErrorCause:
    """One cause: a code (perhaps one that nobody knows) and what it says."""

    code: int
    info: bytes = b""

    @property
    def name(self) -> str:
        """The code's name in lower case."""
        return Cause(self.code).name.lower() if self.code in set(Cause) else "unknown"

    def __str__(self) -> str:
        name = self.name.replace("_", " ")
        if self.code in (Cause.USER_INITIATED_ABORT, Cause.PROTOCOL_VIOLATION) and self.info:
            return f"{name}: {self.info.decode('utf-8', 'replace')}"
        return name

    @classmethod
    def invalid_stream(cls, stream_id: int) -> Self:
        """A DATA chunk came for a stream that does not exist (§3.3.10.1)."""
        return cls(Cause.INVALID_STREAM_IDENTIFIER, pack("!HH", stream_id, 0))

    @classmethod
    def missing_parameter(cls, *kinds: int) -> Self:
        """A parameter that must be there is not (§3.3.10.2)."""
        return cls(Cause.MISSING_MANDATORY_PARAMETER, pack(f"!I{len(kinds)}H", len(kinds), *kinds))

    @classmethod
    def stale_cookie(cls, staleness: float) -> Self:
        """A cookie is `staleness` seconds past its lifetime (§3.3.10.3: told in microseconds)."""
        return cls(Cause.STALE_COOKIE, pack("!I", min(0xFFFFFFFF, int(staleness * 1e6))))

    @classmethod
    def no_user_data(cls, tsn: int) -> Self:
        """A DATA chunk carried nothing (§3.3.10.9)."""
        return cls(Cause.NO_USER_DATA, pack("!I", tsn))

    @classmethod
    def protocol_violation(cls, why: str) -> Self:
        """The peer broke a rule that has no code of its own (§3.3.10.13)."""
        return cls(Cause.PROTOCOL_VIOLATION, why.encode())


def _parse_causes(value: bytes) -> tuple[ErrorCause, ...]:
    return tuple(ErrorCause(kind, info) for kind, info in parse_parameters(value))


def _build_causes(causes: Iterable[ErrorCause]) -> bytes:
    return build_parameters(RawParameter(cause.code, cause.info) for cause in causes)


@dataclass(frozen=True, slots=True)
class AbortChunk:
    """ABORT: over, at once; `reflected` is the T bit."""

    causes: tuple[ErrorCause, ...] = ()
    reflected: bool = False

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        return cls(_parse_causes(value), bool(flags & FLAG_T))

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        return build_chunk(ChunkType.ABORT, FLAG_T if self.reflected else 0, _build_causes(self.causes))


@dataclass(frozen=True, slots=True)
class ErrorChunk:
    """ERROR: something was wrong, and the association lives on."""

    causes: tuple[ErrorCause, ...]

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        return cls(_parse_causes(value))

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        return build_chunk(ChunkType.ERROR, 0, _build_causes(self.causes))
