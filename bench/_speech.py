"""Recorded speech as it is sent, what a receiver made of it, and how good that is: for `python -m bench sound`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from stack.audio import EncoderTuner, OpusEncoder, Samples, read_wav, resample
from stack.core.errors import LocalError

SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")
RATE = 16_000
FRAME = 0.020
TICKS = 960
PAUSE = 0.5
LEAD_IN = 1.5
"""Seconds from the first packet to the first word: a microphone is open before the person speaks."""
PACKET = 320
"""Samples of a packet."""
SPARE_BEFORE, SPARE_AFTER = 800, 4000
"""Samples around a sentence in which PESQ may look for it."""


@dataclass
class AudioReceived:
    """What came out of a receiver."""

    sound: Samples
    """At `RATE`, beginning with the sender's first sample, or as it was played."""
    delays: list[float] = field(default_factory=list)
    made_up: float = 0.0
    places: dict[int, int] | None = None
    """Where in `sound` each packet begins; None: where the sender had it."""
    stretched: float = 0.0
    """Share of the sound that was put in or cut out to change the delay."""

    def sentence(self, begin: int, end: int) -> Samples:
        """Return what was heard of the sentence in samples `begin` to `end`, with some room around it.

        It is looked for where its packets were played: what a delay that moves between two sentences does to a
        listener is in the delays, not in the sound.
        """
        if self.places is None:
            return self.sound[begin : end + SPARE_AFTER]
        numbers = range(begin // PACKET, -(-end // PACKET))
        places = [self.places[number] for number in numbers if number in self.places]
        if not places:
            return self.sound[:0]
        first = next(number for number in numbers if number in self.places)
        start = self.places[first] - (first * PACKET - begin) - SPARE_BEFORE
        piece = self.sound[max(0, start) : max(places) + PACKET + SPARE_AFTER]
        return np.concatenate((np.zeros(max(0, -start), np.int16), piece))


class Speech:
    """The sentences, one after the other with pauses, and where each lies."""

    def __init__(self, repeat: int = 1) -> None:
        files = sorted(SPEECH.glob("*.wav"))
        if not files:
            raise LocalError("no recorded speech: apt-get install pocketsphinx-testdata")
        pieces: list[Samples] = [np.zeros(int(LEAD_IN * RATE), np.int16)]
        self.sentences: list[tuple[int, int]] = []
        at = int(LEAD_IN * RATE)
        for path in files * repeat:
            samples, rate = read_wav(path)
            assert rate == RATE
            self.sentences.append((at, at + len(samples)))
            pieces += [samples, np.zeros(int(PAUSE * RATE), np.int16)]
            at += len(samples) + int(PAUSE * RATE)
        whole = np.concatenate(pieces)
        self.samples: Samples = whole[: len(whole) // 320 * 320]

    def encode(self, *, fec: bool) -> list[bytes]:
        """Return the payloads of 20 ms each."""
        encoder = OpusEncoder(48_000)
        if fec:
            EncoderTuner(encoder).update(0.1, 0.0)
        pcm = resample(self.samples, RATE, 48_000)
        return [encoder.encode(pcm[at : at + TICKS]) for at in range(0, len(pcm) - TICKS + 1, TICKS)]


class Judge:
    """Scores what was heard."""

    def __init__(self, speech: Speech, *, with_plcmos: bool = True) -> None:
        self._speech = speech
        self._plcmos: Any = None
        if not with_plcmos:
            return
        try:
            from speechmos import plcmos

            self._plcmos = plcmos.PLCMOS(embed_rounds=3)
        except ImportError:
            pass

    @property
    def has_plcmos(self) -> bool:
        """Whether `speechmos` is there."""
        return self._plcmos is not None

    def score(self, heard: AudioReceived) -> tuple[float | None, float | None]:
        """Return the mean PESQ and PLCMOS of the sentences."""
        from pesq import NoUtterancesError, pesq

        pesqs, mos = [], []
        for begin, end in self._speech.sentences:
            piece = heard.sentence(begin, end)
            if len(piece) < RATE:
                continue
            try:
                pesqs.append(pesq(RATE, self._speech.samples[begin:end], piece, "wb"))
            except NoUtterancesError:
                pesqs.append(1.0)
            if self._plcmos is not None:
                np.random.seed(0)  # it draws its raters from numpy's global generator: the same ones each time
                mos.append(float(self._plcmos.get_mos(piece.astype(np.float32) / 32768)))
        return (fmean(pesqs) if pesqs else None), (fmean(mos) if mos else None)
