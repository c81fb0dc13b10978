"""The congestion window (RFC 9260 §7.2), in bytes of serialized chunks.

Four choices. The window opens at ten packets (RFC 6928) instead of four. Slow start counts every acknowledged
byte (RFC 9260 §7.2.1 recommends one packet to a SACK): a receiver that empties its socket before it answers
acknowledges many packets at once; the bursts this could make are bounded where packets are sent (`MAX_BURST`).
Fast recovery lasts one round trip, as RFC 9002 §7.3.2 has it, and not until all is repaired: at 5 % loss something
always is to be repaired, and the window would never open. And how far it opens in a round trip, and what a loss
costs, depend on whether a queue stands on the path, because a radio loses packets without one:
`docs/decisions/0005-backing-off-by-the-queue.md`.
"""

from __future__ import annotations

from stack.core.machine import Instant

INITIAL_PACKETS = 10
MINIMUM_PACKETS = 4
DECREASE_FACTOR, DECREASE_FACTOR_WITHOUT_QUEUE = 0.5, 0.9
"""What a loss leaves of the window: with a queue on the path (RFC 9260 §7.2.4), and without."""
INCREASE_PACKETS, INCREASE_PACKETS_WITHOUT_QUEUE = 1, 4
"""How far congestion avoidance opens the window: with a queue on the path (§7.2.2), and without."""
MAX_CWND = 16 << 20
"""However much a peer claims to have received, the window grows no further (bytes)."""


class CongestionWindow:
    """cwnd, ssthresh and fast recovery; `pmdcs` is the room for chunks in one packet."""

    __slots__ = ("_recovery_began", "cwnd", "in_recovery", "pmdcs", "ssthresh")

    def __init__(self, pmdcs: int) -> None:
        self.pmdcs = pmdcs
        self.cwnd = INITIAL_PACKETS * pmdcs
        self.ssthresh = MAX_CWND
        self.in_recovery = False
        """Nothing that was sent after the last decrease has arrived yet."""
        self._recovery_began: Instant = float("-inf")

    def acknowledged(self, size: int, flight_before: int, latest_sent_at: Instant, queue_detected: bool) -> None:
        """Open the window for `size` bytes that have arrived; nothing arrived was sent after `latest_sent_at`."""
        if latest_sent_at <= self._recovery_began:
            return
        self.in_recovery = False
        # §7.2.1, §7.2.2: only a sender that filled its window may open it further.
        if flight_before + self.pmdcs <= self.cwnd:
            return
        if self.cwnd <= self.ssthresh:
            # One SACK may tell of a whole window: it opens up to ssthresh, and beyond it by one packet.
            most = max(self.ssthresh, self.cwnd + self.pmdcs)
            self.cwnd = min(self.cwnd + size, most, MAX_CWND)
        else:
            packets = INCREASE_PACKETS if queue_detected else INCREASE_PACKETS_WITHOUT_QUEUE
            self.cwnd = min(self.cwnd + packets * self.pmdcs * size // self.cwnd, MAX_CWND)

    def lost(self, sent_at: Instant, now: Instant, queue_detected: bool) -> bool:
        """Narrow the window, once in a round trip, for what was sent at `sent_at`. True: fast recovery begins."""
        if sent_at <= self._recovery_began:
            return False
        # Slow start may have opened the window to twice what the path holds before a loss could tell.
        factor = DECREASE_FACTOR if queue_detected or self.cwnd < self.ssthresh else DECREASE_FACTOR_WITHOUT_QUEUE
        self.ssthresh = max(int(self.cwnd * factor), MINIMUM_PACKETS * self.pmdcs)
        self.cwnd = self.ssthresh
        self.in_recovery = True
        self._recovery_began = now
        return True

    def timed_out(self) -> None:
        """T3-rtx expired (§7.2.3)."""
        self.ssthresh = max(self.cwnd // 2, MINIMUM_PACKETS * self.pmdcs)
        self.cwnd = self.pmdcs
        self.in_recovery = False

    def idle(self) -> None:
        """Nothing was sent for a whole timeout (§7.2.1): the window no longer fits the path."""
        self.cwnd = max(self.cwnd // 2, min(self.cwnd, INITIAL_PACKETS * self.pmdcs))
