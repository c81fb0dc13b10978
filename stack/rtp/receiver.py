"""Packets that arrive: which source, which line, new or not; handed up at once, in the order of arrival.

One source speaks at a time, as one microphone does. A source that was never heard before takes the line over
(`SourceChanged`); what still arrives of others is counted and dropped, unless the line has been silent so
long that the other must be the one that speaks.
"""

from __future__ import annotations

from stack.core.machine import Instant
from stack.core.serial import Ssrc
from stack.core.trace import Counters
from stack.rtp.config import RtpConfig
from stack.rtp.events import PacketReceived, RtpEvent, SourceChanged
from stack.rtp.extensions import ExtensionMap, HeaderExtensions
from stack.rtp.packet import RtpPacket
from stack.rtp.source import Arrival, RemoteSource

MAX_SOURCES = 8
"""Sources whose statistics are kept; one more pushes out the one that has been silent longest."""
SOURCE_SILENCE = 1.0
"""Seconds of silence after which a known source may take the line back."""


class RtpReceiver:
    """Turns RTP packets into events."""

    def __init__(self, config: RtpConfig, counters: Counters) -> None:
        self._config = config
        self._counters = counters
        self._clock_rates = {codec.payload_type: codec.clock_rate for codec in config.codecs}
        self._extensions = ExtensionMap(config.extensions)
        self._sources: dict[Ssrc, RemoteSource] = {}
        self._events: list[RtpEvent] = []
        self.current: RemoteSource | None = None

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
            self.current = None

    def handle_packet(self, packet: RtpPacket, now: Instant) -> HeaderExtensions | None:
        """Take one packet; return its header extensions if it was of any use. May raise `ParseError`."""
        if packet.ssrc == self._config.ssrc:
            # RFC 3550 §8.2: a loop, or a collision that only a new offer could solve.
            self._counters.add("own_ssrc")
            return None
        clock_rate = self._clock_rates.get(packet.payload_type)
        if clock_rate is None:
            self._counters.add("unknown_payload_type")
            return None
        extensions = self._extensions.parse(packet.extension_profile, packet.extension_data)
        source = self._find_source(packet, now)
        verdict, sequence = source.receive(packet.sequence_number, len(packet.payload), now)
        if verdict is Arrival.DUPLICATE or verdict is Arrival.DOUBTFUL:
            self._counters.add(verdict.value)
            return extensions
        if source is not self.current and not self._take_line(source, now):
            self._counters.add("other_source")
            return extensions
        if verdict is Arrival.RESTART:
            self._events.append(SourceChanged(source.ssrc, source.ssrc))
        timestamp = source.extend_timestamp(packet.timestamp)
        source.measure_jitter(timestamp, clock_rate, now)
        self._events.append(
            PacketReceived(
                packet.payload,
                sequence,
                timestamp,
                now,
                packet.payload_type,
                packet.marker,
                packet.ssrc,
                extensions.audio_level,
            )
        )
        return extensions

    def _find_source(self, packet: RtpPacket, now: Instant) -> RemoteSource:
        source = self._sources.get(packet.ssrc)
        if source is None:
            if len(self._sources) >= MAX_SOURCES:
                silent = min(self._sources.values(), key=lambda candidate: candidate.last_arrival)
                del self._sources[silent.ssrc]
            source = RemoteSource(packet.ssrc, packet.sequence_number, now)
            self._sources[packet.ssrc] = source
        return source

    def _take_line(self, source: RemoteSource, now: Instant) -> bool:
        """Return True if `source`, which is not the current one, now is."""
        current = self.current
        if current is not None:
            is_new = source.packets_received == 1
            if not is_new and now - current.last_arrival < SOURCE_SILENCE:
                return False
        self._events.append(SourceChanged(source.ssrc, current.ssrc if current is not None else None))
        self.current = source
        return True
