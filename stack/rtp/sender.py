"""The line of packets that we send: sequence numbers, timestamps, extensions, redundancy (RFC 3550 §5.1).

The timestamp counts samples of the codec's clock. It goes on through silence: `skip` passes over frames that are
not sent (DTX), and a line that nobody fed for a while catches up with the clock by itself, because a receiver
takes a packet that is late against its timestamp for a slow network.
"""

from __future__ import annotations

from stack.core.errors import LocalError
from stack.core.machine import Entropy, Instant
from stack.core.serial import SERIAL16, SERIAL32, RtpTimestamp, SequenceNumber, Ssrc
from stack.rtp.config import RtpConfig
from stack.rtp.extensions import AudioLevel, ExtensionMap, HeaderExtensions, abs_send_time
from stack.rtp.packet import RtpPacket
from stack.rtp.red import RedEncoder
from stack.rtp.rtx import RtxSender
from stack.rtp.stats import OutboundRtpStats
from stack.rtp.telephone_event import DtmfPacket

IDLE_GAP = 0.5
"""Seconds that a line may fall behind the clock, by jitter of the caller, before it is moved."""


class RtpSender:
    """Makes the packets of one SSRC."""

    __slots__ = (
        "_config",
        "_due",
        "_event_payload_type",
        "_event_timestamp",
        "_extensions",
        "_marker_wanted",
        "_red",
        "_rtx",
        "_timestamp",
        "_transport_sequence",
        "extended_sequence",
        "last_sent_at",
        "next_sequence",
        "octets_sent",
        "packets_sent",
        "red_depth",
        "repeated_octets",
        "repeated_packets",
    )

    def __init__(self, config: RtpConfig, entropy: Entropy) -> None:
        self._config = config
        self._extensions = ExtensionMap(config.extensions)
        # RFC 3550 §5.1: both start at random. The sequence number below 2^15, so that a receiver who misses the
        # first packets cannot be wrong about SRTP's rollover counter (RFC 3711 §3.3.1).
        self.next_sequence = SequenceNumber(int.from_bytes(entropy(2), "big") & 0x7FFF)
        self.extended_sequence = int(self.next_sequence)
        self._timestamp = RtpTimestamp(int.from_bytes(entropy(4), "big"))
        self._transport_sequence = 0
        self._due: Instant | None = None  # when the next frame of an unbroken line is due
        self._marker_wanted = True
        self._red = RedEncoder() if config.red_payload_type is not None else None
        self.red_depth = 0
        """How many earlier frames each packet repeats, where redundancy was negotiated."""
        self._rtx: RtxSender | None = None
        if config.rtx_ssrc is not None and config.rtx_payload_types:
            self._rtx = RtxSender(config.rtx_ssrc, config.rtx_payload_types, entropy)
        self._event_payload_type = next(
            (codec.payload_type for codec in config.telephone_events if codec.clock_rate == config.clock_rate),
            None,
        )
        self._event_timestamp = self._timestamp
        self.packets_sent = 0
        self.octets_sent = 0
        self.repeated_packets = 0
        self.repeated_octets = 0
        self.last_sent_at: Instant | None = None

    @property
    def can_send_events(self) -> bool:
        """True if a telephone-event payload type with our clock rate was negotiated."""
        return self._event_payload_type is not None

    @property
    def timestamp(self) -> RtpTimestamp:
        """The timestamp of the next frame."""
        return self._timestamp

    def timestamp_at(self, now: Instant) -> RtpTimestamp:
        """Return the timestamp that belongs to `now`, for the sender report (RFC 3550 §6.4.1)."""
        behind = 0 if self._due is None else round((self._due - now) * self._config.clock_rate)
        return RtpTimestamp(SERIAL32.add(self._timestamp, -behind))

    def skip(self, samples: int) -> None:
        """Pass over `samples` of silence; the next frame begins a talkspurt."""
        self._timestamp = RtpTimestamp(SERIAL32.add(self._timestamp, samples))
        if self._due is not None:
            self._due += samples / self._config.clock_rate
        self._marker_wanted = True

    def make(
        self, payload: bytes, samples: int, now: Instant, marker: bool = False, level: AudioLevel | None = None
    ) -> RtpPacket:
        """Return the packet of one frame that lasts `samples`."""
        if self._due is None:
            self._due = now
        elif now - self._due > IDLE_GAP:
            self.skip(int((now - self._due) * self._config.clock_rate) // samples * samples if samples else 0)
        payload_type = self._config.codecs[0].payload_type
        if self._red is not None and self._config.red_payload_type is not None:
            red = self._red.encode(payload_type, self._timestamp, payload, self.red_depth)
            if red.redundant:
                payload_type, payload = self._config.red_payload_type, red.serialize()
        packet = self._packet(payload_type, payload, self._timestamp, now, marker or self._marker_wanted, level)
        self._marker_wanted = False  # RFC 3551 §4.1: set on the first packet of a talkspurt only
        self._timestamp = RtpTimestamp(SERIAL32.add(self._timestamp, samples))
        self._due += samples / self._config.clock_rate
        return packet

    def make_event(self, event: DtmfPacket, now: Instant) -> RtpPacket:
        """Return the next packet of a telephone event; all packets of one event share its first timestamp."""
        if self._event_payload_type is None:
            raise LocalError("telephone-event was not negotiated at this clock rate")
        if event.first:
            if self._due is None:
                self._due = now
            self._event_timestamp = self.timestamp_at(event.started_at)
        if self._red is not None:
            self._red.clear()
        return self._packet(self._event_payload_type, event.payload, self._event_timestamp, now, event.first, None)

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
        self._note_sent(len(original.payload), now)
        return original

    def stats(self, nack_count: int, now: Instant) -> OutboundRtpStats:
        """Return what was sent so far."""
        return OutboundRtpStats(
            timestamp=now,
            ssrc=self._config.ssrc,
            packets_sent=self.packets_sent,
            bytes_sent=self.octets_sent,
            retransmitted_packets_sent=self.repeated_packets,
            retransmitted_bytes_sent=self.repeated_octets,
            nack_count=nack_count,
            redundancy_depth=self.red_depth if self._red is not None else 0,
        )

    def _packet(
        self,
        payload_type: int,
        payload: bytes,
        timestamp: RtpTimestamp,
        now: Instant,
        marker: bool,
        level: AudioLevel | None,
    ) -> RtpPacket:
        profile, extension = self._header_extension(now, level)
        packet = RtpPacket(
            payload_type,
            self.next_sequence,
            timestamp,
            Ssrc(self._config.ssrc),
            payload,
            marker,
            extension_profile=profile,
            extension_data=extension,
        )
        self.extended_sequence = SERIAL16.unwrap(self.next_sequence, self.extended_sequence)
        self.next_sequence = SequenceNumber(SERIAL16.add(self.next_sequence, 1))
        self._note_sent(len(payload), now)
        return packet

    def _note_sent(self, octets: int, now: Instant) -> None:
        # RFC 3550 §6.4.1: payload only, without header and padding.
        self.packets_sent += 1
        self.octets_sent += octets
        self.last_sent_at = now

    def _header_extension(self, now: Instant, level: AudioLevel | None) -> tuple[int | None, bytes]:
        ids = self._config.extensions
        transport_sequence = None
        if ids.transport_sequence is not None:
            transport_sequence = self._transport_sequence
            self._transport_sequence = SERIAL16.add(transport_sequence, 1)
        return self._extensions.serialize(
            HeaderExtensions(
                level,
                self._config.mid,
                transport_sequence,
                None if ids.abs_send_time is None else abs_send_time(now),
                self._config.playout_delay,
            )
        )
