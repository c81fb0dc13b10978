"""What a page plays, recorded in the page, and found again in what was said.

The page records the very track that it plays (`RECORD`), behind its jitter buffer and its own muting, so that a
recording is what goes to the loudspeaker.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from interop.browsers import Browser
from stack.audio import Samples

RATE = 16_000
_FRAME = 320
_ALIKE = 0.5
_FAINT = 0.25  # the last 40 ms of sound that dies away
_BLOCK = 80
_SILENT_BLOCKS = 3
_SILENT_RMS = 60.0  # what two codecs leave of silence is below; no block of the replies is for so long

PLAIN_SOUND = "document.querySelectorAll('.settings input:checked').forEach(box => box.click())"
"""Switch off what a browser does to the microphone: a recording has had it done already."""

RECORD = """(() => {
  const recorder = new MediaRecorder(voiceStack.remote, { audioBitsPerSecond: 128000 }), parts = [];
  recorder.ondataavailable = event => parts.push(event.data);
  window.announced = {};   // reply -> milliseconds of the recording at which the server said that it begins
  const begun = performance.now();
  voiceStack.on("reply_started", event => { announced[event.reply] = performance.now() - begun; });
  window.recorded = () => new Promise(resolve => {
    recorder.onstop = async () => {
      const bytes = await new Blob(parts).arrayBuffer();
      const sound = await new OfflineAudioContext(1, 16000, 16000).decodeAudioData(bytes);
      const samples = Int16Array.from(sound.getChannelData(0), value => Math.max(-1, Math.min(1, value)) * 32767);
      const octets = new Uint8Array(samples.buffer);
      let text = "";
      for (let at = 0; at < octets.length; at += 32768) {
        text += String.fromCharCode(...octets.subarray(at, at + 32768));
      }
      resolve(btoa(text));
    };
    recorder.stop();
  });
  recorder.start();
})()"""


async def announcements(browser: Browser) -> dict[int, float]:
    """Return when each reply was announced, in seconds of the recording that runs."""
    said = await browser.evaluate("announced")
    return {int(reply): milliseconds / 1000.0 for reply, milliseconds in said.items()}


async def recorded(browser: Browser) -> Samples:
    """Stop what `RECORD` began; return it as int16 mono at `RATE`."""
    return np.frombuffer(base64.b64decode(await browser.evaluate("recorded()", 120)), "<i2")


def find(piece: Samples, sound: Samples, *, first: bool = False) -> tuple[int, float]:
    """Return where in `sound` the piece is found, and the normalised correlation there.

    The best place, or the first of those that are nearly as good.
    """
    if len(sound) < len(piece):
        return 0, 0.0
    needle, hay = piece.astype(float), sound.astype(float)
    size = 1 << (len(hay) + len(needle)).bit_length()
    product = np.fft.rfft(hay, size) * np.conj(np.fft.rfft(needle, size))
    places = len(hay) - len(needle) + 1
    dots = np.fft.irfft(product, size)[:places]
    sums = np.concatenate(([0.0], np.cumsum(hay**2)))
    energy = sums[len(needle) :] - sums[:places]
    own = max(float((needle**2).sum()), 1.0)
    score = dots / np.sqrt(np.maximum(energy, 1e3 * len(needle)) * own)
    best = int(np.argmax(score))
    if first:
        best = int(np.argmax(score >= 0.75 * score[best]))
        best += int(np.argmax(score[best : best + _FRAME]))
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
    """Correlation of its first 300 ms, or 100 ms of one that was cut off early."""
    first_20ms: float
    """Correlation of the first 20 ms with what was said."""
    first_20ms_db: float
    """Their level against that of the same sound in the reply, relative to the 200 ms that follow."""

    @property
    def is_whole(self) -> bool:
        """True if the first 20 ms are there, and no quieter than they should be."""
        return self.first_20ms > 0.4 and self.first_20ms_db > -6.0


EARLY = 0.5
"""Seconds by which a reply may be in a recording before it is announced: the recorder begins when it likes."""
PATIENCE = 2.5
"""Seconds within which a reply is to be heard that is announced: those before it have to fall silent first."""


def played(replies: Mapping[int, Samples], sound: Samples, announced: Mapping[int, float]) -> dict[int, Played]:
    """Find replies by their numbers, in the order in which they were said; those that are not there are left out.

    `announced` are the seconds of the recording at which each was, see `RECORD`; the others are not looked for.
    """
    begins: dict[int, tuple[int, float]] = {}
    first = 0
    for number, reply in replies.items():
        if number not in announced:
            continue
        early = max(first, round((announced[number] - EARLY) * RATE))
        # The beginning of one may be in the middle of the next.
        following = min((at for at in announced.values() if at > announced[number]), default=float("inf"))
        late = round(min(announced[number] + PATIENCE, following + EARLY) * RATE)
        # Of one that was cut off early there is no more than its first syllable.
        for frames in (15, 5):
            at, likeness = find(reply[_FRAME : frames * _FRAME], sound[early:late], first=True)
            if likeness >= _ALIKE:
                begins[number] = (max(0, early + at - _FRAME), likeness)
                first = early + at + 2 * _FRAME
                break
    found = {}
    for number, (begin, likeness) in begins.items():
        following = [other for other, _ in begins.values() if other > begin]
        end, heard = _end(replies[number], sound, begin, min(following, default=len(sound)))
        found[number] = Played(begin, end, heard, likeness, *_opening(replies[number], sound, begin))
    return found


def _end(reply: Samples, sound: Samples, begin: int, before: int) -> tuple[int, float]:
    """Return where a reply falls silent for good, and how many milliseconds of it were played by then.

    What a browser makes up when it has nothing more to play is like nothing in the reply, and does not count: so
    the end is the last moment at which what was played is in the reply.
    """
    least = begin + 2 * _FRAME
    ends = dict.fromkeys(range(before, least, -2 * _BLOCK), _ALIKE)
    ends |= dict.fromkeys(_silences(sound, least, before), _FAINT)
    for end in sorted(ends, reverse=True):
        if any(
            _level(sound[max(begin, at - _FRAME) : at]) < _SILENT_RMS for at in range(end, least - 1, -_FRAME)[:5]
        ):
            continue  # what a decoder remembers comes after a silence
        heard, match = _position(reply, sound, begin, end)
        at = round(heard * RATE / 1000.0)
        tail = reply[max(0, at - 2 * _FRAME - _BLOCK) : at + _BLOCK]
        last = find(sound[end - 2 * _FRAME : end], tail)[1]
        if min(match, last) >= ends[end] and max(match, last) >= _ALIKE:
            return end, heard
    return before, 1000.0 * (before - begin) / RATE


def _position(reply: Samples, sound: Samples, begin: int, end: int) -> tuple[float, float]:
    """Return the milliseconds of the reply that were played by `end`, and how like it the last of them are.

    At their time, or later than that: a starved server or browser holds sound up, but nothing comes early.
    """
    window, slack = min(8 * _FRAME, end - begin), 10 * _FRAME
    time = end - begin
    best = 1000.0 * time / RATE, 0.0
    for early in (slack, time):
        low = max(0, time - window - early)
        place, match = find(sound[end - window : end], reply[low : time + slack])
        if match > best[1]:
            best = 1000.0 * (low + place + window) / RATE, match
        if match >= _ALIKE:
            break
    return best


def _silences(sound: Samples, after: int, before: int) -> Iterator[int]:
    """Yield where silences before `before` begin, the last one first.

    The last, because a server or a browser that is starved leaves gaps in a reply as well.
    """
    rest = sound[after : after + (before - after) // _BLOCK * _BLOCK].astype(float)
    quiet = np.sqrt((rest.reshape(-1, _BLOCK) ** 2).mean(axis=1)) < _SILENT_RMS
    edges = np.flatnonzero(np.diff(np.concatenate(([False], quiet, [False])).astype(int)))
    for begin, end in zip(edges[-2::-2], edges[::-2], strict=True):
        if end - begin >= _SILENT_BLOCKS:
            yield after + int(begin) * _BLOCK


def _opening(reply: Samples, sound: Samples, begin: int) -> tuple[float, float]:
    """Return how like the first 20 ms are, give or take 5 ms, and how loud by comparison, in dB."""
    frame, slack = _FRAME, int(0.005 * RATE)
    early = max(0, begin - slack)
    at, likeness = find(reply[:frame], sound[early : begin + frame + slack])

    here = _level(sound[early + at : early + at + frame]) / _level(sound[begin + frame : begin + 11 * frame])
    there = _level(reply[:frame]) / _level(reply[frame : 11 * frame])
    return likeness, 20.0 * float(np.log10(here / there + 1e-9))


def _level(samples: Samples) -> float:
    return float(np.sqrt((samples.astype(float) ** 2).mean())) + 1e-9
