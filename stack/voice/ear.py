"""The ear: packets in order of arrival become frames of sound in media time.

A packet that continues the stream is decoded and handed on in the same call. A gap is concealed as soon as the
packet after it is there, and what arrives later than that is counted and dropped.
"""

from __future__ import annotations

from stack.audio import AudioFrame, CodecError, Decoder, Samples
from stack.core.trace import Counters
from stack.rtp import PacketReceived

MAX_CONCEALED = 0.100
"""Seconds of a gap that are made up; longer ones stay silent."""


class Ear:
    """Decodes one incoming stream."""

    def __init__(self, decoder: Decoder, clock_rate: int) -> None:
        self.counters = Counters()
        self._decoder = decoder
        self._clock_rate = clock_rate
        self._origin: int | None = None
        self._elapsed = 0.0  # media time of earlier streams
        self._next_sequence = 0
        self._next_timestamp = 0

    def reset(self) -> None:
        """A new stream begins: its numbers have nothing to do with those of the old one."""
        if self._origin is not None:
            self._elapsed += (self._next_timestamp - self._origin) / self._clock_rate
        self._origin = None

    def insert(self, packet: PacketReceived) -> list[AudioFrame]:
        """Take a packet and return the frames that can be handed on, in order."""
        frames: list[AudioFrame] = []
        if self._origin is None:
            self._origin = self._next_timestamp = packet.timestamp
        elif packet.sequence < self._next_sequence:
            self.counters.add("dropped_late")
            return frames
        gap = (packet.timestamp - self._next_timestamp) / self._clock_rate
        if packet.sequence > self._next_sequence and 0 < gap <= MAX_CONCEALED:
            samples = round(gap * self._decoder.sample_rate)
            if self._decoder.has_fec(packet.payload):
                sound = self._decoder.recover(packet.payload, samples)
            else:
                sound = self._decoder.conceal(samples)
            frames.append(self._frame(sound, self._next_timestamp, concealed=True))
        try:
            sound = self._decoder.decode(packet.payload)
        except CodecError:
            self.counters.add("dropped_undecodable")
            return frames
        frames.append(self._frame(sound, packet.timestamp))
        self._next_sequence = packet.sequence + 1
        self._next_timestamp = packet.timestamp + len(sound) * self._clock_rate // self._decoder.sample_rate
        return frames

    def _frame(self, sound: Samples, timestamp: int, *, concealed: bool = False) -> AudioFrame:
        assert self._origin is not None
        media_time = self._elapsed + (timestamp - self._origin) / self._clock_rate
        return AudioFrame(sound, self._decoder.sample_rate, media_time, concealed)
