"""Calls to learn double talk from: a program plays in a room, a person may speak over it, and who does is known.

Everything is drawn from a seed: the room (computed, small ones and halls, whose low sound fades more slowly than
the high), how microphone and loudspeaker colour it, what is wrong with the loudspeaker, clock drift, a path that
changes, Opus, noise, a device that cancels by itself and lets bursts through, one in eight that hears as little as
a telephone; what the program plays (synthetic and recorded speech, music, piano) and how loud a person is.

Of the tables of `bench bargein` the rooms are others, and neither the recorded sentences that are soft there nor
the synthetic voices of its people are heard here. The program's sentences and voices, the commands and the
recorded sentences at the usual level are the same, and one person reads all the recorded sentences. The
loudspeakers are of the same kinds, music and piano of other seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from bench._loudspeakers import Place, Played, VoiceCoil, clipping, faithful, harmonics, minimum_phase, saturating
from bench._noises import music, piano, pink
from bench._talking import TICK, Codec, Interrupter, Room, TelephoneBand, phrases, silence
from bench._voices import FRAME, LEVEL, RATE, SENTENCES, VOICES, commands, pcm, people, spoken
from stack.voice import KalmanEchoCanceller
from stack.voice.double_talk import DoubleTalkDetector
from stack.voice.echo_gate import BANDS, EchoGate

READERS = (0, 2, 3)
SPEAKERS = (
    ("en", 160, 45),
    ("en+f1", 165, 55),
    ("en-us+m1", 170, 50),
    ("en+f5", 175, 65),
    ("en-us+m7", 155, 40),
    ("en+f3", 185, 75),
    ("en+m4", 150, 35),
    ("en-us+croak", 160, 40),
)
PROGRAMS = (
    *SENTENCES,
    "Good morning. I can help you to book a table, or to change what you have booked.",
    "Please hold the line while I look that up. It will only take a moment; thank you for waiting.",
    "There are seventeen people before you. You may also leave a message after the tone, and we call you back.",
    "The parcel was sent yesterday from Hamburg, and should be with you by Wednesday afternoon at the latest.",
    "Turn left at the next crossing, keep right after the bridge, then go straight on for two and a half miles.",
    "Your balance is four hundred and sixty three pounds. Is there anything else that I can do for you today?",
)
SAID = (
    "Stop.",
    "No, wait, that is not what I meant.",
    "Can you repeat the last one, please?",
    "Sorry, I have to go now.",
    "Hang on a second. Let me find my glasses.",
    "Yes, the second one, for two people, at eight.",
    "Five, four, nine, no, sorry, five, four, eight.",
    "Actually, I would rather have the other thing.",
    "How much is it?",
    "Hello? Is anybody there? I have a question about my bill.",
)
LEVELS_DB = (-15.0, -12.0, -12.0, -9.0, -6.0, 0.0, 0.0)
LONGEST = 1.3
"""Seconds of a room's response."""
QUIET = 15
"""Packets of 20 ms without a person, after which there is none."""
_VOICE = 0.04  # of the active power: what is softer is no certain voice
_AUDIBLE = 0.4  # of what is left of the echo: a voice below that cannot be told from it


class Labelled(NamedTuple):
    """What a detector was shown in a call, shape (n, inputs), and who spoke: 1 the person, 0 the program alone."""

    inputs: np.ndarray
    near_end: np.ndarray


class _Noting(DoubleTalkDetector):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__(BANDS)
        self.shown: list[np.ndarray] = []

    def _answer(self) -> float:
        answer = super()._answer()
        self.shown.append(self.input.copy())
        return answer


class _Noted(KalmanEchoCanceller):
    def __init__(self) -> None:
        super().__init__()
        self.detector = _Noting()
        self._gate = EchoGate(double_talk=self.detector)


def _smooth(gains_db: np.ndarray, highpass: float) -> np.ndarray:
    """Return a filter of minimum phase, 128 taps, of gains at equal distances up to 8 kHz, above a high-pass."""
    frequency = np.linspace(0.0, RATE / 2, 129)
    gain = 10 ** (np.interp(frequency, np.linspace(0.0, RATE / 2, len(gains_db)), gains_db) / 20)
    gain *= (frequency / highpass) ** 2 / (1.0 + (frequency / highpass) ** 2)
    return minimum_phase(gain)


@dataclass(frozen=True)
class Coloured:
    """A computed room whose low sound fades more slowly, heard by a microphone that is not flat."""

    place: Place
    colour: np.ndarray
    split: tuple[float, float, float]
    """Hertz, and by what the time of reverberation is multiplied above and below."""

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Coloured:
        """Return a room, or in 28 of a hundred draws a hall."""
        hall = rng.random() < 0.28
        least, most = ((8, 6, 3), (35, 20, 9)) if hall else ((2.5, 2.2, 2.3), (8, 6.5, 3.2))
        size = rng.uniform(least, most)
        microphone = size * rng.uniform(0.15, 0.85, 3)
        if hall:
            distance = np.exp(rng.uniform(np.log(0.3), np.log(12.0)))
        else:
            distance = rng.uniform(0.1, 0.5) if rng.random() < 0.5 else rng.uniform(0.5, 3.5)
        direction = rng.standard_normal(3)
        loudspeaker = microphone + distance * direction / np.linalg.norm(direction)
        loudspeaker = np.clip(loudspeaker, 0.1, size - 0.1)
        times = (0.7, 3.0) if hall else (0.2, 1.1)
        reverberation = float(np.exp(rng.uniform(*np.log(times))))
        x, y, z = (tuple(float(each) for each in point) for point in (size, loudspeaker, microphone))
        place = Place((x[0], x[1], x[2]), (y[0], y[1], y[2]), (z[0], z[1], z[2]), reverberation)
        colour = _smooth(rng.uniform(-7.0, 5.0, 9), float(rng.uniform(60.0, 300.0)))
        split = float(rng.uniform(250, 2000)), float(rng.uniform(0.35, 1.0)), float(rng.uniform(1.0, 2.0))
        return cls(place, colour, split)

    def response(self, rng: np.random.Generator, gain_db: float) -> np.ndarray:
        """Return the way from loudspeaker to microphone, of the power gain `gain_db`."""
        response = self.place.response(rng, 0.0)
        hertz, above, below = self.split
        taps = np.arange(-100, 101)
        lowpass = np.sinc(2 * hertz / RATE * taps) * np.hanning(len(taps))
        low = np.convolve(response, lowpass / lowpass.sum(), "same")
        since = np.maximum(0, np.arange(len(response)) - np.argmax(np.abs(response))) / RATE
        time = self.place.reverberation
        fading = [10 ** (-3 * since / time * (1.0 / factor - 1.0)) for factor in (below, above)]
        out = np.convolve(low * fading[0] + (response - low) * fading[1], self.colour)[: round(LONGEST * RATE)]
        out[-800:] *= np.cos(np.linspace(0.0, np.pi / 2, len(out[-800:]))) ** 2
        return (out * 10 ** (gain_db / 20) / np.sqrt(np.sum(out**2))).astype(np.float32)


def loudspeaker(rng: np.random.Generator) -> Callable[[], Played]:
    """Return what makes a loudspeaker of a kind that is known, as good or bad as it is drawn."""
    kind = int(rng.integers(7))
    if kind == 0:
        return partial(partial, clipping, limit=rng.uniform(2500.0, 8000.0))
    if kind == 1:
        return partial(partial, saturating, limit=rng.uniform(3000.0, 9000.0))
    if kind == 2:
        second, third, scale = rng.uniform(0.02, 0.2), rng.uniform(0.05, 0.4), rng.uniform(6000.0, 12_000.0)
        return partial(partial, harmonics, second=second, third=third, scale=scale)
    if kind in (3, 4):
        coil = rng.uniform(120.0, 400.0), rng.uniform(10.0, 35.0), rng.uniform(2800.0, 8000.0)
        return partial(VoiceCoil, *coil, steep=bool(rng.integers(2)))
    return lambda: faithful


@cache
def _readers() -> list[np.ndarray]:
    sentences = people()
    return [sentences[reader] for reader in READERS]


_speak = cache(spoken)


def _joined(rng: np.random.Generator, sentences: Sequence[np.ndarray]) -> np.ndarray:
    """Return sentences with short pauses behind them."""
    pauses = (np.zeros(int(rng.uniform(0.1, 0.8) * RATE), np.float32) for _ in sentences)
    return np.concatenate([part for pair in zip(sentences, pauses, strict=True) for part in pair])


def program(rng: np.random.Generator, kinds: int = 12) -> np.ndarray:
    """Return a minute of what a program plays: four of the `kinds` are music and piano, the others speech."""
    kind = int(rng.integers(kinds))
    if kind < 2:
        return music(rng, 60.0)
    if kind < 4:
        return piano(rng, 60.0)
    if kind < 6:
        readers = _readers()
        return _joined(rng, [readers[index] for index in rng.permutation(len(readers))])
    voices = [SPEAKERS[index] for index in rng.permutation(len(SPEAKERS))[:3]] + [VOICES[rng.integers(3)]]
    texts = [PROGRAMS[index] for index in rng.permutation(len(PROGRAMS))[:9]]
    return _joined(rng, [_speak(text, *voices[rng.integers(len(voices))]) for text in texts])


@cache
def said() -> list[np.ndarray]:
    """Return what people say over a program."""
    count = len(SPEAKERS)
    synthetic = [_speak(text, *SPEAKERS[(at + by) % count]) for at, text in enumerate(SAID) for by in (0, 3)]
    return phrases([*_readers(), *commands(), *synthetic])


class _Microphone:
    """A room with what else changes the sound on its way: noise, and a device that cancels by itself."""

    def __init__(self, rng: np.random.Generator, changes: tuple[float, float]) -> None:
        more: dict[str, Any] = {"gain_db": float(rng.uniform(-16.0, 2.0)), "delay": float(rng.uniform(0.06, 0.3))}
        if rng.random() < 0.15:
            more["drift"] = float(rng.uniform(-150e-6, 150e-6))
        if rng.random() < 0.25:
            more["changes_every"] = float(rng.uniform(*changes))
            more["changes_over"] = float(rng.choice([0.0, 0.3, 1.0]))
        self.opus = bool(rng.random() < 0.25)
        self._room = Room(rng, place=Coloured.drawn(rng), loudspeaker=loudspeaker(rng), **more)
        self._bursts: np.ndarray | None = None
        if rng.random() < 0.12:
            levels = np.minimum(0.0, rng.normal(-18.0, 14.0, 1000))
            self._bursts = np.repeat(10 ** (levels / 20), rng.integers(3, 40, len(levels)))
        self._noise = np.zeros(0)
        if rng.random() < 0.5:
            loud = float(np.exp(rng.uniform(np.log(4.0), np.log(60.0))))
            coloured = rng.random() < 0.5
            self._noise = pink(rng, 30.0) * (loud / LEVEL) if coloured else rng.standard_normal(30 * RATE) * loud
        self._tick = 0

    def hear(self, played: np.ndarray) -> np.ndarray:
        """Take 20 ms that are played; return what is heard then, without the person."""
        heard = self._room.hear(played)
        if self._bursts is not None:
            heard = heard * self._bursts[self._tick % len(self._bursts)]
        if len(self._noise):
            at = self._tick * FRAME % (len(self._noise) - FRAME)
            heard = heard + self._noise[at : at + FRAME]
        self._tick += 1
        return np.asarray(heard)


class _Course(NamedTuple):
    """How a call goes; all in seconds."""

    seconds: float
    changes: tuple[float, float] = (8.0, 25.0)
    """Between changes of the path, where it changes."""
    pauses: tuple[float, float] = (2.0, 6.0)
    """Before a person speaks again."""


def call(seed: int) -> Labelled:
    """Return what a detector is shown in a call of a minute, or of 20 s, in which what it learnt is young."""
    rng = np.random.default_rng(seed)
    return _run(rng, seed, program(rng), _Course(20.0 if seed % 3 == 0 else 60.0))


def beginning(seed: int) -> Labelled:
    """Return what it is shown in the first 12 s of a call: more music, less speech, a path that soon changes."""
    rng = np.random.default_rng(seed)
    track = np.roll(program(rng, 8), -int(rng.integers(60)) * RATE)
    return _run(rng, seed, track, _Course(12.0, (3.0, 9.0), (0.5, 4.0)))


def _run(rng: np.random.Generator, seed: int, track: np.ndarray, course: _Course) -> Labelled:
    track = track * float(10 ** (rng.uniform(-6.0, 3.0) / 20))
    microphone = _Microphone(rng, course.changes)
    down, up = (Codec(), Codec()) if microphone.opus else (None, None)
    level = 10 ** (float(rng.choice(LEVELS_DB)) / 20)
    person = Interrupter(rng, [sound * level for sound in said()], course.pauses) if seed % 5 >= 2 else silence
    narrow = [TelephoneBand(high=seed % 16 == 7) for _ in range(2)] if seed % 8 == 7 else None
    canceller = _Noted()
    shown, powers = list[int](), list[tuple[float, float]]()
    for tick in range(round(course.seconds / TICK)):
        at = tick * FRAME % (len(track) - FRAME)
        played = track[at : at + FRAME] if down is None else down(track[at : at + FRAME]).astype(np.float32)
        near, ours = person(tick, True), microphone.hear(played)
        if narrow is not None:
            near, ours = narrow[0](near), narrow[1](ours)
        heard = ours + near
        canceller.render(pcm(played), tick * TICK)
        left, _ = canceller.capture(pcm(heard) if up is None else up(heard), tick * TICK)
        powers.append((float(np.square(near).mean()), float(np.square(left - near).mean())))
        shown += [tick] * (len(canceller.detector.shown) - len(shown))
    inputs = np.array(canceller.detector.shown, np.float16).reshape(len(shown), 2 * canceller.detector.measured)
    return Labelled(inputs, _who(np.array(powers))[shown])


def _who(powers: np.ndarray) -> np.ndarray:
    """Return of each packet who speaks: 1 the person, 0 the program, -1 what is neither clearly.

    `powers`: of the person and of what is left of the echo, shape (n, 2).
    """
    near, left = powers[:, 0], powers[:, 1]
    who = np.full(len(powers), -1, np.int8)
    quiet = np.convolve(near <= 0.5, np.ones(QUIET), "full")[: len(near)] >= QUIET
    who[quiet] = 0
    if near.max() > 0.5:
        active = near[near > near.max() / 316].mean()
        who[(near > _VOICE * active) & (near > _AUDIBLE * left)] = 1
    return who
