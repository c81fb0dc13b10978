"""What a call can say of its sound, in the vocabulary of W3C webrtc-stats as far as RTP knows it.

Names are those of the specification in Python's spelling; `as_webrtc` gives the original spelling. Times are
Instants, durations and jitter seconds. Figures that only a decoder or a jitter buffer knows stand elsewhere. The
three that the specification does not have are marked.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, ClassVar, Protocol

from stack.core.machine import Instant
from stack.core.serial import Ssrc


@dataclass(frozen=True, slots=True)
class InboundRtpStats:
    """`inbound-rtp`: what arrives from the source that has the line."""

    type: ClassVar[str] = "inbound-rtp"

    timestamp: Instant
    ssrc: Ssrc
    packets_received: int
    packets_lost: int
    bytes_received: int
    jitter: float
    last_packet_received_timestamp: Instant
    retransmitted_packets_received: int
    fec_packets_received: int
    """Redundant frames (RED), as browsers count them."""
    fec_packets_discarded: int
    nack_count: int
    packets_duplicated: int
    """Not in the specification."""
    packets_recovered: int
    """Not in the specification: missing packets that redundancy brought."""
    kind: str


@dataclass(frozen=True, slots=True)
class OutboundRtpStats:
    """`outbound-rtp`: what we send."""

    type: ClassVar[str] = "outbound-rtp"

    timestamp: Instant
    ssrc: Ssrc
    packets_sent: int
    bytes_sent: int
    retransmitted_packets_sent: int
    retransmitted_bytes_sent: int
    nack_count: int
    redundancy_depth: int
    """Not in the specification: earlier frames in each packet (RED)."""
    kind: str


@dataclass(frozen=True, slots=True)
class RemoteInboundRtpStats:
    """`remote-inbound-rtp`: how the peer receives us, by its reports."""

    type: ClassVar[str] = "remote-inbound-rtp"

    timestamp: Instant
    ssrc: Ssrc
    packets_lost: int
    fraction_lost: float
    jitter: float
    round_trip_time: float | None
    total_round_trip_time: float
    round_trip_time_measurements: int
    kind: str


@dataclass(frozen=True, slots=True)
class RemoteOutboundRtpStats:
    """`remote-outbound-rtp`: what the peer says that it sent."""

    type: ClassVar[str] = "remote-outbound-rtp"

    timestamp: Instant
    ssrc: Ssrc
    packets_sent: int
    bytes_sent: int
    reports_sent: int
    kind: str


@dataclass(frozen=True, slots=True)
class RtpStatistics:
    """All of it at one moment; what has not begun is None."""

    outbound: OutboundRtpStats
    inbound: InboundRtpStats | None
    remote_inbound: RemoteInboundRtpStats | None
    remote_outbound: RemoteOutboundRtpStats | None

    def as_webrtc(self) -> list[dict[str, object]]:
        """Return the dictionaries that a browser's `getStats` would hold, ready for JSON."""
        parts = (self.outbound, self.inbound, self.remote_inbound, self.remote_outbound)
        return [as_webrtc_object(part, f"{part.type}-{part.ssrc:08x}") for part in parts if part is not None]


class WebrtcStats(Protocol):
    """A dataclass whose fields are those of one type of the specification."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    type: ClassVar[str]


def as_webrtc_object(part: WebrtcStats, identifier: str) -> dict[str, object]:
    """Return the fields that are known, spelt as in the specification, with `type` and `id`."""
    out: dict[str, object] = {"type": part.type, "id": identifier}
    for field in fields(part):
        value = getattr(part, field.name)
        if value is not None:
            out[as_webrtc_name(field.name)] = value.value if isinstance(value, Enum) else value
    return out


def as_webrtc_name(name: str) -> str:
    """Return `packets_sent` as `packetsSent`."""
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)
