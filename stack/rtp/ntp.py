"""NTP timestamps as RTCP uses them (RFC 3550 §4): 64 bits since 1900, and their middle 32."""

from __future__ import annotations

from stack.core.machine import Instant

_UNIX_TO_NTP = 2_208_988_800
"""Seconds from 1900 to 1970."""

COMPACT_UNIT = 1 / 65536
"""Seconds in one unit of a compact NTP timestamp."""


class NtpClock:
    """Turns instants of the monotonic clock into NTP time; `offset` leads from one to seconds since 1970."""

    __slots__ = ("_offset",)

    def __init__(self, offset: float) -> None:
        self._offset = offset + _UNIX_TO_NTP

    def at(self, now: Instant) -> int:
        """Return the 64-bit NTP timestamp of `now`."""
        seconds = now + self._offset
        whole = int(seconds)
        return (whole & 0xFFFF_FFFF) << 32 | int((seconds - whole) * (1 << 32))


def compact(ntp_time: int) -> int:
    """Return the middle 32 bits of a 64-bit timestamp, in units of 1/65536 s."""
    return ntp_time >> 16 & 0xFFFF_FFFF


def to_compact_units(seconds: float) -> int:
    """Return a duration in units of 1/65536 s, as DLSR counts it."""
    return min(max(int(seconds * 65536), 0), 0xFFFF_FFFF)
