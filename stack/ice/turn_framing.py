"""ChannelData, and how messages of TURN follow each other on a stream (RFC 8656 §12.4, §12.5; RFC 8489 §6.2.2).

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|         Channel Number        |            Length             |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
|                       Application Data                        |
+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

On a stream both kinds tell their length themselves, so there is no other framing; ChannelData is padded to whole
words there, which its length does not count. Over UDP it need not be padded.
"""

from __future__ import annotations

from collections.abc import Iterator

from stack.core.errors import LocalError, ParseError
from stack.core.stun_framing import HEADER_SIZE, MAGIC_COOKIE_BYTES

CHANNEL_HEADER_SIZE = 4
FIRST_CHANNEL = 0x4000
LAST_CHANNEL = 0x4FFF
"""RFC 8656 §12."""
MAX_CHANNEL_DATA = 0xFFFF


def channel_data(channel: int, data: bytes, *, padded: bool) -> bytes:
    """Return a ChannelData message; `padded` as on a stream. `LocalError` for what none can carry."""
    if not FIRST_CHANNEL <= channel <= LAST_CHANNEL or len(data) > MAX_CHANNEL_DATA:
        raise LocalError(f"no ChannelData has the channel {channel:#x} and {len(data)} bytes")
    padding = bytes(-len(data) % 4) if padded else b""
    return channel.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data + padding


def parse_channel_data(datagram: bytes) -> tuple[int, bytes] | None:
    """Return channel and data of a ChannelData message; None if it is none. What follows the data is padding."""
    if len(datagram) < CHANNEL_HEADER_SIZE:
        return None
    channel, size = datagram[0] << 8 | datagram[1], datagram[2] << 8 | datagram[3]
    if not FIRST_CHANNEL <= channel <= LAST_CHANNEL or CHANNEL_HEADER_SIZE + size > len(datagram):
        return None
    return channel, datagram[CHANNEL_HEADER_SIZE : CHANNEL_HEADER_SIZE + size]


class TurnStreamFramer:
    """Cuts what a connection to a STUN or TURN server brings into messages. It keeps less than one: 64 KiB."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read and return the messages that are complete now, in order.

        Raises `ParseError` where neither kind of message begins: the stream cannot be read any more.
        """
        self._buffer += data
        messages = list(self._cut())
        return messages

    def _cut(self) -> Iterator[bytes]:
        while len(self._buffer) >= CHANNEL_HEADER_SIZE:
            size = self._size(self._buffer)
            if len(self._buffer) < size:
                return
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            yield message

    @staticmethod
    def _size(buffer: bytes) -> int:
        """Return the size of the message that begins here, header and padding included."""
        length = buffer[2] << 8 | buffer[3]
        if buffer[0] >> 4 == FIRST_CHANNEL >> 12:
            return CHANNEL_HEADER_SIZE + length + (-length % 4)
        cookie = buffer[4:8]
        if buffer[0] < 4 and length % 4 == 0 and MAGIC_COOKIE_BYTES.startswith(cookie):
            return HEADER_SIZE + length
        raise ParseError("neither a STUN message nor ChannelData on the stream of a TURN server")
