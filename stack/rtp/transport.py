"""Everything between SRTP and the codecs of one connection (RFC 3550, RFC 4585, RFC 5506, RFC 9143 §9.2).

`RtpTransport` is what a session owns. It takes plain packets (after `unprotect`), finds the media section and the
stream that each belongs to, and gives plain packets (before `protect`) and events; it writes and reads RTCP and
reports every arrival where transport-wide feedback was negotiated.

It orders nothing: packets go up in the order of their arrival, with sequence numbers and timestamps that no longer
wrap, and the jitter buffer above decides how long to wait.

Left out: translators and mixers (RFC 3550 §7), since the connection has one peer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from stack.core.counters import Counters, declare
from stack.core.errors import ParseError
from stack.core.machine import Entropy, Instant, TerminalEvents
from stack.core.serial import ExtendedSequenceNumber, Ssrc
from stack.core.timers import TimerName, Timers
from stack.rtp.config import RtpConfig
from stack.rtp.events import ByeReceived, ReportReceived, RtcpReceived, RtpEvent
from stack.rtp.extensions import AudioLevel, ExtensionMap, HeaderExtensions
from stack.rtp.packet import RtpPacket
from stack.rtp.receive_stream import DROPPED_UNKNOWN_PAYLOAD_TYPE
from stack.rtp.reporter import RtcpReporter
from stack.rtp.rtcp import (
    ApplicationDefined,
    ExtendedReport,
    GenericNack,
    Goodbye,
    RawFeedback,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    TransportWideFeedback,
    UnknownPacket,
    parse_compound,
    serialize_compound,
)
from stack.rtp.section import MediaSection, check_sections
from stack.rtp.send_stream import DROPPED_NACK_NOT_OURS
from stack.rtp.stats import RtpStatistics
from stack.rtp.transport_feedback import FEEDBACK_INTERVAL, TransportFeedbackGenerator

DROPPED_OWN_SSRC = declare(
    "rtp", "dropped_own_ssrc", "RTP packets with an SSRC of ours: a loop, or a collision (RFC 3550 §8.2)"
)
DROPPED_MALFORMED_RTP = declare("rtp", "dropped_malformed_rtp", "RTP packets that could not be parsed")
DROPPED_MALFORMED_RTCP = declare("rtp", "dropped_malformed_rtcp", "RTCP datagrams that could not be parsed")
DROPPED_RTCP_NOT_UNDERSTOOD = declare(
    "rtp", "dropped_rtcp_not_understood", "RTCP packets of a type or format that nothing here reads"
)
DROPPED_SENT_AFTER_CLOSE = declare("rtp", "dropped_sent_after_close", "Frames that were to be sent after the BYE")

MAX_SSRCS = 64
"""Remote SSRCs whose section is remembered; one more makes room by forgetting the oldest."""


class RtpTimer(TimerName):
    """Why an `RtpTransport` wants to be woken."""

    REPORT = "report"
    TRANSPORT_FEEDBACK = "transport_feedback"


_TRANSPORT_FEEDBACK = RtpTimer.TRANSPORT_FEEDBACK  # not looked up again for every packet


class RtpTransport:
    """The RTP of one connection: a `Clocked` of `RtpEvent`.

    `wall_clock_offset` is what has to be added to an Instant to get seconds since 1970; only NTP timestamps in
    reports depend on it. Pump it after every input and command: `drain_rtp`, `drain_rtcp`, `drain_events`,
    `poll_timeout`. Raises `LocalError` for sections that could not be told apart.
    """

    terminal_events: ClassVar[TerminalEvents] = ()

    def __init__(
        self,
        configs: Sequence[RtpConfig],
        entropy: Entropy,
        now: Instant,
        *,
        wall_clock_offset: float = 0.0,
    ) -> None:
        configs = tuple(configs)
        check_sections(configs)
        self.counters = Counters()
        self.outgoing_rtp: list[bytes] = []
        """Plain packets to be protected and sent; `drain_rtp` takes them."""
        self.outgoing_rtcp: list[bytes] = []
        """Plain datagrams to be protected and sent; `drain_rtcp` takes them."""
        self.events: list[RtpEvent] = []
        """What happened; `drain_events` takes it."""
        self.sections = tuple(
            MediaSection(config, entropy, self.outgoing_rtp, self.events, self.counters) for config in configs
        )
        self._extensions = ExtensionMap(configs[0].extensions)
        self._by_mid = {section.config.mid: section for section in self.sections if section.config.mid is not None}
        self._by_ssrc: dict[Ssrc, MediaSection] = {}
        self._local_ssrcs = frozenset(config.ssrc for config in configs)
        self._reporter = RtcpReporter(configs, entropy, wall_clock_offset)
        self._reduced_size = all(config.reduced_size for config in configs)
        self._arrivals = TransportFeedbackGenerator() if any(config.transport_cc for config in configs) else None
        self._timers: Timers[RtpTimer] = Timers()
        self._reporting = False
        self._closed = False

    @property
    def sources(self) -> tuple[int, ...]:
        """The remote SSRCs that are bound to a section (RFC 9143 §9.2), at most `MAX_SSRCS`."""
        return tuple(self._by_ssrc)

    # What arrives

    def handle_rtp(self, data: bytes, now: Instant) -> None:
        """Take one plain RTP packet."""
        if self._closed:
            return
        try:
            packet = RtpPacket.parse(data)
            extensions = self._extensions.parse(packet.extension_profile, packet.extension_data)
            if packet.ssrc in self._local_ssrcs:
                # RFC 3550 §8.2: a loop, or a collision that only a new offer could solve.
                self.counters.add(DROPPED_OWN_SSRC)
                return
            section = self._by_ssrc.get(packet.ssrc)
            if section is None or extensions.mid is not None or packet.payload_type not in section.types.known:
                section = self._find_section(packet, extensions)
            if section is None:
                self.counters.add(DROPPED_UNKNOWN_PAYLOAD_TYPE)
            elif packet.payload_type in section.types.rtx:
                section.handle_retransmission(packet, now)
            elif (placed := section.place(packet, now)) is not None:
                stream, sequence = placed
                stream.handle_packet(packet, sequence, now, extensions.audio_level)
                if stream.nack is not None or stream.dtmf.is_receiving:
                    section.set_receive_timers(stream)
        except ParseError:
            self.counters.add(DROPPED_MALFORMED_RTP)
            return
        if extensions.transport_sequence is not None and self._arrivals is not None:
            self._arrivals.record(extensions.transport_sequence, now)
            self._timers.set_default(_TRANSPORT_FEEDBACK, now + FEEDBACK_INTERVAL)
        if not self._reporting:
            self.expect_report(now)

    def _find_section(self, packet: RtpPacket, extensions: HeaderExtensions) -> MediaSection | None:
        """Associate a packet with its section (RFC 9143 §9.2): by MID, by known SSRC, by payload type."""
        ssrc, payload_type = packet.ssrc, packet.payload_type
        if extensions.mid is not None and (named := self._by_mid.get(extensions.mid)) is not None:
            section: MediaSection | None = named
        elif (known := self._by_ssrc.get(ssrc)) is not None:
            section = known
        else:
            able = [candidate for candidate in self.sections if payload_type in candidate.types.known]
            section = able[0] if len(able) == 1 else None
        if section is None or payload_type not in section.types.known:
            return None
        if self._by_ssrc.get(ssrc) is not section:
            if len(self._by_ssrc) >= MAX_SSRCS:
                del self._by_ssrc[next(iter(self._by_ssrc))]
            self._by_ssrc[ssrc] = section
        return section

    def handle_rtcp(self, data: bytes, now: Instant) -> None:
        """Take one plain RTCP datagram."""
        if self._closed:
            return
        try:
            packets = parse_compound(data)
        except ParseError:
            self.counters.add(DROPPED_MALFORMED_RTCP)
            return
        self._reporter.note_size(len(data))
        for packet in packets:
            self._handle_rtcp_packet(packet, now)

    def _handle_rtcp_packet(self, packet: RtcpPacket, now: Instant) -> None:
        match packet:
            case SenderReport():
                for section in self.sections:
                    stream = section.stream(packet.ssrc)
                    if stream is not None:
                        stream.source.handle_sender_report(packet, now)
                self._handle_blocks(packet.reports, now)
            case ReceiverReport():
                self._handle_blocks(packet.reports, now)
            case ExtendedReport():
                self._reporter.handle_extended(packet, now)
            case GenericNack():
                self._answer_nack(packet, now)
            case TransportWideFeedback():
                for section in self.sections:
                    section.sender.note_feedback(packet, now)
            case Goodbye():
                for ssrc in packet.ssrcs:
                    self._by_ssrc.pop(ssrc, None)
                    for section in self.sections:
                        section.forget(ssrc, now)
                self.events.append(ByeReceived(packet.ssrcs, packet.reason))
            case SourceDescription():
                pass  # the peer's name is known from SDP
            case RawFeedback() | ApplicationDefined() | UnknownPacket():
                self.counters.add(DROPPED_RTCP_NOT_UNDERSTOOD)
            case _:
                self.events.append(RtcpReceived(packet))

    def _handle_blocks(self, blocks: tuple[ReportBlock, ...], now: Instant) -> None:
        for section in self.sections:
            view = self._reporter.handle_blocks(section, blocks, now)
            if view is not None:
                self.events.append(ReportReceived(view, section.config.mid))

    def _answer_nack(self, nack: GenericNack, now: Instant) -> None:
        for section in self.sections:
            if section.config.ssrc == nack.media_ssrc:
                section.sender.answer_nack(nack.lost, now, self.round_trip_time)
                return
        self.counters.add(DROPPED_NACK_NOT_OURS)

    # What is sent

    def send(
        self,
        payload: bytes,
        samples: int,
        now: Instant,
        *,
        section: int = 0,
        marker: bool = False,
        audio_level: AudioLevel | None = None,
    ) -> ExtendedSequenceNumber:
        """Send one frame of a section's first codec that lasts `samples` of its clock; see `SendStream.send`.

        Returns its extended sequence number.
        """
        sender = self.sections[section].sender
        if self._closed:
            self.counters.add(DROPPED_SENT_AFTER_CLOSE)
            return sender.extended_sequence
        if not self._reporting:
            self.expect_report(now)
        return sender.send(payload, samples, now, marker=marker, level=audio_level)

    def send_dtmf(
        self, digits: str, now: Instant, *, section: int = 0, duration: float = 0.1, gap: float = 0.07
    ) -> None:
        """Press keys (0–9 * # A–D) one after the other; seconds each, and between them.

        Raises `LocalError` if telephone-event was not negotiated, or for digits and times that cannot be played.
        """
        if not self._closed:
            self.sections[section].send_dtmf(digits, now, duration=duration, gap=gap)
            self.expect_report(now)

    def drain_rtp(self) -> Sequence[bytes]:
        """Return the plain RTP packets to be protected and sent, in order."""
        if not self.outgoing_rtp:
            return ()
        packets = self.outgoing_rtp.copy()
        self.outgoing_rtp.clear()
        return packets

    def drain_rtcp(self) -> Sequence[bytes]:
        """Return the plain RTCP datagrams to be protected and sent, in order."""
        packets, self.outgoing_rtcp = self.outgoing_rtcp, []
        return packets

    def close(self, now: Instant) -> None:
        """Say BYE (RFC 3550 §6.6); nothing is sent or received afterwards."""
        if self._closed:
            return
        self._closed = True
        self._timers.clear_all()
        for section in self.sections:
            section.timers.clear_all()
        self._send_compound(self._reporter.goodbye(self.sections, now))

    # Time and events

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self._timers.fire(now, self._handle_timer)
        for section in self.sections:
            due = section.timers.next
            if due is not None and due <= now:
                request = section.handle_timeout(now, self.round_trip_time)
                if request is not None:
                    self._send_feedback([request])

    def poll_timeout(self) -> Instant | None:
        """When `handle_timeout` wants to be called; None: never."""
        at = self._timers.next
        for section in self.sections:
            due = section.timers.next
            if due is not None and (at is None or due < at):
                at = due
        return at

    def drain_events(self) -> Sequence[RtpEvent]:
        """Return what happened since the last call, in order."""
        if not self.events:
            return ()
        events = self.events.copy()
        self.events.clear()
        return events

    def expect_report(self, now: Instant) -> None:
        """Something was received or is being sent: reports begin, if they have not yet."""
        self._reporting = True
        self._timers.set_default(RtpTimer.REPORT, now + self._reporter.first_delay())

    def _handle_timer(self, timer: RtpTimer, now: Instant) -> None:
        if timer is RtpTimer.REPORT:
            self._send_compound(self._reporter.report(self.sections, now))
            self._timers.set(RtpTimer.REPORT, now + self._reporter.interval())
        else:
            self._send_transport_feedback()

    def _send_transport_feedback(self) -> None:
        if self._arrivals is not None:
            current = next((section.current for section in self.sections if section.current is not None), None)
            media_ssrc = current.ssrc if current is not None else Ssrc(0)
            self._send_feedback(list(self._arrivals.flush(self.sections[0].config.ssrc, media_ssrc)))

    def _send_feedback(self, feedback: list[RtcpPacket]) -> None:
        if not feedback:
            return
        if not self._reduced_size:
            # RFC 4585 §3.1: otherwise the shortest report and our name stand in front.
            config = self.sections[0].config
            name = SourceDescription.for_cname(config.ssrc, config.cname)
            feedback = [ReceiverReport(config.ssrc), name, *feedback]
        self._send_compound(feedback)

    def _send_compound(self, packets: list[RtcpPacket]) -> None:
        data = serialize_compound(packets)
        self._reporter.note_size(len(data))
        self.outgoing_rtcp.append(data)

    # What is known

    @property
    def round_trip_time(self) -> float | None:
        """The latest round trip in seconds, by the peer's reports; None before the first."""
        return self._reporter.round_trip.latest

    def stats(self, now: Instant) -> tuple[RtpStatistics, ...]:
        """Return everything that can be counted of each section, in the vocabulary of `getStats`."""
        return tuple(
            RtpStatistics(
                section.sender.stats(now),
                section.inbound_stats(now),
                self._reporter.remote_inbound_stats(section),
                section.remote_outbound_stats(),
            )
            for section in self.sections
        )
