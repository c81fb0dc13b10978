"""One SSRC that we send: sequence numbers, timestamps, extensions, redundancy, repairs (RFC 3550 §5.1).

The timestamp counts samples of the codec's clock. It goes on through silence: `skip` passes over frames that are
not sent (DTX), and a stream that was not fed for a while catches up with the clock by itself, because a receiver
takes a packet that is late against its timestamp for a slow network. While a telephone event is played, frames
give way to it.
"""

from __future__ import annotations

from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Entropy, Instant
from stack.core.serial import SERIAL32, ExtendedSequenceNumber, RtpTimestamp, SequenceNumber
from stack.rtp.config import RtpConfig
from stack.rtp.extensions import AudioLevel, ExtensionMap, HeaderExtensions, abs_send_time
from stack.rtp.loss import LossEstimate
from stack.rtp.nack import SendHistory
from stack.rtp.packet import RtpPacket
from stack.rtp.red import RedDepth, RedEncoder
from stack.rtp.rtcp import TransportWideFeedback
from stack.rtp.rtx import RtxSender
from stack.rtp.stats import OutboundRtpStats
from stack.rtp.telephone_event import DtmfSender

DROPPED_NACK_NOT_OURS = declare(
    "rtp", "dropped_nack_not_ours", "NACKs of a source that is not ours, or without NACK agreed on"
)
DROPPED_MUTED_BY_DTMF = declare(
    "rtp", "dropped_muted_by_dtmf", "Frames whose time passed while a telephone event was played"
)

IDLE_GAP = 0.5
"""Seconds that a stream may fall behind the clock, by jitter of the caller, before it is moved."""


class SendStream:
    """Makes the packets of one SSRC and appends them, serialized, to `packets`, the list of its transport."""

    __slots__ = (
        "_clock_rate",
        "_config",
        "_counters",
        "_dtmf",
        "_due",
        "_event_payload_type",
        "_event_timestamp",
        "_extensions",
        "_history",
        "_loss",
        "_marker_wanted",
        "_nacks_received",
        "_packets",
        "_payload_type",
        "_red",
        "_red_depth",
        "_rtx",
        "_ssrc",
        "_transport_sequence",
        "extended_sequence",
        "last_sent_at",
        "last_timestamp",
        "next_sequence",
        "octets_sent",
        "packets_sent",
        "red_depth",
        "repeated_octets",
        "repeated_packets",
        "timestamp",
    )

    def __init__(self, config: RtpConfig, entropy: Entropy, packets: list[bytes], counters: Counters) -> None:
        self._config = config
        self._packets = packets
        self._counters = counters
        self._ssrc = config.ssrc
        self._payload_type = config.codecs[0].payload_type
        self._extensions = ExtensionMap(config.extensions)
        self._history = SendHistory() if config.nack else None
        self._nacks_received = 0
        self._loss = LossEstimate()
        self._red_depth = RedDepth() if config.red_depth is None else None
        self._clock_rate = config.clock_rate
        self._dtmf = DtmfSender(self._clock_rate)
        # RFC 3550 §5.1: both start at random. The sequence number below 2^15, so that a receiver who misses the
        # first packets cannot be wrong about SRTP's rollover counter (RFC 3711 §3.3.1).
        self.next_sequence = SequenceNumber(int.from_bytes(entropy(2), "big") & 0x7FFF)
        self.extended_sequence: ExtendedSequenceNumber = self.next_sequence
        self.timestamp = RtpTimestamp(int.from_bytes(entropy(4), "big"))
        """Of the next frame."""
        self.last_timestamp = self.timestamp
        """Of the latest frame."""
        self._transport_sequence = 0
        self._due: Instant | None = None  # when the next frame of an unbroken run is due
        self._marker_wanted = True
        self._red = RedEncoder() if config.red_payload_type is not None else None
        self.red_depth = self._red_depth.depth if self._red_depth is not None else config.red_depth or 0
        """How many earlier frames each packet repeats, where redundancy was negotiated."""
        self._rtx: RtxSender | None = None
        if config.rtx_ssrc is not None and config.rtx_payload_types:
            self._rtx = RtxSender(config.rtx_ssrc, config.rtx_payload_types, entropy)
        self._event_payload_type = next(
            (codec.payload_type for codec in config.telephone_events if codec.clock_rate == config.clock_rate),
            None,
        )
        self._event_timestamp = self.timestamp
        self.packets_sent = 0
        self.octets_sent = 0
        self.repeated_packets = 0
        self.repeated_octets = 0
        self.last_sent_at: Instant | None = None

    def timestamp_at(self, now: Instant) -> RtpTimestamp:
        """Return the timestamp that belongs to `now`, for the sender report (RFC 3550 §6.4.1)."""
        behind = 0 if self._due is None else round((self._due - now) * self._config.clock_rate)
        return RtpTimestamp(SERIAL32.add(self.timestamp, -behind))

    def skip(self, samples: int) -> None:
        """Pass over `samples` of silence; the next frame begins a talkspurt."""
        self.timestamp = RtpTimestamp(SERIAL32.add(self.timestamp, samples))
        if self._due is not None:
            self._due += samples / self._config.clock_rate
        self._marker_wanted = True

    def send(
        self, payload: bytes, samples: int, now: Instant, *, marker: bool = False, level: AudioLevel | None = None
    ) -> ExtendedSequenceNumber:
        """Send one frame of the first codec that lasts `samples` of its clock.

        Returns its extended sequence number. Sequence numbers and timestamps go on from the frame before. The
        marker bit is set by itself on the first frame after a silence. While a telephone event is played the frame
        is dropped and its time passes.
        """
        if self._dtmf.is_playing:
            self._counters.add(DROPPED_MUTED_BY_DTMF)
            self.skip(samples)
            return self.extended_sequence
        config = self._config
        if self._due is None:
            self._due = now
        elif now - self._due > IDLE_GAP and samples:
            self.skip(int((now - self._due) * config.clock_rate) // samples * samples)
        payload_type, timestamp = self._payload_type, self.timestamp
        if self._red is not None and config.red_payload_type is not None:
            red = self._red.encode(payload_type, timestamp, payload, self.red_depth)
            if red.redundant:
                payload_type, payload = config.red_payload_type, red.serialize()
        self._emit(payload_type, payload, timestamp, now, marker or self._marker_wanted, level)
        self._marker_wanted = False  # RFC 3551 §4.1: set on the first packet of a talkspurt only
        self.last_timestamp = timestamp
        self.timestamp = RtpTimestamp(timestamp + samples & 0xFFFFFFFF)
        self._due += samples / self._clock_rate
        return self.extended_sequence

    def send_dtmf(self, digits: str, duration: float, gap: float, now: Instant) -> None:
        """Press keys (0–9 * # A–D) one after the other; seconds each, and between them.

        Raises `LocalError` if telephone-event was not negotiated, or for digits and times that cannot be played.
        """
        if self._event_payload_type is None:
            raise LocalError("telephone-event was not negotiated at the clock rate of the first codec")
        self._dtmf.queue(digits, duration, gap, now)
        self.play_dtmf(now)

    def play_dtmf(self, now: Instant) -> None:
        """Send the packet of the present telephone event whose time has come (RFC 4733 §2.5.1.2)."""
        event = self._dtmf.due(now)
        if event is None or self._event_payload_type is None:
            return
        if event.first:
            if self._due is None:
                self._due = now
            self._event_timestamp = self.timestamp_at(event.started_at)  # all packets of one event share it
        if self._red is not None:
            self._red.clear()
        self._emit(self._event_payload_type, event.payload, self._event_timestamp, now, event.first, None)

    def poll_timeout(self) -> Instant | None:
        """When `play_dtmf` has something to send; None: never."""
        return self._dtmf.poll_timeout()

    def answer_nack(self, lost: tuple[SequenceNumber, ...], now: Instant, round_trip: float | None) -> None:
        """Repeat the packets that the peer misses, as far as they are remembered (RFC 4585 §6.2.1)."""
        if self._history is None:
            self._counters.add(DROPPED_NACK_NOT_OURS)
            return
        self._nacks_received += 1
        for sequence_number in dict.fromkeys(lost):
            original = self._history.answer(sequence_number, now, round_trip)
            if original is not None:
                self._packets.append(self.repeat(original, now).serialize())

    # Loss, by the peer's reports

    def note_fraction_lost(self, fraction: float, now: Instant) -> None:
        """A report block says what share of our packets was lost, 0 … 1."""
        self._loss.handle_fraction(fraction)
        self._choose_redundancy(now)

    def note_feedback(self, feedback: TransportWideFeedback, now: Instant) -> None:
        """Transport-wide feedback says which packets arrived."""
        self._loss.handle_feedback(feedback, now)
        self._choose_redundancy(now)

    def reported_loss(self, now: Instant) -> float:
        """Return how much of what we send is lost, 0 … 1: what an encoder needs to choose its own redundancy."""
        return self._loss.at(now)

    def _choose_redundancy(self, now: Instant) -> None:
        if self._red_depth is not None:
            self.red_depth = self._red_depth.update(self._loss.at(now), now)

    def repeat(self, original: RtpPacket, now: Instant) -> RtpPacket:
        """Return what to send for a packet that the peer misses.

        Without RTX it is the very same packet: a changed one under the same number would break GCM.
        """
        self.repeated_packets += 1
        self.repeated_octets += len(original.payload)
        if self._rtx is not None:
            wrapped = self._rtx.wrap(original, *self._header_extension(now, None))
            if wrapped is not None:
                return wrapped
        self.packets_sent += 1
        self.octets_sent += len(original.payload)
        self.last_sent_at = now
        return original

    def stats(self, now: Instant) -> OutboundRtpStats:
        """Return what was sent so far."""
        return OutboundRtpStats(
            timestamp=now,
            ssrc=self._config.ssrc,
            kind=self._config.kind,
            packets_sent=self.packets_sent,
            bytes_sent=self.octets_sent,
            retransmitted_packets_sent=self.repeated_packets,
            retransmitted_bytes_sent=self.repeated_octets,
            nack_count=self._nacks_received,
            redundancy_depth=self.red_depth if self._red is not None else 0,
        )

    def _emit(
        self,
        payload_type: int,
        payload: bytes,
        timestamp: RtpTimestamp,
        now: Instant,
        marker: bool,
        level: AudioLevel | None,
    ) -> None:
        profile, extension = self._header_extension(now, level)
        sequence_number = self.next_sequence
        packet = RtpPacket(
            payload_type,
            sequence_number,
            timestamp,
            self._ssrc,
            payload,
            marker,
            extension_profile=profile,
            extension_data=extension,
        )
        if self.packets_sent:
            self.extended_sequence += 1
        self.next_sequence = SequenceNumber(sequence_number + 1 & 0xFFFF)
        # RFC 3550 §6.4.1: payload only, without header and padding.
        self.packets_sent += 1
        self.octets_sent += len(payload)
        self.last_sent_at = now
        self._packets.append(packet.serialize())
        if self._history is not None:
            self._history.remember(packet, now)

    def _header_extension(self, now: Instant, level: AudioLevel | None) -> tuple[int | None, bytes]:
        config = self._config
        ids = config.extensions
        transport_sequence = None
        if ids.transport_sequence is not None:
            transport_sequence = self._transport_sequence
            self._transport_sequence += 1  # the extension carries its last 16 bits
        return self._extensions.serialize(
            HeaderExtensions(
                level,
                config.mid,
                transport_sequence,
                None if ids.abs_send_time is None else abs_send_time(now),
                config.playout_delay,
            )
        )
