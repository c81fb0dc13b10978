"""Packets that arrive: which source, which line, new or not; handed up at once, in the order of arrival.

One source speaks at a time, as one microphone does. A source that was never heard before takes the line over
(`SourceChanged`); what still arrives of others is counted and dropped, unless the line has been silent so
long that the other must be the one that speaks.

A payload type leads to one of four ways: sound goes up as it is; RED goes up as several frames; a
retransmission is turned into the packet that it repeats; a telephone event becomes events of its own.
"""

from __future__ import annotations

from stack.core.machine import Instant
from stack.core.serial import SERIAL16, Ssrc
from stack.core.trace import Counters
from stack.rtp.config import RtpConfig
from stack.rtp.events import PacketReceived, RtpEvent, SourceChanged
from stack.rtp.extensions import AudioLevel, ExtensionMap, HeaderExtensions
from stack.rtp.nack import NackGenerator
from stack.rtp.packet import RtpPacket
from stack.rtp.red import RedBlock, RedPayload
from stack.rtp.rtx import unwrap
from stack.rtp.source import SEEN_WINDOW, Arrival, RemoteSource
from stack.rtp.stats import InboundRtpStats, RemoteOutboundRtpStats
from stack.rtp.telephone_event import DIGITS, DtmfReceiver, TelephoneEvent

MAX_SOURCES = 8
"""Sources whose statistics are kept; one more pushes out the one that has been silent longest."""
SOURCE_SILENCE = 1.0
"""Seconds of silence after which a known source may take the line back."""
MAX_PADDING = 64
"""Packets without sound that are looked across for the one that redundancy repeats; and sounds remembered."""
MAX_FRAME_TIME = 0.2
"""Seconds: the longest packet of any codec in use (RFC 3551 §4.2; Opus ends at 120 ms, RFC 6716 §3.4)."""


class RtpReceiver:
    """Turns RTP packets into events."""

    def __init__(self, config: RtpConfig, counters: Counters) -> None:
        self._ssrc = config.ssrc
        self._counters = counters
        self._clock_rates = {codec.payload_type: codec.clock_rate for codec in config.codecs}
        self._event_rates = {codec.payload_type: codec.clock_rate for codec in config.telephone_events}
        self._red = config.red_payload_type
        self._rtx = dict(config.rtx_payload_types)
        self._extensions = ExtensionMap(config.extensions)
        self._sources: dict[Ssrc, RemoteSource] = {}
        self._events: list[RtpEvent] = []
        self.current: RemoteSource | None = None
        self._departed: RemoteSource | None = None  # said goodbye: its statistics stay
        self.nack = NackGenerator() if config.nack else None
        self.dtmf = DtmfReceiver()
        self._sounded: dict[int, int] = {}  # the latest sound: sequence numbers by timestamp
        self.red_depth = 0
        """How many earlier frames the peer's latest packet repeated."""
        self.frame_time = 0.02
        """Seconds from one packet of the line to the next, as last seen."""
        self.redundant_received = 0
        self.redundant_used = 0
        self.retransmissions_received = 0
        self.nacks_sent = 0

    def source(self, ssrc: int) -> RemoteSource | None:
        """Return what is known of a source."""
        return self._sources.get(Ssrc(ssrc))

    def drain_events(self) -> list[RtpEvent]:
        """Return what happened since the last call."""
        events, self._events = self._events, []
        return events

    def forget(self, ssrc: int) -> None:
        """Drop a source that said goodbye."""
        source = self._sources.pop(Ssrc(ssrc), None)
        if source is not None and source is self.current:
            self.current, self._departed = None, source
            self._reset_line()

    def handle_timeout(self, now: Instant) -> None:
        """End a telephone event whose last packets were lost."""
        if self.dtmf.deadline is not None and now >= self.dtmf.deadline:
            self._events += self.dtmf.finish()

    def handle_packet(self, packet: RtpPacket, now: Instant) -> HeaderExtensions | None:
        """Take one packet; return its header extensions if it belongs to this call. May raise `ParseError`."""
        if packet.ssrc == self._ssrc:
            # RFC 3550 §8.2: a loop, or a collision that only a new offer could solve.
            self._counters.add("own_ssrc")
            return None
        extensions = self._extensions.parse(packet.extension_profile, packet.extension_data)
        payload_type = packet.payload_type
        if payload_type in self._rtx:
            self._handle_retransmission(packet, now)
        elif payload_type in self._clock_rates or payload_type == self._red or payload_type in self._event_rates:
            source = self._find_source(packet, now)
            sequence = self._place(source, packet, now)
            if sequence is not None:
                recovered = self.nack.note_received(sequence) if self.nack is not None else False
                self._hand_up(source, packet, sequence, now, extensions.audio_level, recovered)
        else:
            self._counters.add("unknown_payload_type")
        return extensions

    def stats(self, now: Instant) -> InboundRtpStats | None:
        """Return how the source that has the line, or had it last, was received; None before the first packet."""
        source = self.current or self._departed
        if source is None:
            return None
        return InboundRtpStats(
            timestamp=now,
            ssrc=source.ssrc,
            packets_received=source.packets_received,
            packets_lost=source.packets_lost,
            bytes_received=source.bytes_received,
            jitter=source.jitter / source.clock_rate,
            last_packet_received_timestamp=source.last_arrival,
            retransmitted_packets_received=self.retransmissions_received,
            fec_packets_received=self.redundant_received,
            fec_packets_discarded=self.redundant_received - self.redundant_used,
            nack_count=self.nacks_sent,
            packets_duplicated=source.duplicates,
            packets_recovered=self.redundant_used,
        )

    def remote_outbound_stats(self) -> RemoteOutboundRtpStats | None:
        """Return what that source says that it sent; None before its first sender report."""
        source = self.current or self._departed
        report = source.last_sender_report if source is not None else None
        if source is None or report is None:
            return None
        return RemoteOutboundRtpStats(
            timestamp=source.last_sender_report_at,
            ssrc=source.ssrc,
            packets_sent=report.packet_count,
            bytes_sent=report.octet_count,
            reports_sent=source.sender_reports,
        )

    # Sources and lines

    def _find_source(self, packet: RtpPacket, now: Instant) -> RemoteSource:
        source = self._sources.get(packet.ssrc)
        if source is None:
            if len(self._sources) >= MAX_SOURCES:
                silent = min(self._sources.values(), key=lambda candidate: candidate.last_arrival)
                del self._sources[silent.ssrc]
            source = RemoteSource(packet.ssrc, packet.sequence_number, now)
            self._sources[packet.ssrc] = source
        return source

    def _place(self, source: RemoteSource, packet: RtpPacket, now: Instant) -> int | None:
        """Return the extended sequence number of a packet that is to go up; None if it is not."""
        expected = source.highest + 1
        verdict, sequence = source.receive(packet.sequence_number, len(packet.payload), now)
        if verdict is Arrival.DUPLICATE or verdict is Arrival.DOUBTFUL:
            self._counters.add(verdict.value)
            return None
        if source is not self.current:
            if not self._may_take_line(source, now):
                self._counters.add("other_source")
                return None
            self._change(source, self.current.ssrc if self.current is not None else None)
        elif verdict is Arrival.RESTART:
            self._change(source, source.ssrc)
        elif sequence > expected and self.nack is not None:
            self.nack.note_missing(expected, sequence, now)
        return sequence

    def _may_take_line(self, source: RemoteSource, now: Instant) -> bool:
        is_new = source.packets_received == 1
        return is_new or self.current is None or now - self.current.last_arrival >= SOURCE_SILENCE

    def _change(self, source: RemoteSource, previous: Ssrc | None) -> None:
        self._reset_line()
        self._events.append(SourceChanged(source.ssrc, previous))
        self.current = source

    def _reset_line(self) -> None:
        if self.nack is not None:
            self.nack.reset()
        self._events += self.dtmf.reset()
        self._sounded.clear()
        self.red_depth = 0

    # What a packet holds

    def _hand_up(
        self,
        source: RemoteSource,
        packet: RtpPacket,
        sequence: int,
        now: Instant,
        level: AudioLevel | None,
        recovered: bool,
    ) -> None:
        timestamp = source.extend_timestamp(packet.timestamp)
        payload_type, payload = packet.payload_type, packet.payload
        event_rate = self._event_rates.get(payload_type)
        if not payload:
            pass  # nothing but padding: browsers probe the path with such packets, under the type of the sound
        elif event_rate is not None:
            self._handle_telephone_event(payload, timestamp, event_rate, now)
            payload = b""
        elif payload_type == self._red:
            red = RedPayload.parse(payload)
            payload_type, payload = red.payload_type, red.payload
            if payload_type not in self._clock_rates:
                self._counters.add("unknown_payload_type")
                payload = b""
            self._handle_redundancy(source, red, sequence, timestamp, now)
        if payload:
            self._note_sound(timestamp, sequence)
        if not recovered and payload:
            source.measure_jitter(timestamp, self._clock_rates[payload_type], now)
        self._events.append(
            PacketReceived(
                payload, sequence, timestamp, now, payload_type, packet.marker, source.ssrc, level, recovered
            )
        )

    def _handle_redundancy(
        self, source: RemoteSource, red: RedPayload, sequence: int, timestamp: int, now: Instant
    ) -> None:
        """Hand up what the packet repeats of packets that have not come, before the packet itself."""
        self.red_depth = len(red.redundant)
        for block, number in self._missing_blocks(source, red, sequence, timestamp):
            self.redundant_used += 1
            source.mark(number)
            if self.nack is not None:
                self.nack.note_received(number)
            at = timestamp - block.timestamp_offset
            self._note_sound(at, number)
            self._events.append(
                PacketReceived(block.payload, number, at, now, block.payload_type, False, source.ssrc, None, True)
            )

    def _missing_blocks(
        self, source: RemoteSource, red: RedPayload, sequence: int, timestamp: int
    ) -> list[tuple[RedBlock, int]]:
        """Return the blocks whose sound has not come, oldest first, each with a sequence number that is missing.

        Counting back from the packet is not enough: a browser that probes the path sends packets of padding in
        between, which have numbers and no sound. So it is the timestamp that says which sound a block is.
        """
        found: list[tuple[RedBlock, int]] = []
        number = sequence - 1
        for distance, block in enumerate(reversed(red.redundant), start=1):
            clock_rate = self._clock_rates.get(block.payload_type)
            if clock_rate is None or not block.payload:
                continue
            self.redundant_received += 1
            known = self._sounded.get(timestamp - block.timestamp_offset)
            if known is not None:
                number = known - 1
                continue
            while source.has(number) and number > sequence - MAX_PADDING and number not in self._sounded.values():
                number -= 1
            frame_time = block.timestamp_offset / distance / clock_rate
            # A block that cannot be the sound so many frames before was put there across something else.
            if source.has(number) or not 0 < frame_time <= MAX_FRAME_TIME:
                continue
            self.frame_time = frame_time
            found.append((block, number))
            number -= 1
        return found[::-1]

    def _note_sound(self, timestamp: int, sequence: int) -> None:
        self._sounded[timestamp] = sequence
        if len(self._sounded) > MAX_PADDING:
            del self._sounded[next(iter(self._sounded))]

    def _handle_retransmission(self, packet: RtpPacket, now: Instant) -> None:
        source = self.current
        if not packet.payload:
            return  # nothing but padding
        if source is None:
            self._counters.add("retransmission_without_source")
            return
        original = unwrap(packet, self._rtx[packet.payload_type], source.ssrc)
        sequence = SERIAL16.unwrap(original.sequence_number, source.highest)
        self.retransmissions_received += 1
        # Only what is missing behind the newest packet can have been asked for.
        if not source.highest - SEEN_WINDOW < sequence <= source.highest or not source.mark(sequence):
            self._counters.add("duplicate")
            return
        if self.nack is not None:
            self.nack.note_received(sequence)
        self._hand_up(source, original, sequence, now, None, True)

    def _handle_telephone_event(self, payload: bytes, timestamp: int, clock_rate: int, now: Instant) -> None:
        event = TelephoneEvent.parse(payload)
        if event.event >= len(DIGITS):
            self._counters.add("unknown_telephone_event")
            return
        self._events += self.dtmf.handle(event, timestamp, clock_rate, now)
