"""What is no voice: music, piano, birds, tones, keys and noise, made from a seed; and babble of test voices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bench._voices import RATE, levelled, typing

Sound = np.ndarray
"""float32 at 16 kHz in int16 scale."""


def _time(seconds: float) -> Sound:
    return np.arange(round(seconds * RATE)) / RATE


def _add(out: Sound, at: float, sound: Sound) -> None:
    begin = round(at * RATE)
    out[begin : begin + len(sound)] += sound[: max(0, len(out) - begin)]


def white(rng: np.random.Generator, seconds: float) -> Sound:
    return levelled(rng.standard_normal(round(seconds * RATE)))


def pink(rng: np.random.Generator, seconds: float) -> Sound:
    spectrum = np.fft.rfft(rng.standard_normal(round(seconds * RATE)))
    return levelled(
        np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), round(seconds * RATE))
    )


def _note(rng: np.random.Generator, pitch: float, seconds: float, decay: float, harmonics: int) -> Sound:
    """Return a string that was struck or plucked: overtones a little sharp, the high ones sooner gone."""
    time = _time(seconds)
    out = np.zeros(len(time))
    for k in range(1, harmonics + 1):
        frequency = pitch * k * np.sqrt(1 + 3e-4 * k * k)
        if frequency < 7500:
            phase = rng.uniform(0, 2 * np.pi)
            out += np.sin(2 * np.pi * frequency * time + phase) * np.exp(-time * decay * (1 + 0.5 * k)) / k**1.2
    return out * np.minimum(1, time / 0.004)


def piano(rng: np.random.Generator, seconds: float) -> Sound:
    """Return one to three notes at a time, two to four times a second."""
    out, at = np.zeros(round(seconds * RATE)), 0.2
    while at < seconds:
        for _ in range(rng.integers(1, 4)):
            _add(out, at, _note(rng, 110 * 2 ** (rng.integers(0, 36) / 12), 1.8, 1.5, 8))
        at += rng.choice([0.25, 0.25, 0.5, 0.5, 1.0])
    return levelled(out)


def music(rng: np.random.Generator, seconds: float) -> Sound:
    """Return a band: drums, a bass, held chords, a plucked tune."""
    out, beat = np.zeros(round(seconds * RATE)), rng.uniform(0.4, 0.6)
    for bar, at in enumerate(np.arange(0.1, seconds, 4 * beat)):
        root = 55.0 * 2 ** ((0, 5, 7, 3)[bar % 4] / 12)
        for k in range(4):
            time = _time(0.25)
            drum = np.sin(2 * np.pi * (60 + 90 * np.exp(-time / 0.03)) * time) * np.exp(-time / 0.08)
            snare = rng.standard_normal(len(time)) * np.exp(-time / 0.05)
            _add(out, at + k * beat, 3.0 * drum if k % 2 == 0 else 0.7 * snare)
            _add(out, at + k * beat, 1.5 * _note(rng, root, beat, 2.0, 6))
        time = _time(4 * beat)
        for step in (0, 4, 7, 12):
            pitch = 4 * root * 2 ** (step / 12)
            vibrato = 2 * np.pi * pitch * time + 0.3 * np.sin(2 * np.pi * 5 * time)
            _add(out, at, 0.25 * sum(np.sin(k * vibrato) / k for k in range(1, 6)) * np.hanning(len(time)))
        for k in range(8):
            if rng.random() < 0.7:
                _add(
                    out,
                    at + k * beat / 2,
                    _note(rng, 8 * root * 2 ** (rng.choice([0, 2, 4, 7, 9]) / 12), 0.5, 3.0, 5),
                )
    return levelled(out)


def birds(rng: np.random.Generator, seconds: float) -> Sound:
    """Return phrases of whistles that glide, trill or fall."""
    out, at = np.zeros(round(seconds * RATE)), 0.3
    while at < seconds:
        pitch, kind = rng.uniform(1800, 4500), rng.integers(3)
        for _ in range(rng.integers(2, 8)):
            time = _time(rng.uniform(0.05, 0.25))
            way = time / time[-1]
            glide = rng.uniform(-1500, 1500) * way, rng.uniform(200, 700) * np.sin(150 * time), -800 * way**2
            _add(out, at, np.sin(2 * np.pi * np.cumsum(pitch + glide[kind]) / RATE) * np.hanning(len(time)))
            at += time[-1] + rng.uniform(0.03, 0.15)
        at += rng.uniform(0.3, 1.5)
    return levelled(out)


def tones(rng: np.random.Generator, seconds: float) -> Sound:
    """Return steady tones, a telephone that rings, keys that are dialled, and a siren."""
    time = _time(seconds / 4)
    steady = np.sin(
        2 * np.pi * np.repeat([125, 250, 440, 1000, 1500, 2500], len(time) // 6 + 1)[: len(time)] * time
    )
    ring = (np.sin(2 * np.pi * 440 * time) + np.sin(2 * np.pi * 480 * time)) * (time % 3 < 1)
    rows, columns = rng.choice([697, 770, 852, 941], 400), rng.choice([1209, 1336, 1477], 400)
    key = (time / 0.2).astype(int) % 400
    dialled = (np.sin(2 * np.pi * rows[key] * time) + np.sin(2 * np.pi * columns[key] * time)) * (time % 0.2 < 0.1)
    siren = np.sin(2 * np.pi * np.cumsum(900 + 500 * np.sin(2 * np.pi * 0.5 * time)) / RATE)
    return np.concatenate([levelled(part) for part in (steady, ring, dialled, siren)])


def keys(rng: np.random.Generator, seconds: float) -> Sound:
    return np.concatenate([typing(rng) for _ in range(int(np.ceil(seconds / 2)))])[: round(seconds * RATE)]


def babble(rng: np.random.Generator, seconds: float, voices: Sequence[Sound]) -> Sound:
    """Return six of the voices at a time."""
    count = round(seconds * RATE)
    out = np.zeros(count, np.float32)
    for _ in range(6):
        voice = voices[rng.integers(len(voices))]
        out += np.resize(np.roll(voice, -int(rng.integers(len(voice)))), count)
    return levelled(out)


NO_VOICE: dict[str, Callable[[np.random.Generator, float], Sound]] = {
    "music": music,
    "piano": piano,
    "birds": birds,
    "tones": tones,
    "keys": keys,
    "white": white,
    "pink": pink,
}
