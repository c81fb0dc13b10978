"""Everything between SRTP and the codec for the sound of one call (RFC 3550, RFC 4585, RFC 5506).

`RtpSession` is what a call owns. It takes plain packets (after `unprotect`) and frames of the codec, and gives
plain packets (before `protect`) and events. It orders nothing: packets go up in the order of their arrival, with
sequence numbers and timestamps that no longer wrap, and the jitter buffer above decides how long to wait; of a
missing packet it can ask here until when a repair may still come.

Left out: several senders in one session and translators (RFC 3550 §7), since a call has one voice on each side.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from stack.core.errors import LocalError, ParseError
from stack.core.machine import Entropy, Instant
from stack.core.timers import Timers, earliest
from stack.core.trace import Counters
from stack.rtp.config import RtpConfig
from stack.rtp.events import ByeReceived, RtpEvent
from stack.rtp.extensions import AudioLevel
from stack.rtp.loss import LossEstimate
from stack.rtp.nack import SendHistory
from stack.rtp.packet import RtpPacket
from stack.rtp.receiver import RtpReceiver
from stack.rtp.red import RedDepth
from stack.rtp.reporter import RemoteView, RtcpReporter
from stack.rtp.rtcp import (
    ExtendedReport,
    GenericNack,
    Goodbye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    TransportWideFeedback,
    parse_compound,
    serialize_compound,
)
from stack.rtp.sender import RtpSender
from stack.rtp.stats import RtpStatistics
from stack.rtp.telephone_event import DtmfSender
from stack.rtp.transport_feedback import FEEDBACK_INTERVAL, TransportFeedbackGenerator

REORDERING_MARGIN = 0.02
"""Seconds after its time at which a packet with redundancy may still come."""


class RtpTimer(Enum):
    """Why an `RtpSession` wants to be woken."""

    REPORT = "report"
    NACK = "nack"
    TRANSPORT_FEEDBACK = "transport_feedback"
    DTMF_SENT = "dtmf_sent"
    DTMF_RECEIVED = "dtmf_received"


class RtpSession:
    """One audio section of one call: a `Clocked` of `RtpEvent`.

    Pump it after every input and command: `drain_rtp`, `drain_rtcp`, `drain_events`, `poll_timeout`.
    """

    def __init__(self, config: RtpConfig, entropy: Entropy, now: Instant) -> None:
        self.config = config
        self.counters = Counters()
        self._sender = RtpSender(config, entropy)
        self._receiver = RtpReceiver(config, self.counters)
        self._reporter = RtcpReporter(config, entropy)
        self._history = SendHistory() if config.nack else None
        self._arrivals = TransportFeedbackGenerator() if config.transport_cc else None
        self._loss = LossEstimate()
        self._red_depth = RedDepth() if config.red_depth is None else None
        self._dtmf = DtmfSender(config.clock_rate)
        self._timers: Timers[RtpTimer] = Timers()
        self._rtp: list[bytes] = []
        self._rtcp: list[bytes] = []
        self._events: list[RtpEvent] = []
        self._nacks_received = 0
        self._closed = False
        self._sender.red_depth = self._red_depth.depth if self._red_depth is not None else config.red_depth or 0

    # What arrives

    def handle_rtp(self, data: bytes, now: Instant) -> None:
        """Take one plain RTP packet."""
        if self._closed:
            return
        try:
            extensions = self._receiver.handle_packet(RtpPacket.parse(data), now)
        except ParseError:
            self.counters.add("malformed_rtp")
            return
        if extensions is not None and extensions.transport_sequence is not None and self._arrivals is not None:
            self._arrivals.record(extensions.transport_sequence, now)
            self._timers.set_default(RtpTimer.TRANSPORT_FEEDBACK, now + FEEDBACK_INTERVAL)
        self._expect_report(now)
        self._set_receive_timers()

    def handle_rtcp(self, data: bytes, now: Instant) -> None:
        """Take one plain RTCP datagram."""
        if self._closed:
            return
        try:
            packets = parse_compound(data)
        except ParseError:
            self.counters.add("malformed_rtcp")
            return
        self._reporter.note_size(len(data))
        for packet in packets:
            self._handle_rtcp_packet(packet, now)

    def _handle_rtcp_packet(self, packet: RtcpPacket, now: Instant) -> None:
        match packet:
            case SenderReport():
                source = self._receiver.source(packet.ssrc)
                if source is not None:
                    source.handle_sender_report(packet, now)
                self._handle_blocks(packet.reports, now)
            case ReceiverReport():
                self._handle_blocks(packet.reports, now)
            case ExtendedReport():
                self._reporter.handle_extended(packet, now)
            case GenericNack():
                self._answer_nack(packet, now)
            case TransportWideFeedback():
                self._loss.handle_feedback(packet, now)
                self._choose_redundancy(now)
            case Goodbye():
                for ssrc in packet.ssrcs:
                    self._receiver.forget(ssrc)
                self._events.append(ByeReceived(packet.ssrcs, packet.reason))
            case SourceDescription():
                pass  # the peer's name is known from SDP
            case _:
                self.counters.add("rtcp_not_understood")

    def _handle_blocks(self, blocks: tuple[ReportBlock, ...], now: Instant) -> None:
        block = self._reporter.handle_blocks(blocks, now)
        if block is not None:
            self._loss.handle_fraction(block.fraction_lost / 256)
            self._choose_redundancy(now)

    def _choose_redundancy(self, now: Instant) -> None:
        if self._red_depth is not None:
            self._sender.red_depth = self._red_depth.update(self._loss.at(now), now)

    def _answer_nack(self, nack: GenericNack, now: Instant) -> None:
        if self._history is None or nack.media_ssrc != self.config.ssrc:
            self.counters.add("nack_not_ours")
            return
        self._nacks_received += 1
        for sequence_number in dict.fromkeys(nack.lost):
            original = self._history.answer(sequence_number, now, self.round_trip_time)
            if original is not None:
                self._rtp.append(self._sender.repeat(original, now).serialize())

    # What is sent

    def send(
        self,
        payload: bytes,
        samples: int,
        now: Instant,
        *,
        marker: bool = False,
        audio_level: AudioLevel | None = None,
    ) -> int:
        """Send one frame of the first codec that lasts `samples` of its clock.

        Returns its extended sequence number. Sequence numbers and timestamps go on from the frame before. The
        marker bit is set by itself on the first frame after a silence. While a telephone event is played the frame
        gives way to it.
        """
        if self._closed:
            self.counters.add("sent_after_close")
        elif self._dtmf.is_playing:
            self.counters.add("muted_by_dtmf")
            self._sender.skip(samples)
        else:
            self._send(self._sender.make(payload, samples, now, marker, audio_level), now)
        return self._sender.extended_sequence

    @property
    def timestamp(self) -> int:
        """The timestamp of the next frame."""
        return self._sender.timestamp

    @property
    def received_red_depth(self) -> int:
        """How many earlier frames the peer's latest packet repeated (RFC 2198)."""
        return self._receiver.red_depth

    def skip(self, samples: int) -> None:
        """Pass over `samples` of silence for which nothing is sent (DTX)."""
        self._sender.skip(samples)

    def send_dtmf(self, digits: str, now: Instant, *, duration: float = 0.1, gap: float = 0.07) -> None:
        """Press keys (0–9 * # A–D) one after the other; seconds each, and between them.

        Raises `LocalError` if telephone-event was not negotiated, or for digits and times that cannot be played.
        """
        if not self._sender.can_send_events:
            raise LocalError("telephone-event was not negotiated at the clock rate of the first codec")
        if not self._closed:
            self._dtmf.queue(digits, duration, gap, now)
            self._play_dtmf(now)

    def _play_dtmf(self, now: Instant) -> None:
        event = self._dtmf.due(now)
        if event is not None:
            self._send(self._sender.make_event(event, now), now)
        if self._dtmf.deadline is not None:
            self._timers.set(RtpTimer.DTMF_SENT, self._dtmf.deadline)

    def _send(self, packet: RtpPacket, now: Instant) -> None:
        self._rtp.append(packet.serialize())
        if self._history is not None:
            self._history.remember(packet, now)
        self._expect_report(now)

    def drain_rtp(self) -> Sequence[bytes]:
        """Return the plain RTP packets to be protected and sent, in order."""
        packets, self._rtp = self._rtp, []
        return packets

    def drain_rtcp(self) -> Sequence[bytes]:
        """Return the plain RTCP datagrams to be protected and sent, in order."""
        packets, self._rtcp = self._rtcp, []
        return packets

    def close(self, now: Instant) -> None:
        """Say BYE (RFC 3550 §6.6); nothing is sent or received afterwards."""
        if self._closed:
            return
        self._closed = True
        self._timers.clear_all()
        self._send_compound(self._reporter.goodbye(self._sender, self._receiver, now))

    # Time and events

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        for timer in self._timers.pop_due(now):
            match timer:
                case RtpTimer.REPORT:
                    self._send_compound(self._reporter.report(self._sender, self._receiver, now))
                    self._timers.set(RtpTimer.REPORT, now + self._reporter.interval())
                case RtpTimer.NACK:
                    self._ask_for_missing(now)
                case RtpTimer.TRANSPORT_FEEDBACK:
                    self._send_transport_feedback()
                case RtpTimer.DTMF_SENT:
                    self._play_dtmf(now)
                case RtpTimer.DTMF_RECEIVED:
                    self._receiver.handle_timeout(now)

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called; None: never."""
        return self._timers.next

    def drain_events(self) -> Sequence[RtpEvent]:
        """Return what happened since the last call, in order."""
        events = self._receiver.drain_events()
        if self._events:
            events += self._events
            self._events = []
        return events

    def _set_receive_timers(self) -> None:
        dtmf, nack = self._receiver.dtmf, self._receiver.nack
        if dtmf.deadline is not None:
            self._timers.set(RtpTimer.DTMF_RECEIVED, dtmf.deadline)
        if nack is not None:
            ask_at = nack.poll_timeout()
            if ask_at is None:
                self._timers.clear(RtpTimer.NACK)
            else:
                self._timers.set(RtpTimer.NACK, ask_at)

    def _ask_for_missing(self, now: Instant) -> None:
        nack, source = self._receiver.nack, self._receiver.current
        if nack is None or source is None:
            return
        missing = nack.due(now, self.round_trip_time)
        if missing:
            lost = tuple(sequence & 0xFFFF for sequence in missing)
            self._receiver.nacks_sent += 1
            self._send_feedback([GenericNack(self.config.ssrc, source.ssrc, lost)])
        self._set_receive_timers()

    def _send_transport_feedback(self) -> None:
        source = self._receiver.current
        if self._arrivals is not None:
            media_ssrc = source.ssrc if source is not None else 0
            self._send_feedback(list(self._arrivals.flush(self.config.ssrc, media_ssrc)))

    def _send_feedback(self, feedback: list[RtcpPacket]) -> None:
        if not feedback:
            return
        if not self.config.reduced_size:
            # RFC 4585 §3.1: otherwise the shortest report and our name stand in front.
            name = SourceDescription.for_cname(self.config.ssrc, self.config.cname)
            feedback = [ReceiverReport(self.config.ssrc), name, *feedback]
        self._send_compound(feedback)

    def _send_compound(self, packets: list[RtcpPacket]) -> None:
        data = serialize_compound(packets)
        self._reporter.note_size(len(data))
        self._rtcp.append(data)

    def _expect_report(self, now: Instant) -> None:
        if not self._timers.is_set(RtpTimer.REPORT):
            self._timers.set(RtpTimer.REPORT, now + self._reporter.first_delay())

    # What is known

    @property
    def round_trip_time(self) -> float | None:
        """The latest round trip in seconds, by the peer's reports; None before the first."""
        return self._reporter.round_trip.latest

    @property
    def remote_view(self) -> RemoteView | None:
        """How the peer receives us, by its latest report."""
        return self._reporter.remote

    def reported_loss(self, now: Instant) -> float:
        """Return how much of what we send is lost, 0 … 1: what an encoder needs to choose its own redundancy."""
        return self._loss.at(now)

    def repair_deadline(self, sequence: int, now: Instant) -> Instant | None:
        """Return until when the missing packet `sequence` (extended) may still be repaired; None if it will not.

        By an answer to a NACK, or by a later packet that repeats it. A packet that was merely overtaken is not
        thought of: how much of that there is, the jitter buffer knows best.
        """
        receiver = self._receiver
        source = receiver.current
        if source is None or source.has(sequence):
            return None
        by_nack = receiver.nack.expected_by(sequence, self.round_trip_time) if receiver.nack is not None else None
        by_redundancy = None
        to_come = sequence + receiver.red_depth - source.highest  # packets that will still repeat it
        if receiver.red_depth and to_come > 0:
            by_redundancy = source.last_arrival + to_come * receiver.frame_time + REORDERING_MARGIN
            if by_redundancy < now:
                by_redundancy = None
        if by_nack is None or by_redundancy is None:
            return earliest(by_nack, by_redundancy)
        return max(by_nack, by_redundancy)

    def knows_source(self, ssrc: int) -> bool:
        """Return True if statistics are kept for this remote SSRC."""
        return self._receiver.source(ssrc) is not None

    def stats(self, now: Instant) -> RtpStatistics:
        """Return everything that can be counted, in the vocabulary of `getStats`."""
        return RtpStatistics(
            self._sender.stats(self._nacks_received, now),
            self._receiver.stats(now),
            self._reporter.remote_inbound_stats(),
            self._receiver.remote_outbound_stats(),
        )
