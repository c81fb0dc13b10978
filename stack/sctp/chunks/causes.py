"""Error causes, which ABORT and ERROR carry (RFC 9260 §3.3.10).

What a cause says of itself is kept as it came (`info`): it is shown and counted, and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import pack
from typing import ClassVar, Protocol, Self, TypeVar

from stack.core.registry import add_once
from stack.core.serial import StreamId, Tsn
from stack.sctp.chunks.tlv import build_parameter, parse_parameters


class ErrorCause(Protocol):
    """An error cause, known or not."""

    @property
    def code(self) -> int:
        """The cause code."""
        ...

    @property
    def name(self) -> str:
        """The cause's name in the RFC, in lower case."""
        ...

    @property
    def info(self) -> bytes:
        """The cause-specific information."""
        ...

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        ...


@dataclass(frozen=True, slots=True)
class RegisteredCause:
    """The base of the causes that this stack knows."""

    code: ClassVar[int]
    name: ClassVar[str]
    info: bytes = b""

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return build_parameter(self.code, self.info)

    def __str__(self) -> str:
        return self.name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class UnknownCause:
    r"""A cause whose code is not registered.

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |           Cause Code          |          Cause Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                   Cause-Specific Information                  \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    name: ClassVar[str] = "unknown"
    code: int
    info: bytes = b""

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return build_parameter(self.code, self.info)

    def __str__(self) -> str:
        return self.name


CauseT = TypeVar("CauseT", bound=RegisteredCause)
ERROR_CAUSES: dict[int, type[RegisteredCause]] = {}
"""What makes a cause of each code from its information."""


def register_cause(cls: type[CauseT]) -> type[CauseT]:
    """Make a class the one for its cause code."""
    cause: type[RegisteredCause] = cls
    add_once(ERROR_CAUSES, cls.code, cause)
    return cls


def parse_causes(value: bytes) -> tuple[ErrorCause, ...]:
    """Return the causes that fill `value`; raises `ParseError` only."""
    causes: list[ErrorCause] = []
    for code, info in parse_parameters(value):
        cause = ERROR_CAUSES.get(code)
        causes.append(cause(info) if cause is not None else UnknownCause(code, info))
    return tuple(causes)


@register_cause
class InvalidStreamIdentifierCause(RegisteredCause):
    """A DATA chunk came for a stream that does not exist (RFC 9260 §3.3.10.1).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |         Cause Code = 1        |        Cause Length = 8       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |       Stream Identifier       |           (Reserved)          |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 1
    name = "invalid_stream_identifier"

    @classmethod
    def of(cls, stream_id: StreamId) -> Self:
        """Report a stream."""
        return cls(pack("!HH", stream_id, 0))


@register_cause
class MissingMandatoryParameterCause(RegisteredCause):
    r"""A parameter that must be there is not (RFC 9260 §3.3.10.2).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |         Cause Code = 2        |      Cause Length = 8+N*2     |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                  Number of missing params = N                 |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |     Missing Param Type #1     |     Missing Param Type #2     |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                              ...                              \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 2
    name = "missing_mandatory_parameter"

    @classmethod
    def of(cls, *parameter_types: int) -> Self:
        """Report parameters."""
        return cls(pack(f"!I{len(parameter_types)}H", len(parameter_types), *parameter_types))


@register_cause
class StaleCookieCause(RegisteredCause):
    """A state cookie is past its lifetime (RFC 9260 §3.3.10.3).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |         Cause Code = 3        |        Cause Length = 8       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                  Measure of Staleness (usec)                  |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 3
    name = "stale_cookie"

    @classmethod
    def of(cls, staleness: float) -> Self:
        """Report a cookie that is `staleness` seconds too old; the wire has microseconds."""
        return cls(pack("!I", min(0xFFFFFFFF, int(staleness * 1e6))))


@register_cause
class OutOfResourceCause(RegisteredCause):
    """The sender lacks memory (RFC 9260 §3.3.10.4).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |         Cause Code = 4        |        Cause Length = 4       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 4
    name = "out_of_resource"


@register_cause
class UnresolvableAddressCause(RegisteredCause):
    r"""An address that the receiver cannot use (RFC 9260 §3.3.10.5).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |         Cause Code = 5        |          Cause Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                      Unresolvable Address                     \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 5
    name = "unresolvable_address"


@register_cause
class UnrecognizedChunkTypeCause(RegisteredCause):
    r"""A chunk that asked to be reported (RFC 9260 §3.3.10.6).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |         Cause Code = 6        |          Cause Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                       Unrecognized Chunk                      \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 6
    name = "unrecognized_chunk_type"


@register_cause
class InvalidMandatoryParameterCause(RegisteredCause):
    """A parameter of INIT or INIT ACK has an impossible value (RFC 9260 §3.3.10.7).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |         Cause Code = 7        |        Cause Length = 4       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 7
    name = "invalid_mandatory_parameter"


@register_cause
class UnrecognizedParametersCause(RegisteredCause):
    r"""Parameters of INIT ACK that asked to be reported (RFC 9260 §3.3.10.8).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |         Cause Code = 8        |          Cause Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                    Unrecognized Parameters                    \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 8
    name = "unrecognized_parameters"


@register_cause
class NoUserDataCause(RegisteredCause):
    """A DATA chunk carried nothing (RFC 9260 §3.3.10.9).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |         Cause Code = 9        |        Cause Length = 8       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                              TSN                              |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 9
    name = "no_user_data"

    @classmethod
    def of(cls, tsn: Tsn) -> Self:
        """Report a chunk."""
        return cls(pack("!I", tsn))


@register_cause
class CookieReceivedWhileShuttingDownCause(RegisteredCause):
    """A COOKIE ECHO came in SHUTDOWN-ACK-SENT (RFC 9260 §3.3.10.10).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |        Cause Code = 10        |        Cause Length = 4       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 10
    name = "cookie_received_while_shutting_down"


@register_cause
class RestartWithNewAddressesCause(RegisteredCause):
    r"""A restart would add addresses (RFC 9260 §3.3.10.11).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |        Cause Code = 11        |          Cause Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                        New Address TLVs                       \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 11
    name = "restart_with_new_addresses"


@register_cause
class UserInitiatedAbortCause(RegisteredCause):
    r"""The program ended the association (RFC 9260 §3.3.10.12).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |        Cause Code = 12        |          Cause Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                    Upper Layer Abort Reason                   \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 12
    name = "user_initiated_abort"

    def __str__(self) -> str:
        return _with_text(self)


@register_cause
class ProtocolViolationCause(RegisteredCause):
    r"""The peer broke a rule that has no code of its own (RFC 9260 §3.3.10.13).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |        Cause Code = 13        |          Cause Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                     Additional Information                    \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    code = 13
    name = "protocol_violation"

    def __str__(self) -> str:
        return _with_text(self)


def _with_text(cause: RegisteredCause) -> str:
    name = cause.name.replace("_", " ")
    return f"{name}: {cause.info.decode('utf-8', 'replace')}" if cause.info else name
