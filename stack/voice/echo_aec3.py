"""AEC3, the canceller of libwebrtc, from the `livekit` wheel, behind the same interface as ours.

It suppresses as well as it cancels: less echo is left (39 dB and more, against 19–27 dB), and in double talk the
near-end voice loses 6 to 7 dB. It searches for the delay by itself, within about half a second.
"""

from __future__ import annotations

import numpy as np

from stack.core.errors import LocalError
from stack.voice.echo import EchoReport, EchoState
from stack.voice.echo_balance import Balance
from stack.voice.echo_filter import BLOCK
from stack.voice.echo_gate import EchoGate, GateSettings, band_powers
from stack.voice.echo_track import Track
from stack.voice.vad import DETECTOR_RATE, Float, Int16, VoiceFrame

_AUDIBLE = 30.0
_REACH = DETECTOR_RATE  # samples after our last sound in which its echo may still come


class Aec3EchoCanceller:
    """`pip install livekit`; int16 at 16 kHz in blocks of 10 ms."""

    def __init__(self, gate: GateSettings | None = None) -> None:
        try:
            from livekit.rtc import AudioFrame
            from livekit.rtc.apm import AudioProcessingModule
        except ImportError as error:
            raise LocalError("AEC3 needs `pip install livekit`; the default canceller needs nothing") from error
        self._make_frame = AudioFrame
        self._module = AudioProcessingModule(echo_cancellation=True, high_pass_filter=False)
        self._module.set_stream_delay_ms(0)
        self._gate = EchoGate(gate)
        self._reference = Track(2.0)
        self._microphone = Track(1.0)
        self._balance = Balance()
        self._next: int | None = None
        self._last_audible: int | None = None

    @property
    def report(self) -> EchoReport:
        """What can be seen from outside; its delay and its losses are its own secret."""
        heard = self._last_audible is not None
        state = EchoState.PRESENT if heard else EchoState.UNKNOWN
        return EchoReport(state, None, self._balance.erle_db, self._gate.leak_db, 0)

    def render(self, samples: Int16, media_time: float) -> None:
        """Note what we send."""
        self._reference.write(samples, media_time)
        scaled = samples.astype(np.float32)
        if len(samples) and float(np.dot(scaled, scaled)) > _AUDIBLE * _AUDIBLE * len(samples):
            self._last_audible = self._reference.end

    def capture(self, samples: Int16, media_time: float) -> tuple[Int16, float]:
        """Take the microphone; return the cleaned samples of the blocks that are whole, and their media time."""
        at = self._microphone.write(samples, media_time)
        if self._next is None or not self._next <= at < self._next + BLOCK:
            self._next = at
        start, cleaned = self._next, [np.zeros(0, np.int16)]
        while self._next + BLOCK <= self._microphone.end:
            cleaned.append(self._block(self._next))
            self._next += BLOCK
        return np.concatenate(cleaned), start / DETECTOR_RATE

    def judge(self, frame: VoiceFrame) -> VoiceFrame:
        """Return a detector's frame, without its probability if echo explains it."""
        return self._gate.judge(frame)

    def _block(self, at: int) -> Int16:
        microphone = self._microphone.read(at, BLOCK)
        if self._last_audible is None or at - self._last_audible > _REACH:
            return microphone.astype(np.int16)
        sent = self._reference.read(at, BLOCK)
        far = self._make_frame(sent.astype(np.int16).tobytes(), DETECTOR_RATE, 1, BLOCK)
        near = self._make_frame(microphone.astype(np.int16).tobytes(), DETECTOR_RATE, 1, BLOCK)
        self._module.process_reverse_stream(far)
        self._module.process_stream(near)
        error = np.frombuffer(near.data, np.int16)
        left = error.astype(np.float32)
        self._balance.update(microphone, left)
        # What a suppressor removed is what it took for echo: that is the prediction.
        removed = _power(microphone - left)
        nothing = np.zeros_like(removed)
        powers = np.stack([_power(microphone), _power(left), removed, removed, nothing, nothing])
        self._gate.update(at / DETECTOR_RATE, band_powers(powers), False)
        return error


def _power(signal: Float) -> Float:
    spectrum = np.fft.rfft(signal, 2 * BLOCK)
    return (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
