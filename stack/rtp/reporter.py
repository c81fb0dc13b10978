"""RTCP of our own: compounds of SR or RR, SDES, XR and BYE, and what the peer's reports say about us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from stack.core.machine import Entropy, Instant
from stack.core.serial import Ssrc
from stack.rtp.config import RtpConfig
from stack.rtp.events import RemoteView
from stack.rtp.ntp import NtpClock, compact, to_compact_units
from stack.rtp.receive_stream import ReceiveStream
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
from stack.rtp.send_stream import SendStream
from stack.rtp.stats import RemoteInboundRtpStats

SESSION_BANDWIDTH = 64_000
"""Bits per second, of which reports may use a twentieth (RFC 3550 §6.2)."""
_SENDER_FOR = 2
"""Reports after the last packet in which we still call ourselves a sender (RFC 3550 §6.4)."""


class Reported(Protocol):
    """What a reporter needs of a media section."""

    config: RtpConfig
    sender: SendStream
    remote_view: RemoteView | None
    current: ReceiveStream | None


class RtcpReporter:
    """Writes reports and reads the ones about us."""

    def __init__(self, configs: Sequence[RtpConfig], entropy: Entropy, wall_clock_offset: float) -> None:
        self._configs = tuple(configs)
        self._clock = NtpClock(wall_clock_offset)
        self._schedule = ReportSchedule(SESSION_BANDWIDTH, entropy)
        self._silent_reports = dict.fromkeys((config.ssrc for config in configs), 0)
        self._packets_at_last_report = dict.fromkeys((config.ssrc for config in configs), 0)
        self._reference: tuple[Ssrc, int, Instant] | None = None  # SSRC, compact time, arrival of a peer's RRTR
        self.round_trip = RoundTripTime()

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

    def report(self, sections: Sequence[Reported], now: Instant) -> list[RtcpPacket]:
        """Return the packets of a full report (RFC 3550 §6.1: SR or RR of each SSRC of ours, then SDES).

        What is received is reported by the SSRC of the section in which it arrived.
        """
        ntp_time = self._clock.at(now)
        packets: list[RtcpPacket] = []
        sending = False
        for section in sections:
            stream, sender, ssrc = section.current, section.sender, section.config.ssrc
            blocks = (stream.source.report(now),) if stream is not None else ()
            if self._is_sender(ssrc, sender):
                sending = True
                packets.append(
                    SenderReport(
                        ssrc,
                        ntp_time,
                        sender.timestamp_at(now),
                        sender.packets_sent,
                        sender.octets_sent,
                        blocks,
                    )
                )
            else:
                packets.append(ReceiverReport(ssrc, blocks))
        if sending:
            self.round_trip.note_sent(compact(ntp_time), now)
        packets += (SourceDescription.for_cname(config.ssrc, config.cname) for config in self._configs)
        packets += self._extended_report(ntp_time, now)
        return packets

    def goodbye(self, sections: Sequence[Reported], now: Instant) -> list[RtcpPacket]:
        """Return the last compound (RFC 3550 §6.6)."""
        return [*self.report(sections, now), Goodbye(tuple(config.ssrc for config in self._configs))]

    def _is_sender(self, ssrc: Ssrc, sender: SendStream) -> bool:
        if sender.packets_sent == self._packets_at_last_report[ssrc]:
            self._silent_reports[ssrc] += 1
        else:
            self._silent_reports[ssrc] = 0
        self._packets_at_last_report[ssrc] = sender.packets_sent
        return sender.packets_sent > 0 and self._silent_reports[ssrc] < _SENDER_FOR

    def _extended_report(self, ntp_time: int, now: Instant) -> list[RtcpPacket]:
        if not any(config.rcvr_rtt for config in self._configs):
            return []
        blocks: list[ReceiverReferenceTime | Dlrr] = [ReceiverReferenceTime(ntp_time)]
        self.round_trip.note_sent(compact(ntp_time), now)
        if self._reference is not None:
            ssrc, reference, arrival = self._reference
            blocks.append(Dlrr((DlrrEntry(ssrc, reference, to_compact_units(now - arrival)),)))
        return [ExtendedReport(self._configs[0].ssrc, tuple(blocks))]

    # The peer's

    def handle_blocks(self, section: Reported, blocks: tuple[ReportBlock, ...], now: Instant) -> RemoteView | None:
        """Take the report blocks of an SR or RR; return what the one about this section's SSRC says."""
        config = section.config
        for block in blocks:
            if block.ssrc == config.ssrc:
                section.sender.note_fraction_lost(block.fraction_lost / 256, now)
                section.remote_view = RemoteView(
                    now,
                    block.fraction_lost / 256,
                    block.cumulative_lost,
                    block.extended_highest_sequence,
                    block.jitter / config.clock_rate,
                    section.sender.reported_loss(now),
                )
                if block.last_sr:
                    self.round_trip.handle_answer(block.last_sr, block.delay_since_last_sr, now)
                return section.remote_view
        return None

    def remote_inbound_stats(self, section: Reported) -> RemoteInboundRtpStats | None:
        """Return how the peer receives what this section sends; None before its first report."""
        view = section.remote_view
        if view is None:
            return None
        return RemoteInboundRtpStats(
            timestamp=view.at,
            ssrc=section.config.ssrc,
            kind=section.config.kind,
            packets_lost=view.packets_lost,
            fraction_lost=view.fraction_lost,
            jitter=view.jitter,
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
                    if entry.ssrc in self._packets_at_last_report and entry.last_rr:
                        self.round_trip.handle_answer(entry.last_rr, entry.delay_since_last_rr, now)
