"""A conversation: the machine around a `Session` in which sound is heard and spoken.

    session -> RTP events -> ear (order, decode, conceal) -> Heard
    write   -> playout queue (paced) -> encoder -> session

Commands: `write`, `flush_speaker`, `hang_up`, and those on the session's channels. What the session says is handed
up unchanged, but for media.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stack.audio import (
    FRAME,
    AudioFrame,
    Encoder,
    G711Decoder,
    G711Encoder,
    G711Law,
    OpusDecoder,
    OpusEncoder,
    Pcm,
    PlayoutQueue,
)
from stack.core.errors import LocalError
from stack.core.machine import Entropy, Instant, Path, Transmit
from stack.core.timers import earliest
from stack.dtls import Certificate, Version
from stack.rtp import ByeReceived, DtmfReceived, PacketReceived, SourceChanged
from stack.sctp import ChannelId, Channels, MessageReceived
from stack.session import Connected, Ended, MediaReceived, Session, SessionEvent, SessionParameters
from stack.voice.ear import Ear

_OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)


@dataclass(frozen=True, slots=True)
class ConversationConfig:
    """How a conversation sounds: rates in Hz, `bitrate` in bit/s, `complexity` 0 … 10 (Opus)."""

    microphone_rate: int = 16_000
    bitrate: int = 24_000
    complexity: int = 5
    dtls_version: Version | None = None
    """Speak this version of DTLS only."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame of what the person says."""

    frame: AudioFrame


@dataclass(frozen=True, slots=True)
class SpeakerDrained:
    """All that was written has been sent; `writes` counts the writes that were known by then."""

    writes: int


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The peer said BYE on its audio stream (RFC 3550 §6.6)."""


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """A telephone key (RFC 4733): one of 0–9 * # A–D."""

    digit: str


ConversationEvent = SessionEvent | Heard | SpeakerDrained | PeerLeft | KeyPressed


class Conversation:
    """A machine that an endpoint can host: one person on the line."""

    def __init__(
        self,
        parameters: SessionParameters,
        certificate: Certificate,
        config: ConversationConfig,
        entropy: Entropy,
        now: Instant,
        *,
        wall_clock: float = 0.0,
    ) -> None:
        self.session = Session(
            parameters, certificate, entropy, now, wall_clock=wall_clock, dtls_version=config.dtls_version
        )
        self._config = config
        self._events: list[ConversationEvent] = []
        self._ear: Ear | None = None
        self._encoder: Encoder | None = None
        self._playout: PlayoutQueue | None = None
        self._next_timestamp = 0
        self._frame_ticks = 0
        self._unread = 0  # bytes of messages that the program has not taken
        self._writes = 0
        self._drained_writes = 0
        audio = parameters.negotiation.audio
        if audio is not None:
            self._codec = audio.codec.lower()
            self._payload_type = audio.payload_type
            self._ear = Ear(self._make_decoder(), audio.clock_rate)

    # -- commands ------------------------------------------------------------------------------------------

    def write(self, pcm: Pcm, sample_rate: int, now: Instant) -> None:
        """Queue sound to be spoken; see `PlayoutQueue.write`. Without an audio section it is dropped."""
        if self._ear is None:
            return
        if self._playout is None:
            self._open_mouth(sample_rate)
        assert self._playout is not None
        self._playout.write(pcm, sample_rate, now)
        self._writes += 1
        self._speak(now)

    def flush_speaker(self, now: Instant) -> int:
        """Fall silent at once; return how many samples were dropped (at the encoder's rate)."""
        dropped = self._playout.flush() if self._playout is not None else 0
        self._note_drained()
        return dropped

    def open_channel(
        self,
        label: str,
        now: Instant,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_retransmits: int | None = None,
        max_lifetime_ms: int | None = None,
        negotiated_id: int | None = None,
    ) -> ChannelId:
        """Open a data channel; `LocalError` if none were negotiated; see `stack.sctp.Channels.open`."""
        channel = self._channels.open(
            label,
            now,
            protocol=protocol,
            ordered=ordered,
            max_retransmits=max_retransmits,
            max_lifetime_ms=max_lifetime_ms,
            negotiated_id=negotiated_id,
        )
        self._flush(now)
        return channel

    def send_message(self, channel: ChannelId, data: str | bytes, now: Instant, *, low_threshold: int = 0) -> int:
        """Send on a channel; return how many bytes wait on it. `BufferedAmountLow` tells of `low_threshold`."""
        self._channels.set_low_threshold(channel, low_threshold)
        self._channels.send(channel, data, now)
        self._flush(now)
        return self._channels.buffered_amount(channel)

    def close_channel(self, channel: ChannelId, now: Instant) -> None:
        """Close a channel when all that was sent on it has left."""
        self._channels.close_channel(channel, now)
        self._flush(now)

    def note_read(self, size: int, now: Instant) -> None:
        """The program has read so many bytes of messages: the receive window may open again."""
        self._unread = max(0, self._unread - size)
        if not self.session.is_finished:
            self._channels.set_unread(self._unread, now)
            self._flush(now)

    @property
    def _channels(self) -> Channels:
        if self.session.channels is None:
            raise LocalError("no data channels were negotiated")
        return self.session.channels

    def _flush(self, now: Instant) -> None:
        self.session.flush(now)
        self._collect(now)

    def hang_up(self, now: Instant) -> None:
        """End the call in an orderly way."""
        self.session.close(now)
        self._collect(now)

    def stats(self, now: Instant) -> dict[str, Any]:
        """Return a snapshot of the call's statistics as plain values."""
        session = self.session
        rtt = session.round_trip_time
        return {
            "steps_ms": dict(session.steps),
            "round_trip_time_ms": None if rtt is None else round(rtt * 1e3, 3),
            "counters": dict(session.all_counters().snapshot()),
            "rtp": session.rtp.stats(now).as_webrtc() if session.rtp is not None else [],
        }

    # -- the machine ---------------------------------------------------------------------------------------

    def handle_datagram(self, data: bytes, path: Path, now: Instant) -> None:
        """Take one datagram from the network."""
        self.session.handle_datagram(data, path, now)
        self._collect(now)

    def handle_timeout(self, now: Instant) -> None:
        """Do what is due."""
        self.session.handle_timeout(now)
        self._speak(now)
        self._collect(now)

    def poll_timeout(self) -> Instant | None:
        """Return the earliest deadline."""
        speaking = self._playout.poll_timeout() if self._playout is not None and self._can_speak else None
        return earliest(self.session.poll_timeout(), speaking)

    def drain_transmits(self) -> Sequence[Transmit]:
        """Return every datagram to be sent since the last call."""
        return self.session.drain_transmits()

    def drain_events(self) -> Sequence[ConversationEvent]:
        """Return what happened since the last call."""
        events, self._events = self._events, []
        return events

    def drain_routes(self) -> Sequence[Path]:
        """Return the paths proven since the last call."""
        return self.session.drain_routes()

    @property
    def is_finished(self) -> bool:
        """True once the session is over and everything was drained."""
        return self.session.is_finished and not self._events

    # -- hearing and speaking ------------------------------------------------------------------------------

    @property
    def _can_speak(self) -> bool:
        return self.session.is_connected

    def _collect(self, now: Instant) -> None:
        for event in self.session.drain_events():
            if isinstance(event, MediaReceived):
                self._hear(event)
            else:
                self._events.append(event)
                if isinstance(event, Connected):
                    self._speak(now)
                elif isinstance(event, MessageReceived):
                    self._unread += len(event.data)
                    self._channels.set_unread(self._unread, now)

    def _hear(self, media: MediaReceived) -> None:
        event = media.event
        if isinstance(event, PacketReceived):
            if self._ear is not None and event.payload_type == self._payload_type:
                self._events.extend(Heard(frame) for frame in self._ear.insert(event))
        elif isinstance(event, SourceChanged):
            if self._ear is not None:
                self._ear.reset()
        elif isinstance(event, ByeReceived):
            self._events.append(PeerLeft())
        elif isinstance(event, DtmfReceived):
            self._events.append(KeyPressed(event.digit))

    def _speak(self, now: Instant) -> None:
        """Send every frame that is due."""
        if self._playout is None or self._encoder is None or not self._can_speak:
            return
        while (frame := self._playout.next_frame(now)) is not None:
            payload = self._encoder.encode(frame.samples)
            skipped = frame.timestamp - self._next_timestamp
            self._next_timestamp = frame.timestamp + self._frame_ticks
            self.session.send_media(payload, self._frame_ticks, now, skipped=skipped, marker=frame.marker)
        self._note_drained()

    def _note_drained(self) -> None:
        if self._playout is not None and self._writes > self._drained_writes and self._playout.queued == 0:
            self._drained_writes = self._writes
            self._events.append(SpeakerDrained(self._writes))

    def _open_mouth(self, sample_rate: int) -> None:
        """Make the encoder when it is first needed, at the rate that the program speaks at."""
        if self._codec == "opus":
            rate = next((rate for rate in _OPUS_RATES if rate >= sample_rate), 48_000)
            self._encoder = OpusEncoder(rate, bitrate=self._config.bitrate, complexity=self._config.complexity)
        else:
            self._encoder = G711Encoder(G711Law[self._codec.upper()])
        self._frame_ticks = round(self._encoder.clock_rate * FRAME)
        self._playout = PlayoutQueue(self._encoder.sample_rate, 1, self._encoder.clock_rate)

    def _make_decoder(self) -> OpusDecoder | G711Decoder:
        if self._codec == "opus":
            return OpusDecoder(self._config.microphone_rate)
        if self._codec in ("pcmu", "pcma"):
            return G711Decoder(G711Law[self._codec.upper()], self._config.microphone_rate)
        raise LocalError(f"no decoder for {self._codec}")


__all__ = [
    "Conversation",
    "ConversationConfig",
    "ConversationEvent",
    "Ended",
    "Heard",
    "PeerLeft",
    "SpeakerDrained",
]
