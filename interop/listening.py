"""What a page plays, recorded in the page, and found again in what was said.

The page records the very track that it plays (`RECORD`), behind its jitter buffer and its own muting, so that a
recording is what goes to the loudspeaker.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

import numpy as np

from interop.browsers import Browser
from stack.audio import Samples

RATE = 16_000
_BLOCK = 80
_SILENT_BLOCKS = 5

RECORD = """(() => {
  const recorder = new MediaRecorder(voiceStack.remote, { audioBitsPerSecond: 128000 }), parts = [];
  recorder.ondataavailable = event => parts.push(event.data);
  window.recorded = () => new Promise(resolve => {
    recorder.onstop = async () => {
      const bytes = await new Blob(parts).arrayBuffer();
      const sound = await new OfflineAudioContext(1, 16000, 16000).decodeAudioData(bytes);
      const samples = Int16Array.from(sound.getChannelData(0), value => Math.max(-1, Math.min(1, value)) * 32767);
      const octets = new Uint8Array(samples.buffer);
      let text = "";
      for (let at = 0; at < octets.length; at += 32768) text += String.fromCharCode(...octets.subarray(at, at + 32768));
      resolve(btoa(text));
    };
    recorder.stop();
  });
  recorder.start();
})()"""


async def recorded(browser: Browser) -> Samples:
    """Stop what `RECORD` began; return it as int16 mono at `RATE`."""
    return np.frombuffer(base64.b64decode(await browser.evaluate("recorded()", 120)), "<i2")


def find(piece: Samples, sound: Samples) -> tuple[int, float]:
    """Return where in `sound` the piece is found best, and the normalised correlation there."""
    if len(sound) < len(piece):
        return 0, 0.0
    needle, hay = piece.astype(float), sound.astype(float)
    size = 1 << (len(hay) + len(needle)).bit_length()
    product = np.fft.rfft(hay, size) * np.conj(np.fft.rfft(needle, size))
    places = len(hay) - len(needle) + 1
    dots = np.fft.irfft(product, size)[:places]
    sums = np.concatenate(([0.0], np.cumsum(hay**2)))
    energy = sums[len(needle) :] - sums[:places]
    scale = np.sqrt(np.maximum(energy, 1e3 * len(needle)) * (needle**2).sum())
    score = dots / scale
    best = int(np.argmax(score))
    return best, float(score[best])


class Played(NamedTuple):
    """One reply in a recording."""

    begin: int
    """Sample of the recording."""
    end: int
    """Sample of the recording at which it fell silent."""
    heard_ms: float
    """Up to where of the reply was played: by what was to be heard last, not by how long it took."""
    likeness: float
    """Correlation of the first 300 ms."""
    first_20ms: float
    """Correlation of the first 20 ms with what was said."""
    first_20ms_db: float
    """Their level against that of the same sound in the reply, relative to the 200 ms that follow."""


def played(reply: Samples, sound: Samples, search: tuple[int, int]) -> Played | None:
    """Find a reply whose beginning is between two samples of the recording; None if it is not there."""
    first, last = search
    piece = reply[int(0.02 * RATE) : int(0.3 * RATE)]
    at, likeness = find(piece, sound[first : last + len(piece)])
    if likeness < 0.5:
        return None
    begin = max(0, first + at - int(0.02 * RATE))
    end = _silence(sound, begin + int(0.2 * RATE))
    window = min(int(0.15 * RATE), end - begin)
    heard, lag = end - begin, int(0.2 * RATE)
    low = max(0, heard - window - lag)
    place, match = find(sound[end - window : end], reply[low : heard + lag])
    if match > 0.4:
        heard = low + place + window
    opening, quality = _opening(reply, sound, begin)
    return Played(begin, end, 1000.0 * heard / RATE, likeness, opening, quality)


def _silence(sound: Samples, after: int) -> int:
    """Return where 25 ms of silence begin; the end of the recording if nowhere."""
    rest = sound[after : after + (len(sound) - after) // _BLOCK * _BLOCK].astype(float)
    quiet = np.sqrt((rest.reshape(-1, _BLOCK) ** 2).mean(axis=1)) < 12.0
    runs = np.convolve(quiet, np.ones(_SILENT_BLOCKS), "valid") >= _SILENT_BLOCKS
    return after + int(np.argmax(runs)) * _BLOCK if runs.any() else len(sound)


def _opening(reply: Samples, sound: Samples, begin: int) -> tuple[float, float]:
    """Return how like the first 20 ms are, give or take 5 ms, and how loud by comparison, in dB."""
    frame, slack = int(0.02 * RATE), int(0.005 * RATE)
    early = max(0, begin - slack)
    at, likeness = find(reply[:frame], sound[early : begin + frame + slack])

    def level(samples: Samples) -> float:
        return float(np.sqrt((samples.astype(float) ** 2).mean())) + 1e-9

    here = level(sound[early + at : early + at + frame]) / level(sound[begin + frame : begin + 11 * frame])
    there = level(reply[:frame]) / level(reply[frame : 11 * frame])
    return likeness, 20.0 * float(np.log10(here / there + 1e-9))
