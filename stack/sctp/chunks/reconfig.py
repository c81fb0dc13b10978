"""RE-CONFIG (RFC 6525 §3.1) and the parameters in it (§4).

One or two parameters to a chunk. The outgoing SSN reset (13) closes data channels; the incoming SSN reset (14)
asks the peer to reset its side; a response (16) answers either. SSN/TSN reset (15) and adding streams (17, 18)
have no use in WebRTC, where all 65535 streams exist from the start (RFC 8831 §6.2): such requests are denied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from struct import pack, unpack_from
from typing import ClassVar, Protocol, Self, TypeVar

from stack.core.errors import ParseError
from stack.core.registry import add_once
from stack.core.serial import ReconfigSequenceNumber, StreamId, Tsn
from stack.sctp.chunks.registry import register_chunk
from stack.sctp.chunks.tlv import Parameter, build_chunk, build_parameter, build_parameters, parse_parameters

RE_CONFIG = 130


class ReconfigResult(IntEnum):
    """How a request ended (RFC 6525 §4.4)."""

    NOTHING_TO_DO = 0
    PERFORMED = 1
    DENIED = 2
    ERROR_WRONG_SSN = 3
    ERROR_REQUEST_ALREADY_IN_PROGRESS = 4
    ERROR_BAD_SEQUENCE_NUMBER = 5
    IN_PROGRESS = 6


class ReconfigParameter(Parameter, Protocol):
    """A parameter of RE-CONFIG that its own class reads."""

    parameter_type: ClassVar[int]

    @property
    def sequence(self) -> ReconfigSequenceNumber:
        """A request's sequence number, or in a response that of the request that it answers."""
        ...

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value; raises `ParseError` only."""
        ...


ParameterT = TypeVar("ParameterT", bound=ReconfigParameter)
RECONFIG_PARAMETERS: dict[int, Callable[[bytes], ReconfigParameter]] = {}
"""What reads the value of each parameter of RE-CONFIG."""


def register_reconfig_parameter(cls: type[ParameterT]) -> type[ParameterT]:
    """Make a class the one that reads its type of parameter."""
    parse: Callable[[bytes], ReconfigParameter] = cls.parse
    add_once(RECONFIG_PARAMETERS, cls.parameter_type, parse)
    return cls


@register_chunk(RE_CONFIG)
@dataclass(frozen=True, slots=True)
class ReconfigChunk:
    r"""RE-CONFIG (RFC 6525 §3.1).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 130  |  Chunk Flags  |          Chunk Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                   Re-configuration Parameter                  \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \             Re-configuration Parameter (optional)             \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    parameters: tuple[ReconfigParameter, ...]

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        parameters: list[ReconfigParameter] = []
        for parameter_type, inner in parse_parameters(value):
            parse = RECONFIG_PARAMETERS.get(parameter_type)
            if parse is None:
                raise ParseError(f"re-configuration parameter {parameter_type} of {len(inner)} bytes")
            parameters.append(parse(inner))
        if not 1 <= len(parameters) <= 2:
            raise ParseError("RE-CONFIG holds one or two parameters")
        return cls(tuple(parameters))

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        return build_chunk(RE_CONFIG, 0, build_parameters(self.parameters))


@register_reconfig_parameter
@dataclass(frozen=True, slots=True)
class OutgoingSsnResetRequest:
    """Outgoing SSN Reset Request: the sender starts these streams of its own anew; none named: all (§4.1).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |      Parameter Type = 13      | Parameter Length = 16 + 2 * N |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |            Re-configuration Request Sequence Number           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |           Re-configuration Response Sequence Number           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                   Sender's Last Assigned TSN                  |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Stream Number 1 (optional)  |   Stream Number 2 (optional)  |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |  Stream Number N-1 (optional) |   Stream Number N (optional)  |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    parameter_type: ClassVar[int] = 13
    sequence: ReconfigSequenceNumber
    response_sequence: ReconfigSequenceNumber
    last_assigned_tsn: Tsn
    stream_ids: tuple[StreamId, ...] = ()

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value."""
        size = len(value)
        if size < 12 or size % 2:
            raise ParseError(f"Outgoing SSN Reset Request of {size} bytes")
        sequence, answered, last_assigned_tsn = unpack_from("!III", value)
        return cls(sequence, answered, last_assigned_tsn, unpack_from(f"!{(size - 12) // 2}H", value, 12))

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        numbers = (self.sequence, self.response_sequence, self.last_assigned_tsn)
        value = pack(f"!III{len(self.stream_ids)}H", *numbers, *self.stream_ids)
        return build_parameter(self.parameter_type, value)


@register_reconfig_parameter
@dataclass(frozen=True, slots=True)
class IncomingSsnResetRequest:
    """Incoming SSN Reset Request: the receiver is to start these streams of its own anew; none: all (§4.2).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |      Parameter Type = 14      |  Parameter Length = 8 + 2 * N |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |            Re-configuration Request Sequence Number           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Stream Number 1 (optional)  |   Stream Number 2 (optional)  |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |  Stream Number N-1 (optional) |   Stream Number N (optional)  |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    parameter_type: ClassVar[int] = 14
    sequence: ReconfigSequenceNumber
    stream_ids: tuple[StreamId, ...] = ()

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value."""
        size = len(value)
        if size < 4 or size % 2:
            raise ParseError(f"Incoming SSN Reset Request of {size} bytes")
        return cls(unpack_from("!I", value)[0], unpack_from(f"!{(size - 4) // 2}H", value, 4))

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        value = pack(f"!I{len(self.stream_ids)}H", self.sequence, *self.stream_ids)
        return build_parameter(self.parameter_type, value)


@dataclass(frozen=True, slots=True)
class DeniedRequest:
    """The base of the requests that are recognised and denied: of them only the sequence number matters."""

    parameter_type: ClassVar[int]
    sequence: ReconfigSequenceNumber
    rest: bytes = b""

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value."""
        if len(value) < 4:
            raise ParseError(f"re-configuration parameter {cls.parameter_type} of {len(value)} bytes")
        return cls(unpack_from("!I", value)[0], value[4:])

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return build_parameter(self.parameter_type, pack("!I", self.sequence) + self.rest)


@register_reconfig_parameter
class SsnTsnResetRequest(DeniedRequest):
    """SSN/TSN Reset Request (§4.3).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |      Parameter Type = 15      |      Parameter Length = 8     |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |            Re-configuration Request Sequence Number           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    parameter_type = 15


@register_reconfig_parameter
@dataclass(frozen=True, slots=True)
class ReconfigResponse:
    """Re-configuration Response: the answer to a request (§4.4).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |      Parameter Type = 16      |        Parameter Length       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |           Re-configuration Response Sequence Number           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                             Result                            |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                  Sender's Next TSN (optional)                 |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                 Receiver's Next TSN (optional)                |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    `result` may be a number that is not in `ReconfigResult`; the last two answer requests that we never make.
    """

    parameter_type: ClassVar[int] = 16
    sequence: ReconfigSequenceNumber
    result: int

    @classmethod
    def parse(cls, value: bytes) -> Self:
        """Read the value."""
        if len(value) < 8:
            raise ParseError(f"Re-configuration Response of {len(value)} bytes")
        return cls(*unpack_from("!II", value))

    def serialize(self) -> bytes:
        """Return the bytes without padding."""
        return build_parameter(self.parameter_type, pack("!II", self.sequence, self.result))


@register_reconfig_parameter
class AddOutgoingStreamsRequest(DeniedRequest):
    """Add Outgoing Streams Request (§4.5).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |      Parameter Type = 17      |     Parameter Length = 12     |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |            Re-configuration Request Sequence Number           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |     Number of new streams     |            Reserved           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    parameter_type = 17


@register_reconfig_parameter
class AddIncomingStreamsRequest(DeniedRequest):
    """Add Incoming Streams Request (§4.6).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |      Parameter Type = 18      |     Parameter Length = 12     |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |            Re-configuration Request Sequence Number           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |     Number of new streams     |            Reserved           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    parameter_type = 18
