"""The framing of datagrams on a stream: a length of 16 bits before each (RFC 4571 §2, used by RFC 6544 §3).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |            Length             |  Datagram (STUN, DTLS, SRTP)  |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

The same on both sides of a connection, and without a handshake. `StreamFramer` is a transform: what the socket
has read goes in, whole datagrams come out. RFC 4571 §2 allows an empty frame, which carries nothing here: it is
passed over.

A stream that has once been read wrongly cannot be read any more: there is no mark by which the next frame could be
found. A frame longer than the reader takes therefore raises `ParseError`, and the connection has to be closed.
"""

from __future__ import annotations

from collections.abc import Iterable

from stack.core.errors import LocalError, ParseError

LENGTH_SIZE = 2
MAX_FRAME = 0xFFFF
"""Bytes of a datagram, as the length has 16 bits."""


def frame(datagram: bytes) -> bytes:
    """Return a datagram of 1 to 65535 bytes as it goes onto the stream; `LocalError` for another size."""
    size = len(datagram)
    if not 0 < size <= MAX_FRAME:
        raise LocalError(f"a frame carries 1 to {MAX_FRAME} bytes, not {size}")
    return size.to_bytes(LENGTH_SIZE, "big") + datagram


def frame_all(datagrams: Iterable[bytes]) -> bytes:
    """Return several datagrams as they go onto the stream, for one write."""
    return b"".join([frame(datagram) for datagram in datagrams])


class StreamFramer:
    """Cuts one direction of a stream into datagrams. It keeps less than one frame: `max_frame` + 2 bytes."""

    __slots__ = ("_buffer", "_max_frame")

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        if not 0 < max_frame <= MAX_FRAME:
            raise LocalError(f"a frame carries 1 to {MAX_FRAME} bytes, not {max_frame}")
        self._buffer = b""
        self._max_frame = max_frame

    @property
    def pending(self) -> int:
        """Bytes of a frame that has not arrived whole yet; 0 on the border between two frames."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read and return the datagrams that are complete now, in order.

        Raises `ParseError` for a frame of more than `max_frame` bytes; what came complete before it in the same
        `data` is lost with the stream.
        """
        buffer = self._buffer + data if self._buffer else data
        datagrams: list[bytes] = []
        start, end = 0, len(buffer)
        while end - start >= LENGTH_SIZE:
            size = buffer[start] << 8 | buffer[start + 1]
            if size > self._max_frame:
                self._buffer = b""
                raise ParseError(f"a frame of {size} bytes, more than {self._max_frame}")
            following = start + LENGTH_SIZE + size
            if following > end:
                break
            if size:
                datagrams.append(buffer[start + LENGTH_SIZE : following])
            start = following
        self._buffer = buffer[start:]
        return datagrams
