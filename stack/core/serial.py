"""Numbers that wrap: RTP sequence numbers and timestamps, SCTP TSNs (RFC 1982, RFC 3550 §A.1, RFC 9260 §1.6).

The only place where a wrapped number is compared, advanced or unwrapped. Each kind is a type of its own, so
that mypy refuses a TSN where a sequence number is wanted. The names with `Extended` are the same numbers without
their wraps: they only say what a plain `int` counts, because arithmetic on them is ordinary.
"""

from __future__ import annotations

from typing import NewType, TypeAlias, TypeVar

SequenceNumber = NewType("SequenceNumber", int)
"""An RTP sequence number, 16 bits."""
RtpTimestamp = NewType("RtpTimestamp", int)
"""An RTP timestamp, 32 bits, in units of the payload's clock rate."""
Ssrc = NewType("Ssrc", int)
"""A synchronisation source, 32 bits; not ordered."""
Tsn = NewType("Tsn", int)
"""An SCTP transmission sequence number, 32 bits."""
StreamId = NewType("StreamId", int)
"""An SCTP stream identifier, 16 bits; not ordered."""
StreamSequenceNumber = NewType("StreamSequenceNumber", int)
"""An SCTP stream sequence number, 16 bits."""
MessageIdentifier = NewType("MessageIdentifier", int)
"""An SCTP message identifier (I-DATA, RFC 8260), 32 bits."""
ReconfigSequenceNumber = NewType("ReconfigSequenceNumber", int)
"""The sequence number of an SCTP re-configuration request (RFC 6525 §4.1), 32 bits."""
ExtendedSequenceNumber: TypeAlias = int
"""An RTP sequence number that does not wrap (RFC 3550 §A.1)."""
ExtendedTimestamp: TypeAlias = int
"""An RTP timestamp that does not wrap."""
ExtendedTsn: TypeAlias = int
"""A TSN that does not wrap."""
NumberT = TypeVar("NumberT", bound=int)


class SerialSpace:
    """Arithmetic on unsigned numbers of `bits` bits that wrap (RFC 1982)."""

    __slots__ = ("bits", "half", "mask")

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self.mask = (1 << bits) - 1
        self.half = 1 << (bits - 1)

    def add(self, number: NumberT, delta: int) -> NumberT:
        """Return `number` advanced by `delta`, which may be negative; its kind stays what it was."""
        return (number + delta) & self.mask  # type: ignore[return-value]

    def distance(self, newer: int, older: int) -> int:
        """Return the signed distance from `older` to `newer`, in -half … half-1."""
        delta = (newer - older) & self.mask
        return delta - self.mask - 1 if delta >= self.half else delta

    def is_newer(self, number: int, reference: int) -> bool:
        """Return True if `number` comes after `reference`."""
        return 0 < (number - reference) & self.mask < self.half

    def unwrap(self, number: int, reference: int) -> int:
        """Return the unbounded number nearest to the unbounded `reference` that wraps to `number`."""
        return reference + self.distance(number, reference & self.mask)


SERIAL16 = SerialSpace(16)
SERIAL32 = SerialSpace(32)


class Unwrapper:
    """Turns a run of wrapping numbers into unbounded ones, each nearest to the highest seen so far.

    The first number stands for itself; numbers from before it may come out negative.
    """

    __slots__ = ("_highest", "_space")

    def __init__(self, space: SerialSpace) -> None:
        self._space = space
        self._highest: int | None = None

    @property
    def highest(self) -> int | None:
        """The highest unbounded number so far; None before the first."""
        return self._highest

    def unwrap(self, number: int) -> int:
        """Return the unbounded number for `number` and remember it if it is the highest."""
        highest = self._highest
        if highest is None:
            self._highest = number
            return number
        space = self._space  # `SerialSpace.unwrap`, written out: every packet passes here
        delta = (number - highest) & space.mask
        extended = highest + (delta - space.mask - 1 if delta >= space.half else delta)
        if extended > highest:
            self._highest = extended
        return extended
