"""Conversations in virtual time for `bench bargein`: an agent, a room, a person, and what decides who speaks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench._loudspeakers import LOUDSPEAKERS
from bench._loudspeakers import Room as Place
from bench._voices import FRAME, RATE, first_sound, impulse_response, people, sounding
from stack.audio import OpusDecoder, OpusEncoder
from stack.voice import (
    EarshotDetector,
    EchoCanceller,
    KalmanEchoCanceller,
    SpeechFrontEnd,
    SpeechStarted,
    TurnSettings,
    TurnTaking,
    VoiceDetector,
)
from stack.voice.echo_filter import Lag
from stack.voice.turns import TurnAction, TurnState

TICK = FRAME / RATE
ECHO_DB = -6.0
DEFAULTS = TurnSettings()
IN_TIME = 2.0
"""Seconds after a person's first sound within which a stop is his."""
_LONG = 4096


@dataclass
class Room:
    """From loudspeaker to microphone: a delay, an impulse response that may change, a clock that may drift."""

    rng: np.random.Generator
    gain_db: float | None = ECHO_DB
    drift: float = 0.0
    changes_every: float | None = None
    """Seconds from one place in another room to the next; `changes_over` is how long it takes to get there."""
    changes_over: float = 0.3
    drive: float | None = None
    opus: bool = False
    delay: float = 0.18
    place: Place | None = None
    """A computed or measured room; None: noise that fades in 0.3 s."""
    loudspeaker: str = "faithful"
    _sent: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    _tick: int = 0

    def __post_init__(self) -> None:
        self._tail = RATE
        self._sent = np.zeros(2 * RATE, np.float32)
        self._lag = Lag()
        self._lag.move(self.delay * RATE, 0)
        self._lag.drift = self.drift
        self._response = self._make_response()
        self._play = LOUDSPEAKERS[self.loudspeaker]()
        self._from = self._to = self._response
        self._moved = 1.0

    def _make_response(self) -> np.ndarray:
        make = impulse_response if self.place is None else self.place.response
        return make(self.rng, self.gain_db or 0.0)

    def hear(self, sent: np.ndarray) -> np.ndarray:
        """Take a frame that is played; return what of our voice the microphone hears in the same 20 ms."""
        if self.gain_db is None:
            return self.rng.standard_normal(FRAME) * 6.0
        played = self._play(sent) if self.drive is None else np.tanh(sent / self.drive) * self.drive
        self._sent = np.concatenate([self._sent[FRAME:], played])
        at, self._tick = self._tick * FRAME, self._tick + 1
        if self.changes_every and at % int(self.changes_every * RATE) < FRAME:
            self._from, self._to = self._response, self._make_response()
            self._moved = 0.0
        if self._moved < 1.0:
            self._moved = min(1.0, self._moved + TICK / max(TICK, self.changes_over))
            self._response = (1.0 - self._moved) * self._from + self._moved * self._to
        first = at + FRAME - len(self._sent)
        taps = len(self._response)

        def read(start: int, count: int) -> np.ndarray:
            begin = start - first
            return self._sent[max(0, begin) : begin + count]

        source = self._lag.delayed(read, at - taps + 1, FRAME + taps - 1)
        # The lag of a drifting clock grows without end; the jitter buffer of a client takes a step now and then.
        if self._lag.at(at) > 0.4 * RATE or self._lag.at(at) < 0.05 * RATE:
            self._lag.move(self.delay * RATE, at)
        return _through(self._response, source) + self.rng.standard_normal(FRAME) * 6.0


def _through(response: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return the last `FRAME` samples of the source behind a response; a long one by FFT, which is quicker."""
    if len(response) < _LONG:
        return np.convolve(source, response, "valid")
    size = 1 << (len(source) - 1).bit_length()
    both = np.fft.rfft(source, size) * np.fft.rfft(response, size)
    return np.asarray(np.fft.irfft(both, size)[len(response) - 1 : len(source)])


class Codec:
    """Opus there or back, at 16 kHz, 24 kb/s."""

    def __init__(self) -> None:
        self._encoder, self._decoder = OpusEncoder(RATE, bitrate=24_000), OpusDecoder(RATE)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        pcm = np.clip(np.rint(frame), -32768, 32767).astype(np.int16)
        return np.asarray(self._decoder.decode(self._encoder.encode(pcm))).reshape(-1)


@dataclass
class Outcome:
    """What happened to the agent's speech."""

    holds: list[float] = field(default_factory=list)
    drops: int = 0
    resumes: int = 0
    seconds: float = 0.0
    """Of agent's speech that left."""


def converse(
    track: np.ndarray,
    near: Callable[[int, bool], np.ndarray],
    room: Room,
    ticks: int,
    settings: TurnSettings = DEFAULTS,
    make_detector: Callable[[], VoiceDetector] = EarshotDetector,
    make_canceller: Callable[[], EchoCanceller | None] = KalmanEchoCanceller,
) -> Iterator[tuple[int, Outcome]]:
    """Run a conversation tick by tick; `near(tick, agent_speaking)` is what the person does."""
    front_end = SpeechFrontEnd(settings, make_detector, make_canceller)
    turns, outcome = TurnTaking(settings), Outcome()
    down, up = (Codec(), Codec()) if room.opus else (None, None)
    position, reply_at = 0, 0.0
    silence = np.zeros(FRAME, np.float32)
    for tick in range(ticks):
        now = tick * TICK
        turns.handle_timeout(now)
        if turns.state in (TurnState.LISTENING, TurnState.THINKING) and now >= reply_at:
            turns.reply_started(now)
        speaking = turns.state is TurnState.AGENT_SPEAKING
        sent = silence
        if speaking:
            position = (position + FRAME) % (len(track) - FRAME)
            sent = track[position : position + FRAME]
            outcome.seconds += TICK
        played = down(sent).astype(np.float32) if down else sent
        heard = room.hear(played) + near(tick, speaking)
        microphone = up(heard) if up else np.clip(np.rint(heard), -32768, 32767).astype(np.int16)
        front_end.over_reply = speaking
        front_end.render(np.rint(played).astype(np.int16), now)
        arrived = now + TICK
        for event in front_end.capture(microphone, now).events:
            if isinstance(event, SpeechStarted):
                turns.speech_started(arrived, event.decided - event.onset)
            else:
                turns.speech_stopped(arrived, event.duration, event.silence)
        for done in turns.drain_events():
            if done.action is TurnAction.HOLD_PLAYOUT and speaking:
                outcome.holds.append(arrived)
            elif done.action is TurnAction.DROP_REPLY:
                outcome.drops += 1
            elif done.action is TurnAction.RESUME_PLAYOUT:
                outcome.resumes += 1
            elif done.action is TurnAction.CREATE_REPLY:
                reply_at = arrived + 0.3
        yield tick, outcome


def phrases(sentences: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
    """Return what people say after each pause, two seconds at most, from its first sound on."""
    found = []
    for sentence in people() if sentences is None else sentences:
        loud, quiet = sounding(sentence), 100
        for index in range(len(loud) - 60):
            if loud[index] and loud[index + 1] and quiet >= 10:
                found.append(sentence[max(0, index * 160 - 1600) :][: 2 * RATE])
            quiet = 0 if loud[index] else quiet + 1
    return found


class Interrupter:
    """Says a phrase some seconds into each reply, and waits for the next one."""

    def __init__(self, rng: np.random.Generator, sounds: list[np.ndarray], gap: tuple[float, float]) -> None:
        self._rng, self._sounds, self._gap = rng, sounds, gap
        self._wait = self._pick()
        self._playing: np.ndarray | None = None
        self._at = 0
        self.onsets: list[float] = []
        """When the packet with the first sound of each phrase arrives."""
        self.begun: list[float] = []
        """When the packet with the first sample of each phrase arrives: a breath, the closing of lips."""

    def _pick(self) -> float:
        return float(self._rng.uniform(*self._gap))

    def __call__(self, tick: int, speaking: bool) -> np.ndarray:
        if self._playing is None:
            self._wait -= TICK if speaking else 0.0
            if self._wait > 0:
                return np.zeros(FRAME, np.float32)
            sound = self._sounds[self._rng.integers(len(self._sounds))]
            # Not on the grid of the packets, at any loudness within 3 dB.
            lead = int(self._rng.integers(FRAME))
            sound = np.concatenate([np.zeros(lead), sound]) * 10 ** (self._rng.uniform(-3, 3) / 20)
            self._playing, self._at = np.pad(sound, (0, -len(sound) % FRAME)), 0
            onset = tick * FRAME + lead + first_sound(sound[lead:])
            self.begun.append((tick + 1) * TICK)
            self.onsets.append((onset // FRAME + 1) * TICK)
        frame = self._playing[self._at : self._at + FRAME]
        self._at += FRAME
        if self._at >= len(self._playing):
            self._playing, self._wait = None, self._pick()
        return frame


def barge_ins(
    room: Room, sounds: list[np.ndarray], count: int, track: np.ndarray, **parts: Any
) -> tuple[list[float], int]:
    """Return how long `count` people waited in a room, in ms, and how often the agent stopped without a person.

    Who is noticed by what comes before the first sound has not waited.
    """
    person = Interrupter(room.rng, sounds, (4.0, 7.0))
    waited: dict[int, float] = {}
    seen = stray = 0
    for _, outcome in converse(track, person, room, int(count * 60 / TICK), **parts):
        for stop in outcome.holds[seen:]:
            after = stop - person.onsets[-1] if person.onsets else 0.0
            if person.onsets and stop > person.begun[-1] and after < IN_TIME:
                waited.setdefault(len(person.onsets), 1000.0 * max(0.0, after))
            else:
                stray += 1
        seen = len(outcome.holds)
        if len(person.onsets) > count:
            break
    return [waited.get(number, np.inf) for number in range(1, min(count, len(person.onsets)) + 1)], stray


def silence(tick: int, speaking: bool) -> np.ndarray:
    return np.zeros(FRAME, np.float32)


def last(conversation: Iterator[tuple[int, Outcome]]) -> Outcome:
    return deque(conversation, maxlen=1)[0][1]
