"""One media section of the description: its streams in both directions (RFC 9143 §9.2, RFC 3550 §8).

One source speaks at a time in a section, as one microphone does. A source that was never heard before becomes the
current one (`SourceChanged`); what still arrives of others is counted and dropped, unless the current one has been
silent so long that the other must be the one that speaks.
"""

from __future__ import annotations

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Entropy, Instant
from stack.core.serial import SERIAL16, ExtendedSequenceNumber, SequenceNumber, Ssrc
from stack.core.timers import TimerName, Timers
from stack.rtp.config import RtpConfig
from stack.rtp.events import RemoteView, RtpEvent, SourceChanged
from stack.rtp.packet import RtpPacket
from stack.rtp.receive_stream import DROPPED_DUPLICATE, PayloadTypes, ReceiveStream
from stack.rtp.rtcp import GenericNack
from stack.rtp.send_stream import SendStream
from stack.rtp.source import MAX_MISORDER, Arrival, RemoteSource
from stack.rtp.stats import InboundRtpStats, RemoteOutboundRtpStats

DROPPED_DOUBTFUL = declare(
    "rtp", "dropped_doubtful", "RTP packets with a sequence number far from the others (RFC 3550 §A.1)"
)
DROPPED_OTHER_SOURCE = declare(
    "rtp", "dropped_other_source", "RTP packets of a second source while the first one still sends"
)
DROPPED_RETRANSMISSION_WITHOUT_SOURCE = declare(
    "rtp", "dropped_retransmission_without_source", "Retransmissions before the source's own first packet"
)

BYE_GRACE = 2.0
"""Seconds after a BYE in which packets that it has overtaken still belong to the source (RFC 3550 §6.2.1)."""
MAX_SOURCES = 8
"""Sources of a section whose statistics are kept; one more pushes out the one that was silent longest."""
SOURCE_SILENCE = 1.0
"""Seconds of silence after which a known source may become the current one again."""


class SectionTimer(TimerName):
    """Why a `MediaSection` wants to be woken."""

    NACK = "nack"
    DTMF_SENT = "dtmf_sent"
    DTMF_RECEIVED = "dtmf_received"


_NEW, _NACK = Arrival.NEW, SectionTimer.NACK  # not looked up again for every packet


class MediaSection:
    """The streams of one `m=` section. It belongs to an `RtpTransport`, which feeds, wakes and drains it."""

    def __init__(
        self,
        config: RtpConfig,
        entropy: Entropy,
        packets: list[bytes],
        events: list[RtpEvent],
        counters: Counters,
    ) -> None:
        self.config = config
        self.types = PayloadTypes.of(config)
        self.sender = SendStream(config, entropy, packets, counters)
        self.remote_view: RemoteView | None = None
        """How the peer receives us, by its latest report."""
        self.timers: Timers[SectionTimer] = Timers()
        self._counters = counters
        self._events = events
        self._streams: dict[Ssrc, ReceiveStream] = {}
        self.current: ReceiveStream | None = None
        """The source that is heard."""
        self._departed: ReceiveStream | None = None  # said goodbye: its statistics stay
        self._departed_at: Instant = 0.0

    # What arrives

    def stream(self, ssrc: Ssrc) -> ReceiveStream | None:
        """Return what is known of a remote SSRC."""
        return self._streams.get(ssrc)

    def place(self, packet: RtpPacket, now: Instant) -> tuple[ReceiveStream, ExtendedSequenceNumber] | None:
        """Return the stream that a packet belongs to and its extended sequence number; None if it is not wanted.

        The packet is of this section and of a payload type that it knows, but no retransmission.
        """
        stream = self._streams.get(packet.ssrc)
        if stream is None:
            if self._is_overtaken(packet, now):
                return self._place_overtaken(packet, now)
            stream = self._begin_stream(packet, now)
        source, nack = stream.source, stream.nack
        expected = source.highest + 1
        verdict, sequence = source.receive(packet.sequence_number, len(packet.payload), now)
        if verdict is not _NEW and verdict is not Arrival.RESTART:
            self._counters.add(DROPPED_DUPLICATE if verdict is Arrival.DUPLICATE else DROPPED_DOUBTFUL)
            return None
        if stream is not self.current:
            if not self._may_take_over(source, now):
                self._counters.add(DROPPED_OTHER_SOURCE)
                return None
            self._change(stream, self.current.ssrc if self.current is not None else None)
        elif verdict is not _NEW:
            self._change(stream, source.ssrc)
        elif nack is not None and sequence > expected:
            nack.note_missing(expected, sequence, now)
        return stream, sequence

    def handle_retransmission(self, packet: RtpPacket, now: Instant) -> None:
        """Take a packet of the retransmission stream (RFC 4588). May raise `ParseError`."""
        if self.current is None:
            if packet.payload:
                self._counters.add(DROPPED_RETRANSMISSION_WITHOUT_SOURCE)
        else:
            self.current.handle_retransmission(packet, now)
            self.set_receive_timers(self.current)

    def _is_overtaken(self, packet: RtpPacket, now: Instant) -> bool:
        """Return True for a packet of the source that has just said goodbye, near to its last one."""
        gone = self._departed
        if gone is None or self.current is not None or gone.ssrc != packet.ssrc:
            return False
        distance = SERIAL16.distance(packet.sequence_number, gone.source.highest & 0xFFFF)
        return now - self._departed_at < BYE_GRACE and abs(distance) <= MAX_MISORDER

    def _place_overtaken(
        self, packet: RtpPacket, now: Instant
    ) -> tuple[ReceiveStream, ExtendedSequenceNumber] | None:
        assert self._departed is not None
        verdict, sequence = self._departed.source.receive(packet.sequence_number, len(packet.payload), now)
        if verdict is not _NEW:
            self._counters.add(DROPPED_DUPLICATE)
            return None
        return self._departed, sequence

    def forget(self, ssrc: Ssrc, now: Instant) -> None:
        """Drop a source that said goodbye (RFC 3550 §6.6)."""
        stream = self._streams.pop(ssrc, None)
        if stream is not None and stream is self.current:
            self.current, self._departed, self._departed_at = None, stream, now
            stream.begin_anew()

    def _begin_stream(self, packet: RtpPacket, now: Instant) -> ReceiveStream:
        if len(self._streams) >= MAX_SOURCES:
            silent = min(self._streams.values(), key=lambda stream: stream.source.last_arrival)
            del self._streams[silent.ssrc]
        stream = self._streams[packet.ssrc] = ReceiveStream(
            RemoteSource(packet.ssrc, packet.sequence_number, now),
            self.types,
            self._events,
            self._counters,
            mid=self.config.mid,
            kind=self.config.kind,
            nack=self.config.nack,
        )
        return stream

    def _may_take_over(self, source: RemoteSource, now: Instant) -> bool:
        current = self.current
        is_new = source.packets_received == 1
        return is_new or current is None or now - current.source.last_arrival >= SOURCE_SILENCE

    def _change(self, stream: ReceiveStream, previous: Ssrc | None) -> None:
        if self.current is not None and self.current is not stream:
            self.current.begin_anew()
        stream.begin_anew()
        self._events.append(SourceChanged(stream.ssrc, previous, self.config.mid))
        self.current = stream

    # What is sent

    def send_dtmf(self, digits: str, now: Instant, *, duration: float = 0.1, gap: float = 0.07) -> None:
        """Press keys (0–9 * # A–D) one after the other; seconds each, and between them.

        Raises `LocalError` if telephone-event was not negotiated, or for digits and times that cannot be played.
        """
        self.sender.send_dtmf(digits, duration, gap, now)
        self.timers.set(SectionTimer.DTMF_SENT, self.sender.poll_timeout())

    # Time

    def handle_timeout(self, now: Instant, round_trip: float | None) -> GenericNack | None:
        """Do what is due; return the request for what is missing, if there is one to be sent."""
        request = None
        for timer in self.timers.pop_due(now):
            if timer is SectionTimer.NACK:
                request = self._ask_for_missing(now, round_trip)
            elif timer is SectionTimer.DTMF_SENT:
                self.sender.play_dtmf(now)
                self.timers.set(SectionTimer.DTMF_SENT, self.sender.poll_timeout())
            elif self.current is not None:
                self.current.handle_timeout(now)
        return request

    def _ask_for_missing(self, now: Instant, round_trip: float | None) -> GenericNack | None:
        stream = self.current
        if stream is None or stream.nack is None:
            return None
        missing = stream.nack.due(now, round_trip)
        self.set_receive_timers(stream)
        if not missing:
            return None
        stream.nacks_sent += 1
        return GenericNack(
            self.config.ssrc, stream.ssrc, tuple(SequenceNumber(sequence & 0xFFFF) for sequence in missing)
        )

    def set_receive_timers(self, stream: ReceiveStream) -> None:
        """A stream has taken a packet: its requests and telephone events may be due at another time."""
        if stream.dtmf.is_receiving:
            self.timers.set(SectionTimer.DTMF_RECEIVED, stream.dtmf.poll_timeout())
        if stream.nack is not None:
            self.timers.set(_NACK, stream.nack.poll_timeout())

    # What is known

    def inbound_stats(self, now: Instant) -> InboundRtpStats | None:
        """Return how the source that is heard, or was last, was received; None before the first packet."""
        stream = self.current or self._departed
        return stream.stats(now) if stream is not None else None

    def remote_outbound_stats(self) -> RemoteOutboundRtpStats | None:
        """Return what that source says that it sent; None before its first sender report."""
        stream = self.current or self._departed
        return stream.remote_outbound_stats() if stream is not None else None


def check_sections(configs: tuple[RtpConfig, ...]) -> None:
    """Raise `LocalError` for sections that a peer could not tell apart (RFC 9143 §9.2)."""
    if not configs:
        raise LocalError("an RTP transport has at least one media section")
    if len({config.ssrc for config in configs}) < len(configs):
        raise LocalError("two media sections with one SSRC")
    if len(configs) > 1 and len({config.mid for config in configs} - {None}) < len(configs):
        raise LocalError("several media sections need different mids")
    if len({config.extensions for config in configs}) > 1:
        raise LocalError("bundled media sections share their header extension identifiers")  # RFC 9143 §12
