"""The speech front end: from microphone samples to the beginning and end of speech.

Microphone → echo canceller → audio-level gate → voice detector → echo gate → `SpeechDetector`, with stricter rules
while a reply is audible. Its events go into the turn manager.

Canceller and detector hold hundreds of kilobytes, so they are made when there is something to hear: a call that is
only echoed, recorded or played to never needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from stack.voice.audio_level import AudioLevelGate
from stack.voice.echo import EchoCanceller
from stack.voice.turns import TurnSettings
from stack.voice.vad import (
    DETECTOR_RATE,
    EarshotDetector,
    Int16,
    SpeechDetector,
    SpeechEvent,
    VoiceDetector,
    VoiceFrame,
)


class Hearing(NamedTuple):
    """What one piece of microphone sound came to."""

    samples: Int16
    """Without our own voice."""
    media_time: float
    """Seconds, of the first of them."""
    events: Sequence[SpeechEvent]
    frames: Sequence[VoiceFrame]


class SpeechFrontEnd:
    """The whole way from 16 kHz microphone samples to speech events; a Transform."""

    def __init__(
        self,
        settings: TurnSettings,
        make_detector: Callable[[], VoiceDetector] = EarshotDetector,
        make_canceller: Callable[[], EchoCanceller | None] = lambda: None,
    ) -> None:
        self._make_detector = make_detector
        self._make_canceller = make_canceller
        self._gate: AudioLevelGate | None = None
        """None: nothing was heard yet, and there is no canceller either."""
        self._canceller: EchoCanceller | None = None
        self._settings = settings
        self._over_reply = False
        self._speech = SpeechDetector(settings.speech())

    def _open(self) -> AudioLevelGate:
        """Make the parts, at the first sound that is heard or the first reference."""
        self._gate = AudioLevelGate(self._make_detector())
        self._gate.hurry(self._over_reply)
        self._canceller = self._make_canceller()
        return self._gate

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
            if self._gate is not None:
                self._gate.hurry(audible)
            self._speech.settings = self._settings.speech(audible)

    @property
    def speaking(self) -> bool:
        """What the speech detector thinks."""
        return self._speech.speaking

    def render(self, samples: Int16, media_time: float) -> None:
        """Note what we send, at 16 kHz, on the timeline of the microphone."""
        if self._gate is None:
            self._open()
        if self._canceller is not None:
            self._canceller.render(samples, media_time)

    def capture(self, samples: Int16, media_time: float, audio_level: int | None = None) -> Hearing:
        """Take the microphone; `audio_level` is the client's own word for it (RFC 6464), if it gave one."""
        gate = self._gate or self._open()
        if self._canceller is not None:
            samples, media_time = self._canceller.capture(samples, media_time)
        frames = list(gate.push(samples, DETECTOR_RATE, media_time, audio_level))
        if self._canceller is not None:
            judged = [self._canceller.judge(frame) for frame in frames]
            if judged != frames:
                gate.disown()
            frames = judged
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
        if self._gate is not None:
            self._gate.reset()
        return self._speech.reset()
