"""Speech as it comes out of an HTTP response: raw PCM, or WAV, cut anywhere."""

from __future__ import annotations

import re
import struct

import numpy as np

from stack.audio import Samples

MAX_HEADER = 4096
"""Bytes of a WAV file before its sound."""
_RATE = re.compile(r"\brate=\"?(\d+)")
_CHANNELS = re.compile(r"\bchannels=\"?(\d+)")
RATES, CHANNELS = range(8000, 192_001), range(1, 9)
"""What can be played: Hz, and how many at once."""
_OTHERS = ("json", "text/", "mpeg", "mp3", "ogg", "opus", "aac", "flac", "webm")


class SpeechFormatError(ValueError):
    """The response is not speech that can be played; says what it is."""


class SpeechReader:
    """Feed it chunks of a response; it gives int16 mono samples of shape (n,) at `sample_rate` Hz."""

    def __init__(self, content_type: str, sample_rate: int) -> None:
        """Raises `SpeechFormatError` for another kind of content than PCM and WAV, and a rate that cannot be."""
        if any(other in content_type.lower() for other in _OTHERS):
            raise SpeechFormatError(f"answered {content_type} where response_format=pcm was asked for")
        self.sample_rate = _parameter(_RATE, content_type, sample_rate)
        self._channels = _parameter(_CHANNELS, content_type, 1)
        if self.sample_rate not in RATES or self._channels not in CHANNELS:
            raise SpeechFormatError(f"answered {content_type}, which cannot be played")
        self._pending = b""
        self._in_header = True
        self._empty = True

    def feed(self, chunk: bytes) -> Samples:
        """Return the samples that are whole by now."""
        data = self._pending + chunk
        if self._in_header:
            if len(data) < 12 and data[:4] == b"RIFF"[: len(data)]:
                self._pending = data
                return np.zeros(0, np.int16)
            if data[:4] == b"RIFF":
                start = self._read_header(data)
                if start is None:
                    self._pending = data
                    return np.zeros(0, np.int16)
                data = data[start:]
            self._in_header = False
        whole = len(data) - len(data) % (2 * self._channels)
        self._pending = data[whole:]
        self._empty = self._empty and not whole
        samples = np.frombuffer(data[:whole], "<i2").astype(np.int16)
        if self._channels == 1:
            return samples
        mixed: Samples = samples.reshape(-1, self._channels).mean(axis=1).astype(np.int16)
        return mixed

    def finish(self) -> None:
        """The response is over; raises `SpeechFormatError` if there was nothing in it."""
        if self._empty:
            raise SpeechFormatError("answered without any sound")

    def _read_header(self, data: bytes) -> int | None:
        """Read the chunks before the sound; return where it begins, None if that is not here yet."""
        at, known = 12, False
        while at + 8 <= len(data):
            name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
            if name == b"data":
                if not known:
                    raise SpeechFormatError("answered a WAV file without a format")
                return at + 8
            if name == b"fmt " and at + 24 <= len(data):
                kind, channels, rate = struct.unpack_from("<HHI", data, at + 8)
                bits = struct.unpack_from("<H", data, at + 22)[0]
                if kind not in (1, 0xFFFE) or bits != 16 or channels not in CHANNELS or rate not in RATES:
                    raise SpeechFormatError(f"answered a WAV file of {bits} bits, {channels} channels, {rate} Hz")
                self._channels, self.sample_rate, known = channels, rate, True
            at += 8 + size + size % 2
        if len(data) > MAX_HEADER:
            raise SpeechFormatError("answered a WAV file whose sound does not begin")
        return None


def _parameter(pattern: re.Pattern[str], content_type: str, default: int) -> int:
    said = pattern.search(content_type.lower())
    return int(said[1][:9]) if said else default  # as many digits as tell that it is too large
