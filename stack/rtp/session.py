"""Everything between SRTP and the codec for the sound of one call (RFC 3550, RFC 3551 §4.1, RFC 5506).

`RtpSession` is what a call owns. It takes plain packets (after `unprotect`) and frames of the codec, and gives
plain packets (before `protect`) and events. It orders nothing: packets go up in the order of their arrival, with
sequence numbers and timestamps that no longer wrap, and the jitter buffer above decides.

Left out: several senders in one session and translators (RFC 3550 §7), since a call has one voice on each side.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from stack.core.errors import ParseError
from stack.core.machine import Entropy, Instant
from stack.core.timers import Timers
from stack.core.trace import Counters
from stack.rtp.config import RtpConfig
from stack.rtp.events import ByeReceived, RtpEvent
from stack.rtp.extensions import AudioLevel
from stack.rtp.packet import RtpPacket
from stack.rtp.receiver import RtpReceiver
from stack.rtp.reporter import RemoteView, RtcpReporter
from stack.rtp.rtcp import (
    ExtendedReport,
    Goodbye,
    ReceiverReport,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    parse_compound,
    serialize_compound,
)
from stack.rtp.sender import RtpSender


class RtpTimer(Enum):
    """Why an `RtpSession` wants to be woken."""

    REPORT = "report"


class RtpSession:
    """One audio section of one call: a `Clocked` of `RtpEvent`.

    Pump it after every input and command: `drain_rtp`, `drain_rtcp`, `drain_events`, `poll_timeout`.
    """

    def __init__(self, config: RtpConfig, entropy: Entropy, now: Instant) -> None:
        self.config = config
        self.counters = Counters()
        self._started_at = now
        self._sender = RtpSender(config, entropy)
        self._receiver = RtpReceiver(config, self.counters)
        self._reporter = RtcpReporter(config, entropy)
        self._timers: Timers[RtpTimer] = Timers()
        self._rtp: list[bytes] = []
        self._rtcp: list[bytes] = []
        self._events: list[RtpEvent] = []
        self._closed = False

    # What arrives

    def handle_rtp(self, data: bytes, now: Instant) -> None:
        """Take one plain RTP packet."""
        if self._closed:
            return
        try:
            self._receiver.handle_packet(RtpPacket.parse(data), now)
        except ParseError:
            self.counters.add("malformed_rtp")
            return
        self._expect_report(now)

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
                self._reporter.handle_blocks(packet.reports, now)
            case ReceiverReport():
                self._reporter.handle_blocks(packet.reports, now)
            case ExtendedReport():
                self._reporter.handle_extended(packet, now)
            case Goodbye():
                for ssrc in packet.ssrcs:
                    self._receiver.forget(ssrc)
                self._events.append(ByeReceived(packet.ssrcs, packet.reason))
            case SourceDescription():
                pass  # the peer's name is known from SDP
            case _:
                self.counters.add("rtcp_not_understood")

    # What is sent

    def send(
        self,
        payload: bytes,
        samples: int,
        now: Instant,
        *,
        marker: bool = False,
        audio_level: AudioLevel | None = None,
    ) -> None:
        """Send one frame of the first codec that lasts `samples` of its clock.

        Sequence numbers and timestamps go on from the frame before. The marker bit is set by itself on the first
        frame after a silence.
        """
        if self._closed:
            self.counters.add("sent_after_close")
            return
        self._rtp.append(self._sender.make(payload, samples, now, marker, audio_level).serialize())
        self._expect_report(now)

    def skip(self, samples: int) -> None:
        """Pass over `samples` of silence for which nothing is sent (DTX)."""
        self._sender.skip(samples)

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
            if timer is RtpTimer.REPORT:
                self._send_compound(self._reporter.report(self._sender, self._receiver, now))
                self._timers.set(RtpTimer.REPORT, now + self._reporter.interval())

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

    # Figures

    def knows_source(self, ssrc: int) -> bool:
        """Return True if statistics are kept for this remote SSRC."""
        return self._receiver.source(ssrc) is not None

    @property
    def round_trip_time(self) -> float | None:
        """The latest round trip in seconds, by the peer's reports; None before the first."""
        return self._reporter.round_trip.latest

    @property
    def remote_view(self) -> RemoteView | None:
        """How the peer receives us, by its latest report."""
        return self._reporter.remote

    def _expect_report(self, now: Instant) -> None:
        if not self._timers.is_set(RtpTimer.REPORT):
            self._timers.set(RtpTimer.REPORT, now + self._reporter.first_delay())

    def _send_compound(self, packets: list[RtcpPacket]) -> None:
        data = serialize_compound(packets)
        self._reporter.note_size(len(data))
        self._rtcp.append(data)
