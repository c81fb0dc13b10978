"""The line of packets that we send: sequence numbers, timestamps, header extensions (RFC 3550 §5.1).

The timestamp counts samples of the codec's clock. It goes on through silence: `skip` passes over frames that are
not sent (DTX), and a line that nobody fed for a while catches up with the clock by itself, because a receiver
takes a packet that is late against its timestamp for a slow network.
"""

from __future__ import annotations

from stack.core.machine import Entropy, Instant
from stack.core.serial import SERIAL16, SERIAL32, RtpTimestamp, SequenceNumber, Ssrc
from stack.rtp.config import RtpConfig
from stack.rtp.extensions import AudioLevel, ExtensionMap, HeaderExtensions, abs_send_time
from stack.rtp.packet import RtpPacket

IDLE_GAP = 0.5
"""Seconds that a line may fall behind the clock, by jitter of the caller, before it is moved."""


class RtpSender:
    """Makes the packets of one SSRC."""

    __slots__ = (
        "_config",
        "_due",
        "_extensions",
        "_marker_wanted",
        "_timestamp",
        "_transport_sequence",
        "last_sent_at",
        "next_sequence",
        "octets_sent",
        "packets_sent",
    )

    def __init__(self, config: RtpConfig, entropy: Entropy) -> None:
        self._config = config
        self._extensions = ExtensionMap(config.extensions)
        # RFC 3550 §5.1: both start at random. The sequence number below 2^15, so that a receiver who misses the
        # first packets cannot be wrong about SRTP's rollover counter (RFC 3711 §3.3.1).
        self.next_sequence = SequenceNumber(int.from_bytes(entropy(2), "big") & 0x7FFF)
        self._timestamp = RtpTimestamp(int.from_bytes(entropy(4), "big"))
        self._transport_sequence = 0
        self._due: Instant | None = None  # when the next frame of an unbroken line is due
        self._marker_wanted = True
        self.packets_sent = 0
        self.octets_sent = 0
        self.last_sent_at: Instant | None = None

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
        packet = self.packet(
            self._config.codecs[0].payload_type,
            payload,
            self._timestamp,
            now,
            marker or self._marker_wanted,
            level,
        )
        self._marker_wanted = False  # RFC 3551 §4.1: set on the first packet of a talkspurt only
        self._timestamp = RtpTimestamp(SERIAL32.add(self._timestamp, samples))
        self._due += samples / self._config.clock_rate
        return packet

    def packet(
        self,
        payload_type: int,
        payload: bytes,
        timestamp: RtpTimestamp,
        now: Instant,
        marker: bool = False,
        level: AudioLevel | None = None,
    ) -> RtpPacket:
        """Return the next packet of the line with a timestamp of the caller's choice."""
        profile, extension = self._extensions.serialize(self._elements(now, level))
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
        self.next_sequence = SequenceNumber(SERIAL16.add(self.next_sequence, 1))
        self.note_sent(len(payload), now)
        return packet

    def note_sent(self, octets: int, now: Instant) -> None:
        """Count a packet with so many bytes of payload (RFC 3550 §6.4.1)."""
        self.packets_sent += 1
        self.octets_sent += octets
        self.last_sent_at = now

    def _elements(self, now: Instant, level: AudioLevel | None) -> HeaderExtensions:
        ids = self._config.extensions
        transport_sequence = None
        if ids.transport_sequence is not None:
            transport_sequence = self._transport_sequence
            self._transport_sequence = SERIAL16.add(transport_sequence, 1)
        return HeaderExtensions(
            level,
            self._config.mid,
            transport_sequence,
            None if ids.abs_send_time is None else abs_send_time(now),
            self._config.playout_delay,
        )
