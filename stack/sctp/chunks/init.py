"""INIT and INIT ACK, which open an association, and their parameters (RFC 9260 §3.3.2, §3.3.3).

::

    | 1 or 2 | 0 | length | initiate tag 32 | a_rwnd 32 | outbound streams 16 | inbound streams 16 |
    | initial TSN 32 | parameters …

Understood: state cookie (7), unrecognized parameter (8), supported extensions (0x8008, RFC 5061 §4.2.7),
forward TSN supported (0xC000, RFC 3758 §3.1), zero checksum acceptable (0x8001, RFC 9653 §3).
Passed over, because a tunnel over DTLS has one path and no addresses of its own (RFC 8261 §6): IP addresses
(5, 6), supported address types (12), cookie preservative (9), ECN (0x8000).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct, pack
from typing import Self

from stack.core.errors import ParseError
from stack.sctp.chunks.kinds import ChunkType
from stack.sctp.chunks.tlv import RawParameter, build_chunk, build_parameters, parse_parameters

_FIXED = Struct("!IIHHI")

STATE_COOKIE = 7
UNRECOGNIZED_PARAMETER = 8
HOST_NAME_ADDRESS = 11
ZERO_CHECKSUM_ACCEPTABLE = 0x8001
SUPPORTED_EXTENSIONS = 0x8008
FORWARD_TSN_SUPPORTED = 0xC000
_PASSED_OVER = frozenset({5, 6, 9, 12, 0x8000})
_KNOWN = _PASSED_OVER | {
    STATE_COOKIE,
    UNRECOGNIZED_PARAMETER,
    HOST_NAME_ADDRESS,
    ZERO_CHECKSUM_ACCEPTABLE,
    SUPPORTED_EXTENSIONS,
    FORWARD_TSN_SUPPORTED,
}

ERROR_DETECTION_DTLS = 1
"""The alternate error detection method "SCTP over DTLS" (RFC 9653 §8)."""


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

    def parameters(self) -> Iterator[RawParameter]:
        """Yield the parameters that announce this."""
        if self.partial_reliability:
            yield RawParameter(FORWARD_TSN_SUPPORTED, b"")
        kinds = []
        if self.reconfiguration:
            kinds.append(ChunkType.RE_CONFIG)
        if self.partial_reliability:
            kinds.append(ChunkType.FORWARD_TSN)
        if self.interleaving:
            kinds.append(ChunkType.I_DATA)
            if self.partial_reliability:
                kinds.append(ChunkType.I_FORWARD_TSN)
        if kinds:
            yield RawParameter(SUPPORTED_EXTENSIONS, bytes(kinds))
        if self.zero_checksum:
            yield RawParameter(ZERO_CHECKSUM_ACCEPTABLE, pack("!I", ERROR_DETECTION_DTLS))

    @classmethod
    def from_parameters(cls, parameters: Iterable[RawParameter]) -> Self:
        """Read what a peer announces."""
        forward, zero, extensions = False, False, b""
        for kind, value in parameters:
            if kind == FORWARD_TSN_SUPPORTED:
                forward = True
            elif kind == SUPPORTED_EXTENSIONS:
                extensions = value
            elif kind == ZERO_CHECKSUM_ACCEPTABLE:
                zero = value == pack("!I", ERROR_DETECTION_DTLS)
        interleaving = ChunkType.I_DATA in extensions
        wanted = ChunkType.I_FORWARD_TSN if interleaving else ChunkType.FORWARD_TSN
        return cls(
            # A peer may name FORWARD-TSN in either place (RFC 3758 §3.1, RFC 5061 §4.2.7).
            partial_reliability=wanted in extensions or (forward and not interleaving),
            interleaving=interleaving,
            reconfiguration=ChunkType.RE_CONFIG in extensions,
            zero_checksum=zero,
        )


@dataclass(frozen=True, slots=True)
class InitChunk:
    """INIT; `InitAckChunk` looks the same and always carries a state cookie."""

    initiate_tag: int
    a_rwnd: int
    outbound_streams: int
    inbound_streams: int
    initial_tsn: int
    parameters: tuple[RawParameter, ...] = ()

    kind = ChunkType.INIT

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value; what the numbers mean is judged by the association."""
        if len(value) < _FIXED.size:
            raise ParseError("truncated INIT")
        tag, a_rwnd, outbound, inbound, tsn = _FIXED.unpack_from(value)
        return cls(tag, a_rwnd, outbound, inbound, tsn, tuple(parse_parameters(value[_FIXED.size :])))

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        fixed = _FIXED.pack(
            self.initiate_tag, self.a_rwnd, self.outbound_streams, self.inbound_streams, self.initial_tsn
        )
        return build_chunk(self.kind, 0, fixed + build_parameters(self.parameters))

    def find(self, kind: int) -> bytes | None:
        """Return the value of the first parameter of a kind."""
        return next((value for known, value in self.parameters if known == kind), None)

    @property
    def capabilities(self) -> Capabilities:
        """The extensions that the sender announces."""
        return Capabilities.from_parameters(self.parameters)

    def unrecognized(self) -> Iterator[RawParameter]:
        """Yield the unknown parameters that want to be reported, up to one that says "stop" (RFC 9260 §3.2.1)."""
        for parameter in self.parameters:
            if parameter.kind in _KNOWN:
                continue
            if parameter.kind & 0x4000:
                yield parameter
            if not parameter.kind & 0x8000:
                return


class InitAckChunk(InitChunk):
    """INIT ACK."""

    __slots__ = ()

    kind = ChunkType.INIT_ACK
