"""RTCP of our own: compounds of SR or RR, SDES, XR and BYE, and what the peer's reports say about us."""

from __future__ import annotations

from dataclasses import dataclass

from stack.core.machine import Entropy, Instant
from stack.rtp.config import RtpConfig
from stack.rtp.ntp import NtpClock, compact, to_compact_units
from stack.rtp.receiver import RtpReceiver
from stack.rtp.report import ReportSchedule, RoundTripTime
from stack.rtp.rtcp import (
    Dlrr,
    DlrrEntry,
    ExtendedReport,
    Goodbye,
    ReceiverReferenceTime,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
)
from stack.rtp.sender import RtpSender
from stack.rtp.stats import RemoteInboundRtpStats

_SENDER_FOR = 2
"""Reports after the last packet in which we still call ourselves a sender (RFC 3550 §6.4)."""


@dataclass(frozen=True, slots=True)
class RemoteView:
    """How the peer receives us, by its latest report block; `fraction_lost` in 0 … 1, `jitter` in seconds."""

    at: Instant
    fraction_lost: float
    packets_lost: int
    extended_highest_sequence: int
    jitter: float


class RtcpReporter:
    """Writes reports and reads the ones about us."""

    def __init__(self, config: RtpConfig, entropy: Entropy) -> None:
        self._config = config
        self._clock = NtpClock(config.wall_clock_offset)
        self._schedule = ReportSchedule(config.session_bandwidth, entropy)
        self._silent_reports = 0
        self._packets_at_last_report = 0
        self._reference: tuple[int, int, Instant] | None = None  # SSRC, compact time, arrival of a peer's RRTR
        self.round_trip = RoundTripTime()
        self.remote: RemoteView | None = None
        self.reports_sent = 0
        self.reports_received = 0

    def first_delay(self) -> float:
        """Return the seconds from the first packet to the first report."""
        return self._schedule.first_delay()

    def interval(self) -> float:
        """Return the seconds to the next report."""
        return self._schedule.interval()

    def note_size(self, size: int) -> None:
        """Take the size of a compound packet, sent or received, into the average."""
        self._schedule.note_size(size)

    # Ours

    def report(self, sender: RtpSender, receiver: RtpReceiver, now: Instant) -> list[RtcpPacket]:
        """Return the packets of a full report (RFC 3550 §6.1: SR or RR, then SDES)."""
        source = receiver.current
        blocks = (source.report(now),) if source is not None else ()
        ntp_time = self._clock.at(now)
        packets: list[RtcpPacket] = []
        if self._is_sender(sender):
            packets.append(
                SenderReport(
                    self._config.ssrc,
                    ntp_time,
                    sender.timestamp_at(now),
                    sender.packets_sent,
                    sender.octets_sent,
                    blocks,
                )
            )
            self.round_trip.note_sent(compact(ntp_time), now)
        else:
            packets.append(ReceiverReport(self._config.ssrc, blocks))
        packets.append(SourceDescription.for_cname(self._config.ssrc, self._config.cname))
        packets += self._extended_report(ntp_time, now)
        self.reports_sent += 1
        return packets

    def goodbye(self, sender: RtpSender, receiver: RtpReceiver, now: Instant) -> list[RtcpPacket]:
        """Return the last compound (RFC 3550 §6.6)."""
        return [*self.report(sender, receiver, now), Goodbye((self._config.ssrc,))]

    def _is_sender(self, sender: RtpSender) -> bool:
        if sender.packets_sent == self._packets_at_last_report:
            self._silent_reports += 1
        else:
            self._silent_reports = 0
        self._packets_at_last_report = sender.packets_sent
        return sender.packets_sent > 0 and self._silent_reports < _SENDER_FOR

    def _extended_report(self, ntp_time: int, now: Instant) -> list[RtcpPacket]:
        if not self._config.rcvr_rtt:
            return []
        blocks: list[ReceiverReferenceTime | Dlrr] = [ReceiverReferenceTime(ntp_time)]
        self.round_trip.note_sent(compact(ntp_time), now)
        if self._reference is not None:
            ssrc, reference, arrival = self._reference
            blocks.append(Dlrr((DlrrEntry(ssrc, reference, to_compact_units(now - arrival)),)))
        return [ExtendedReport(self._config.ssrc, tuple(blocks))]

    # The peer's

    def handle_blocks(self, blocks: tuple[ReportBlock, ...], now: Instant) -> ReportBlock | None:
        """Take the report blocks of an SR or RR; return the one about us."""
        for block in blocks:
            if block.ssrc == self._config.ssrc:
                self.reports_received += 1
                self.remote = RemoteView(
                    now,
                    block.fraction_lost / 256,
                    block.cumulative_lost,
                    block.extended_highest_sequence,
                    block.jitter / self._config.clock_rate,
                )
                if block.last_sr:
                    self.round_trip.handle_answer(block.last_sr, block.delay_since_last_sr, now)
                return block
        return None

    def remote_inbound_stats(self) -> RemoteInboundRtpStats | None:
        """Return how the peer receives us; None before its first report."""
        if self.remote is None:
            return None
        return RemoteInboundRtpStats(
            timestamp=self.remote.at,
            ssrc=self._config.ssrc,
            packets_lost=self.remote.packets_lost,
            fraction_lost=self.remote.fraction_lost,
            jitter=self.remote.jitter,
            round_trip_time=self.round_trip.latest,
            total_round_trip_time=self.round_trip.total,
            round_trip_time_measurements=self.round_trip.measurements,
        )

    def handle_extended(self, report: ExtendedReport, now: Instant) -> None:
        """Take an XR: answer its reference time in our next report, and use its answer to ours."""
        for block in report.blocks:
            if isinstance(block, ReceiverReferenceTime):
                self._reference = (report.ssrc, compact(block.ntp_time), now)
            elif isinstance(block, Dlrr):
                for entry in block.entries:
                    if entry.ssrc == self._config.ssrc and entry.last_rr:
                        self.round_trip.handle_answer(entry.last_rr, entry.delay_since_last_rr, now)
