"""Speech as it comes out of an HTTP response: raw PCM (little-endian, also as `audio/L16`), or WAV, cut anywhere.

A server that ignores `response_format=pcm` is found by its content type, or by the first bytes where that does
not tell: a compressed file played as PCM is loud noise. Raw PCM may begin with any bytes, so a sign is only
what sound cannot be by chance: a word of four bytes, a run of text, or two headers of MPEG frames that agree.
"""

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
TYPES = frozenset({
    "", "audio/pcm", "audio/x-pcm", "audio/l16", "audio/raw", "audio/wav", "audio/x-wav", "audio/wave",
    "audio/vnd.wave", "application/octet-stream", "binary/octet-stream",
})  # fmt: skip
"""Content types that can be PCM or WAV."""
UNKNOWN = 0x7FFF0000
"""Sizes of a WAV file's sound from here on, and 0, are those of a server that does not know it yet."""
_SHORTEST = 12
"""Bytes that every sign but those of MPEG and text is in."""
_TEXT = 64
"""Bytes that are text if they are all printable."""
_PRINTABLE = frozenset(b"\t\n\r" + bytes(range(0x20, 0x7F)))
_WORDS = {b"OggS": "Ogg", b"fLaC": "FLAC", b"\x1aE\xdf\xa3": "WebM", b"FORM": "AIFF", b"RF64": "RF64"}
_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8000)}
_MPEG_KBPS = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""By the fields of version and layer: ISO/IEC 11172-3 §2.4.2.3 and 13818-3 §2.4.2.3; version 0 is as 2."""


class SpeechFormatError(ValueError):
    """The response is not speech that can be played; says what it is."""


class SpeechReader:
    """Feed it chunks of a response; it gives int16 mono samples of shape (n,) at `sample_rate` Hz."""

    def __init__(self, content_type: str, sample_rate: int) -> None:
        """Raises `SpeechFormatError` for another kind of content than PCM and WAV, and a rate that cannot be."""
        if content_type.partition(";")[0].strip().lower() not in TYPES:
            raise SpeechFormatError(f"answered {content_type} where response_format=pcm was asked for")
        self.sample_rate = _parameter(_RATE, content_type, sample_rate)
        self._channels = _parameter(_CHANNELS, content_type, 1)
        if self.sample_rate not in RATES or self._channels not in CHANNELS:
            raise SpeechFormatError(f"answered {content_type}, which cannot be played")
        self._pending = b""
        self._in_header = True
        self._left: int | None = None  # bytes of a WAV file's sound that are to come; None: all that comes
        self._empty = True

    def feed(self, chunk: bytes) -> Samples:
        """Return the samples that are whole by now; raises `SpeechFormatError` for what cannot be played."""
        if self._in_header:
            return self._begin(self._pending + chunk, is_all=False)
        return self._samples(chunk)

    def finish(self) -> Samples:
        """The response is over: return what is left; raises `SpeechFormatError` if it was not speech."""
        left = self._begin(self._pending, is_all=True) if self._in_header else np.zeros(0, np.int16)
        if self._empty:
            raise SpeechFormatError("answered without any sound")
        return left

    def _begin(self, data: bytes, is_all: bool) -> Samples:
        self._pending = data
        start: int | None = 0
        if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
            start = self._read_header(data)
        else:
            found = _foreign(data, is_all)
            if found:
                raise SpeechFormatError(f"answered {found} where response_format=pcm was asked for")
            if found is None:
                start = None
        if start is None:
            return np.zeros(0, np.int16)
        self._pending, self._in_header = b"", False
        return self._samples(data[start:])

    def _samples(self, chunk: bytes) -> Samples:
        if self._left is not None:
            chunk = chunk[: self._left]
            self._left -= len(chunk)
        data = self._pending + chunk
        whole = len(data) - len(data) % (2 * self._channels)
        self._pending = data[whole:]
        self._empty = self._empty and not whole
        samples = np.frombuffer(data[:whole], "<i2").astype(np.int16)
        if self._channels == 1:
            return samples
        mixed: Samples = samples.reshape(-1, self._channels).mean(axis=1).astype(np.int16)
        return mixed

    def _read_header(self, data: bytes) -> int | None:
        """Read the chunks before the sound; return where it begins, None if that is not here yet."""
        at, known = 12, False
        while at + 8 <= len(data):
            name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
            if name == b"data":
                if not known:
                    raise SpeechFormatError("answered a WAV file without a format")
                self._left = size if 0 < size < UNKNOWN else None
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


def _foreign(data: bytes, is_all: bool) -> str | None:
    """Return what other format the response is, "" for raw PCM, None if more bytes are needed to tell."""
    if len(data) < _SHORTEST and not is_all:
        return None
    word = _WORDS.get(data[:4])
    if word is not None:
        return word
    if data[:4] == b"RIFF":
        return "RIFF without WAVE"
    if data[4:8] == b"ftyp":
        return "MP4"
    if data[:3] == b"ID3" and data[3:4] < b"\x05" and len(data) >= 10 and max(data[6:10]) < 0x80:
        return "MPEG audio"
    text = data.removeprefix(b"\xef\xbb\xbf")[:_TEXT]
    if text and _PRINTABLE.issuperset(text):
        if len(text) < _TEXT and not is_all:
            return None
        if len(text) == _TEXT or text.lstrip()[:1] in (b"<", b"{", b"["):
            return f"text ({text[:32].decode()!r})"
    length = _frame_length(data)
    if length:
        if len(data) < length + 7:
            return "" if is_all else None
        if (
            _frame_length(data[length:])
            and data[1] == data[length + 1]
            and not (data[2] ^ data[length + 2]) & 0x0C
        ):
            return "MPEG audio" if data[1] & 6 else "AAC"
    return ""


def _frame_length(data: bytes) -> int:
    """Return the bytes of the MPEG audio or ADTS frame that begins here, 0 if none does."""
    if len(data) < 7 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return 0
    version, layer = data[1] >> 3 & 3, data[1] >> 1 & 3
    if layer == 0:  # ADTS, ISO/IEC 13818-7 §6.2
        size = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
        return size if data[1] & 0xF0 == 0xF0 and data[2] >> 2 & 15 < 13 and size > 7 else 0
    bitrate, rate = data[2] >> 4, data[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return 0
    bits = 1000 * _MPEG_KBPS[3 if version == 3 else 2, layer][bitrate - 1]
    padding, hertz = data[2] >> 1 & 1, _MPEG_RATES[version][rate]
    if layer == 3:
        return 4 * (12 * bits // hertz + padding)
    samples = 576 if layer == 1 and version != 3 else 1152
    return samples // 8 * bits // hertz + padding


def _parameter(pattern: re.Pattern[str], content_type: str, default: int) -> int:
    said = pattern.search(content_type.lower())
    return int(said[1][:9]) if said else default  # as many digits as tell that it is too large
