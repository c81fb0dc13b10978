"""What tells the person's voice from what is left of our own after the echo canceller.

A voice detector hears speech in a residual echo 20 dB down as well as it hears a person. So a frame counts only if
the canceller's output holds clearly more energy than the echo can have left there. Three estimates of that
remainder are kept for each of nine bands:

- the *unlearnt*: what the filter does not know yet of the path, by its own error variance. It is large after a
  change and shrinks band by band, as fast as our speech teaches the filter; no voice of a person can raise it;
- the *leak*: what is usually left of a predicted echo in a band that has been learnt: distortion, a late tail;
- the *coupling*: what of the reference's power usually comes back at all. It knows no phase, so it holds when
  the path changes, drifts or distorts; it bounds the other two, and takes over when the path has just been lost.

The last two follow a quantile in decibels, in steps of fixed size: a burst of near-end speech moves them a little,
and not away. The two highest bands are no evidence of a person: an "s" is loud, rare, and learnt last.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from stack.voice.echo_filter import BLOCK
from stack.voice.vad import DETECTOR_RATE, Float, VoiceFrame

Flags: TypeAlias = npt.NDArray[np.bool_]

BLOCK_SECONDS: Final = BLOCK / DETECTOR_RATE

_EDGES_HZ = (150, 350, 550, 800, 1150, 1650, 2300, 3200, 4500, 6500)
_BIN_HZ = DETECTOR_RATE / (2 * BLOCK)
_EDGES = np.array([round(edge / _BIN_HZ) for edge in _EDGES_HZ])
BANDS: Final = len(_EDGES_HZ) - 1

_QUANTILE = 0.9
_REVERB_DECAY = 0.8  # per block: what a room with 0.6 s of reverberation keeps of its power
_SMOOTHING = 0.6
_FLOOR_RISE = 10 ** (0.3 / 100)  # per block: 3 dB a second
_FLOOR_START = 1e4
_DOUBT = 0.1
_SUSPECT = 0.1  # share of energy that no echo explains, from which a block may be a person's and teaches little
_MOST_LEFT = 5.0  # of a prediction: more than that is a voice, or a path that is gone
_VERDICTS_KEPT = 64
_SETTLED = 0.1  # of a predicted echo: a band of which less is unlearnt shows what is left in the end
_EVIDENT = BANDS - 2  # bands in which a person is looked for: below 3.2 kHz


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How much more than echo is a voice."""

    leak_margin_db: float = 6.0
    """Above the usual remainder of the echo."""
    unlearnt_margin_db: float = 4.0
    """Above what the filter expects to be wrong by."""
    coupling_margin_db: float = 6.0
    """Above the echo itself, while nothing better is known."""
    floor_margin_db: float = 6.0
    """Above the background noise."""
    unexplained: float = 0.45
    """Share of the energy that neither echo nor noise accounts for, from which a frame may be speech."""
    probation_blocks: int = 4
    """For how long a prediction that was found wrong is not believed again."""


def in_bands(power: Float) -> Float:
    """Sum a power spectrum of the filter's bins into the gate's bands."""
    return np.add.reduceat(power[: _EDGES[-1]], _EDGES[:-1])


class QuantileTracker:
    """Follows a quantile of a ratio of powers in each band, in decibels."""

    def __init__(self, start_db: float, step_db: float = 0.2, eager_blocks: int = 100) -> None:
        self._start, self._step, self._eager = start_db, step_db, eager_blocks
        self._level: Float = np.full(BANDS, start_db, np.float32)
        self.seen = 0
        """How many updates there were since the start."""

    def update(self, upper: Float, lower: Float, valid: Flags, doubtful: bool) -> None:
        """Compare `upper / lower` with the present level where `valid`; `doubtful` blocks count for little."""
        ratio = 10.0 * np.log10((upper + 1.0) / (lower + 1.0))
        step = self._step * (4.0 if self.seen < self._eager else _DOUBT if doubtful else 1.0)
        move = np.where(ratio > self._level, step * _QUANTILE, step * (_QUANTILE - 1.0))
        self._level = np.clip(self._level + np.where(valid, move, 0.0), -40.0, 20.0).astype(np.float32)
        self.seen += 1

    @property
    def level_db(self) -> float:
        """The mean over the bands."""
        return float(self._level.mean())

    @property
    def gain(self) -> Float:
        """The level of each band as a factor of power."""
        power: Float = 10.0 ** (self._level / 10.0)
        return power

    def restart(self) -> None:
        """Learn again, fast."""
        self._level.fill(self._start)
        self.seen = 0


class EchoGate:
    """Judges blocks of 10 ms by their power spectra, and a detector's frames by the blocks that they cover."""

    _COUPLING_KNOWN = 30  # blocks with a reference after which the coupling means something

    def __init__(self, settings: GateSettings | None = None) -> None:
        self._settings = settings or GateSettings()
        self._margins = [
            10.0 ** (margin / 10.0)
            for margin in (
                self._settings.leak_margin_db,
                self._settings.unlearnt_margin_db,
                self._settings.coupling_margin_db,
                self._settings.floor_margin_db,
            )
        ]
        self._leak = QuantileTracker(start_db=-3.0)
        self._coupling = QuantileTracker(start_db=0.0, step_db=0.1)
        self._echo: Float = np.zeros(BANDS, np.float32)
        self._ours: Float = np.zeros(BANDS, np.float32)
        self._error: Float = np.zeros(BANDS, np.float32)
        self._floor: Float = np.full(BANDS, _FLOOR_START, np.float32)
        self._unlearnt: Float = np.zeros(BANDS, np.float32)
        self._probation = 0
        self._verdicts: deque[tuple[float, float]] = deque(maxlen=_VERDICTS_KEPT)

    @property
    def leak_db(self) -> float:
        """What is usually left of the predicted echo."""
        return self._leak.level_db

    def update(
        self,
        media_time: float,
        microphone: Float,
        error: Float,
        predicted: Float,
        reference: Float,
        unlearnt: Float,
        opposed: bool,
        converged: bool,
    ) -> float:
        """Take the power spectra of one block; return the share of its energy that no echo explains.

        `reference` is the power that can be in the echo path now, `unlearnt` what the filter may be wrong by;
        `opposed` says that the path was just found to be another one; `converged` says that the filter has ever
        been seen to cancel in this place.
        """
        heard, left = in_bands(microphone), in_bands(error)
        self._ours = ours = np.maximum(in_bands(reference), _REVERB_DECAY * self._ours)
        self._echo = np.maximum(in_bands(predicted), _REVERB_DECAY * self._echo)
        self._unlearnt = np.maximum(in_bands(unlearnt), _REVERB_DECAY * self._unlearnt)
        self._error = _SMOOTHING * self._error + (1.0 - _SMOOTHING) * left
        self._floor = np.minimum(self._floor * _FLOOR_RISE, np.maximum(self._error, 1.0))
        audible = ours * self._coupling.gain > 4.0 * self._floor
        doubtful = bool(self._verdicts) and self._verdicts[-1][1] > _SUSPECT
        self._coupling.update(heard, ours, audible, doubtful)
        by_coupling = self._coupling.gain * ours * self._margins[2]
        if opposed:
            self._probation = self._settings.probation_blocks
        believed = converged and self._probation == 0
        self._probation = max(0, self._probation - 1)
        if converged:
            learnt = self._unlearnt < _SETTLED * self._echo
            self._leak.update(left, self._echo, learnt & (self._echo > 4.0 * self._floor), doubtful)
        if believed:
            by_filter = np.maximum(
                self._leak.gain * self._echo * self._margins[0], self._unlearnt * self._margins[1]
            )
            echo = np.minimum(by_filter, by_coupling)
            if self._error.sum() > _MOST_LEFT * self._echo.sum():
                # Far more is left than was predicted; if no more than comes back at all, the path may be gone.
                echo = np.maximum(echo, self._coupling.gain * ours)
        elif self._coupling.seen >= self._COUPLING_KNOWN:
            echo = by_coupling
        else:
            return self._note(media_time, 0.0)
        unexplained = np.maximum(self._error - echo - self._floor * self._margins[3], 0.0)[:_EVIDENT]
        return self._note(media_time, float(unexplained.sum() / (self._error[:_EVIDENT].sum() + 1.0)))

    def closed(self, media_time: float) -> None:
        """Nothing is known about this block, and it may be echo."""
        self._note(media_time, 0.0)

    def lost(self) -> None:
        """The echo is another one: what used to be left of it means nothing any more."""
        self._leak.restart()
        self._echo.fill(0)

    def restart(self) -> None:
        """Forget everything."""
        self.lost()
        self._coupling.restart()
        self._floor.fill(_FLOOR_START)
        self._verdicts.clear()

    def judge(self, frame: VoiceFrame) -> VoiceFrame:
        """Return the frame, its probability taken away if echo explains it; frames without blocks pass."""
        shares = [
            share
            for media_time, share in self._verdicts
            if media_time + BLOCK_SECONDS > frame.media_time and media_time < frame.end
        ]
        if not shares or sum(shares) / len(shares) >= self._settings.unexplained:
            return frame
        return frame._replace(probability=0.0)

    def _note(self, media_time: float, share: float) -> float:
        self._verdicts.append((media_time, share))
        return share
