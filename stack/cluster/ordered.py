"""Messages in order over a carrier that keeps order and may lose (core NATS, around a reconnection).

     0                   4      5
    +-------------------+------+----------------------+
    | sequence number   | F    | a part of a message  |    F: 1 more of this message follows, 2 was dropped
    +-------------------+------+----------------------+

What was sent is kept until the other side has it (`acknowledge`, told by `Progress`); what it has not got after
one period is sent again from there on, and the receiver takes what comes next in order only (go back N). A
message that is worth nothing when it is late is sent once; its place is all that is sent again. No clock: the
caller knows when a period is over. Left out: a window, as the bound on what is kept ends an attachment whose
other side is gone.
"""

from __future__ import annotations

from collections import deque
from struct import Struct

from stack.core.counters import Counters, declare
from stack.core.errors import StackError

MAX_PART = 256 * 1024
"""Bytes of a message in one frame; NATS takes 1 MiB unless it is told otherwise."""
MAX_KEPT = 64 * 1024 * 1024
"""Bytes that are kept for the other side."""
MAX_MESSAGE = 128 * 1024 * 1024
"""Bytes of a message that is put together: the most that `stack.voice.wire` reads."""
MAX_RESENT = 1024 * 1024
"""Bytes that are sent again in one period."""

DROPPED_OUT_OF_ORDER = declare("backbone", "dropped_out_of_order", "Frames that were not the next one in order")
DROPPED_MALFORMED = declare("backbone", "dropped_malformed", "Messages of the backbone that could not be read")
RESENT = declare("backbone", "resent", "Frames that were sent again, after the backbone had lost some")

_HEAD = Struct("!IB")
_MORE, _DROPPED = 1, 2
_MODULUS = 1 << 32


class BacklogFull(StackError):
    """The other side has not taken anything for so long that no more is kept for it."""


class OrderedStream:
    """Both directions of one attachment, at one end."""

    def __init__(self, counters: Counters) -> None:
        self.sent = 0
        """How many frames were made."""
        self.received = 0
        """How many were taken in order."""
        self._counters = counters
        self._kept: deque[bytes] = deque()  # the latest frames; the first is number `sent - len`
        self._kept_bytes = 0
        self._due = 0  # what was sent one period ago
        self._parts: list[bytes] = []
        self._size = 0

    def send(self, data: bytes, is_stale_when_late: bool = False) -> list[bytes]:
        """Return the frames of a message; raises `BacklogFull`."""
        parts = [data[place : place + MAX_PART] for place in range(0, len(data), MAX_PART)] or [b""]
        frames = []
        for number, part in enumerate(parts, 1):
            head = _HEAD.pack(self.sent % _MODULUS, _MORE if number < len(parts) else 0)
            frame = head + part
            frames.append(frame)
            kept = _HEAD.pack(self.sent % _MODULUS, _DROPPED) if is_stale_when_late else frame
            self._kept.append(kept)
            self._kept_bytes += len(kept)
            self.sent += 1
        if self._kept_bytes > MAX_KEPT:
            raise BacklogFull(f"more than {MAX_KEPT} bytes wait for the other side")
        return frames

    def acknowledge(self, received: int) -> list[bytes]:
        """Take how many frames the other side has; return what is to be sent again.

        It is called once for each `Progress` of the other side: what was sent before the last one should be there.
        """
        first = self.sent - len(self._kept)
        if not first <= received <= self.sent:
            return []  # of another time, or of no stream of ours
        for _ in range(received - first):
            self._kept_bytes -= len(self._kept.popleft())
        again: list[bytes] = []
        if received < self._due:
            size = 0
            for frame in self._kept:
                size += len(frame)
                if again and size > MAX_RESENT:
                    break
                again.append(frame)
            self._counters.add(RESENT, len(again))
        self._due = self.sent
        return again

    def receive(self, frame: bytes) -> bytes | None:
        """Return a message that is whole now, or None."""
        if len(frame) < _HEAD.size:
            self._counters.add(DROPPED_MALFORMED)
            return None
        number, flags = _HEAD.unpack_from(frame)
        if number != self.received % _MODULUS:
            self._counters.add(DROPPED_OUT_OF_ORDER)
            return None
        self.received += 1
        if flags & _DROPPED:
            self._forget_parts()
            return None
        self._parts.append(frame[_HEAD.size :])
        self._size += len(frame) - _HEAD.size
        if self._size > MAX_MESSAGE:
            self._counters.add(DROPPED_MALFORMED)
            self._forget_parts()
            return None
        if flags & _MORE:
            return None
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._forget_parts()
        return whole

    def _forget_parts(self) -> None:
        self._parts, self._size = [], 0
