"""Rooms and loudspeakers for the benchmarks of echo: computed, or measured ones from a folder.

Few packages have measured responses of rooms, so a folder of them is an option (`measured`): the sources of
`acoustics` on PyPI have a domestic living room (public domain) and a sports hall (CC BY-SA) in `tests/data`, both
of www.openairlib.net. Without a folder rooms are computed by the image method (Allen and Berkley, "Image method
for efficiently simulating small-room acoustics", JASA 1979): a box with walls that absorb alike, images moved by a
few centimetres, for in a real room they do not line up either. Loudspeakers are what is known to be wrong with
small ones: little bass, harmonics, an amplifier that clips, a voice coil that leaves its magnet (which has a
memory, so that no curve of the sample alone describes it).
"""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from bench._voices import RATE
from stack.audio.resample import resample
from stack.core.errors import LocalError

SOUND = 343.0
"""Metres a second."""
SECONDS = 0.3
"""How long images are computed. What follows are more images than can be told apart: noise that fades."""
_JOINED = 0.05  # seconds over which the images are turned into that noise
Played = Callable[[np.ndarray], np.ndarray]


LONGEST = 1.5
"""Seconds of a measured response that are used."""
LOWEST = 80.0
"""Hertz below which a loudspeaker plays nothing: what a measured response has there is offset and rumble."""
_BEFORE = 16  # samples before the direct sound that are kept
_FADE = 0.05  # seconds in which a measured response ends


class Room(Protocol):
    """What has a way from loudspeaker to microphone."""

    def response(self, rng: np.random.Generator, gain_db: float) -> np.ndarray:
        """Return it at 16 kHz, of the power gain `gain_db`."""
        ...


@dataclass(frozen=True)
class Place:
    """A box of a room in metres, where loudspeaker and microphone are in it, its reverberation time in seconds."""

    size: tuple[float, float, float]
    loudspeaker: tuple[float, float, float]
    microphone: tuple[float, float, float]
    reverberation: float

    def response(self, rng: np.random.Generator, gain_db: float) -> np.ndarray:
        """Return the way from loudspeaker to microphone, of the power gain `gain_db`; the distance is kept."""
        size, source, microphone = (np.array(each) for each in (self.size, self.loudspeaker, self.microphone))
        source = source + rng.uniform(-0.05, 0.05, 3)  # it never stands at the same place twice
        # Eyring's formula gives the absorption of walls with this reverberation time.
        volume, walls = size.prod(), 2 * (size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
        absorbed = 1.0 - np.exp(-0.161 * volume / (walls * self.reverberation))
        most = np.ceil(SECONDS * SOUND / (2 * size)).astype(int) + 1
        grid = np.meshgrid(*(np.arange(-n, n + 1) for n in most), *([0, 1],) * 3, indexing="ij")
        order = np.stack(grid[:3], -1).reshape(-1, 3)
        mirrored = np.stack(grid[3:], -1).reshape(-1, 3)
        images = (1 - 2 * mirrored) * source + 2 * order * size
        bounces = (np.abs(order) + np.abs(order - mirrored)).sum(1)
        images = images + rng.uniform(-0.08, 0.08, images.shape) * (bounces > 0)[:, None]
        distance = np.maximum(0.05, np.sqrt(((images - microphone) ** 2).sum(1)))
        strength = (1.0 - absorbed) ** (bounces / 2.0) / distance
        at = distance / SOUND * RATE
        count = round(SECONDS * RATE)
        whole = at.astype(int)
        heard, part = whole < count - 1, at - whole
        out = np.zeros(count)
        np.add.at(out, whole[heard], (strength * (1 - part))[heard])
        np.add.at(out, whole[heard] + 1, (strength * part)[heard])
        out = self._fading(rng, np.convolve(out, _small())[:count])
        return (out * 10 ** (gain_db / 20) / np.sqrt(np.sum(out**2))).astype(np.float32)

    def _fading(self, rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
        """Return images and what follows them, until it has fallen by 60 dB."""
        count, joined = round(self.reverberation * RATE), round(_JOINED * RATE)
        begin = len(images) - joined
        if count <= len(images):
            return images
        time = np.arange(count - begin) / RATE
        # The images are all of one sign, so only what the loudspeaker lets through has the level of a room.
        noise = np.convolve(rng.standard_normal(len(time)), _small())[: len(time)]
        noise *= 10 ** (-3 * time / self.reverberation)
        noise *= np.sqrt(np.square(images[begin:]).sum() / np.square(noise[:joined]).sum())
        share = np.sin(np.minimum(1.0, np.arange(len(time)) / joined) * np.pi / 2)
        out = np.zeros(count)
        out[:begin] = images[:begin]
        out[begin:] = noise * share
        out[begin : len(images)] += images[begin:] * np.cos(np.arange(joined) / joined * np.pi / 2)
        return out


@dataclass(frozen=True)
class Measured:
    """A response that was measured somewhere: shape (n,), 16 kHz, from just before its direct sound on."""

    samples: np.ndarray = field(repr=False)

    def response(self, rng: np.random.Generator, gain_db: float) -> np.ndarray:
        """Return it with the power gain `gain_db`; it is always the same."""
        power = np.sqrt(np.sum(self.samples**2))
        return (self.samples * 10 ** (gain_db / 20) / power).astype(np.float32)


def measured(folder: Path) -> dict[str, Room]:
    """Return the impulse responses in a folder by their names: WAV, 16, 24 or 32 bits, any rate from 8 kHz on.

    The first channel counts, from just before its loudest sample on, without what is below `LOWEST` and with an
    end that fades: an offset that breaks off is a second echo, of all that was sent. `LocalError` if there is
    none, or one cannot be read or is silent.
    """
    found: dict[str, Room] = {path.stem: Measured(_read(path)) for path in sorted(folder.glob("*.wav"))}
    if not found:
        raise LocalError(f"{folder} has no impulse responses: no NAME.wav")
    return found


def _read(path: Path) -> np.ndarray:
    try:
        with wave.open(str(path)) as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            data = np.frombuffer(file.readframes(file.getnframes()), np.uint8)
    except (wave.Error, EOFError) as error:
        raise LocalError(f"{path} is no WAV file of integers: {error}") from error
    if width not in (2, 3, 4) or rate < 8000:
        raise LocalError(f"{path} has {8 * width} bits at {rate} Hz; 16, 24 or 32 bits, from 8000 Hz on")
    whole = data[: len(data) // (width * channels) * width * channels].reshape(-1, channels, width)[:, 0]
    padded = np.zeros((len(whole), 4), np.uint8)
    padded[:, 4 - width :] = whole
    samples = padded.view("<i4")[:, 0] / 2.0**31
    samples = _above(LOWEST, samples - samples.mean(), rate)
    if not np.any(samples):
        raise LocalError(f"{path} is silent")
    peak = 0.9 / np.abs(samples).max()
    if rate != RATE:
        samples = resample(np.rint(samples * peak * 32767).astype(np.int16), rate, RATE).astype(np.float64)
    begin = max(0, int(np.argmax(np.abs(samples))) - _BEFORE)
    response = samples[begin : begin + round(LONGEST * RATE)].copy()
    ends = np.cos(np.linspace(0.0, np.pi / 2, min(len(response), round(_FADE * RATE)))) ** 2
    response[len(response) - len(ends) :] *= ends
    return response


def _above(hertz: float, samples: np.ndarray, rate: int) -> np.ndarray:
    """Return samples of shape (n,) behind a high-pass: Butterworth's of second order, without its phase."""
    count = 1 << (len(samples) + rate - 1).bit_length()
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / rate), 1e-3)
    gain = 1.0 / np.sqrt(1.0 + (hertz / frequency) ** 4)
    return np.asarray(np.fft.irfft(np.fft.rfft(samples, count) * gain)[: len(samples)])


def _small() -> np.ndarray:
    """Return a small loudspeaker with a microphone: nothing below 200 Hz, little above 6.5 kHz; 64 taps."""
    frequency = np.fft.rfftfreq(128, 1 / RATE)
    gain = (frequency / 200) ** 2 / (1 + (frequency / 200) ** 2) / (1 + (frequency / 6500) ** 4)
    return minimum_phase(gain)


def minimum_phase(gain: np.ndarray) -> np.ndarray:
    """Return the filter of these gains, at n + 1 equal distances up to 8 kHz: n taps, as early as can be.

    That is how loudspeakers and microphones are. By the cepstrum.
    """
    count = len(gain) - 1
    cepstrum = np.fft.irfft(np.log(np.maximum(gain, 1e-4)))
    cepstrum[1:count] *= 2
    cepstrum[count + 1 :] = 0
    return np.asarray(np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))[:count])


PLACES = {
    "laptop on a desk": Place((3.2, 4.1, 2.5), (1.2, 1.0, 0.80), (1.4, 1.2, 0.95), 0.30),
    "telephone on a table": Place((3.8, 2.9, 2.4), (1.50, 1.40, 0.75), (1.62, 1.40, 0.75), 0.40),
    "loudspeaker across a living room": Place((5.6, 4.2, 2.6), (0.6, 0.8, 1.1), (3.7, 2.6, 0.9), 0.50),
    "bare meeting room": Place((6.5, 4.8, 2.9), (3.0, 0.5, 1.2), (3.3, 2.4, 0.8), 0.80),
}


def faithful(samples: np.ndarray) -> np.ndarray:
    """Return what a loudspeaker plays that does nothing wrong."""
    return samples


def harmonics(samples: np.ndarray, second: float = 0.12, third: float = 0.3, scale: float = 8000.0) -> np.ndarray:
    """Second and third harmonics, 6 and 8 % of a loud tone, more beyond it."""
    x = np.clip(samples / scale, -2.0, 2.0)
    return np.asarray(scale * (x + second * x**2 - third * np.tanh(x) ** 3))


def clipping(samples: np.ndarray, limit: float = 4000.0) -> np.ndarray:
    """Return what an amplifier turned up too far makes: the peaks of every vowel are cut off."""
    return np.clip(samples, -limit, limit)


def saturating(samples: np.ndarray, limit: float = 5000.0) -> np.ndarray:
    """The same, but soft."""
    return np.asarray(limit * np.tanh(samples / limit))


class VoiceCoil:
    """A coil that leaves its magnet: the farther the bass has moved it, the weaker it drives everything."""

    def __init__(
        self, hertz: float = 220.0, fades: float = 25.0, limit: float = 3500.0, steep: bool = False
    ) -> None:
        time = np.arange(120)
        kernel = np.sin(2 * np.pi * hertz * time / RATE) * np.exp(-time / fades)
        self._kernel = kernel / np.abs(np.fft.rfft(kernel, 1024)).max()
        self._before = np.zeros(len(kernel) - 1)
        self._limit, self._steep = limit, steep

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Take a frame that is played; return what is heard of it."""
        both = np.concatenate([self._before, samples])
        self._before = both[len(both) - len(self._before) :]
        moved = np.convolve(both, self._kernel, "valid") / self._limit
        if self._steep:
            return np.asarray(samples * np.exp(-0.8 * moved**2) * (1.0 - 0.25 * np.tanh(moved)))
        return np.asarray(samples * (1.0 - 0.15 * moved) / (1.0 + 0.5 * moved**2))


LOUDSPEAKERS: dict[str, Callable[[], Played]] = {
    "faithful": lambda: faithful,
    "harmonics": lambda: harmonics,
    "clips": lambda: clipping,
    "saturates": lambda: saturating,
    "voice coil": VoiceCoil,
    "another coil": lambda: VoiceCoil(330.0, 14.0, 5000.0, steep=True),
}
