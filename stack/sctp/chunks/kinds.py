"""The numbers of the chunk types, and what to do with a type that nobody knows (RFC 9260 §3.2)."""

from __future__ import annotations

from enum import IntEnum


class ChunkType(IntEnum):
    """Every chunk type that this stack understands."""

    DATA = 0
    INIT = 1
    INIT_ACK = 2
    SACK = 3
    HEARTBEAT = 4
    HEARTBEAT_ACK = 5
    ABORT = 6
    SHUTDOWN = 7
    SHUTDOWN_ACK = 8
    ERROR = 9
    COOKIE_ECHO = 10
    COOKIE_ACK = 11
    SHUTDOWN_COMPLETE = 14
    I_DATA = 64  # RFC 8260
    RE_CONFIG = 130  # RFC 6525
    FORWARD_TSN = 192  # RFC 3758
    I_FORWARD_TSN = 194  # RFC 8260


def skips_when_unknown(kind: int) -> bool:
    """True: pass over an unknown chunk and go on; False: discard the rest of the packet (the highest bit)."""
    return bool(kind & 0x80)


def reports_when_unknown(kind: int) -> bool:
    """True: report an unknown chunk to its sender (the second-highest bit)."""
    return bool(kind & 0x40)
