"""Conversations in virtual time for `bench bargein`: an agent, a room, a person, and what decides who speaks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bench._loudspeakers import LOUDSPEAKERS, Played
from bench._loudspeakers import Room as Place
from bench._voices import FRAME, RATE, first_sound, impulse_response, pcm, people, sounding
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
    loudspeaker: str | Callable[[], Played] = "faithful"
    """A name of `LOUDSPEAKERS`, or what makes one."""
    telephone: bool = False
    """The microphone is a Bluetooth headset's: it hears 300 to 3,400 Hz."""
    _sent: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    _tick: int = 0

    def __post_init__(self) -> None:
        self._tail = RATE
        self._sent = np.zeros(2 * RATE, np.float32)
        self._lag = Lag()
        self._lag.move(self.delay * RATE, 0)
        self._lag.drift = self.drift
        self._response = self._make_response()
        make = LOUDSPEAKERS[self.loudspeaker] if isinstance(self.loudspeaker, str) else self.loudspeaker
        self._play = make()
        self._from = self._to = self._response
        self._moved = 1.0
        still = self.changes_every is None and self.drift == 0.0
        self._still = Convolver(self._response) if still else None

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

        def read(start: int, count: int) -> np.ndarray:
            begin = start - first
            return self._sent[max(0, begin) : begin + count]

        if self._still is not None:
            echo = self._still(self._lag.delayed(read, at, FRAME))
        else:
            taps = len(self._response)
            echo = _through(self._response, self._lag.delayed(read, at - taps + 1, FRAME + taps - 1))
        # The lag of a drifting clock grows without end; the jitter buffer of a client takes a step now and then.
        if self._lag.at(at) > 0.4 * RATE or self._lag.at(at) < 0.05 * RATE:
            self._lag.move(self.delay * RATE, at)
        return echo + self.rng.standard_normal(FRAME) * 6.0


def _through(response: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return the last `FRAME` samples of the source behind a response; a long one by FFT, which is quicker."""
    if len(response) < _LONG:
        return np.convolve(source, response, "valid")
    size = 1 << (len(source) - 1).bit_length()
    both = np.fft.rfft(source, size) * np.fft.rfft(response, size)
    return np.asarray(np.fft.irfft(both, size)[len(response) - 1 : len(source)])


class Convolver:
    """A response that stays as it is, frame by frame: partitioned overlap-save, quicker than `_through`."""

    def __init__(self, response: np.ndarray) -> None:
        parts = -(-len(response) // FRAME)
        padded = np.zeros(parts * FRAME)
        padded[: len(response)] = response
        self._response = np.fft.rfft(padded.reshape(parts, FRAME), 2 * FRAME)
        self._sent = np.zeros((2 * parts, FRAME + 1), np.complex128)
        """Spectra of what was sent, newest first from `_at` on, each of them twice."""
        self._at = 0
        self._window = np.zeros(2 * FRAME)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Take `FRAME` samples; return what is heard of all that was sent, during them."""
        parts = len(self._response)
        self._window[:FRAME] = self._window[FRAME:]
        self._window[FRAME:] = frame
        self._at = (self._at or parts) - 1
        self._sent[self._at] = self._sent[self._at + parts] = np.fft.rfft(self._window)
        heard = (self._sent[self._at : self._at + parts] * self._response).sum(axis=0)
        return np.asarray(np.fft.irfft(heard)[FRAME:])


class TelephoneBand:
    """What a telephone or a Bluetooth headset hears: up to 3.4 kHz, with a high-pass (`high`) from 300 Hz on."""

    TAPS = 200

    def __init__(self, high: bool) -> None:
        at = np.arange(self.TAPS + 1) - self.TAPS / 2
        window = np.hanning(len(at))
        low, cut = (2 * hertz / RATE * np.sinc(2 * hertz / RATE * at) * window for hertz in (3400.0, 300.0))
        self._kernel = low - cut if high else low
        self._before = np.zeros(self.TAPS)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Take a frame; return it 6 ms late."""
        both = np.concatenate([self._before, samples])
        self._before = both[len(both) - self.TAPS :]
        return np.convolve(both, self._kernel, "valid")


class Codec:
    """Opus there or back, at 16 kHz, 24 kb/s."""

    def __init__(self) -> None:
        self._encoder, self._decoder = OpusEncoder(RATE, bitrate=24_000), OpusDecoder(RATE)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        return np.asarray(self._decoder.decode(self._encoder.encode(pcm(frame)))).reshape(-1)


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
    narrow = TelephoneBand(high=True) if room.telephone else None
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
        heard = heard if narrow is None else narrow(heard)
        microphone = up(heard) if up else pcm(heard)
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
        self.frame = np.zeros(FRAME)
        """What was said last."""
        self.onsets: list[float] = []
        """When the packet with the first sound of each phrase arrives."""
        self.begun: list[float] = []
        """When the packet with the first sample of each phrase arrives: a breath, the closing of lips."""

    def _pick(self) -> float:
        return float(self._rng.uniform(*self._gap))

    def __call__(self, tick: int, speaking: bool) -> np.ndarray:
        self.frame = np.asarray(self._say(tick, speaking))
        return self.frame

    def _say(self, tick: int, speaking: bool) -> np.ndarray:
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


class Listened(KalmanEchoCanceller):
    """Ours, and what it left of the last packet: what the detector hears."""

    left: np.ndarray = np.zeros(FRAME, np.int16)

    def capture(self, samples: np.ndarray, media_time: float) -> tuple[np.ndarray, float]:
        """As `EchoCanceller.capture`."""
        self.left, begin = super().capture(samples, media_time)
        return self.left, begin


class BargeIns(NamedTuple):
    """What became of people who spoke over a reply."""

    waited: list[float]
    """How long each waited, in ms; infinity for those for whom the agent did not stop."""
    stray: int
    """How often the agent stopped without a person."""
    above_db: list[float]
    """How loud each is, in the median of 20 ms, above what is left of the echo beside it, until the stop.

    0 where the microphone changes the voice as well.
    """


def barge_ins(room: Room, sounds: list[np.ndarray], count: int, track: np.ndarray, **parts: Any) -> BargeIns:
    """Let `count` people speak over a reply in a room.

    Who is noticed by what comes before the first sound has not waited.
    """
    person, listened = Interrupter(room.rng, sounds, (4.0, 7.0)), Listened()
    waited: dict[int, float] = {}
    levels: dict[int, list[tuple[float, float]]] = {}
    seen = stray = 0
    parts = {"make_canceller": lambda: listened} | parts
    for _, outcome in converse(track, person, room, int(count * 60 / TICK), **parts):
        number = len(person.onsets)
        for stop in outcome.holds[seen:]:
            after = stop - person.onsets[-1] if person.onsets else 0.0
            if person.onsets and stop > person.begun[-1] and after < IN_TIME:
                waited.setdefault(number, 1000.0 * max(0.0, after))
            else:
                stray += 1
        seen = len(outcome.holds)
        if number > count:
            break
        comparable = len(listened.left) == len(person.frame) and not room.telephone
        if number not in waited and comparable:
            powers = np.square(person.frame).mean(), np.square(listened.left - person.frame).mean()
            levels.setdefault(number, []).append((float(powers[0]), float(powers[1])))
    numbers = range(1, min(count, len(person.onsets)) + 1)
    above = [_above_db(np.array(levels.get(number, [(0.0, 0.0)]))) for number in numbers]
    return BargeIns([waited.get(number, np.inf) for number in numbers], stray, above)


def _above_db(powers: np.ndarray) -> float:
    """Return the median of the first power above the second, where the first is within 10 dB of its mean."""
    loud = powers[powers[:, 0] >= 0.1 * powers[:, 0].mean()]
    return float(np.median(10.0 * np.log10((loud[:, 0] + 1.0) / (loud[:, 1] + 1.0))))


def silence(tick: int, speaking: bool) -> np.ndarray:
    return np.zeros(FRAME, np.float32)


def last(conversation: Iterator[tuple[int, Outcome]]) -> Outcome:
    return deque(conversation, maxlen=1)[0][1]
