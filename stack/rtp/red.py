"""Redundancy: every packet repeats the one or two frames before it (RFC 2198).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |1|   block PT  |      timestamp offset     |    block length   |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+

    for each redundant block, the oldest first; then, of the primary, and all the blocks behind it:

     0 1 2 3 4 5 6 7
    +-+-+-+-+-+-+-+-+
    |0|   block PT  |
    +-+-+-+-+-+-+-+-+

A loss costs no round trip, only bytes: at 24 kb/s a depth of one doubles the payload and repairs every single
loss. The receiver takes the block before the primary for the packet before it, and so on: that is how
browsers write them, and RFC 2198 has no other way to say which packet a block was.
"""

from __future__ import annotations

from collections import deque
from struct import Struct, error
from typing import NamedTuple, Self

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Instant
from stack.core.serial import SERIAL32, RtpTimestamp

MAX_DEPTH = 2
MAX_BLOCKS = 8
"""Redundant blocks that are read from one packet; what has more is malformed."""
MAX_PAYLOAD = 1100
"""Bytes of a payload with its redundancy; older blocks are left out beyond it, so that the packet fits a path."""

_U32 = Struct("!I")
_MAX_OFFSET = (1 << 14) - 1
_MAX_LENGTH = (1 << 10) - 1


class RedBlock(NamedTuple):
    """An earlier frame: it began `timestamp_offset` units before the primary."""

    payload_type: int
    timestamp_offset: int
    payload: bytes


class RedPayload(NamedTuple):
    """The payload of a RED packet: `redundant` from the oldest to the newest, then the primary."""

    payload_type: int
    payload: bytes
    redundant: tuple[RedBlock, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Return the blocks in `data`; raise `ParseError` if they do not fit it."""
        headers: list[tuple[int, int, int]] = []
        position = 0
        try:
            while data[position] & 0x80:
                (word,) = _U32.unpack_from(data, position)
                headers.append((word >> 24 & 0x7F, word >> 10 & _MAX_OFFSET, word & _MAX_LENGTH))
                position += 4
                if len(headers) > MAX_BLOCKS:
                    raise ParseError("RED: too many blocks")
            payload_type = data[position] & 0x7F
        except (IndexError, error):
            raise ParseError("RED: truncated headers") from None
        position += 1
        blocks: list[RedBlock] = []
        for block_type, offset, length in headers:
            blocks.append(RedBlock(block_type, offset, data[position : position + length]))
            position += length
        if position > len(data):
            raise ParseError("RED: the blocks are longer than the packet")
        return cls(payload_type, data[position:], tuple(blocks))

    def serialize(self) -> bytes:
        """Return the payload as bytes; raise `LocalError` if a block does not fit its header."""
        parts: list[bytes] = []
        for block in self.redundant:
            if not 0 <= block.timestamp_offset <= _MAX_OFFSET or len(block.payload) > _MAX_LENGTH:
                raise LocalError("RED: a block is too old or too long")
            parts.append(
                _U32.pack(
                    0x8000_0000 | block.payload_type << 24 | block.timestamp_offset << 10 | len(block.payload)
                )
            )
        parts.append(bytes((self.payload_type,)))
        for block in self.redundant:
            parts.append(block.payload)
        parts.append(self.payload)
        return b"".join(parts)


class RedEncoder:
    """Remembers the last frames and puts them in front of the next one."""

    __slots__ = ("_frames",)

    def __init__(self) -> None:
        self._frames: deque[tuple[int, RtpTimestamp, bytes]] = deque(maxlen=MAX_DEPTH)  # type, timestamp, payload

    def encode(self, payload_type: int, timestamp: RtpTimestamp, payload: bytes, depth: int) -> RedPayload:
        """Return the frame behind as many as `depth` earlier ones, as far as they fit, and remember it."""
        redundant: list[RedBlock] = []
        size = len(payload)
        for earlier_type, earlier, earlier_payload in list(reversed(self._frames))[:depth]:
            offset = (timestamp - earlier) & SERIAL32.mask
            size += len(earlier_payload) + 4
            # A block that is left out ends the run: the receiver counts back from the primary.
            if not 0 < offset <= _MAX_OFFSET or len(earlier_payload) > _MAX_LENGTH or size > MAX_PAYLOAD:
                break
            redundant.insert(0, RedBlock(earlier_type, offset, earlier_payload))
        self._frames.append((payload_type, timestamp, payload))
        return RedPayload(payload_type, payload, tuple(redundant))

    def clear(self) -> None:
        """Forget the frames: a packet that was none came between, so they no longer precede the next one."""
        self._frames.clear()


STEP_UP = (0.01, 0.08)
"""Reported loss from which one, from which two earlier frames are repeated."""
STEP_DOWN = (0.003, 0.04)
"""Reported loss below which that ends again …"""
STEP_DOWN_AFTER = 10.0
"""… once it has been so low for so many seconds."""


class RedDepth:
    """How much to repeat, by the loss that the peer reports.

    It begins with one frame, because nothing is known of the path yet and the first words count.
    """

    __slots__ = ("_calm_since", "depth")

    def __init__(self) -> None:
        self.depth = 1
        self._calm_since: Instant | None = None

    def update(self, loss: float, now: Instant) -> int:
        """Take the latest reported loss (0 … 1); return the depth from now on."""
        wanted = sum(loss >= threshold for threshold in STEP_UP)
        if wanted > self.depth:
            self.depth, self._calm_since = wanted, None
        elif self.depth and loss < STEP_DOWN[self.depth - 1]:
            if self._calm_since is None:
                self._calm_since = now
            elif now - self._calm_since >= STEP_DOWN_AFTER:
                self.depth, self._calm_since = self.depth - 1, now
        else:
            self._calm_since = None
        return self.depth
