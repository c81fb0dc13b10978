"""Recorded speech, and what is left of it where it arrives: PESQ, wideband (ITU-T P.862.2).

The recording is of Debian's package pocketsphinx-testdata (LibriVox, public domain); the score is of the package
`pesq`. Where either is absent, quality is not measured.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from interop.sound import Samples
from stack.audio import read_wav

RATE = 16_000
FOLDER = Path("/usr/share/pocketsphinx/test/data/librivox")
SEAM_SECONDS = 0.5
"""Of silence between the recording and its repetition."""


def why_quality_is_not_measured() -> str | None:
    """One line, or None where it is."""
    if find_spec("pesq") is None:
        return "the package pesq is not installed here: quality is not measured"
    if not _files():
        return "there is no recorded speech here (Debian: pocketsphinx-testdata): quality is not measured"
    return None


def _files() -> list[Path]:
    return sorted(FOLDER.glob("sense_and_sensibility*0870.wav"))


def speech_file() -> Path:
    """The recording; `IndexError` where there is none."""
    return _files()[0]


@cache
def recorded_speech() -> tuple[Samples, int]:
    """Seven seconds of a reader's voice and half a second of silence, and their rate in Hz."""
    samples, rate = read_wav(speech_file())
    silence = np.zeros(round(SEAM_SECONDS * rate), np.int16)
    return np.concatenate((np.asarray(samples, np.int16), silence)), rate


def aligned(reference: Samples, heard: Samples) -> tuple[Samples, Samples]:
    """Shift one against the other by their correlation, and cut both to what they share.

    Where more than twice the reference was heard, a place is taken at which the whole of it is there.
    """
    size = 1 << (len(reference) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard.astype(float), size) * np.fft.rfft(reference.astype(float), size).conj()
    likeness = np.fft.irfft(spectrum, size)
    if len(heard) > 2 * len(reference):
        likeness = likeness[: len(heard) - len(reference)]
    lag = int(np.argmax(likeness))
    lag = lag if lag < size // 2 else lag - size
    reference, heard = reference[max(0, -lag) :], heard[max(0, lag) :]
    length = min(len(reference), len(heard))
    return reference[:length], heard[:length]


def wideband_pesq(reference: Samples, heard: Samples) -> float:
    """The score, from 1 to 4.64; both at 16 kHz. 1 where nothing like speech was heard for six seconds."""
    import pesq

    reference, heard = aligned(reference, heard)
    if len(heard) <= 6 * RATE or not heard.any():
        return 1.0
    try:
        return float(pesq.pesq(RATE, reference, heard, "wb"))
    except (pesq.PesqError, ValueError):
        return 1.0
