"""User data: DATA (RFC 9260 §3.3.1) and I-DATA (RFC 8260 §2.1).

These two are the hot path: `NamedTuple` rather than frozen dataclass, because one is made for each packet and
a frozen dataclass takes four times as long to make (`bench/data.py` prints the sum of it). `parse` makes them by
`new_tuple`, which costs half of what the constructor of a `NamedTuple` does.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple, Self

from stack.core.errors import ParseError
from stack.core.serial import MessageIdentifier, StreamId, StreamSequenceNumber, Tsn
from stack.sctp.chunks.registry import register_chunk
from stack.sctp.chunks.tlv import padding

DATA = 0
I_DATA = 64
FLAG_END = 0x01
FLAG_BEGIN = 0x02
FLAG_UNORDERED = 0x04
FLAG_IMMEDIATE = 0x08
"""Ask the receiver for a SACK at once (RFC 9260 §3.3.1, the I bit)."""
UNFRAGMENTED = FLAG_BEGIN | FLAG_END

_DATA_VALUE = Struct("!IHHI")
_DATA_WHOLE = Struct("!BBHIHHI")
_I_DATA_VALUE = Struct("!IHHII")
_I_DATA_WHOLE = Struct("!BBHIHHII")
pack_data = _DATA_WHOLE.pack
"""The header of a DATA chunk from its fields in their order on the wire; `pack_i_data` that of I-DATA."""
pack_i_data = _I_DATA_WHOLE.pack
new_tuple = tuple.__new__
DATA_OVERHEAD = _DATA_WHOLE.size
I_DATA_OVERHEAD = _I_DATA_WHOLE.size


@register_chunk(DATA)
class DataChunk(NamedTuple):
    r"""DATA: a whole user message, or a fragment of one (RFC 9260 §3.3.1).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |    Type = 0   |  Res  |I|U|B|E|             Length            |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                              TSN                              |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |      Stream Identifier S      |    Stream Sequence Number n   |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                  Payload Protocol Identifier                  |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                 User Data (seq n of Stream S)                 \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    """

    flags: int
    tsn: Tsn
    stream_id: StreamId
    ssn: StreamSequenceNumber
    ppid: int
    payload: bytes

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        # RFC 9260 §3.3.1: at least one byte of user data, otherwise "No User Data" (the association says so).
        if len(value) < 12:
            raise ParseError("truncated DATA")
        tsn, stream_id, ssn, ppid = _DATA_VALUE.unpack_from(value)
        return new_tuple(cls, (flags, tsn, stream_id, ssn, ppid, value[12:]))

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        flags, tsn, stream_id, ssn, ppid, payload = self
        size = DATA_OVERHEAD + len(payload)
        return _DATA_WHOLE.pack(DATA, flags, size, tsn, stream_id, ssn, ppid) + payload + padding(size)


@register_chunk(I_DATA)
class IDataChunk(NamedTuple):
    r"""I-DATA: the same with a message identifier, so that messages may interleave (RFC 8260 §2.1).

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |   Type = 64   |  Res  |I|U|B|E|       Length = Variable       |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                              TSN                              |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |       Stream Identifier       |            Reserved           |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |                       Message Identifier                      |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        |     Payload Protocol Identifier / Fragment Sequence Number    |
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
        \                           User Data                           \
        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    The first fragment carries the payload protocol identifier, the later ones their fragment sequence number:
    `ppid` is 0 except in a first fragment, `fsn` is 0 in a first fragment.
    """

    flags: int
    tsn: Tsn
    stream_id: StreamId
    mid: MessageIdentifier
    ppid: int
    fsn: int
    payload: bytes

    @classmethod
    def parse(cls, flags: int, value: bytes) -> Self:
        """Read a chunk's value."""
        if len(value) < 16:
            raise ParseError("truncated I-DATA")
        tsn, stream_id, _, mid, ppid_or_fsn = _I_DATA_VALUE.unpack_from(value)
        ppid, fsn = (ppid_or_fsn, 0) if flags & FLAG_BEGIN else (0, ppid_or_fsn)
        return new_tuple(cls, (flags, tsn, stream_id, mid, ppid, fsn, value[16:]))

    def serialize(self) -> bytes:
        """Return the padded chunk."""
        flags, tsn, stream_id, mid, ppid, fsn, payload = self
        size = I_DATA_OVERHEAD + len(payload)
        last = ppid if flags & FLAG_BEGIN else fsn
        header = _I_DATA_WHOLE.pack(I_DATA, flags, size, tsn, stream_id, 0, mid, last)
        return header + payload + padding(size)
