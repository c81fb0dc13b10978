"""Senders that are in the middle of a session which this process does not have.

A client whose server process has died goes on: SRTP and DTLS that is encrypted already come over a path that no
session here has proven, and sooner or later a check does. What comes first of a new session is a check, and then a
ClientHello. So a check over a path that such packets came over before it belongs to a session that is lost
(`stack.server.admission` refuses it).

Nothing of this is authenticated. One who knows a client's address and port could write packets with it, and a new
call from there would be refused for some seconds: it takes `ENOUGH` of them before the first check of that call.
"""

from __future__ import annotations

from typing import Final

from stack.core.machine import Instant, Path

ENOUGH: Final = 3
"""Packets that make a stray of their sender."""
MAX_STRAYS: Final = 4096
"""Paths that are remembered; the oldest makes room."""
MEMORY: Final = 5.0
"""Seconds after its latest packet for which a path is remembered."""
_RTP_HEADER = 12
_APPLICATION_DATA = 23  # RFC 6347 §4.1
_UNIFIED_HEADER = 0b001  # RFC 9147 §4


def is_of_a_session(data: bytes) -> bool:
    """Return True for what a peer sends only after its handshake: RTP and RTCP, and encrypted DTLS records."""
    if not data:
        return False
    first = data[0]
    if first >> 6 == 2:
        return len(data) >= _RTP_HEADER
    return first == _APPLICATION_DATA or first >> 5 == _UNIFIED_HEADER


class Strays:
    """The paths over which such packets came."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[int, Instant]] = {}  # in the order of their first packet

    def note(self, data: bytes, path: Path, now: Instant) -> None:
        """A datagram came over a path that no session has proven."""
        if not is_of_a_session(data):
            return
        count, last = self._seen.get(path, (0, now))
        if now - last > MEMORY:
            count = 0
        if path not in self._seen and len(self._seen) >= MAX_STRAYS:
            del self._seen[next(iter(self._seen))]
        self._seen[path] = count + 1, now

    def has(self, path: Path, now: Instant) -> bool:
        """Return True if the sender at the other end of a path is in a session that is not here."""
        count, last = self._seen.get(path, (0, now))
        return count >= ENOUGH and now - last <= MEMORY

    def forget(self, path: Path) -> None:
        """The path is a session's of ours now."""
        self._seen.pop(path, None)
