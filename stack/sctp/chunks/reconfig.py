"""RE-CONFIG (RFC 6525 §3.1) and the parameters in it (§4).

One or two parameters to a chunk. Outgoing SSN reset (13) closes data channels; incoming SSN reset (14) asks the
peer to reset its side; a response (16) answers either. SSN/TSN reset (15) and adding streams (17, 18) have no
use in WebRTC, where all 65535 streams exist from the start (RFC 8831 §6.2): they are recognised and denied.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import pack, unpack_from
from typing import Self, TypeAlias

from stack.core.errors import ParseError
from stack.sctp.chunks.kinds import ChunkType
from stack.sctp.chunks.tlv import RawParameter, build_chunk, build_parameters, parse_parameters

_OUTGOING_RESET = 13
_INCOMING_RESET = 14
_SSN_TSN_RESET = 15
_RESPONSE = 16
_ADD_OUTGOING = 17
_ADD_INCOMING = 18


class Result(IntEnum):
    """How a request ended (RFC 6525 §4.4)."""

    NOTHING_TO_DO = 0
    PERFORMED = 1
    DENIED = 2
    ERROR_WRONG_SSN = 3
    ERROR_REQUEST_ALREADY_IN_PROGRESS = 4
    ERROR_BAD_SEQUENCE_NUMBER = 5
    IN_PROGRESS = 6


@dataclass(frozen=True, slots=True)
class OutgoingResetRequest:
    """The sender starts these streams of its own anew; none named: all (§4.1)."""

    request_sequence: int
    response_sequence: int
    last_assigned_tsn: int
    stream_ids: tuple[int, ...] = ()

    def parameter(self) -> RawParameter:
        """Return the parameter."""
        numbers = (self.request_sequence, self.response_sequence, self.last_assigned_tsn)
        return RawParameter(_OUTGOING_RESET, pack(f"!III{len(self.stream_ids)}H", *numbers, *self.stream_ids))


@dataclass(frozen=True, slots=True)
class IncomingResetRequest:
    """The sender asks that the receiver starts these streams of its own anew; none named: all (§4.2)."""

    request_sequence: int
    stream_ids: tuple[int, ...] = ()

    def parameter(self) -> RawParameter:
        """Return the parameter."""
        return RawParameter(
            _INCOMING_RESET, pack(f"!I{len(self.stream_ids)}H", self.request_sequence, *self.stream_ids)
        )


@dataclass(frozen=True, slots=True)
class OtherRequest:
    """A request that is recognised and denied (§4.3, §4.5, §4.6)."""

    kind: int
    request_sequence: int
    rest: bytes = b""

    def parameter(self) -> RawParameter:
        """Return the parameter."""
        return RawParameter(self.kind, pack("!I", self.request_sequence) + self.rest)


@dataclass(frozen=True, slots=True)
class ReconfigResponse:
    """The answer to a request (§4.4); `result` may be a number that nobody knows."""

    response_sequence: int
    result: int

    def parameter(self) -> RawParameter:
        """Return the parameter."""
        return RawParameter(_RESPONSE, pack("!II", self.response_sequence, self.result))


ReconfigParameter: TypeAlias = OutgoingResetRequest | IncomingResetRequest | OtherRequest | ReconfigResponse


def _parse_parameter(kind: int, value: bytes) -> ReconfigParameter:
    size = len(value)
    if kind == _OUTGOING_RESET and size >= 12 and size % 2 == 0:
        sequence, answered, last_tsn = unpack_from("!III", value)
        return OutgoingResetRequest(sequence, answered, last_tsn, unpack_from(f"!{(size - 12) // 2}H", value, 12))
    if kind == _INCOMING_RESET and size >= 4 and size % 2 == 0:
        return IncomingResetRequest(unpack_from("!I", value)[0], unpack_from(f"!{(size - 4) // 2}H", value, 4))
    if kind == _RESPONSE and size >= 8:
        return ReconfigResponse(*unpack_from("!II", value))
    if kind in (_SSN_TSN_RESET, _ADD_OUTGOING, _ADD_INCOMING) and size >= 4:
        return OtherRequest(kind, unpack_from("!I", value)[0], value[4:])
    raise ParseError(f"re-configuration parameter {kind} of {size} bytes")


@dataclass(frozen=True, slots=True)
class ReconfigChunk:
    """RE-CONFIG."""

    parameters: tuple[ReconfigParameter, ...]

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        parameters = tuple(_parse_parameter(kind, inner) for kind, inner in parse_parameters(value))
        if not 1 <= len(parameters) <= 2:
            raise ParseError("RE-CONFIG holds one or two parameters")
        return cls(parameters)

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        return build_chunk(ChunkType.RE_CONFIG, 0, build_parameters(each.parameter() for each in self.parameters))
