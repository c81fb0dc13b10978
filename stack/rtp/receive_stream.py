"""One remote SSRC: its packets become events, in the order of their arrival (RFC 3550 §5.1, RFC 2198, RFC 4588).

Nothing is put in order here: sequence numbers and timestamps go up without their wraps, and the jitter buffer
above decides how long to wait. What a packet holds decides its way: sound goes up as it is; RED goes up as several
frames; a telephone event becomes events of its own; a packet of nothing but padding goes up empty, so that its
number is not missing.
"""

from __future__ import annotations

from typing import NamedTuple

from stack.core.counters import Counters, declare
from stack.core.machine import Instant
from stack.core.serial import SERIAL16, ExtendedSequenceNumber, ExtendedTimestamp, Ssrc
from stack.rtp.config import RtpConfig
from stack.rtp.events import PacketReceived, RtpEvent
from stack.rtp.extensions import AudioLevel
from stack.rtp.nack import NackGenerator
from stack.rtp.packet import RtpPacket
from stack.rtp.red import RedBlock, RedPayload
from stack.rtp.rtx import unwrap
from stack.rtp.source import SEEN_WINDOW, RemoteSource
from stack.rtp.stats import InboundRtpStats, RemoteOutboundRtpStats
from stack.rtp.telephone_event import DIGITS, DtmfReceiver, TelephoneEvent

DROPPED_DUPLICATE = declare("rtp", "dropped_duplicate", "RTP packets, or retransmissions, that had come before")
DROPPED_UNKNOWN_PAYLOAD_TYPE = declare(
    "rtp", "dropped_unknown_payload_type", "RTP packets, or RED payloads, of a payload type that was not agreed on"
)
DROPPED_UNKNOWN_TELEPHONE_EVENT = declare(
    "rtp", "dropped_unknown_telephone_event", "Telephone events that are no digits (RFC 4733 §3.2)"
)

MAX_PADDING = 64
"""Packets without sound that are looked across for the one that redundancy repeats; and sounds remembered."""
MAX_FRAME_TIME = 0.2
"""Seconds: the longest packet of any codec in use (RFC 3551 §4.2; Opus ends at 120 ms, RFC 6716 §3.4)."""


class PayloadTypes(NamedTuple):
    """What the payload types of one media section mean: clock rates by number, and the two wrappings."""

    clock_rates: dict[int, int]
    event_rates: dict[int, int]
    red: int | None
    rtx: dict[int, int]
    known: frozenset[int]
    """All of them."""

    @classmethod
    def of(cls, config: RtpConfig) -> PayloadTypes:
        """Return the payload types that were negotiated."""
        clock_rates = {codec.payload_type: codec.clock_rate for codec in config.codecs}
        event_rates = {codec.payload_type: codec.clock_rate for codec in config.telephone_events}
        red, rtx = config.red_payload_type, dict(config.rtx_payload_types)
        known = {*clock_rates, *event_rates, *rtx, *(() if red is None else (red,))}
        return cls(clock_rates, event_rates, red, rtx, frozenset(known))


class ReceiveStream:
    """What arrives of one remote SSRC. `events` is the section's list, to which its events are appended."""

    __slots__ = (
        "_counters",
        "_kind",
        "_mid",
        "_sounded",
        "_types",
        "dtmf",
        "events",
        "nack",
        "nacks_sent",
        "red_depth",
        "redundant_received",
        "redundant_used",
        "retransmissions_received",
        "source",
    )

    def __init__(
        self,
        source: RemoteSource,
        types: PayloadTypes,
        events: list[RtpEvent],
        counters: Counters,
        *,
        mid: str | None = None,
        kind: str = "audio",
        nack: bool = False,
    ) -> None:
        self.source = source
        self.events = events
        self._mid = mid
        self._kind = kind
        self._types = types
        self._counters = counters
        self._sounded: dict[
            ExtendedTimestamp, ExtendedSequenceNumber
        ] = {}  # the latest sound: sequence numbers by timestamp
        self.nack = NackGenerator() if nack else None
        self.dtmf = DtmfReceiver(mid)
        self.red_depth = 0
        """How many earlier frames the peer's latest packet repeated."""
        self.redundant_received = 0
        self.redundant_used = 0
        self.retransmissions_received = 0
        self.nacks_sent = 0

    @property
    def ssrc(self) -> Ssrc:
        """The remote SSRC."""
        return self.source.ssrc

    def begin_anew(self) -> None:
        """What follows has sequence numbers and timestamps of another origin: expect nothing of the old ones."""
        if self.nack is not None:
            self.nack.reset()
        self.events += self.dtmf.reset()
        self._sounded.clear()
        self.red_depth = 0

    def handle_timeout(self, now: Instant) -> None:
        """End a telephone event whose last packets were lost."""
        due = self.dtmf.poll_timeout()
        if due is not None and now >= due:
            self.events += self.dtmf.finish()

    def handle_packet(
        self,
        packet: RtpPacket,
        sequence: ExtendedSequenceNumber,
        now: Instant,
        level: AudioLevel | None,
        recovered: bool = False,
    ) -> None:
        """Turn a packet with its extended sequence number into events. May raise `ParseError`.

        `recovered` says that it came as a retransmission; without RTX a repeated packet is known by its number.
        """
        source, types = self.source, self._types
        if self.nack is not None and not recovered:
            recovered = self.nack.note_received(sequence)
        timestamp = source.extend_timestamp(packet.timestamp)
        payload_type, payload = packet.payload_type, packet.payload
        if not payload:
            pass  # nothing but padding: browsers probe the path with such packets, under the type of the sound
        elif payload_type == types.red:
            red = RedPayload.parse(payload)
            payload_type, payload = red.payload_type, red.payload
            if payload_type not in types.clock_rates:
                self._counters.add(DROPPED_UNKNOWN_PAYLOAD_TYPE)
                payload = b""
            self.red_depth = len(red.redundant)
            if red.redundant:
                self._handle_redundancy(red, sequence, timestamp, now)
        elif payload_type in types.event_rates:
            self._handle_telephone_event(payload, timestamp, types.event_rates[payload_type], now)
            payload = b""
        if payload:
            if types.red is not None:
                self._note_sound(timestamp, sequence)
            if not recovered:
                source.measure_jitter(timestamp, types.clock_rates[payload_type], now)
        self.events.append(
            PacketReceived(
                payload,
                sequence,
                timestamp,
                now,
                payload_type,
                packet.marker,
                source.ssrc,
                level,
                recovered,
                self._mid,
                self.red_depth,
            )
        )

    def handle_retransmission(self, packet: RtpPacket, now: Instant) -> None:
        """Take a packet of the retransmission stream (RFC 4588 §4). May raise `ParseError`."""
        if not packet.payload:
            return  # nothing but padding
        source = self.source
        original = unwrap(packet, self._types.rtx[packet.payload_type], source.ssrc)
        sequence = SERIAL16.unwrap(original.sequence_number, source.highest)
        self.retransmissions_received += 1
        # Only what is missing behind the newest packet can have been asked for.
        if not source.highest - SEEN_WINDOW < sequence <= source.highest or not source.mark(sequence):
            self._counters.add(DROPPED_DUPLICATE)
            return
        if self.nack is not None:
            self.nack.note_received(sequence)
        self.handle_packet(original, sequence, now, None, recovered=True)

    # Redundancy

    def _handle_redundancy(
        self, red: RedPayload, sequence: ExtendedSequenceNumber, timestamp: ExtendedTimestamp, now: Instant
    ) -> None:
        """Hand up what the packet repeats of packets that have not come, before the packet itself."""
        source = self.source
        for block, number in self._missing_blocks(red, sequence, timestamp):
            self.redundant_used += 1
            source.mark(number)
            if self.nack is not None:
                self.nack.note_received(number)
            at = timestamp - block.timestamp_offset
            self._note_sound(at, number)
            self.events.append(
                PacketReceived(
                    block.payload,
                    number,
                    at,
                    now,
                    block.payload_type,
                    False,
                    source.ssrc,
                    None,
                    True,
                    self._mid,
                    self.red_depth,
                )
            )

    def _missing_blocks(
        self, red: RedPayload, sequence: ExtendedSequenceNumber, timestamp: ExtendedTimestamp
    ) -> list[tuple[RedBlock, ExtendedSequenceNumber]]:
        """Return the blocks whose sound has not come, oldest first, each with a sequence number that is missing.

        Counting back from the packet is not enough: a browser that probes the path sends packets of padding in
        between, which have numbers and no sound. So it is the timestamp that says which sound a block is.
        """
        source, clock_rates = self.source, self._types.clock_rates
        found: list[tuple[RedBlock, ExtendedSequenceNumber]] = []
        number = sequence - 1
        for distance, block in enumerate(reversed(red.redundant), start=1):
            clock_rate = clock_rates.get(block.payload_type)
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
            found.append((block, number))
            number -= 1
        return found[::-1]

    def _note_sound(self, timestamp: ExtendedTimestamp, sequence: ExtendedSequenceNumber) -> None:
        self._sounded[timestamp] = sequence
        if len(self._sounded) > MAX_PADDING:
            del self._sounded[next(iter(self._sounded))]

    def _handle_telephone_event(
        self, payload: bytes, timestamp: ExtendedTimestamp, clock_rate: int, now: Instant
    ) -> None:
        event = TelephoneEvent.parse(payload)
        if event.event >= len(DIGITS):
            self._counters.add(DROPPED_UNKNOWN_TELEPHONE_EVENT)
            return
        self.events += self.dtmf.handle(event, timestamp, clock_rate, now)

    # What is known

    def stats(self, now: Instant) -> InboundRtpStats:
        """Return how this source was received."""
        source = self.source
        return InboundRtpStats(
            timestamp=now,
            ssrc=source.ssrc,
            kind=self._kind,
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
        """Return what this source says that it sent; None before its first sender report."""
        source = self.source
        report = source.last_sender_report
        if report is None:
            return None
        return RemoteOutboundRtpStats(
            timestamp=source.last_sender_report_at,
            ssrc=source.ssrc,
            kind=self._kind,
            packets_sent=report.packet_count,
            bytes_sent=report.octet_count,
            reports_sent=source.sender_reports,
        )
