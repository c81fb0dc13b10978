"""The Data Channel Establishment Protocol (RFC 8832 §5) and the payload protocol identifiers (RFC 8831 §8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Self, TypeAlias

from stack.core.errors import LocalError, ParseError

_FIXED = Struct("!BBHIHH")
_ACK = 2
_OPEN = 3
_UNORDERED = 0x80
_RELIABLE = 0
_LIMITED_RETRANSMITS = 1
_LIMITED_LIFETIME = 2
DEFAULT_PRIORITY = 256
"""RFC 8831 §6.4 "normal"; 128 is below, 512 and 1024 are above."""


class PayloadProtocol(IntEnum):
    """What a user message is. An empty message travels as one zero byte under an identifier of its own (§6.6)."""

    DCEP = 50
    STRING = 51
    BINARY = 53
    STRING_EMPTY = 56
    BINARY_EMPTY = 57


@dataclass(frozen=True, slots=True)
class DataChannelOpen:
    r"""DATA_CHANNEL_OPEN (RFC 8832 §5.1). Both limits None: reliable; never are both set.

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |  Message Type |  Channel Type |            Priority           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                     Reliability Parameter                     |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |          Label Length         |        Protocol Length        |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                             Label                             \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                            Protocol                           \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    label: str
    protocol: str = ""
    ordered: bool = True
    max_retransmits: int | None = None
    max_lifetime_ms: int | None = None
    priority: int = DEFAULT_PRIORITY

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a message."""
        if len(data) < _FIXED.size:
            raise ParseError("truncated DATA_CHANNEL_OPEN")
        message_type, channel_type, priority, parameter, label_size, protocol_size = _FIXED.unpack_from(data)
        # As with the acknowledgement: what follows the last field is passed over.
        if message_type != _OPEN or len(data) < _FIXED.size + label_size + protocol_size:
            raise ParseError("not a DATA_CHANNEL_OPEN, or truncated")
        reliability = channel_type & ~_UNORDERED
        if reliability > _LIMITED_LIFETIME:
            raise ParseError(f"channel type {channel_type:#x}")
        middle = _FIXED.size + label_size
        try:
            label = data[_FIXED.size : middle].decode()
            protocol = data[middle : middle + protocol_size].decode()
        except UnicodeDecodeError as error:
            raise ParseError("label or protocol is not UTF-8") from error
        return cls(
            label,
            protocol,
            not channel_type & _UNORDERED,
            parameter if reliability == _LIMITED_RETRANSMITS else None,
            parameter if reliability == _LIMITED_LIFETIME else None,
            priority,
        )

    def serialize(self) -> bytes:
        """Return the message."""
        label, protocol = self.label.encode(), self.protocol.encode()
        if len(label) > 0xFFFF or len(protocol) > 0xFFFF:
            raise LocalError("a label or protocol is longer than 65535 bytes")
        channel_type, parameter = _RELIABLE, 0
        if self.max_retransmits is not None:
            channel_type, parameter = _LIMITED_RETRANSMITS, self.max_retransmits
        elif self.max_lifetime_ms is not None:
            channel_type, parameter = _LIMITED_LIFETIME, self.max_lifetime_ms
        channel_type |= 0 if self.ordered else _UNORDERED
        fixed = _FIXED.pack(_OPEN, channel_type, self.priority, parameter, len(label), len(protocol))
        return fixed + label + protocol


@dataclass(frozen=True, slots=True)
class DataChannelAck:
    """DATA_CHANNEL_ACK (RFC 8832 §5.2).

    ::

         0
         0 1 2 3 4 5 6 7
        +-+-+-+-+-+-+-+-+
        |  Message Type |
        +-+-+-+-+-+-+-+-+
    """

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a message. It is one byte; Pion pads it with three more."""
        if data[:1] != bytes((_ACK,)):
            raise ParseError("not a DATA_CHANNEL_ACK")
        return cls()

    def serialize(self) -> bytes:
        """Return the message."""
        return bytes((_ACK,))


DcepMessage: TypeAlias = DataChannelOpen | DataChannelAck
_PARSERS: dict[int, Callable[[bytes], DcepMessage]] = {_OPEN: DataChannelOpen.parse, _ACK: DataChannelAck.parse}


def parse_dcep(data: bytes) -> DcepMessage:
    """Read a DCEP message; raises `ParseError` only."""
    parser = _PARSERS.get(data[0]) if data else None
    if parser is None:
        raise ParseError("neither DATA_CHANNEL_OPEN nor DATA_CHANNEL_ACK")
    return parser(data)


def encode_message(data: str | bytes) -> tuple[int, bytes]:
    """Return the payload protocol identifier and the bytes of a user message."""
    if isinstance(data, str):
        return (PayloadProtocol.STRING, data.encode()) if data else (PayloadProtocol.STRING_EMPTY, b"\0")
    # A bytearray may change while it waits; bytes() of bytes costs nothing.
    return (PayloadProtocol.BINARY, bytes(data)) if data else (PayloadProtocol.BINARY_EMPTY, b"\0")


def decode_message(ppid: int, data: bytes) -> str | bytes:
    """Return the user message; text that is not UTF-8 comes with replacement characters, as in browsers."""
    if ppid == PayloadProtocol.STRING:
        return data.decode("utf-8", "replace")
    if ppid == PayloadProtocol.BINARY:
        return data
    if ppid == PayloadProtocol.STRING_EMPTY:
        return ""
    if ppid == PayloadProtocol.BINARY_EMPTY:
        return b""
    raise ParseError(f"payload protocol identifier {ppid}")
