"""Round-trip time and the retransmission timeout (RFC 9260 §6.3.1).

Two deviations, as every WebRTC stack has them: RTO.Min is not a second but what a receiver that delays its
SACK by the full 200 ms needs (RFC 9260 §6.2), and RTO.Max is three seconds, because a call whose network comes
back must not wait a minute for its events. ICE's measured round trip, if given, replaces RTO.Initial.
"""

from __future__ import annotations

RTO_INITIAL = 1.0
RTO_MAX = 3.0
MAX_SACK_DELAY = 0.2
"""The longest that an honest receiver waits before it acknowledges (RFC 9260 §6.2), in seconds."""
QUEUE_DETECTION_SHARE = 0.05
"""A queue is one that takes up more than this of the round trip."""
_ALPHA = 1 / 8
_BETA = 1 / 4


class RtoEstimator:
    """Smoothed round-trip time and the timeout that follows from it, all in seconds."""

    __slots__ = ("_backoff", "latest_rtt", "minimum_rtt", "rttvar", "srtt")

    def __init__(self, rtt_hint: float | None = None) -> None:
        self.srtt: float | None = None
        self.rttvar = 0.0
        self.latest_rtt = 0.0
        """The last measurement; 0 before the first."""
        self.minimum_rtt = float("inf")
        self._backoff = 1
        if rtt_hint is not None:
            self.take_hint(rtt_hint)

    def take_hint(self, rtt: float) -> None:
        """Begin from another protocol's sample (RFC 9260 §6.3.1 C2), unless there is one of ours.

        It does not count as a minimum of ours.
        """
        if rtt > 0 and not self.latest_rtt:
            self.srtt, self.rttvar = rtt, rtt / 2

    def measured(self, rtt: float) -> None:
        """Take a measurement from a chunk that was sent once only (Karn's rule, §6.3.1 C5)."""
        self.latest_rtt = rtt
        self.minimum_rtt = min(self.minimum_rtt, rtt)
        self._backoff = 1
        if self.srtt is None:
            self.srtt, self.rttvar = rtt, rtt / 2
        else:
            self.rttvar += _BETA * (abs(self.srtt - rtt) - self.rttvar)
            self.srtt += _ALPHA * (rtt - self.srtt)

    def back_off(self) -> None:
        """Double the timeout (§6.3.3 E2)."""
        if self.current < RTO_MAX:
            self._backoff *= 2

    def answered(self) -> None:
        """A chunk of the handshake has its answer at last: the next one begins anew where the round trip is known.

        Else it would first wait as long as the last one has. Karn's rule lets nothing be measured (§6.3.1 C5).
        """
        if self.srtt is not None:
            self._backoff = 1

    @property
    def queue_detected(self) -> bool:
        """True if the last round trip was longer than the shortest one and the usual scatter explain.

        A delayed SACK looks like a queue, and so does all as long as nothing was measured.
        """
        return (
            not self.latest_rtt or self.minimum_rtt + self.rttvar < (1 - QUEUE_DETECTION_SHARE) * self.latest_rtt
        )

    @property
    def current(self) -> float:
        """The timeout now."""
        if self.srtt is None:
            return min(RTO_INITIAL * self._backoff, RTO_MAX)
        return min((self.srtt + max(4 * self.rttvar, MAX_SACK_DELAY)) * self._backoff, RTO_MAX)
