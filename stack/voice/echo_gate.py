"""What tells the person's voice from what is left of our own after the echo canceller.

A voice detector hears speech in a residual echo 20 dB down as well as it hears a person. So a frame counts only if
the canceller's output holds clearly more energy than the echo can have left there. Four estimates of that
remainder are kept for each of nine bands:

- the *unlearnt*: what the filter does not know yet of the path, by its own error variance. It is large after a
  change and shrinks band by band, as fast as our speech teaches the filter; no voice of a person can raise it;
- the *new*: what of the reference lies where it never lay before, as a note does that is played for the first
  time. The unlearnt takes it for learnt, by the notes beside it; it can come back as loud as anything does;
- the *leak*: what is usually left of a predicted echo in a band that has been learnt: distortion, a late tail;
- the *coupling*: what of the reference's power usually comes back at all. It knows no phase, so it holds when
  the path changes, drifts or distorts; it bounds the others, and takes over when the path has just been lost.

The leak and the coupling follow a quantile in decibels, in steps of fixed size: a burst of near-end speech moves
them a little, and not away. In the two highest bands an "s" is loud, rare, and learnt last: there only what is
far louder than all of our sound that comes back is a person, whose own "s" it is.

These bound the echo. Where the canceller has taken it off, a small network that sees how far what is left lies
above each of them (`double_talk.py`) decides, which it does sooner than any bound; elsewhere the bounds do.

How slowly a room falls silent is not known before the filter has shown that it holds most of the echo: until then
the coupling is held against our sound as it fades in a hall, for what reverberates in a pause of ours is louder
than the echo of the last blocks. Where it then shows that what is heard follows all that was sent in the last
seconds, that is the most that can be ours (`echo_reverberation.py`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from stack.core.errors import LocalError
from stack.voice.double_talk import DoubleTalkDetector
from stack.voice.echo_filter import BINS, BLOCK, ROWS
from stack.voice.echo_reverberation import Reverberation
from stack.voice.setting_checks import check_number
from stack.voice.vad import DETECTOR_RATE, Float, VoiceFrame

BLOCK_SECONDS: Final = BLOCK / DETECTOR_RATE

_EDGES_HZ = (150, 350, 550, 800, 1150, 1650, 2300, 3200, 4500, 6500)
_BIN_HZ = DETECTOR_RATE / (2 * BLOCK)
_EDGES = [round(edge / _BIN_HZ) for edge in _EDGES_HZ]
BANDS: Final = len(_EDGES_HZ) - 1

_QUANTILE = 0.9
_REVERB_DECAY: Final = 0.8  # per block: what a room with 0.6 s of reverberation keeps of its power
_LATE_DECAY: Final = 0.95  # the same with 2.7 s: a hall
_SHORT_DB = 8.0  # taken off at best: where that is reached, a room is no hall
_HALL_FADING = 0.93  # per block, where the model ends: 1 s of reverberation
_SMOOTHING, _NEW = 0.6, 0.4
_FLOOR_RISE = 10 ** (0.3 / 100)  # per block: 3 dB a second
_FLOOR_START = 1e4
_DOUBT = 0.1
_SUSPECT = 0.1  # share of energy that no echo explains, from which a block may be a person's and teaches little
_TAKEN_DB = 4.0  # off the echo, from which the filter's prediction is evidence
_TAKEN_UP_DB, _TAKEN_DOWN_DB = 0.4, 0.2  # per block
_RECENT = 0.8  # of the sums of the last block: 50 ms
_MOST_TAKEN_DB = 40.0
_MUCH_NEW = 0.1  # of our sound in a band: less than that is beside what is learnt
_MOST_LEFT = 5.0  # of a prediction: more than that is a voice, or a path that is gone
_VERDICTS_KEPT = 64
_SETTLED = 0.1  # of a predicted echo: a band of which less is unlearnt shows what is left in the end
_EVIDENT = BANDS - 2  # bands in which a person is looked for: below 3.2 kHz
_DETECTOR_DB = 6.0  # taken off now: with less the double-talk detector is not believed
_HINT, _LATELY = 0.01, 8  # share of energy that no echo explains, and for how many blocks that is a hint
_YOUNG = 250  # packets of an echo path since it was found
_CHANGED = 25  # packets since it became another one
_NO_HALL = [0.0] * BANDS
_ODDS_PER_SHARE = 40.0  # what a share of energy by the rules counts beside log-odds
_MOST_MARGIN_DB = 200.0  # a factor of power is reckoned of it
_SPILLS = 0.2  # of all our sound that comes back, that a loudspeaker may make of it above 3.2 kHz


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How much more than echo is a voice. `LocalError` for what cannot work."""

    leak_margin_db: float = 6.0
    """Above the usual remainder of the echo."""
    unlearnt_margin_db: float = 4.0
    """Above what the filter expects to be wrong by."""
    taken_margin_db: float = 6.0
    """Above the echo less what has been taken off it lately."""
    coupling_margin_db: float = 6.0
    """Above the echo itself, while nothing better is known."""
    hiss_margin_db: float = 12.0
    """Above the echo itself in the two highest bands, where no better estimate counts."""
    floor_margin_db: float = 6.0
    """Above the background noise."""
    unexplained: float = 0.45
    """Share of the energy that neither echo nor noise accounts for, from which a frame may be speech."""
    probation_blocks: int = 4
    """For how long a prediction that was found wrong is not believed again."""
    near_end_odds: float | None = 1.0
    """Log-odds of the double-talk detector from which a frame may be speech; None: the rules alone decide."""
    unhinted_odds: float = 4.0
    """How much more it takes where the rules have found nothing at all of late."""
    young_odds: float = 4.0
    """How much more it takes in the first 5 s after an echo was found, and in the half second after a change."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value is not None or name != "near_end_odds":
                check_number(name, value, most=_MOST_MARGIN_DB if name.endswith("_db") else None)
        if not 0.0 < self.unexplained <= 1.0:
            raise LocalError(f"unexplained is above 0 and 1 at most, not {self.unexplained!r}")
        if not isinstance(self.probation_blocks, int) or self.probation_blocks < 0:
            raise LocalError(f"probation_blocks is a whole number and not negative, not {self.probation_blocks!r}")


def _band_sums() -> Float:
    """Return the matrix that sums a power spectrum of the filter's bins into the gate's bands: (BINS, BANDS)."""
    sums = np.zeros((BINS, BANDS), np.float32)
    for band, (first, end) in enumerate(pairwise(_EDGES)):
        sums[first:end, band] = 1.0
    return sums


_BAND_SUMS = _band_sums()
_LEAST_GAIN, _MOST_GAIN = 1e-4, 100.0  # -40 and 20 dB


def band_powers(powers: Float) -> list[list[list[float]]]:
    """Return `KalmanFilter.powers` summed into the gate's bands: for each block six lists of `BANDS` numbers."""
    sums = np.matmul(powers.reshape(-1, BINS), _BAND_SUMS).reshape(-1, ROWS, BANDS)
    blocks: list[list[list[float]]] = sums.tolist()
    return blocks


def _factor(decibels: float) -> float:
    return float(10.0 ** (decibels / 10.0))


class QuantileTracker:
    """Follows a quantile of a ratio of powers in each band, in steps that are even in decibels.

    The gate compares, and writes into `gain`: up by a `step` where the ratio is above it, else down.
    """

    def __init__(self, start_db: float, step_db: float = 0.2, eager_blocks: int = 100) -> None:
        self._start, self._eager = _factor(start_db), eager_blocks
        self.gain: list[float] = [self._start] * BANDS
        """The level of each band as a factor of power."""
        # Factors by which a level rises and falls: as a rule, while it is learnt, and in doubt.
        self._usual, self._fast, self._slow = (
            (_factor(step * _QUANTILE), _factor(step * (_QUANTILE - 1.0)))
            for step in (step_db, 4.0 * step_db, _DOUBT * step_db)
        )
        self.seen = 0
        """How many updates there were since the start."""

    def step(self, doubtful: bool) -> tuple[float, float]:
        """Return the factors by which the levels rise and fall in this block; a doubtful one counts for little."""
        self.seen += 1
        return self._fast if self.seen <= self._eager else self._slow if doubtful else self._usual

    @property
    def level_db(self) -> float:
        """The mean over the bands."""
        return sum(10.0 * math.log10(level) for level in self.gain) / BANDS

    def restart(self) -> None:
        """Learn again, fast."""
        self.gain = [self._start] * BANDS
        self.seen = 0


class EchoGate:
    """Judges blocks of 10 ms by their power spectra, and a detector's frames by the blocks that they cover.

    Without a double-talk detector the rules alone decide.
    """

    _COUPLING_KNOWN = 30  # blocks with a reference after which the coupling means something

    def __init__(
        self, settings: GateSettings | None = None, double_talk: DoubleTalkDetector | None = None
    ) -> None:
        self._settings = settings or GateSettings()
        self._double_talk = double_talk if self._settings.near_end_odds is not None else None
        self._enough = self._settings.near_end_odds or 0.0
        self._leak_margin = _factor(self._settings.leak_margin_db)
        self._unlearnt_margin = _factor(self._settings.unlearnt_margin_db)
        self._taken_margin = _factor(self._settings.taken_margin_db)
        self._coupling_margin = _factor(self._settings.coupling_margin_db)
        self._hiss_margin = _factor(self._settings.hiss_margin_db)
        self._floor_margin = _factor(self._settings.floor_margin_db)
        self._leak = QuantileTracker(start_db=-3.0)
        self._coupling = QuantileTracker(start_db=0.0, step_db=0.1)
        self._echo = [0.0] * BANDS
        self._ours = [0.0] * BANDS
        self._late = [0.0] * BANDS
        self._reverberation = Reverberation(BANDS)
        self._unlearnt = [0.0] * BANDS
        self._new = [0.0] * BANDS
        self._error = [0.0] * BANDS
        self._floor = [_FLOOR_START] * BANDS
        self._probation = 0
        self._came = self._stayed = 0.0
        self._most_taken_db = 0.0  # since the echo was found
        self.taken_db = 0.0
        """What the filter has been seen to take off the echo lately: measured, and slow to fall while a person may
        speak."""
        self._share = 0.0
        self._hinted = 0  # blocks for which a hint still counts
        self._verdicts: deque[tuple[float, float]] = deque(maxlen=_VERDICTS_KEPT)
        """Media times, and log-odds that the near end speaks, less those that are enough."""

    @property
    def leak_db(self) -> float:
        """What is usually left of the predicted echo."""
        return self._leak.level_db

    def update(
        self,
        media_time: float,
        blocks: Sequence[Sequence[Sequence[float]]],
        opposed: bool,
        fading: float = _REVERB_DECAY,
    ) -> float:
        """Take the `band_powers` of blocks; return the share of the last one's energy that no echo explains.

        `opposed` says that the path was just found to be another one, `fading` what the room keeps of its power
        in a block. With nine bands, numbers are cheaper than arrays.
        """
        shares = []
        if opposed and self._double_talk is not None:
            self._double_talk.changed()
        for bands in blocks:
            shares.append(self._follow(bands, opposed, fading))
            self._hinted = _LATELY if shares[-1] > _HINT else max(0, self._hinted - 1)
            opposed = False
        odds = self._ask(self._double_talk, blocks[-1], fading) if self._double_talk is not None else None
        for block, share in enumerate(shares):
            by_rules = _ODDS_PER_SHARE * (share - self._settings.unexplained)
            self._verdicts.append((media_time + block * BLOCK_SECONDS, by_rules if odds is None else odds))
        return self._share

    def _ask(self, detector: DoubleTalkDetector, bands: Sequence[Sequence[float]], fading: float) -> float | None:
        """Return the double-talk detector's log-odds, less those that are enough; None where the rules decide."""
        hall = self._reverberation
        estimates = (
            self._floor,
            self._ours,
            self._late,
            self._echo,
            self._unlearnt,
            self._new,
            hall.expected if hall.explains else _NO_HALL,
            self._coupling.gain,
            self._leak.gain,
        )
        measures = self.taken_db, self._most_taken_db, fading, self._share
        learnt, doubtful = self.taken_db >= _TAKEN_DB, self._share > _SUSPECT
        odds = detector.update(bands[:3], self._error, estimates, measures, learnt, doubtful)
        if self.taken_db < _DETECTOR_DB or self._most_taken_db < _SHORT_DB or hall.explains:
            return None
        if not self._hinted:
            odds -= self._settings.unhinted_odds
        if detector.age < _YOUNG or detector.unchanged < _CHANGED:
            odds -= self._settings.young_odds
        return odds - self._enough

    def _follow(self, bands: Sequence[Sequence[float]], opposed: bool, fading: float) -> float:
        """Follow the estimates in a block; return the share of its energy that none of them explains."""
        heard, left, predicted, reference, unlearnt, unplayed = bands
        doubtful = self._share > _SUSPECT
        rise, fall = self._coupling.step(doubtful)
        learnt = self.taken_db >= _TAKEN_DB
        leak_rise, leak_fall = self._leak.step(doubtful) if learnt else (1.0, 1.0)
        came, stayed = _RECENT * self._came, _RECENT * self._stayed
        error, floor, coupling, leak = self._error, self._floor, self._coupling.gain, self._leak.gain
        echo, ours, late, unsure, new = self._echo, self._ours, self._late, self._unlearnt, self._new
        for band, rest in enumerate(left):
            # Comparisons, because calls of `max` and `min` would take as long as all the rest.
            error[band] = now = _SMOOTHING * error[band] + _NEW * rest
            now = now if now > 1.0 else 1.0
            noise = floor[band] * _FLOOR_RISE
            floor[band] = noise = noise if noise < now else now
            sent, before = reference[band], fading * ours[band]
            ours[band] = sent = sent if sent > before else before
            before = _LATE_DECAY * late[band]
            late[band] = sent if sent > before else before
            expected, before = predicted[band], _REVERB_DECAY * echo[band]
            echo[band] = expected = expected if expected > before else before
            wrong, before = unlearnt[band], _REVERB_DECAY * unsure[band]
            unsure[band] = wrong = wrong if wrong > before else before
            first, before = unplayed[band], _REVERB_DECAY * new[band]
            new[band] = first if first > before else before
            gain, noise = coupling[band], 4.0 * noise
            if sent * gain > noise:
                came += heard[band]
                stayed += rest
                above = heard[band] + 1.0 > gain * (sent + 1.0)
                coupling[band] = min(gain * rise, _MOST_GAIN) if above else max(gain * fall, _LEAST_GAIN)
            if learnt and expected > noise and wrong < _SETTLED * expected:
                gain = leak[band]
                above = rest + 1.0 > gain * (expected + 1.0)
                leak[band] = min(gain * leak_rise, _MOST_GAIN) if above else max(gain * leak_fall, _LEAST_GAIN)
        hall = self._reverberation
        if self._most_taken_db < _SHORT_DB or fading >= _HALL_FADING or hall.explains:
            hall.update(heard, reference, floor, doubtful)
        if came > self._came * _RECENT:
            self._take(came, stayed, doubtful)
        if opposed:
            self._probation = self._settings.probation_blocks
        believed = self.taken_db >= _TAKEN_DB and self._probation == 0
        self._probation = max(0, self._probation - 1)
        if not believed and self._coupling.seen < self._COUPLING_KNOWN:
            self._share = 0.0
        else:
            self._share = self._unexplained(believed)
        return self._share

    def _take(self, came: float, stayed: float, doubtful: bool) -> None:
        """Note how much of the echo is taken off now."""
        self._came, self._stayed = came, stayed
        more = 10.0 * math.log10((came + 1.0) / (stayed + 1.0)) > self.taken_db
        step = _TAKEN_UP_DB if more else -_TAKEN_DOWN_DB * (_DOUBT if doubtful else 1.0)
        self.taken_db = min(_MOST_TAKEN_DB, max(0.0, self.taken_db + step))
        if self.taken_db > self._most_taken_db:
            self._most_taken_db = self.taken_db

    def _unexplained(self, believed: bool) -> float:
        """Return the share of the present energy that neither echo nor noise accounts for."""
        error, floor, coupling, leak = self._error, self._floor, self._coupling.gain, self._leak.gain
        echo, unlearnt, new = self._echo, self._unlearnt, self._new
        ours = self._late if self._most_taken_db < _SHORT_DB else self._ours
        hall = self._reverberation.expected if self._reverberation.explains else None
        floor_margin, coupling_margin = self._floor_margin, self._coupling_margin
        leak_margin, unlearnt_margin = self._leak_margin, self._unlearnt_margin
        # If far more is left than was predicted, but no more than comes back at all, the path may be gone.
        gone = believed and sum(error) > _MOST_LEFT * sum(echo)
        unexplained = 0.0
        rest = self._taken_margin * _factor(-self.taken_db)
        for band in range(_EVIDENT):
            more = error[band] - floor[band] * floor_margin
            if more <= 0.0:
                continue
            coupled = coupling[band] * ours[band]
            explained = coupled * coupling_margin
            if believed:
                by_filter = leak[band] * echo[band] * leak_margin
                by_learning, by_taking = unlearnt[band] * unlearnt_margin, coupled * rest
                if by_filter < by_learning:
                    by_filter = by_learning
                if by_filter < by_taking:
                    by_filter = by_taking
                if new[band] > _MUCH_NEW * ours[band]:
                    unknown = coupling[band] * new[band] * coupling_margin
                    if by_filter < unknown:
                        by_filter = unknown
                if explained > by_filter:
                    explained = by_filter
                if gone and explained < coupled:
                    explained = coupled
            if hall is not None and explained > hall[band]:
                explained = hall[band]
            if more > explained:
                unexplained += more - explained
        hiss = self._unexplained_hiss()
        return (unexplained + hiss) / (sum(error[:_EVIDENT]) + hiss + 1.0)

    def _unexplained_hiss(self) -> float:
        """Return the energy above 3.2 kHz that is a person's: an "s", louder than any of ours can be there."""
        error, floor, coupling, ours = self._error, self._floor, self._coupling.gain, self._ours
        hiss = spills = 0.0
        for band in range(_EVIDENT, BANDS):
            more = error[band] - floor[band] * self._floor_margin
            if more <= 0.0:
                continue
            spills = spills or _SPILLS * sum(gain * sent for gain, sent in zip(coupling, ours, strict=True))
            explained = max(coupling[band] * ours[band] * self._hiss_margin, spills)
            if more > explained:
                hiss += more - explained
        return hiss

    def closed(self, media_time: float) -> None:
        """Nothing is known about this block, and it may be echo."""
        if self._verdicts and self._verdicts[-1][0] == media_time:
            self._verdicts.pop()
        self._share = 0.0
        self._verdicts.append((media_time, -_ODDS_PER_SHARE * self._settings.unexplained))

    def lost(self) -> None:
        """The echo is another one: what used to be left of it means nothing any more."""
        self._leak.restart()
        if self._double_talk is not None:
            self._double_talk.restart()
        self._echo = [0.0] * BANDS
        self._came = self._stayed = self.taken_db = self._most_taken_db = 0.0

    def rest(self) -> None:
        """No echo can come for a while: what is heard now is not to be smoothed into what comes then."""
        self._error = [0.0] * BANDS
        self._share, self._hinted = 0.0, 0
        if self._double_talk is not None:
            self._double_talk.rest()

    def restart(self) -> None:
        """Forget everything."""
        self.lost()
        self._coupling.restart()
        self._reverberation.restart()
        self._floor = [_FLOOR_START] * BANDS
        self._ours, self._late, self._unlearnt, self._new, self._error = ([0.0] * BANDS for _ in range(5))
        self._verdicts.clear()
        self._share, self._hinted, self._probation = 0.0, 0, 0

    def judge(self, frame: VoiceFrame) -> VoiceFrame:
        """Return the frame, its probability taken away if echo explains it; frames without blocks pass."""
        total = 0.0
        for media_time, odds in reversed(self._verdicts):  # what is asked about is among the newest
            if media_time + BLOCK_SECONDS <= frame.media_time:
                break
            if media_time < frame.end:
                total += odds
        return frame if total >= 0.0 else frame._replace(probability=0.0)
