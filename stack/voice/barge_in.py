"""The pure part of a barge-in: what is enough to stop the reply, and how much of it was heard.

`Listener` is the ear with which a conversation decides: microphone → echo canceller → voice detector → echo gate →
`SpeechDetector`, with stricter rules while a reply is audible. Its events go into `TurnTaking`.

`PlayoutRecord` remembers what left when. From it, what RTCP acknowledged and how long the client keeps sound
before it is heard, it computes the position that the listener had reached, so that a transcript can be cut there
and a reply that was held can go on from there. A client that says which packet it was playing when it fell silent
makes a measurement of the estimate.

Left out: the doing (stopping packets, dropping the queue, telling the client), which is the conversation's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stack.core.machine import Instant
from stack.voice.echo import EchoCanceller
from stack.voice.turns import TurnSettings
from stack.voice.vad import (
    DETECTOR_RATE,
    EarshotDetector,
    FirstLook,
    Int16,
    SpeechDetector,
    SpeechEvent,
    VoiceDetector,
    VoiceFrame,
)

MAX_RECORD = 500
"""Packets that are remembered of a reply: ten seconds, far more than any client keeps back."""
MAX_AGE = 0.060
"""Seconds for which sound is taken to have gone on since a client began to play its latest packet."""


class Hearing(NamedTuple):
    """What one piece of microphone sound came to."""

    samples: Int16
    """Without our own voice."""
    media_time: float
    """Seconds, of the first of them."""
    events: Sequence[SpeechEvent]
    frames: Sequence[VoiceFrame]


class Listener:
    """The whole way from 16 kHz microphone samples to speech events; a Transform."""

    def __init__(
        self,
        settings: TurnSettings,
        detector: VoiceDetector | None = None,
        canceller: EchoCanceller | None = None,
    ) -> None:
        self._look = FirstLook(detector or EarshotDetector())
        self._canceller = canceller
        self._settings = settings
        self._over_reply = False
        self._speech = SpeechDetector(settings.speech())

    @property
    def settings(self) -> TurnSettings:
        """The rules in force."""
        return self._settings

    @settings.setter
    def settings(self, settings: TurnSettings) -> None:
        self._settings = settings
        self._speech.settings = settings.speech(self._over_reply)

    @property
    def over_reply(self) -> bool:
        """True while a reply is audible: speech must then be longer to count."""
        return self._over_reply

    @over_reply.setter
    def over_reply(self, audible: bool) -> None:
        if audible != self._over_reply:
            self._over_reply = audible
            self._speech.settings = self._settings.speech(audible)

    @property
    def speaking(self) -> bool:
        """What the speech detector thinks."""
        return self._speech.speaking

    def render(self, samples: Int16, media_time: float) -> None:
        """Note what we send, at 16 kHz, on the timeline of the microphone."""
        if self._canceller is not None:
            self._canceller.render(samples, media_time)

    def capture(self, samples: Int16, media_time: float, audio_level: int | None = None) -> Hearing:
        """Take the microphone; `audio_level` is the client's own word for it (RFC 6464), if it gave one."""
        if self._canceller is not None:
            samples, media_time = self._canceller.capture(samples, media_time)
        frames = list(self._look.push(samples, DETECTOR_RATE, media_time, audio_level))
        if self._canceller is not None:
            frames = [self._canceller.judge(frame) for frame in frames]
        events = [event for frame in frames for event in self._speech.push(frame)]
        return Hearing(samples, media_time, events, frames)

    def advance(self, media_time: float) -> Sequence[SpeechEvent]:
        """The client sent nothing up to `media_time` (discontinuous transmission): that is silence."""
        return self._speech.advance(media_time)

    def miss(self, seconds: float) -> Sequence[SpeechEvent]:
        """Nothing at all has come for so long, and nothing says whether it will: that is silence, too."""
        return self._speech.miss(seconds)

    def reset(self) -> Sequence[SpeechEvent]:
        """Another source: forget what is heard; what was running ends."""
        self._look.reset()
        return self._speech.reset()


class _Sent(NamedTuple):
    sequence: int
    position: int
    samples: int
    at: Instant
    timestamp: int | None
    """Of RTP; None for silence that was not sent."""


@dataclass(frozen=True, slots=True)
class Heard:
    """How far into the reply the listener is."""

    samples: int
    """Of the reply, at the rate at which it was recorded."""
    sent: int
    """How many had left."""
    acknowledged: int
    """How many are known by RTCP to have arrived at the client's network card."""
    milliseconds: float


class PlayoutRecord:
    """What left when, of the latest reply and the one before; bounded by `MAX_RECORD` packets each.

    A packet that left at t is heard from t + way + playout delay on. A client that falls silent at our word does
    so when the word arrives, at now + way: the way cancels out, and what had left by now - playout delay was
    heard. A path that is stalled shows in the receiver reports: what they lack behind what one round trip allows
    has not arrived.
    """

    _JITTER = 0.05  # seconds by which a report may lag without meaning a stall
    _REPORT_VALID = 2.0

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._sent: deque[_Sent] = deque(maxlen=MAX_RECORD)
        self._former: deque[_Sent] = deque(maxlen=MAX_RECORD)
        self._acknowledged: int | None = None
        self._stall = 0.0
        self._reported: Instant = 0.0

    def begin_reply(self) -> None:
        """A new reply: its positions count from zero."""
        self._former, self._sent = self._sent, self._former
        self._sent.clear()

    def sent(self, sequence: int, position: int, samples: int, now: Instant, timestamp: int | None = None) -> None:
        """A packet with `samples` of the reply from `position` on left; `sequence` does not wrap."""
        self._sent.append(_Sent(sequence, position, samples, now, timestamp))

    @property
    def last_timestamp(self) -> int | None:
        """RTP timestamp of the last packet of the reply that left; None if there was none."""
        stamps = (packet.timestamp for packet in reversed(self._sent))
        return next((stamp for stamp in stamps if stamp is not None), None)

    def played(self, timestamp: int, age: float, *, former: bool = False) -> int | None:
        """Return how many samples had sounded `age` seconds after the packet with this RTP timestamp began to.

        Of the reply before the latest one if `former`; None if no such packet of it left.
        """
        packets = iter(self._former if former else self._sent)
        packet = next((each for each in packets if each.timestamp == timestamp), None)
        if packet is None:
            return None
        left = round(min(age, MAX_AGE) * self._rate)
        while left > packet.samples and (following := next(packets, None)) is not None:
            left -= packet.samples
            packet = following
        return packet.position + min(left, packet.samples)

    def acknowledged(self, extended_highest: int, now: Instant, round_trip: float) -> None:
        """A receiver report arrived: its extended highest sequence number, in the terms of `sent`."""
        self._acknowledged, self._reported = extended_highest, now
        due = self._left_by(now - round_trip)
        last = self._up_to(extended_highest)
        if due is None:
            self._stall = 0.0
            return
        lack = due.at - (last.at if last is not None else self._sent[0].at)
        self._stall = lack if lack > self._JITTER else 0.0

    def heard(self, now: Instant, playout_delay: float, silenced: bool = True) -> Heard:
        """Return how far the listener comes before it is silent.

        `playout_delay` is the seconds that the client keeps sound (jitter buffer and output device); `silenced`
        says that it is told now to fall silent; otherwise it plays all that left and arrives.
        """
        if not self._sent:
            return Heard(0, 0, 0, 0.0)
        newest = self._sent[-1]
        end = newest.at + newest.samples / self._rate
        stall = self._stall if now - self._reported <= self._REPORT_VALID else 0.0
        samples = self._position(min(now - playout_delay, end) - stall if silenced else end - stall)
        return Heard(samples, newest.position + newest.samples, self._arrived(), 1000.0 * samples / self._rate)

    def _position(self, at: Instant) -> int:
        """Return how much of what left had sounded at `at`, if it sounded when it left."""
        packet = self._left_by(at)
        if packet is None:
            return self._sent[0].position
        played = max(0, round((at - packet.at) * self._rate))
        return packet.position + min(played, packet.samples)

    def _left_by(self, at: Instant) -> _Sent | None:
        return next((packet for packet in reversed(self._sent) if packet.at <= at), None)

    def _up_to(self, sequence: int) -> _Sent | None:
        return next((packet for packet in reversed(self._sent) if packet.sequence <= sequence), None)

    def _arrived(self) -> int:
        last = None if self._acknowledged is None else self._up_to(self._acknowledged)
        return 0 if last is None else last.position + last.samples
