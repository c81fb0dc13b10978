"""Which chunks in flight are lost: RACK and the tail-loss probe (RFC 8985), applied to SCTP.

A chunk is lost if one that was sent sufficiently later has arrived. That takes the place of counting three miss
indications (RFC 9260 §7.2.4, a SHOULD): it finds lost retransmissions too, and does not take reordering for loss.
At the tail, where nothing later was sent, a probe after about two round trips asks for a SACK instead of waiting
for T3-rtx.

`in_flight` is kept in order of sending, so that the search ends at the first that is not lost.
"""

from __future__ import annotations

from stack.core.machine import Instant
from stack.core.serial import ExtendedTsn
from stack.sctp.tx.outstanding import OutstandingChunk
from stack.sctp.tx.rto import RtoEstimator

REORDERING_THRESHOLD = 3
"""With no reordering seen so far, this many chunks received out of order end the wait (RFC 8985 §6.2)."""
MAX_REO_WND_MULT = 16
_MINIMUM_PROBE_DELAY = 0.01


class LossDetector:
    """What RACK keeps: the most recently sent chunk that is known to have arrived."""

    __slots__ = ("_latest_tsn", "_reo_wnd_mult", "_rtt", "latest_sent_at", "reordering_seen")

    def __init__(self) -> None:
        self.latest_sent_at: Instant = float("-inf")
        self._latest_tsn = -1
        self._rtt = 0.0
        self._reo_wnd_mult = 1
        self.reordering_seen = False

    def arrived(self, chunk: OutstandingChunk, now: Instant, minimum_rtt: float) -> None:
        """A chunk was newly acknowledged."""
        rtt = now - chunk.sent_at
        if chunk.transmissions > 1 and rtt < minimum_rtt:
            return  # It is the first transmission that arrived (RFC 8985 §6.2 step 2).
        if chunk.sent_at > self.latest_sent_at or (
            chunk.sent_at == self.latest_sent_at and chunk.tsn > self._latest_tsn
        ):
            self.latest_sent_at, self._latest_tsn, self._rtt = chunk.sent_at, chunk.tsn, rtt

    def duplicate_reported(self) -> None:
        """A retransmission was for nothing: wait longer (RFC 8985 §6.2 step 4, its DSACK)."""
        self.reordering_seen = True
        self._reo_wnd_mult = min(self._reo_wnd_mult + 1, MAX_REO_WND_MULT)

    def find_lost(
        self,
        in_flight: dict[ExtendedTsn, OutstandingChunk],
        rto: RtoEstimator,
        now: Instant,
        reordering_tolerated: bool,
    ) -> tuple[list[OutstandingChunk], Instant | None]:
        """Return what is lost, and when to look again; reordering may explain a gap if it is tolerated."""
        window = 0.0
        if (reordering_tolerated or self.reordering_seen) and rto.minimum_rtt != float("inf"):
            window = min(self._reo_wnd_mult * rto.minimum_rtt / 4, rto.srtt or 0.0)
        lost: list[OutstandingChunk] = []
        latest, latest_tsn = self.latest_sent_at, self._latest_tsn
        for chunk in in_flight.values():
            # What was sent at the same instant was sent in the order of TSNs.
            if chunk.sent_at > latest or (chunk.sent_at == latest and chunk.tsn >= latest_tsn):
                break
            due = chunk.sent_at + self._rtt + window
            if due > now:
                return lost, due
            lost.append(chunk)
        return lost, None

    def probe_delay(self, rto: RtoEstimator) -> float:
        """How long after the last transmission to probe the tail (RFC 8985 §7.2).

        The tail carries the I bit, so the peer's SACK is not delayed.
        """
        if rto.srtt is None:
            return rto.current
        return min(2 * rto.srtt + _MINIMUM_PROBE_DELAY, rto.current)
