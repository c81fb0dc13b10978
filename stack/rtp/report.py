"""When to report (RFC 3550 §6.2–6.3, RFC 4585 §3.4), and what the answers say about the round trip (§6.4.1).

The interval is that of RFC 3550 for two participants under the AVPF profile, which has no minimum of five
seconds. Timer reconsideration (§6.3.3, §6.3.6) and its compensation are left out: they calm down a growing
group, and a call stays at two.
"""

from __future__ import annotations

from collections import OrderedDict

from stack.core.machine import Entropy, Instant
from stack.rtp.ntp import COMPACT_UNIT

FIRST_REPORT_WITHIN = 0.1
"""Seconds: the first report comes at a random point in this time; RFC 3550 §6.2 lets unicast begin at once."""
MINIMUM_INTERVAL = 1.0
"""Seconds between reports before the random factor (T_rr_interval of RFC 4585 §3.4)."""
MAX_REMEMBERED_REPORTS = 32
"""How many of our reports may still be answered."""
MAX_ROUND_TRIP = 60.0
"""Seconds; what is beyond is not believed."""

_MEMBERS = 2
_RTCP_SHARE = 0.05  # RFC 3550 §6.2
_TRANSPORT_OVERHEAD = 28 + 20  # IPv4, UDP; SRTCP's index and tag


class ReportSchedule:
    """How long to wait until the next report."""

    __slots__ = ("_average_size", "_bandwidth", "_entropy")

    def __init__(self, session_bandwidth: int, entropy: Entropy) -> None:
        self._bandwidth = session_bandwidth * _RTCP_SHARE / 8
        self._entropy = entropy
        self._average_size = 128.0

    def _random(self) -> float:
        return int.from_bytes(self._entropy(4), "big") / (1 << 32)

    def first_delay(self) -> float:
        """Return the seconds from the first packet to the first report."""
        return FIRST_REPORT_WITHIN * self._random()

    def note_size(self, size: int) -> None:
        """Take the size of a compound packet, sent or received, into the average (RFC 3550 §6.3.3)."""
        self._average_size += (size + _TRANSPORT_OVERHEAD - self._average_size) / 16

    def interval(self) -> float:
        """Return the seconds to the next report: random in 0.5 … 1.5 of the nominal (RFC 3550 §6.3.1)."""
        nominal = max(MINIMUM_INTERVAL, _MEMBERS * self._average_size / self._bandwidth)
        return nominal * (0.5 + self._random())


class RoundTripTime:
    """Round trips from the answers to our reports: LSR and DLSR, or XR's DLRR.

    Only answers to reports that we remember count, so the peer cannot make one up by naming a time.
    """

    __slots__ = ("_sent", "latest", "measurements", "minimum", "smoothed", "total")

    def __init__(self) -> None:
        self._sent: OrderedDict[int, Instant] = OrderedDict()
        self.latest: float | None = None
        self.smoothed: float | None = None
        self.minimum: float | None = None
        self.total = 0.0
        self.measurements = 0

    def note_sent(self, compact_ntp: int, now: Instant) -> None:
        """Remember that a report with this compact NTP time left at `now`."""
        self._sent[compact_ntp] = now
        while len(self._sent) > MAX_REMEMBERED_REPORTS:
            self._sent.popitem(last=False)

    def handle_answer(self, compact_ntp: int, delay: int, now: Instant) -> float | None:
        """Take an answer that came `delay`/65536 s after the report reached the peer; return the round trip."""
        sent_at = self._sent.get(compact_ntp)
        if sent_at is None:
            return None
        round_trip = max(0.0, now - sent_at - delay * COMPACT_UNIT)
        if round_trip > MAX_ROUND_TRIP:
            return None
        self.latest = round_trip
        self.minimum = round_trip if self.minimum is None else min(self.minimum, round_trip)
        self.smoothed = round_trip if self.smoothed is None else self.smoothed + (round_trip - self.smoothed) / 8
        self.total += round_trip
        self.measurements += 1
        return round_trip
