"""A call's statistics: what its session knows, and what became of the sound that arrived.

`CallStatistics.as_webrtc` gives what a browser's `getStats` would, with the decoder's and the jitter buffer's
figures inside `inbound-rtp`. Samples are counted at the rate that the program listens at, seconds stay seconds.
`CallTotals` of several calls can be added up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from operator import add, attrgetter
from typing import Self

from stack.audio import Receiver
from stack.core.counters import Counters
from stack.core.machine import Instant
from stack.rtp.jitter import DROPPED_LATE
from stack.rtp.stats import RtpStatistics, as_webrtc_name
from stack.session import Session, SessionStatistics, SetupStep


@dataclass(frozen=True, slots=True)
class HearingStats:
    """The part of `inbound-rtp` that only the decoder's side can know."""

    total_samples_received: int
    concealed_samples: int
    silent_concealed_samples: int
    concealment_events: int
    inserted_samples_for_deceleration: int
    removed_samples_for_acceleration: int
    jitter_buffer_delay: float
    """Seconds that samples have waited since they arrived, summed over the samples."""
    jitter_buffer_emitted_count: int
    packets_discarded: int
    """Came too late to be heard."""
    inband_fec_used: int
    """Frames brought back by the codec's own copy; not in the specification."""

    @property
    def concealed_share(self) -> float:
        """How much of what the program heard was made up for a loss, 0 to 1; silence never sent is none."""
        lost = self.concealed_samples - self.silent_concealed_samples
        return lost / self.total_samples_received if self.total_samples_received else 0.0

    @property
    def mean_delay(self) -> float:
        """Seconds from a packet's arrival to its sound, on average."""
        emitted = self.jitter_buffer_emitted_count
        return self.jitter_buffer_delay / emitted if emitted else 0.0

    @classmethod
    def of(cls, receiver: Receiver) -> Self:
        """Return what a receiver has counted so far."""
        known = receiver.statistics
        return cls(
            total_samples_received=known.total_samples_received,
            concealed_samples=known.concealed_samples,
            silent_concealed_samples=known.silent_concealed_samples,
            concealment_events=known.concealment_events,
            inserted_samples_for_deceleration=known.inserted_samples_for_deceleration,
            removed_samples_for_acceleration=known.removed_samples_for_acceleration,
            jitter_buffer_delay=known.jitter_buffer_delay,
            jitter_buffer_emitted_count=known.jitter_buffer_emitted_count,
            packets_discarded=receiver.buffer.counters[DROPPED_LATE],
            inband_fec_used=known.fec_packets_used,
        )


@dataclass(frozen=True, slots=True)
class CallTotals:
    """What can be added up over calls: `sum((call.totals for call in calls), CallTotals())`."""

    calls: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    packets_lost: int = 0
    packets_recovered: int = 0
    nacks_sent: int = 0
    nacks_received: int = 0
    samples_heard: int = 0
    samples_concealed: int = 0

    def __add__(self, other: CallTotals) -> CallTotals:
        return CallTotals(*map(add, _figures(self), _figures(other)))

    @classmethod
    def of(
        cls, rtp: RtpStatistics | None, hearing: HearingStats | None, bytes_sent: int, bytes_received: int
    ) -> Self:
        """Return those of one call, by the first of its lines of sound and what was heard on it."""
        inbound = rtp.inbound if rtp is not None else None
        return cls(
            calls=1,
            packets_sent=rtp.outbound.packets_sent if rtp is not None else 0,
            packets_received=inbound.packets_received if inbound is not None else 0,
            bytes_sent=bytes_sent,
            bytes_received=bytes_received,
            packets_lost=inbound.packets_lost if inbound is not None else 0,
            packets_recovered=inbound.packets_recovered if inbound is not None else 0,
            nacks_sent=inbound.nack_count if inbound is not None else 0,
            nacks_received=rtp.outbound.nack_count if rtp is not None else 0,
            samples_heard=hearing.total_samples_received if hearing is not None else 0,
            samples_concealed=hearing.concealed_samples if hearing is not None else 0,
        )


_figures = attrgetter(*(each.name for each in fields(CallTotals)))
"""Return every figure of some totals, in order."""


@dataclass(frozen=True, slots=True)
class CallPath:
    """Round trips in seconds on the way person – media – program: of the network, without coding and buffers."""

    client: float | None
    """Between the client and the machine that has the media, by RTCP or ICE; None: not known yet."""
    program: float | None
    """Between that machine and the program's, over the backbone; None: it is the same one, or not known yet."""

    @property
    def whole(self) -> float | None:
        """From the person to the program and back."""
        return None if self.client is None else self.client + (self.program or 0.0)


@dataclass(frozen=True, slots=True)
class CallStatistics:
    """Everything that is known of a call at one moment; what has not begun is None or empty."""

    session: SessionStatistics
    hearing: HearingStats | None
    """None without an audio section."""
    steps_ms: Mapping[str, float]
    """Milliseconds from the offer's arrival to each step of the set-up."""
    setup: tuple[SetupStep, ...]
    """The same in the order of the times, with the round trips that each took (`stack.session.waterfall`)."""
    round_trip_time: float | None
    """Seconds, from RTCP or else from ICE."""
    counters: Mapping[str, int]
    """Everything dropped or remarkable, by the names of `docs/counters.md`."""
    backbone_round_trip_time: float | None = None
    """Seconds between the media and the program, where those are on two machines (docs/scale.md)."""

    @property
    def path(self) -> CallPath:
        """Return what the way from the person to the program and back costs."""
        return CallPath(self.round_trip_time, self.backbone_round_trip_time)

    def as_webrtc(self) -> list[dict[str, object]]:
        """Return the dictionaries that a browser's `getStats` would hold, ready for JSON."""
        parts = self.session.as_webrtc()
        if self.hearing is None:
            return parts
        heard = {as_webrtc_name(each.name): getattr(self.hearing, each.name) for each in fields(self.hearing)}
        return [part | heard if part["type"] == "inbound-rtp" else part for part in parts]

    @property
    def totals(self) -> CallTotals:
        """Return the figures that make sense over many calls."""
        transport, rtp = self.session.transport, self.session.rtp[0] if self.session.rtp else None
        return CallTotals.of(rtp, self.hearing, transport.bytes_sent, transport.bytes_received)


def describe_call(session: Session, receiver: Receiver | None, counters: Counters, now: Instant) -> CallStatistics:
    """Return the statistics of a conversation: its session, its line's receiver, and all that was counted."""
    return CallStatistics(
        session.statistics(now),
        HearingStats.of(receiver) if receiver is not None else None,
        dict(session.steps),
        session.setup,
        session.round_trip_time,
        counters.snapshot(),
    )


def total_call(session: Session, receiver: Receiver | None, now: Instant) -> CallTotals:
    """Return the totals of a conversation, without describing it: every call that ends is asked for them."""
    rtp = next(iter(session.rtp_statistics(now)), None)
    hearing = HearingStats.of(receiver) if receiver is not None else None
    return CallTotals.of(rtp, hearing, session.sent.octets, session.received.octets)
