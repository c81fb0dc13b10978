"""What the benchmarks of voice listen to: recorded people, a speaking agent, rooms that echo, and other noises.

People are the five LibriVox sentences of Debian's `pocketsphinx-testdata`; the agent is espeak-ng. Coughs, typing
and rooms are synthetic and seeded.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from stack.audio.resample import resample
from stack.core.errors import LocalError

RATE = 16_000
FRAME = 320
LEVEL = 2300.0
"""RMS of the active parts of every voice: -23 dBFS."""
RECORDINGS = Path("/usr/share/pocketsphinx/test/data")
LIBRIVOX = RECORDINGS / "librivox"
COMMANDS = (*(f"cards/00{n}.wav" for n in range(1, 6)), "goforward.raw", "something.raw", "numbers.raw")
COMMANDS += ("tidigits/dhd.2934z.raw",)

SENTENCES = (
    "Of course. The next train to the city leaves at a quarter past nine, and it takes about fifty minutes.",
    "Let me count for you. One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen.",
    "I have found three restaurants near you. The first one is Italian; the second one serves fish.",
    "That is an interesting question. Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "Your appointment has been moved to Thursday. Would you like me to tell everybody who was invited?",
    "The weather tomorrow will be mostly cloudy, with a light wind from the west and some rain in the evening.",
)
VOICES = (("en-us", 165, 50), ("en-us", 175, 85), ("en-us", 150, 30))


class Missing(Exception):
    """Something that the benchmark listens to is not installed; the message says how to get it."""


def active_rms(samples: np.ndarray) -> float:
    """Return the RMS of the 20 ms blocks that are within 25 dB of the loudest."""
    blocks = samples[: len(samples) // FRAME * FRAME].astype(float).reshape(-1, FRAME)
    power = (blocks**2).mean(axis=1)
    return float(np.sqrt(power[power > power.max() / 316].mean()))


def levelled(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) * (LEVEL / active_rms(samples))


def pcm(samples: np.ndarray) -> np.ndarray:
    """Return samples in int16 scale as int16, what is too loud clipped."""
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def people() -> list[np.ndarray]:
    """Return recorded sentences, float32 at 16 kHz in int16 scale."""
    files = sorted(LIBRIVOX.glob("*.wav"))
    if not files:
        raise Missing("recorded speech is missing: apt-get install pocketsphinx-testdata")
    sentences = []
    for path in files:
        with wave.open(str(path)) as file:
            sentences.append(levelled(np.frombuffer(file.readframes(file.getnframes()), "<i2")))
    return sentences


def commands() -> list[np.ndarray]:
    """Return what people said to a machine, as they said it: cards, numbers, errands, with their pauses.

    The offline assistant understands them. float32 at 16 kHz in int16 scale, background before and after.
    """
    spoken_by_people = []
    for name in COMMANDS:
        path = RECORDINGS / name
        if not path.exists():
            raise Missing("recorded speech is missing: apt-get install pocketsphinx-testdata")
        data = path.read_bytes()
        spoken_by_people.append(levelled(np.frombuffer(data[44:] if path.suffix == ".wav" else data, "<i2")))
    return spoken_by_people


def transcripts() -> list[str]:
    """Return what the people of `people` say, in the same order."""
    lines = (LIBRIVOX / "transcription").read_text().splitlines()
    said = {line.rpartition("(")[2].rstrip(")"): line.rpartition("(")[0] for line in lines}
    return [
        said[path.stem].replace("<s>", "").replace("</s>", "").strip() for path in sorted(LIBRIVOX.glob("*.wav"))
    ]


def spoken(text: str, voice: str = "en-us", pace: int = 165, pitch: int = 50) -> np.ndarray:
    """Return `text` in a synthetic voice, float32 at 16 kHz."""
    from stack.agents.speech import Synthesiser

    try:
        synthesiser = Synthesiser(voice, pace, pitch)
    except LocalError as error:
        raise Missing(f"a voice for the agent is missing: {error}") from error
    return levelled(resample(synthesiser.speak(text), synthesiser.sample_rate, RATE))


def agent(seed: int) -> np.ndarray:
    """Return a good minute of agent: every sentence in every voice, in some order, short breaths between."""
    rng = np.random.default_rng(seed)
    pairs = [(text, voice) for text in SENTENCES for voice in VOICES]
    parts = []
    for index in rng.permutation(len(pairs)):
        text, voice = pairs[index]
        parts += [spoken(text, *voice), np.zeros(int(rng.uniform(0.1, 0.5) * RATE), np.float32)]
    return np.concatenate(parts)


def impulse_response(rng: np.random.Generator, gain_db: float) -> np.ndarray:
    """Return a room of 0.3 s reverberation in which the direct sound carries a third of the power."""
    time = np.arange(int(0.25 * RATE)) / RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / 0.3)
    tail[:16] = 0.0
    tail *= np.sqrt(0.64 / np.sum(tail**2))
    tail[rng.integers(8, 30)] += 0.6
    return (tail * 10 ** (gain_db / 20) / np.sqrt(np.sum(tail**2))).astype(np.float32)


def cough(rng: np.random.Generator) -> np.ndarray:
    """Return two or three bursts of coloured noise with a hard attack."""
    bursts = []
    for _ in range(rng.integers(2, 4)):
        length = int(rng.uniform(0.12, 0.22) * RATE)
        time = np.arange(length) / RATE
        noise = np.convolve(rng.standard_normal(length), [1.0, 0.7, 0.3], "same")
        bursts += [noise * np.exp(-time / 0.05) * np.minimum(1, time / 0.004)]
        bursts += [np.zeros(int(rng.uniform(0.08, 0.2) * RATE))]
    return levelled(np.concatenate(bursts)) * 1.5


def typing(rng: np.random.Generator) -> np.ndarray:
    """Return two seconds of keys: clicks of a few milliseconds, about eight a second."""
    out = np.zeros(2 * RATE, np.float32)
    at = 0.0
    while at < 1.9:
        click = rng.standard_normal(int(0.012 * RATE)) * np.exp(-np.arange(int(0.012 * RATE)) / 40)
        begin = int(at * RATE)
        out[begin : begin + len(click)] += click * rng.uniform(800, 3000)
        at += rng.uniform(0.06, 0.2)
    return out


def sounding(samples: np.ndarray, below_db: float = 14.0) -> np.ndarray:
    """Say of each 10 ms block whether a voice is to be heard in it.

    The background of the recordings lies 20 to 30 dB below the voice, so a voice is what comes within 14 dB.
    """
    blocks = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    return np.asarray(np.sqrt((blocks**2).mean(axis=1)) > active_rms(samples) * 10 ** (-below_db / 20))


def first_sound(samples: np.ndarray, below_db: float = 14.0) -> int:
    """Return the first sample of the first two blocks in a row in which a voice is to be heard."""
    loud = sounding(samples, below_db)
    return int(np.argmax(loud[:-1] & loud[1:])) * 160


def last_sound(samples: np.ndarray, below_db: float = 20.0) -> int:
    """Return where the last two blocks in a row end in which a voice is to be heard, a final "s" included."""
    return len(samples) - first_sound(samples[::-1], below_db)
