"""INIT and INIT ACK, which open an association (RFC 9260 §3.3.2, §3.3.3), and the extensions they announce."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Self, TypeVar

from stack.core.errors import ParseError
from stack.core.serial import Tsn
from stack.sctp.chunks.data import I_DATA
from stack.sctp.chunks.forward import FORWARD_TSN, I_FORWARD_TSN
from stack.sctp.chunks.init_parameters import (
    ERROR_DETECTION_DTLS,
    INIT_PARAMETERS,
    ForwardTsnSupportedParameter,
    SupportedExtensionsParameter,
    ZeroChecksumAcceptableParameter,
    read_init_parameter,
)
from stack.sctp.chunks.reconfig import RE_CONFIG
from stack.sctp.chunks.registry import register_chunk
from stack.sctp.chunks.tlv import Parameter, RawParameter, build_chunk, build_parameters, parse_parameters

INIT = 1
INIT_ACK = 2
_FIXED = Struct("!IIHHI")
ParameterT = TypeVar("ParameterT", bound=Parameter)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The extensions that one side announces; what both announce is in force."""

    partial_reliability: bool = False
    interleaving: bool = False
    reconfiguration: bool = False
    zero_checksum: bool = False

    def common(self, other: Capabilities) -> Capabilities:
        """Return what both sides have."""
        return Capabilities(
            self.partial_reliability and other.partial_reliability,
            self.interleaving and other.interleaving,
            self.reconfiguration and other.reconfiguration,
            self.zero_checksum and other.zero_checksum,
        )

    def parameters(self) -> Iterator[Parameter]:
        """Yield the parameters that announce this."""
        if self.partial_reliability:
            yield ForwardTsnSupportedParameter()
        chunk_types = []
        if self.reconfiguration:
            chunk_types.append(RE_CONFIG)
        if self.partial_reliability:
            chunk_types.append(FORWARD_TSN)
        if self.interleaving:
            chunk_types.append(I_DATA)
            if self.partial_reliability:
                chunk_types.append(I_FORWARD_TSN)
        if chunk_types:
            yield SupportedExtensionsParameter(bytes(chunk_types))
        if self.zero_checksum:
            yield ZeroChecksumAcceptableParameter()

    @classmethod
    def from_parameters(cls, parameters: Iterable[Parameter]) -> Self:
        """Read what a peer announces."""
        forward, zero, extensions = False, False, b""
        for parameter in parameters:
            if isinstance(parameter, ForwardTsnSupportedParameter):
                forward = True
            elif isinstance(parameter, SupportedExtensionsParameter):
                extensions = parameter.chunk_types
            elif isinstance(parameter, ZeroChecksumAcceptableParameter):
                zero = parameter.edmid == ERROR_DETECTION_DTLS
        interleaving = I_DATA in extensions
        wanted = I_FORWARD_TSN if interleaving else FORWARD_TSN
        return cls(
            # A peer may name FORWARD-TSN in either place (RFC 3758 §3.1, RFC 5061 §4.2.7).
            partial_reliability=wanted in extensions or (forward and not interleaving),
            interleaving=interleaving,
            reconfiguration=RE_CONFIG in extensions,
            zero_checksum=zero,
        )


@register_chunk(INIT)
@dataclass(frozen=True, slots=True)
class InitChunk:
    r"""INIT (RFC 9260 §3.3.2).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |    Type = 1   |  Chunk Flags  |          Chunk Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                          Initiate Tag                         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |           Advertised Receiver Window Credit (a_rwnd)          |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Number of Outbound Streams  |   Number of Inbound Streams   |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                          Initial TSN                          |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \              Optional/Variable-Length Parameters              \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    chunk_type: ClassVar[int] = INIT
    initiate_tag: int
    a_rwnd: int
    outbound_streams: int
    inbound_streams: int
    initial_tsn: Tsn
    parameters: tuple[Parameter, ...] = ()

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value; what the numbers mean is judged by the association."""
        if len(value) < _FIXED.size:
            raise ParseError("truncated INIT")
        tag, a_rwnd, outbound, inbound, tsn = _FIXED.unpack_from(value)
        parameters = tuple(map(read_init_parameter, parse_parameters(value[_FIXED.size :])))
        return cls(tag, a_rwnd, outbound, inbound, tsn, parameters)

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        fixed = _FIXED.pack(
            self.initiate_tag, self.a_rwnd, self.outbound_streams, self.inbound_streams, self.initial_tsn
        )
        return build_chunk(self.chunk_type, 0, fixed + build_parameters(self.parameters))

    def find(self, parameter: type[ParameterT]) -> ParameterT | None:
        """Return the first parameter of a class."""
        return next((each for each in self.parameters if isinstance(each, parameter)), None)

    @property
    def capabilities(self) -> Capabilities:
        """The extensions that the sender announces."""
        return Capabilities.from_parameters(self.parameters)

    def unrecognized(self) -> Iterator[RawParameter]:
        """Yield the unknown parameters that want to be reported, up to one that says "stop" (RFC 9260 §3.2.1)."""
        for parameter in self.parameters:
            if not isinstance(parameter, RawParameter) or parameter.parameter_type in INIT_PARAMETERS:
                continue
            if parameter.parameter_type & 0x4000:
                yield parameter
            if not parameter.parameter_type & 0x8000:
                return


@register_chunk(INIT_ACK)
class InitAckChunk(InitChunk):
    r"""INIT ACK, which always carries a State Cookie (RFC 9260 §3.3.3).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |    Type = 2   |  Chunk Flags  |          Chunk Length         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                          Initiate Tag                         |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |               Advertised Receiver Window Credit               |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Number of Outbound Streams  |   Number of Inbound Streams   |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                          Initial TSN                          |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \              Optional/Variable-Length Parameters              \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    __slots__ = ()
    chunk_type = INIT_ACK
