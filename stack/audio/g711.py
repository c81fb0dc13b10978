"""G.711 (ITU-T G.711; RTP payload types 0 and 8, RFC 3551 §4.5.14): one byte a sample at 8 kHz, by table.

The encoder takes 8 kHz (the playout queue resamples what is written at another rate). The decoder brings
the sound to the listener's rate through a causal polyphase filter, 3 ms late, and conceals by repeating the pitch
period; there is no FEC. Voice activity and comfort noise of G.711 Appendix II are left out: browsers send neither.
"""

from __future__ import annotations

from enum import Enum
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stack.audio.codec import CodecError, Samples
from stack.audio.conceal import Concealer
from stack.audio.resample import Resampler
from stack.core.errors import LocalError

_RATE = 8_000
MAX_PACKET_MS = 200
"""RFC 3551 §4.2: a receiver should accept packets of 0 to 200 ms; a payloader without a limit fills the MTU."""
_BIAS = 0x84  # of µ-law, in the scale of 16-bit samples (14 bits, shifted left by two)


class G711Law(Enum):
    """The two companding laws, by their RTP encoding names."""

    PCMU = "PCMU"
    PCMA = "PCMA"


@cache
def _decode_table(law: G711Law) -> NDArray[np.int16]:
    """The 16-bit sample of each of the 256 codes (G.711 tables 1 and 2)."""
    code = np.arange(256)
    if law is G711Law.PCMU:
        code = ~code & 0xFF  # all bits are inverted on the wire
        magnitude = (((code & 0x0F) << 3) + _BIAS << (code >> 4 & 7)) - _BIAS
        return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)
    code ^= 0x55  # the even bits are inverted on the wire
    exponent, mantissa = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, mantissa + 0x108 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


@cache
def _encode_table(law: G711Law) -> NDArray[np.uint8]:
    """The code of the nearest level for each int16, indexed by the sample's bits as a uint16."""
    levels = _decode_table(law).astype(np.int32)
    order = np.argsort(levels, kind="stable")
    edges = (levels[order][1:] + levels[order][:-1]) / 2
    samples = np.arange(65_536).astype(np.uint16).view(np.int16)
    return order[np.searchsorted(edges, samples)].astype(np.uint8)


class G711Encoder:
    """int16 at 8 kHz to PCMU or PCMA; frames of any length."""

    sample_rate = _RATE
    clock_rate = _RATE
    channels = 1

    def __init__(self, law: G711Law = G711Law.PCMU) -> None:
        self.law = law
        self._table = _encode_table(law)

    def encode(self, samples: Samples) -> bytes:
        """Return one byte for each sample."""
        if samples.ndim != 1:
            raise LocalError(f"G.711 is mono: (n,), not {samples.shape}")
        return self._table[samples.astype(np.int16, copy=False).view(np.uint16)].tobytes()


class G711Decoder:
    """PCMU or PCMA to int16 mono at a rate of the listener's choice."""

    clock_rate = _RATE
    channels = 1

    def __init__(self, law: G711Law = G711Law.PCMU, sample_rate: int = 16_000) -> None:
        if sample_rate % _RATE:
            raise LocalError(f"G.711 is decoded to a multiple of 8000 Hz, not to {sample_rate}")
        self.law = law
        self.sample_rate = sample_rate
        self._table = _decode_table(law)
        self._resampler = Resampler(_RATE, sample_rate, causal=True)
        self._concealer = Concealer(_RATE)

    def samples_in_packet(self, payload: bytes) -> int:
        """Samples in `payload` at the listener's rate."""
        if not 0 < len(payload) <= _RATE * MAX_PACKET_MS // 1000:
            raise CodecError(f"{len(payload)} bytes are no G.711 packet")
        return len(payload) * self.sample_rate // _RATE

    def has_fec(self, payload: bytes) -> bool:
        """G.711 has none."""
        return False

    def inspect(self, payload: bytes) -> tuple[int, bool]:
        """Return what `samples_in_packet` and `has_fec` say, in one look; `CodecError` if it is malformed."""
        return self.samples_in_packet(payload), False

    def decode(self, payload: bytes) -> Samples:
        """Return the sound of one payload."""
        self.samples_in_packet(payload)
        pcm = self._table[np.frombuffer(payload, np.uint8)]
        return self._resampler.process(self._concealer.accept(pcm))

    def recover(self, payload: bytes, samples: int) -> Samples:
        """Conceal: there is no copy in `payload`."""
        return self.conceal(samples)

    def conceal(self, samples: int) -> Samples:
        """Return `samples` of fading repetition of the last pitch period."""
        ratio = self.sample_rate // _RATE
        return self._resampler.process(self._concealer.conceal(-(-samples // ratio)))[:samples]
