"""Which TSNs have arrived: the cumulative point, the ranges above it, and duplicates (RFC 9260 §6.2).

TSNs are unbounded integers here; they wrap on the wire only.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter

from stack.core.serial import ExtendedTsn, Tsn

MAX_TSN_AHEAD = 0xFFFF
"""Gap blocks count in 16 bits from the cumulative TSN; what lies beyond is dropped."""
MAX_RANGES = 1024
"""A chunk that would open one more range is dropped: its sender sends it again when there are fewer."""
MAX_DUPLICATES = 16
"""More duplicates than this are not reported in one SACK."""

_START = itemgetter(0)


class TsnMap:
    """The set of TSNs received so far."""

    __slots__ = ("_ranges", "cumulative", "duplicates", "highest")

    def __init__(self, initial_tsn: Tsn) -> None:
        self.cumulative: ExtendedTsn = initial_tsn - 1
        self.highest: ExtendedTsn = initial_tsn - 1
        """The highest TSN that has arrived."""
        self.duplicates: list[Tsn] = []
        self._ranges: list[list[ExtendedTsn]] = []

    @property
    def has_gaps(self) -> bool:
        """True if something above the cumulative TSN has arrived."""
        return bool(self._ranges)

    def has(self, tsn: ExtendedTsn) -> bool:
        """True if this TSN has arrived."""
        if tsn <= self.cumulative:
            return True
        at = bisect_right(self._ranges, tsn, key=_START) - 1
        return at >= 0 and tsn <= self._ranges[at][1]

    def has_room(self, tsn: ExtendedTsn) -> bool:
        """True if this new TSN can be taken within the bounds."""
        if tsn - self.cumulative > MAX_TSN_AHEAD:
            return False
        if len(self._ranges) < MAX_RANGES or tsn == self.cumulative + 1:
            return True
        at = bisect_right(self._ranges, tsn, key=_START)
        joins_left = at > 0 and self._ranges[at - 1][1] == tsn - 1
        joins_right = at < len(self._ranges) and self._ranges[at][0] == tsn + 1
        return joins_left or joins_right

    def extend(self) -> None:
        """Note the TSN that follows the highest, which is the one that arrives unless something was lost."""
        self.highest += 1
        if self._ranges:
            self._ranges[-1][1] = self.highest
        else:
            self.cumulative = self.highest

    def add(self, tsn: ExtendedTsn) -> None:
        """Note a TSN for which `has` was False."""
        ranges = self._ranges
        self.highest = max(self.highest, tsn)
        if tsn == self.cumulative + 1:
            if ranges and ranges[0][0] == tsn + 1:
                self.cumulative = ranges.pop(0)[1]
            else:
                self.cumulative = tsn
            return
        if not ranges or tsn > ranges[-1][1]:
            if ranges and ranges[-1][1] == tsn - 1:
                ranges[-1][1] = tsn
            else:
                ranges.append([tsn, tsn])
            return
        at = bisect_right(ranges, tsn, key=_START)
        joins_left = at > 0 and ranges[at - 1][1] == tsn - 1
        if joins_left and ranges[at][0] == tsn + 1:
            ranges[at - 1][1] = ranges.pop(at)[1]
        elif joins_left:
            ranges[at - 1][1] = tsn
        elif ranges[at][0] == tsn + 1:
            ranges[at][0] = tsn
        else:
            ranges.insert(at, [tsn, tsn])

    def note_duplicate(self, tsn: Tsn) -> None:
        """Remember a TSN that came again, for the next SACK."""
        if len(self.duplicates) < MAX_DUPLICATES:
            self.duplicates.append(tsn)

    def forward(self, cumulative: ExtendedTsn) -> None:
        """Take everything up to `cumulative` as arrived (RFC 3758 §3.6)."""
        if cumulative <= self.cumulative:
            return
        self.cumulative = cumulative
        ranges = self._ranges
        while ranges and ranges[0][0] <= self.cumulative + 1:
            self.cumulative = max(self.cumulative, ranges.pop(0)[1])
        self.highest = max(self.highest, self.cumulative)

    def gaps(self, most: int) -> tuple[tuple[int, int], ...]:
        """Return up to `most` gap blocks as offsets from the cumulative TSN."""
        base = self.cumulative
        return tuple((start - base, end - base) for start, end in self._ranges[:most])
