"""Codecs: what an encoder, a decoder and a codec are to the rest of the stack, and the table of codecs.

A `Decoder` gives mono or stereo int16 straight at the rate that the listener wants (libopus decodes to 16 kHz for
less than to 48 kHz and a resampler), and it can make up for what is missing: `recover` reads the in-band FEC copy
(LBRR) of a frame out of the packet that follows it, `conceal` extrapolates. An `Encoder` takes int16 at its own
rate. A `Codec` is everything that a call has to know of one; it registers itself from a file in `codecs/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stack.core.errors import ParseError
from stack.core.registry import add_once

Samples: TypeAlias = NDArray[np.int16]
"""Linear PCM: shape (n,) for one channel, (n, channels) for more."""


class CodecError(ParseError):
    """A payload that the codec cannot read."""


class Encoder(Protocol):
    """Turns frames of int16 into payloads."""

    @property
    def sample_rate(self) -> int:
        """Samples per second and channel that `encode` wants."""
        ...

    @property
    def channels(self) -> int:
        """1 or 2."""
        ...

    @property
    def clock_rate(self) -> int:
        """Ticks per second of the RTP timestamp."""
        ...

    @property
    def lookahead(self) -> int:
        """Samples by which decoded sound lies behind what was encoded."""
        ...

    def encode(self, samples: Samples) -> bytes:
        """Return the payload of one frame; `LocalError` for a shape or length that the codec has no frame for."""
        ...

    def is_silence(self, payload: bytes) -> bool:
        """True for a payload that says only "still silent" and need not be sent (discontinuous transmission)."""
        ...

    def reset(self) -> None:
        """Forget everything but the settings, as before the first frame."""
        ...


class Decoder(Protocol):
    """Turns payloads into int16 at a rate of the listener's choice."""

    @property
    def sample_rate(self) -> int:
        """Samples per second and channel of everything that is returned."""
        ...

    @property
    def channels(self) -> int:
        """1 or 2."""
        ...

    @property
    def clock_rate(self) -> int:
        """Ticks per second of the RTP timestamp."""
        ...

    def samples_in_packet(self, payload: bytes) -> int:
        """Samples per channel that `decode` will return for `payload`; `CodecError` if it is malformed."""
        ...

    def has_fec(self, payload: bytes) -> bool:
        """True if `payload` carries a copy of the frame before it. Never raises."""
        ...

    def inspect(self, payload: bytes) -> tuple[int, bool]:
        """Return what `samples_in_packet` and `has_fec` say, in one look; `CodecError` if it is malformed."""
        ...

    def decode(self, payload: bytes) -> Samples:
        """Return the sound of one payload; `CodecError` if there is none in it."""
        ...

    def recover(self, payload: bytes, samples: int) -> Samples:
        """Return the `samples` that came before `payload`, from the copy in it; conceals what has no copy."""
        ...

    def conceal(self, samples: int) -> Samples:
        """Return `samples` that follow plausibly on what was decoded last."""
        ...


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """What a call wants of an encoder; a codec takes what it knows. Rates in Hz and bit/s.

    `sample_rate` is the rate of what will be encoded, where the codec can have it, and `max_rate` what the peer
    makes use of. The others are explained at `OpusEncoder`.
    """

    sample_rate: int
    max_rate: int = 48_000
    channels: int = 1
    bitrate: int = 24_000
    complexity: int = 5
    application: str = "voip"
    dtx: bool = False
    cbr: bool = False


@dataclass(frozen=True, slots=True)
class Codec:
    """One codec: its line in SDP, and the factories of its two directions."""

    name: str
    """The encoding name of a=rtpmap."""
    clock_rate: int
    """Ticks per second of the RTP timestamp, as a=rtpmap says it."""
    preference: int
    """Codecs are offered by falling preference."""
    make_decoder: Callable[[int], Decoder]
    """From the sample rate that the listener wants."""
    make_encoder: Callable[[EncoderSettings], Encoder]
    channels: int = 1
    """As a=rtpmap says it, which need not be what is encoded."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """a=fmtp: what we want to receive."""


CODECS: dict[str, Codec] = {}
"""By encoding name in lower case; `stack.audio.codecs` fills it."""


def register_codec(codec: Codec) -> Codec:
    """Put a codec into the table; `LocalError` if its name is taken."""
    add_once(CODECS, codec.name.lower(), codec)
    return codec
