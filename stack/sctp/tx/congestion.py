"""The congestion window (RFC 9260 §7.2), in bytes of serialized chunks.

Three choices. The window opens at ten packets (RFC 6928) instead of four. Slow start counts every acknowledged
byte (RFC 9260 §7.2.1 recommends one packet to a SACK): a receiver that empties its socket before it answers
acknowledges many packets at once; the bursts this could make are bounded where packets are sent (`MAX_BURST`). And
how far it opens in a round trip, and what a loss costs, follow the queue that stands on the path, because a radio
loses packets without one: `docs/decisions/0005-backing-off-by-the-queue.md`.
"""

from __future__ import annotations

INITIAL_PACKETS = 10
MINIMUM_PACKETS = 4
HALF, MOST = 0.5, 0.8
"""What is left of the window after a loss: at least, as RFC 9260 §7.2.4 has it, and at most."""
PACKETS_PER_ROUND_TRIP, PACKETS_PER_IDLE_ROUND_TRIP = 1, 4
"""How far congestion avoidance opens the window: with a queue on the path (§7.2.2), and without."""
MAX_CWND = 16 << 20
"""However much a peer claims to have received, the window grows no further (bytes)."""


class CongestionWindow:
    """cwnd, ssthresh and fast recovery; `pmdcs` is the room for chunks in one packet."""

    __slots__ = ("_partial_bytes_acked", "cwnd", "pmdcs", "recovery_exit", "ssthresh")

    def __init__(self, pmdcs: int) -> None:
        self.pmdcs = pmdcs
        self.cwnd = INITIAL_PACKETS * pmdcs
        self.ssthresh = MAX_CWND
        self._partial_bytes_acked = 0
        self.recovery_exit: int | None = None
        """In fast recovery until this TSN is acknowledged (§7.2.4)."""

    def acknowledged(self, size: int, flight_before: int, cumulative_advanced: bool, idle_share: float) -> None:
        """Open the window for `size` newly acknowledged bytes; `idle_share` is `RtoEstimator.idle_share`."""
        if self.recovery_exit is not None or not cumulative_advanced:
            return
        # §7.2.1, §7.2.2: only a sender that filled its window may open it further.
        full = flight_before + self.pmdcs > self.cwnd
        if self.cwnd <= self.ssthresh:
            if full:
                # One SACK may tell of a whole window: it opens up to ssthresh, and beyond it by one packet.
                most = max(self.ssthresh, self.cwnd + self.pmdcs)
                self.cwnd = min(self.cwnd + size, most, MAX_CWND)
            return
        self._partial_bytes_acked += size
        if self._partial_bytes_acked >= self.cwnd:
            if full:
                self._partial_bytes_acked -= self.cwnd
                packets = PACKETS_PER_IDLE_ROUND_TRIP if idle_share >= MOST else PACKETS_PER_ROUND_TRIP
                self.cwnd = min(self.cwnd + packets * self.pmdcs, MAX_CWND)
            else:
                self._partial_bytes_acked = self.cwnd

    def lost(self, highest_sent: int, idle_share: float) -> bool:
        """A loss was detected; narrow the window once per window of data. True: fast recovery begins.

        So much of the window as `idle_share` is what the path itself holds; the rest stands in its queue. To keep
        just that much empties the queue and leaves the path busy (H-TCP's adaptive backoff, draft-leith-tcp-htcp).
        """
        if self.recovery_exit is not None:
            return False
        left = min(max(idle_share, HALF), MOST)
        self.ssthresh = max(int(self.cwnd * left), MINIMUM_PACKETS * self.pmdcs)
        self.cwnd = self.ssthresh
        self._partial_bytes_acked = 0
        self.recovery_exit = highest_sent
        return True

    def cumulative_ack(self, cumulative: int) -> None:
        """Leave fast recovery when everything sent before it is acknowledged."""
        if self.recovery_exit is not None and cumulative >= self.recovery_exit:
            self.recovery_exit = None

    def timed_out(self) -> None:
        """T3-rtx expired (§7.2.3)."""
        self.ssthresh = max(self.cwnd // 2, MINIMUM_PACKETS * self.pmdcs)
        self.cwnd = self.pmdcs
        self._partial_bytes_acked = 0
        self.recovery_exit = None

    def idle(self) -> None:
        """Nothing was sent for a whole timeout (§7.2.1): what the window knew is old."""
        self.cwnd = max(self.cwnd // 2, min(self.cwnd, INITIAL_PACKETS * self.pmdcs))
