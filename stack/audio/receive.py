"""From packets to frames of sound: jitter buffer, decoder, concealment and stretching joined.

    insert ─> rtp.jitter ─> Decode  ─> decoder.decode ────────┐
                            Missing ─> decoder.recover ───────┤─> ArrivalReceiver: frames, as they come
                            Silence, Underrun ─> conceal, ────┘─> ClockReceiver: a frame a tick, stretched to
                                                 then noise       keep the delay where the buffer wants it

`media_time` of a frame is its place on the sender's timeline, which the `arrival` buffer keeps to the sample:
what was lost is made up, silence that was not sent is filled up to `MAX_FILLED` and jumped over where it is
longer.

Concealment past `FADED` has nothing of the voice left, so from there on it is comfort noise, at no decoder's cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import TypeAlias

import numpy as np

from stack.audio.codec import CodecError, Decoder, Samples
from stack.audio.frame import AudioFrame
from stack.audio.noise import LOUDEST, ComfortNoise
from stack.audio.stretch import accelerate, expand
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError
from stack.core.machine import Instant
from stack.rtp.jitter import Adjustment, ArrivalBuffer, Decode, Item, JitterPacket, Missing, Silence
from stack.rtp.jitter_clock import ClockBuffer
from stack.rtp.stalls import find_playout_cost

DROPPED_MALFORMED = declare("decoder", "dropped_malformed", "Payloads that the codec could not read")

FRAME = 0.020
"""Seconds of the longest frame that is handed out; longer packets come as several."""
MAX_FILLED = 0.500
"""Seconds of silence that the `arrival` buffer fills in: Opus says "still silent" every 400 ms."""
FADED = 0.120
"""Seconds after which concealment has become comfort noise."""
MAX_FINAL = 100
"""Frames that the `clock` buffer hands out at the end: 2 s, more than it ever holds."""
_FADE_IN = 0.060
"""Seconds over which concealment turns into noise, before `FADED`."""
_LEARN_EVERY = 4
"""Packets of which one is looked at for the noise of the room: pauses last longer."""
_SEAM = 0.005
"""Seconds over which noise turns back into a voice."""
_STRETCH_PAUSE = 6
"""Ticks between two stretches of speech: cut more often, it is heard as hurried."""
_TRIM_PAUSE = 10
"""Ticks between two attempts to do without what is decoded ahead."""
_SPARE = 0.005
"""Seconds decoded ahead that are not worth an attempt."""


_QUIET = 60.0
"""Root mean square (of 32768) up to which sound is a pause,"""
_NEAR_NOISE = 2.5
"""as is what is no louder than this times the noise of the room,"""
_BELOW_VOICE = 0.05
"""or than this times the voice, whose level falls by `_VOICE_DECAY` a tick (half in 7 s)."""
_VOICE_DECAY = 0.998
_PAUSE_TICKS = 6
"""Ticks for which it must have been quiet: the closure of a plosive is none, and to cut it is heard."""


@dataclass(slots=True)
class ReceiveStatistics:
    """Totals in samples at the listener's rate, in the words of W3C webrtc-stats (RTCInboundRtpStreamStats)."""

    total_samples_received: int = 0
    concealed_samples: int = 0
    silent_concealed_samples: int = 0
    concealment_events: int = 0
    inserted_samples_for_deceleration: int = 0
    removed_samples_for_acceleration: int = 0
    fec_packets_used: int = 0
    jitter_buffer_delay: float = 0.0
    """Seconds that emitted samples have waited since they arrived, summed over the samples."""
    jitter_buffer_emitted_count: int = 0


class DecoderStage:
    """Turns the items of a jitter buffer into samples that join."""

    def __init__(self, decoder: Decoder) -> None:
        if decoder.channels != 1:
            raise LocalError("what a program hears is mono: the decoder mixes it down")
        self.decoder = decoder
        self.counters = Counters()
        self.statistics = ReceiveStatistics()
        self.noise = ComfortNoise(decoder.sample_rate)
        self._made_up = 0  # samples of concealment since the last packet
        self._whole = True  # the last item was a packet
        self._begun = False  # there was a packet at all
        self._unlearned = 0  # packets since the noise was last looked at
        self._seam = int(_SEAM * decoder.sample_rate)

    def change_decoder(self, decoder: Decoder) -> None:
        """Go on with another codec at the same rates."""
        before = self.decoder
        if (decoder.channels, decoder.sample_rate) != (before.channels, before.sample_rate):
            raise LocalError("another decoder has to give the same sample rate and channels")
        if decoder.clock_rate != before.clock_rate:
            raise LocalError("another RTP clock wants another receiver")
        self.decoder = decoder

    def samples(self, ticks: int) -> int:
        return ticks * self.decoder.sample_rate // self.decoder.clock_rate

    def packet(
        self, payload: bytes, sequence: int, timestamp: int, arrival: Instant, recovered: bool
    ) -> JitterPacket | None:
        """Look at a payload as far as the jitter buffer needs; None if it is none of the codec's."""
        decoder = self.decoder
        if not payload:  # a telephone-event, padding: the sequence number is not missing, that is all
            return JitterPacket(sequence, timestamp, 0, payload, arrival, recovered)
        try:
            samples, has_fec = decoder.inspect(payload)
        except CodecError:
            self.counters.add(DROPPED_MALFORMED)
            return None
        duration = samples * decoder.clock_rate // decoder.sample_rate
        return JitterPacket(sequence, timestamp, duration, payload, arrival, recovered, has_fec)

    def render(self, item: Item, now: Instant) -> tuple[Samples, bool]:
        """Return the sound of `item` and whether it was made up."""
        statistics = self.statistics
        if isinstance(item, Decode):
            try:
                decoded = self.decoder.decode(item.packet.payload)
            except CodecError:
                self.counters.add(DROPPED_MALFORMED)
                return self._made(self._conceal(self.samples(item.duration)), silent=False), True
            statistics.jitter_buffer_delay += (now - item.packet.arrival) * len(decoded)
            statistics.jitter_buffer_emitted_count += len(decoded)
            if self._unlearned == 0:
                self.noise.learn(decoded)
            self._unlearned = (self._unlearned + 1) % _LEARN_EVERY
            self._whole = self._begun = True
            return self._rejoin(decoded) if self._made_up else decoded, False
        wanted = self.samples(item.duration)
        if not self._begun:
            return np.zeros(wanted, np.int16), True
        if isinstance(item, Missing) and item.following is not None and item.following.has_fec:
            statistics.fec_packets_used += 1
            recovered = self._rejoin(self.decoder.recover(item.following.payload, wanted))
            return self._made(recovered, silent=False), True
        return self._made(self._conceal(wanted), silent=isinstance(item, Silence)), True

    def _made(self, samples: Samples, *, silent: bool) -> Samples:
        statistics = self.statistics
        statistics.concealment_events += self._whole
        self._whole = False
        statistics.concealed_samples += len(samples)
        if silent:
            statistics.silent_concealed_samples += len(samples)
        return samples

    def _conceal(self, wanted: int) -> Samples:
        """Carry on from the sound before: the codec's own concealment, fading into comfort noise."""
        rate = self.decoder.sample_rate
        faded, fade_in = int(FADED * rate), int(_FADE_IN * rate)
        start = self._made_up
        self._made_up += wanted
        if start + wanted <= faded - fade_in:
            return self.decoder.conceal(wanted)
        noise = self.noise.make(wanted)
        if start >= faded:
            return np.rint(noise).astype(np.int16)
        share = (np.arange(start, start + wanted, dtype=np.float32) - (faded - fade_in)) / fade_in
        share = np.clip(share, 0.0, 1.0)
        mixed = self.decoder.conceal(wanted) * np.sqrt(1.0 - share) + noise * np.sqrt(share)
        joined: Samples = np.rint(np.clip(mixed, -32768, 32767)).astype(np.int16)
        return joined

    def _rejoin(self, samples: Samples) -> Samples:
        """Lead from comfort noise back into what the decoder says; from its own concealment it leads by itself."""
        started = self._made_up
        self._made_up = 0
        seam = min(self._seam, len(samples))
        if started <= int((FADED - _FADE_IN) * self.decoder.sample_rate) or not seam:
            return samples
        ramp = (np.arange(seam, dtype=np.float32) + 0.5) / seam
        joined = samples.copy()
        joined[:seam] = np.rint(samples[:seam] * ramp + self.noise.make(seam) * (1.0 - ramp)).astype(np.int16)
        return joined


class _Timeline:
    """Where samples lie on the sender's time, which starts with 0 and never goes back."""

    __slots__ = ("_clock_rate", "_end", "_offset")

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._offset: int | None = None
        self._end = 0

    def restart(self) -> None:
        """What comes next has timestamps of its own; it follows on what was before."""
        self._offset = None

    def place(self, timestamp: int, duration: int) -> float:
        """The media time of something at `timestamp`."""
        if self._offset is None or timestamp + self._offset < self._end:  # the first, or the sender began anew
            self._offset = self._end - timestamp
        start = timestamp + self._offset
        self._end = start + duration
        return start / self._clock_rate


class ArrivalReceiver:
    """Hands out frames as soon as they can be made; see `rtp.jitter.ArrivalBuffer`."""

    def __init__(self, decoder: Decoder, buffer: ArrivalBuffer | None = None) -> None:
        self.buffer = buffer or ArrivalBuffer(decoder.clock_rate)
        self._sound = DecoderStage(decoder)
        self._timeline = _Timeline(decoder.clock_rate)
        self._restarts = self.buffer.packets.restarts
        self._longest = int(FRAME * decoder.sample_rate)

    @property
    def statistics(self) -> ReceiveStatistics:
        """Totals so far."""
        return self._sound.statistics

    @property
    def counters(self) -> Counters:
        """Packets that were no use to the codec; the others are counted by the buffer."""
        return self._sound.counters

    def insert(
        self, payload: bytes, sequence: int, timestamp: int, arrival: Instant, recovered: bool = False
    ) -> list[AudioFrame]:
        """Take a packet (extended sequence number and timestamp); return what can be heard because of it."""
        packet = self._sound.packet(payload, sequence, timestamp, arrival, recovered)
        if packet is None:
            return []
        buffer = self.buffer
        items = buffer.insert(packet)
        if buffer.packets.restarts != self._restarts:
            self._restarts = buffer.packets.restarts
            self._timeline.restart()
        return self._frames(items, arrival)

    def reset(self, decoder: Decoder | None = None) -> None:
        """Another source, or another codec: forget packets and sequence numbers; media time goes on."""
        self.buffer.reset()
        self._timeline.restart()
        if decoder is not None:
            self._sound.change_decoder(decoder)

    def poll_timeout(self) -> Instant | None:
        """When a gap will be given up, unless it is filled before."""
        return self.buffer.poll_timeout()

    def handle_timeout(self, now: Instant) -> list[AudioFrame]:
        """Return what can be heard because a gap is given up."""
        return self._frames(self.buffer.pull(now), now)

    def finish(self, now: Instant) -> list[AudioFrame]:
        """Return what is still held behind gaps: nothing more will come that could fill them."""
        return self._frames(self.buffer.pull(inf), now)

    def _frames(self, items: list[Item], now: Instant) -> list[AudioFrame]:
        sound, rate = self._sound, self._sound.decoder.sample_rate
        frames = []
        for item in items:
            if isinstance(item, Decode):
                timestamp, duration = item.packet.timestamp, item.packet.duration
            elif isinstance(item, Silence) and item.duration > MAX_FILLED * sound.decoder.clock_rate:
                continue
            else:
                timestamp, duration = item.timestamp, item.duration
            samples, made_up = sound.render(item, now)
            media_time = self._timeline.place(timestamp, duration)
            sound.statistics.total_samples_received += len(samples)
            if len(samples) <= self._longest:
                frames.append(AudioFrame(samples, rate, media_time, made_up))
                continue
            for at in range(0, len(samples), self._longest):
                piece = samples[at : at + self._longest]
                frames.append(AudioFrame(piece, rate, media_time + at / rate, made_up))
        return frames


class ClockReceiver:
    """Hands out one frame of 20 ms for each `tick`; see `rtp.jitter_clock.ClockBuffer`."""

    def __init__(self, decoder: Decoder, buffer: ClockBuffer | None = None) -> None:
        self.buffer = buffer or ClockBuffer(decoder.clock_rate)
        self._sound = DecoderStage(decoder)
        self._rate = decoder.sample_rate
        self._tick = int(self.buffer.TICK * self._rate)
        self._pending: Samples = np.zeros(0, np.int16)  # decoded, not played
        self._played = 0
        self._last_stretch = -_STRETCH_PAUSE * self._tick
        self._voice = 0.0  # root mean square of the loudest of late
        self._quiet_ticks = 0  # that were played in a row

    @property
    def statistics(self) -> ReceiveStatistics:
        """Totals so far."""
        return self._sound.statistics

    @property
    def counters(self) -> Counters:
        """Packets that were no use to the codec; the others are counted by the buffer."""
        return self._sound.counters

    def insert(
        self, payload: bytes, sequence: int, timestamp: int, arrival: Instant, recovered: bool = False
    ) -> list[AudioFrame]:
        """Take a packet (extended sequence number and timestamp); the frames come by `tick`."""
        packet = self._sound.packet(payload, sequence, timestamp, arrival, recovered)
        if packet is not None:
            self.buffer.insert(packet)
        return []

    def reset(self, decoder: Decoder | None = None) -> None:
        """Another source, or another codec: forget packets and sequence numbers; the frames go on."""
        self.buffer.reset()
        if decoder is not None:
            self._sound.change_decoder(decoder)

    def tick(self, now: Instant) -> AudioFrame:
        """Return the next 20 ms; call it every 20 ms. `media_time` counts what was handed out."""
        sound = self._sound
        made_up = False
        parts = [self._pending]
        have = len(self._pending)
        for item in self.buffer.pull(now, have / self._rate):
            samples, made = sound.render(item, now + have / self._rate)
            parts.append(samples)
            have += len(samples)
            made_up = made_up or made
        self._pending = np.concatenate(parts)
        if not made_up:
            self._stretch(self.buffer.adjustment)
        frame, self._pending = self._pending[: self._tick], self._pending[self._tick :]
        if not made_up:
            self._follow_level(frame)
        media_time = self._played / self._rate
        self._played += len(frame)
        sound.statistics.total_samples_received += len(frame)
        return AudioFrame(frame, self._rate, media_time, made_up)

    def finish(self, now: Instant) -> list[AudioFrame]:
        """Return what is still held, without waiting for its ticks: nothing more will come."""
        frames: list[AudioFrame] = []
        while (self.buffer.held or len(self._pending) >= self._tick) and len(frames) < MAX_FINAL:
            frames.append(self.tick(now + len(frames) * self.buffer.TICK))
        return frames

    def _stretch(self, adjustment: Adjustment) -> None:
        before = len(self._pending)
        hurry = adjustment is Adjustment.HURRY
        rested = (self._played - self._last_stretch) // self._tick
        if adjustment is Adjustment.NONE:
            # Less than a tick that is decoded ahead is delay that protects from nothing: trim it, now and then.
            if before - self._tick < _SPARE * self._rate or rested < _TRIM_PAUSE:
                return
            self._last_stretch = self._played
        quiet = self._is_quiet(self._pending)
        if not (quiet and self._quiet_ticks >= _PAUSE_TICKS):
            if adjustment in (Adjustment.SHORTEN_PAUSE, Adjustment.LENGTHEN_PAUSE):
                return
            if rested < _STRETCH_PAUSE and not (hurry or quiet):
                return
        if adjustment in (Adjustment.EXPAND, Adjustment.LENGTHEN_PAUSE):
            self._pending = expand(self._pending, self._rate, anywhere=quiet)
        else:
            self._pending = accelerate(self._pending, self._rate, keep=self._tick, anywhere=hurry or quiet)
        changed = len(self._pending) - before
        if changed:
            self._last_stretch = self._played
        self._sound.statistics.inserted_samples_for_deceleration += max(0, changed)
        self._sound.statistics.removed_samples_for_acceleration += max(0, -changed)

    def _is_quiet(self, samples: Samples) -> bool:
        """Whether all of `samples` is a pause, looked at by half ticks."""
        step = self._tick // 2
        return all(self._is_pause(_level(samples[at : at + step])) for at in range(0, len(samples), step))

    def _is_pause(self, level: float) -> bool:
        if level <= max(_QUIET, _BELOW_VOICE * self._voice):
            return True
        return level <= _NEAR_NOISE * LOUDEST and level <= _NEAR_NOISE * self._sound.noise.level

    def _follow_level(self, frame: Samples) -> None:
        level = _level(frame)
        self._voice = max(level, self._voice * _VOICE_DECAY)
        self._quiet_ticks = self._quiet_ticks + 1 if self._is_pause(level) else 0


def _level(samples: Samples) -> float:
    """Root mean square, of 32768."""
    sound = samples.astype(np.float32)
    return sqrt(float(sound @ sound) / max(1, len(sound)))


Receiver: TypeAlias = ArrivalReceiver | ClockReceiver


def make_receiver(decoder: Decoder, mode: str = "arrival", cost: str = "conversation") -> Receiver:
    """Return a receiver by the mode of its jitter buffer, "arrival" or "clock".

    `cost` says what delay costs the listener of a clock, "conversation" or "listening" (`rtp.stalls`); what is
    handed out on arrival has no delay to choose.
    """
    playout_cost = find_playout_cost(cost)
    if mode == "arrival":
        return ArrivalReceiver(decoder)
    if mode == "clock":
        return ClockReceiver(decoder, ClockBuffer(decoder.clock_rate, playout_cost))
    raise LocalError(f"a jitter buffer is arrival or clock, not {mode!r}")
