"""Opus (RFC 6716, RFC 7587), by libopus.

The encoder's settings may change between any two frames. Samples pass through one buffer of the usual size, which
grows for the first packet that is longer.

Left out: multistream Opus (more than two channels are not speech), float input, and DRED (no packaged libopus is
built with it).
"""

from __future__ import annotations

import ctypes
import weakref
from enum import IntEnum
from typing import Any

import numpy as np

from stack.audio.codec import Codec, CodecError, EncoderSettings, Samples, register_codec
from stack.audio.library import opus
from stack.core.errors import LocalError

OPUS_CLOCK_RATE = 48_000
"""The RTP clock of Opus, whatever rate either side works at (RFC 7587 §4.1)."""
MAX_PACKET_MS = 120
"""The longest Opus packet (RFC 6716 §3.4, R5)."""
MAX_PAYLOAD = 1275 * 3 + 7
"""Bytes of the largest payload that we make: three frames of the largest size and the headers."""
_USUAL_PAYLOAD = 1275 + 7
"""Bytes of the largest payload of one frame: what a packet of 20 ms is, or less."""
_USUAL_MS = 20


class _Request(IntEnum):
    """The requests of `opus_encoder_ctl` and `opus_decoder_ctl` that are used (opus_defines.h)."""

    SET_BITRATE = 4002
    SET_VBR = 4006
    SET_COMPLEXITY = 4010
    SET_INBAND_FEC = 4012
    SET_PACKET_LOSS_PERC = 4014
    SET_DTX = 4016
    GET_LOOKAHEAD = 4027
    RESET_STATE = 4028


_BUFFER_TOO_SMALL = -2  # OPUS_BUFFER_TOO_SMALL: nothing was decoded

_APPLICATIONS = {"voip": 2048, "audio": 2049, "lowdelay": 2051}
SAMPLE_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
"""What Opus encodes from and decodes to, in Hz (RFC 6716 §2)."""
_FRAME_MS = (2.5, 5, 10, 20, 40, 60)


def _check_format(sample_rate: int, channels: int) -> None:
    if sample_rate not in SAMPLE_RATES:
        raise LocalError(f"Opus works at {SAMPLE_RATES} Hz, not at {sample_rate}")
    if channels not in (1, 2):
        raise LocalError(f"Opus has 1 or 2 channels here, not {channels}")


class OpusEncoder:
    """An Opus encoder whose settings may be changed at any time (RFC 7587 §3).

    `application` is "voip" (speech), "audio" (music) or "lowdelay" (no speech modes, 2.5 ms less delay).
    `expected_loss` in per cent steers how much of the bitrate goes into FEC; `fec` alone does nothing at 0 %.
    With `dtx`, a payload for which `is_dtx` holds need not be sent.
    """

    clock_rate = OPUS_CLOCK_RATE

    def __init__(
        self,
        sample_rate: int = 48_000,
        channels: int = 1,
        bitrate: int = 24_000,
        complexity: int = 5,
        application: str = "voip",
        fec: bool = False,
        expected_loss: int = 0,
        dtx: bool = False,
        cbr: bool = False,
    ) -> None:
        _check_format(sample_rate, channels)
        if application not in _APPLICATIONS:
            raise LocalError(f"application is one of {', '.join(_APPLICATIONS)}, not {application!r}")
        self.sample_rate = sample_rate
        self.channels = channels
        self._library = opus()
        self._state = self._library.create_encoder(sample_rate, channels, _APPLICATIONS[application])
        weakref.finalize(self, self._library.destroy_encoder, self._state)
        self._grow(_USUAL_MS, _USUAL_PAYLOAD)
        self._frame_sizes = frozenset(int(sample_rate * ms / 1000) for ms in _FRAME_MS)
        self.bitrate = bitrate
        self.complexity = complexity
        self.fec = fec
        self.expected_loss = expected_loss
        self.dtx = dtx
        self.cbr = cbr

    def _grow(self, milliseconds: int, payload: int) -> None:
        """Make the buffers that every frame passes through, for frames up to so long."""
        longest = self.sample_rate * milliseconds // 1000
        self._pcm: Samples = np.empty((longest,) if self.channels == 1 else (longest, self.channels), np.int16)
        self._pointer = self._pcm.ctypes.data
        self._payload = ctypes.create_string_buffer(payload)

    def _set(self, request: _Request, value: int, name: str) -> int:
        code = self._library.encoder_ctl(self._state, request, ctypes.c_int32(value))
        if code < 0:
            raise LocalError(f"Opus refuses {name}={value}: {self._library.error(code)}")
        return value

    @property
    def bitrate(self) -> int:
        """Bits per second, without packet headers; the rate varies around it from frame to frame."""
        return self._bitrate

    @bitrate.setter
    def bitrate(self, value: int) -> None:
        self._bitrate = self._set(_Request.SET_BITRATE, value, "bitrate")

    @property
    def complexity(self) -> int:
        """0 (cheapest) to 10 (best); 5 costs half of 9."""
        return self._complexity

    @complexity.setter
    def complexity(self, value: int) -> None:
        self._complexity = self._set(_Request.SET_COMPLEXITY, value, "complexity")

    @property
    def fec(self) -> bool:
        """Whether packets carry a coarse copy of the frame before."""
        return self._fec

    @fec.setter
    def fec(self, value: bool) -> None:
        self._fec = bool(self._set(_Request.SET_INBAND_FEC, int(value), "fec"))

    @property
    def expected_loss(self) -> int:
        """Loss in per cent that FEC is laid out for."""
        return self._expected_loss

    @expected_loss.setter
    def expected_loss(self, value: int) -> None:
        self._expected_loss = self._set(_Request.SET_PACKET_LOSS_PERC, value, "expected_loss")

    @property
    def dtx(self) -> bool:
        """Whether silence may be left out (discontinuous transmission, RFC 7587 §3.1.3)."""
        return self._dtx

    @dtx.setter
    def dtx(self, value: bool) -> None:
        self._dtx = bool(self._set(_Request.SET_DTX, int(value), "dtx"))

    @property
    def cbr(self) -> bool:
        """Whether every packet has the same size, so that sizes say nothing of what is said (RFC 6562)."""
        return self._cbr

    @cbr.setter
    def cbr(self, value: bool) -> None:
        self._cbr = not self._set(_Request.SET_VBR, int(not value), "vbr")

    @property
    def lookahead(self) -> int:
        """Samples by which decoded sound lies behind what was encoded."""
        value = ctypes.c_int32()
        self._library.encoder_ctl(self._state, _Request.GET_LOOKAHEAD, ctypes.byref(value))
        return value.value

    def encode(self, samples: Samples) -> bytes:
        """Return the payload of one frame of 2.5, 5, 10, 20, 40 or 60 ms."""
        shape = samples.shape
        if (shape[1:] or (1,)) != (self.channels,) or shape[0] not in self._frame_sizes:
            raise LocalError(
                f"no Opus frame has the shape {shape} at {self.sample_rate} Hz, {self.channels} channels"
            )
        if shape[0] > len(self._pcm):
            self._grow(_FRAME_MS[-1], MAX_PAYLOAD)
        self._pcm[: shape[0]] = samples if samples.ndim == self._pcm.ndim else samples.reshape(-1)
        size = self._library.encode(self._state, self._pointer, shape[0], self._payload, len(self._payload))
        if size < 0:
            raise LocalError(f"Opus cannot encode: {self._library.error(size)}")
        payload: bytes = self._payload[:size]  # type: ignore[assignment]  # typeshed thinks of a list
        return payload

    def is_silence(self, payload: bytes) -> bool:
        """True for a payload of discontinuous transmission, which need not be sent."""
        return is_dtx(payload)

    def reset(self) -> None:
        """Forget everything but the settings, as before the first frame."""
        self._library.encoder_ctl(self._state, _Request.RESET_STATE)


def is_dtx(payload: bytes) -> bool:
    """True for a payload that says only "still silent" and need not be sent (opus_encode's contract)."""
    return len(payload) <= 2


class OpusDecoder:
    """An Opus decoder that gives any payload, mono or stereo, at one rate and one number of channels.

    Its state (18 kB, stereo 27) is made for the first packet: a person who is muted from the start costs none.
    """

    clock_rate = OPUS_CLOCK_RATE

    def __init__(self, sample_rate: int = 16_000, channels: int = 1) -> None:
        _check_format(sample_rate, channels)
        self.sample_rate = sample_rate
        self.channels = channels
        self._library = opus()
        self._state: Any = None
        self._room = 0  # samples per channel that fit into `_pcm`
        self._most = sample_rate * MAX_PACKET_MS // 1000
        self._step = sample_rate // 400  # libopus conceals in multiples of 2.5 ms

    def samples_in_packet(self, payload: bytes) -> int:
        """Samples per channel in `payload`, from its first byte or two."""
        return packet_duration(payload) * self.sample_rate // OPUS_CLOCK_RATE

    def has_fec(self, payload: bytes) -> bool:
        """True if `payload` carries an LBRR copy of the frame before it."""
        return has_lbrr(payload)

    def inspect(self, payload: bytes) -> tuple[int, bool]:
        """Return what `samples_in_packet` and `has_fec` say, in one look; `CodecError` if it is malformed."""
        return packet_duration(payload) * self.sample_rate // OPUS_CLOCK_RATE, has_lbrr(payload)

    def decode(self, payload: bytes) -> Samples:
        """Return the sound of one payload."""
        if not payload:
            raise CodecError("an empty payload is no Opus packet")  # libopus would conceal instead
        return self._call(payload, 0, fec=False)

    def recover(self, payload: bytes, samples: int) -> Samples:
        """Return the `samples` before `payload`: its LBRR copy, and concealment where it has none.

        A copy is one packet long: what is missing before that is concealed first.
        """
        copied = 0
        if has_lbrr(payload):
            copied = min(samples - samples % self._step, self.samples_in_packet(payload))
        before = self.conceal(samples - copied)
        if copied == 0:
            return before
        try:
            recovered = self._call(payload, copied, fec=True)
        except CodecError:  # `decode` of the same payload will say so
            recovered = self.conceal(copied)
        return np.concatenate((before, recovered)) if len(before) else recovered

    def conceal(self, samples: int) -> Samples:
        """Return `samples` of fading extrapolation; silence before anything was decoded."""
        parts = []
        wanted = samples
        while wanted > 0:
            size = min(wanted + -wanted % self._step, self._most)
            parts.append(self._call(b"", size, fec=False)[:wanted])
            wanted -= size
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(self._shape(0), np.int16)

    def reset(self) -> None:
        """Forget everything, as before the first packet."""
        if self._state is not None:
            self._library.decoder_ctl(self._state, _Request.RESET_STATE)

    def _shape(self, samples: int) -> tuple[int, ...]:
        return (samples,) if self.channels == 1 else (samples, self.channels)

    def _grow(self, samples: int) -> None:
        """Make the buffer that every packet passes through, and before the first one the state."""
        if self._state is None:
            self._state = self._library.create_decoder(self.sample_rate, self.channels)
            weakref.finalize(self, self._library.destroy_decoder, self._state)
        self._room = samples
        self._pcm: Samples = np.empty(samples * self.channels, np.int16)
        self._pointer = self._pcm.ctypes.data

    def _call(self, payload: bytes, samples: int, *, fec: bool) -> Samples:
        """Decode `payload`, or make up `samples` if it is empty or with `fec`; 0: as long as it is."""
        if samples > self._room or not self._room:
            self._grow(max(samples, self.sample_rate * _USUAL_MS // 1000))
        decode, room = self._library.decode, samples or self._room
        size = decode(self._state, payload or None, len(payload), self._pointer, room, fec)
        if size == _BUFFER_TOO_SMALL and not samples:
            self._grow(self._most)
            size = decode(self._state, payload, len(payload), self._pointer, self._most, fec)
        if size < 0:
            raise CodecError(f"Opus cannot decode {len(payload)} bytes: {self._library.error(size)}")
        if self.channels == 1:
            return self._pcm[:size].copy()
        return self._pcm[: size * self.channels].reshape(self._shape(size)).copy()


_FRAME_DURATIONS = (480, 960, 1920, 2880) * 3 + (480, 960) * 2 + (120, 240, 480, 960) * 4
"""Samples at 48 kHz of one frame, by configuration (RFC 6716 §3.1, table 2): 12 of SILK, 4 hybrid, 16 of CELT."""


def packet_duration(payload: bytes) -> int:
    """Samples at 48 kHz in an Opus packet, from its TOC byte (RFC 6716 §3.1, §3.2); `CodecError` if malformed."""
    if not payload:
        raise CodecError("an empty payload is no Opus packet")  # RFC 6716 §3.4, R1
    code = payload[0] & 3
    if code < 3:
        count = 1 if code == 0 else 2
    elif len(payload) < 2:
        raise CodecError("an Opus packet of code 3 without a frame count")  # R6
    else:
        count = payload[1] & 0x3F
    duration = count * _FRAME_DURATIONS[payload[0] >> 3]
    if not 0 < duration <= OPUS_CLOCK_RATE * MAX_PACKET_MS // 1000:
        raise CodecError(f"an Opus packet of {count} frames, {duration / 48:g} ms")  # R5
    return duration


def _first_frame(payload: bytes) -> bytes:
    """The first compressed frame of a packet (RFC 6716 §3.2), or b"" if it is empty or malformed."""
    code = payload[0] & 3
    at = 1
    if code == 3:
        if len(payload) < 2:
            return b""
        flags, at = payload[1], 2
        if flags & 0x40:  # padding: every 255 stands for 254 bytes and another length byte
            while at < len(payload) and payload[at] == 255:
                at += 1
            at += 1
        if flags & 0x80 and flags & 0x3F > 1:  # VBR: a length of one or two bytes for every frame but the last
            for index in range((flags & 0x3F) - 1):
                if at >= len(payload) or (index == 0 and payload[at] == 0):
                    return b""
                at += 2 if payload[at] >= 252 else 1
    elif code == 2:
        if len(payload) < 2 or payload[1] == 0:
            return b""
        at += 2 if payload[1] >= 252 else 1
    return payload[at:]


def has_lbrr(payload: bytes) -> bool:
    """True if an Opus packet carries a low-bitrate copy of the frame before it (RFC 6716 §4.2.3). Never raises."""
    if not payload or payload[0] & 0x80:  # CELT has no such copy
        return False
    if payload[0] & 3 == 0:
        frame = payload[1:2]
    else:
        try:
            packet_duration(payload)
        except CodecError:
            return False
        frame = _first_frame(payload)
    if not frame:
        return False
    silk_frames = max(1, _FRAME_DURATIONS[payload[0] >> 3] // 960)  # of 20 ms each; 10 ms is one short frame
    flag = 7 - silk_frames  # after one VAD bit for each frame comes the LBRR bit, most significant bit first
    if frame[0] >> flag & 1:
        return True
    stereo = bool(payload[0] & 4)  # then the same bits for the side channel
    return stereo and bool(frame[0] >> max(0, flag - silk_frames - 1) & 1)


def _make_encoder(settings: EncoderSettings) -> OpusEncoder:
    """Work at the least rate of Opus that holds what is encoded, up to what the peer makes use of."""
    rate = next((rate for rate in SAMPLE_RATES if rate >= settings.sample_rate), SAMPLE_RATES[-1])
    return OpusEncoder(
        min(rate, settings.max_rate),
        settings.channels,
        settings.bitrate,
        settings.complexity,
        settings.application,
        dtx=settings.dtx,
        cbr=settings.cbr,
    )


OPUS = register_codec(
    Codec(
        "opus",
        OPUS_CLOCK_RATE,
        preference=100,
        make_decoder=OpusDecoder,
        make_encoder=_make_encoder,
        channels=2,  # RFC 7587 §7: in any case
        parameters={"minptime": "10", "useinbandfec": "1"},  # RFC 7587 §6.1
    )
)
