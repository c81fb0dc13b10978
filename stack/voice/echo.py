"""Taking our own voice out of the microphone: one interface, our linear canceller, and AEC3 as an option.

What was sent is the reference. The owner hands it over by `render` on the same timeline as the microphone's media
time (a constant offset up to `max_delay` is found by itself), best as the client decodes it: after the codec.
`capture` returns the microphone without the echo, block for block and without delay; `judge` is for the voice
detector's frames: it takes the probability from those that echo explains.

Nothing is computed while we are silent. While we speak, correlation looks for our voice in the microphone; only
when it is found there the filter runs, and when it turns out not to be there, it is looked for now and then.
Where no look is certain (music, a room that reverberates) the filter is tried for half a second where many looks
point to, and what it takes off decides (`echo_evidence.py`). A loudspeaker that clips is found and modelled
(`echo_loudspeaker.py`). The lag is followed as a line in time, so a playback clock that drifts is compensated by
a fractional delay.

Left out: suppression of what a linear filter leaves, because it would also eat the near-end voice that the program
wants to hear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from stack.core.errors import LocalError
from stack.voice.double_talk import DoubleTalkDetector
from stack.voice.echo_balance import Balance
from stack.voice.echo_evidence import Trial
from stack.voice.echo_filter import BLOCK, MOST_BLOCKS, REFERENCE, DelayEstimator, KalmanFilter, Lag
from stack.voice.echo_gate import BANDS, EchoGate, GateSettings, band_powers
from stack.voice.echo_loudspeaker import LoudspeakerCurve
from stack.voice.echo_track import OVERLAP, Track
from stack.voice.echo_watch import PathWatch
from stack.voice.vad import DETECTOR_RATE, Float, Int16, VoiceFrame

_AUDIBLE = 30.0  # RMS of a reference that can come back as an echo: -61 dBFS
_MUTED = 1.0  # mean square of a microphone that is muted or gone silent (DTX): -90 dBFS
_HEADROOM = 240  # taps that the model begins before the lag that was found: the direct sound may come first
_FRONT, _FRONT_EMPTY = 64, 0.1  # first taps of the model, and the share of its power that they have by chance
_TAIL = 3200  # samples for which a room may go on after us


class EchoState(Enum):
    """What is known about our voice in the microphone."""

    UNKNOWN = "unknown"
    """We have not yet spoken long enough to tell: speech is not believed while we speak."""
    ABSENT = "absent"
    """It is not there: nothing is cancelled, speech is believed; looked for now and then."""
    PRESENT = "present"
    """It is there, and the filter runs."""


@dataclass(frozen=True, slots=True)
class EchoReport:
    """A snapshot for statistics."""

    state: EchoState
    delay: float | None
    """Seconds from reference to echo."""
    erle_db: float
    """Echo return loss enhancement over about a second of our speech; the near end's voice lowers it."""
    leak_db: float
    """What the gate expects to be left of the echo."""
    path_losses: int
    """How often the echo path was found to have changed."""


class EchoCanceller(Protocol):
    """Whatever takes our voice out of a microphone; int16 samples at 16 kHz, media time in seconds."""

    def render(self, samples: Int16, media_time: float) -> None:
        """Note what we send."""
        ...

    def capture(self, samples: Int16, media_time: float) -> tuple[Int16, float]:
        """Take the microphone; return the cleaned samples of the blocks that are whole, and their media time."""
        ...

    def judge(self, frame: VoiceFrame) -> VoiceFrame:
        """Return a detector's frame, without its probability if echo explains it."""
        ...

    @property
    def report(self) -> EchoReport:
        """What it knows."""
        ...


_LOOK_EVERY = {EchoState.UNKNOWN: 2048, EchoState.ABSENT: 32_768, EchoState.PRESENT: 16_384}
_LOOK_WHEN_LOST = 4096
_LOOK_WHEN_SUSPECTED = 8192
_BEFORE_CANDIDATE = 640  # taps that a model on trial begins before its candidate: the direct sound comes first
_STILL_DB = 2.0  # taken off over the last second, or the path is another one after all
_ELSEWHERE = 32  # taps from the peak of a path that is learnt, where a look saw something else
_KNOWN_LAG = 4.0  # deviations by which an echo is still seen where it was: a quarter of what finds one is enough
_AS_CLEAR = 0.5  # of the best lag: as clear as that, the place that is known is no old one
_CURVE_DB = 5.0  # taken off: with less the path is not known well enough to find the loudspeaker's curve by it
_COMES_BACK = 1e-4  # of what we send: a microphone that hears less in all hears no echo of ours
_FIRST_LOOK = 4096  # samples of ours without which a correlation means nothing


class KalmanEchoCanceller:
    """The default: a linear adaptive filter in numpy, its delay found and its path watched.

    `max_delay` is in seconds, above 0; the model is of `partitions` × 10 ms, 2 or more; else `LocalError`.
    """

    _LOOKS_TO_GIVE_UP = 8
    _TRIALS = 2  # before it is decided for the first time that there is no echo
    _CANCELS_DB = 6.0  # taken off: a filter that does is not moved by a look that saw something else
    _FOUND = 0.5  # of a prediction that must be in the microphone, or the path is gone
    _FARTHEST_TAP = 480

    def __init__(self, max_delay: float = 0.5, partitions: int = 24, gate: GateSettings | None = None) -> None:
        if not 0.0 < max_delay < math.inf:
            raise LocalError(f"the echo comes after some delay, more than 0 s, not {max_delay!r}")
        if not isinstance(partitions, int) or partitions * BLOCK <= _HEADROOM:
            raise LocalError(f"a model of the echo path has 2 partitions or more, not {partitions!r}")
        self._partitions = partitions
        self._made_filter: KalmanFilter | None = None
        self._estimator = DelayEstimator(max_delay)
        self._gate = EchoGate(gate, DoubleTalkDetector(BANDS))
        self._reference = Track(self._estimator.span / DETECTOR_RATE + 1.0)
        self._microphone = Track(self._estimator.WINDOW / DETECTOR_RATE + 0.5)
        self._reach = int(max_delay * DETECTOR_RATE) + _TAIL
        self._next: int | None = None
        self._last_audible: int | None = None
        self._state = EchoState.UNKNOWN
        self._lag = Lag()
        self._next_look: int | None = None
        self._fruitless = 0
        self._fresh = False
        self._trial: Trial | None = None
        self._trials = self._possible = 0
        self._losses = 0
        self._balance = Balance()
        self._watch = PathWatch()
        self._curve = LoudspeakerCurve()

    @property
    def _filter(self) -> KalmanFilter:
        """Made when our voice is found in the microphone: with headphones it never is."""
        if self._made_filter is None:
            self._made_filter = KalmanFilter(self._partitions)
        return self._made_filter

    @property
    def report(self) -> EchoReport:
        """What it knows."""
        present = self._state is EchoState.PRESENT
        delay = (self._lag.at(self._next or 0) + self._peak()) / DETECTOR_RATE if present else None
        return EchoReport(self._state, delay, self._balance.erle_db, self._gate.leak_db, self._losses)

    def render(self, samples: Int16, media_time: float) -> None:
        """Note what we send. `media_time` may differ from the microphone's by any constant up to `max_delay`."""
        self._reference.write(_checked(samples), media_time)
        scaled = samples.astype(np.float32)
        if len(samples) and float(np.dot(scaled, scaled)) > _AUDIBLE * _AUDIBLE * len(samples):
            self._last_audible = self._reference.end

    def capture(self, samples: Int16, media_time: float) -> tuple[Int16, float]:
        """Take the microphone; return the cleaned samples of the blocks that are whole, and their media time."""
        at = self._microphone.write(_checked(samples), media_time)
        if self._next is None or not self._next <= at < self._next + BLOCK:
            if self._next is not None and self._next - at > OVERLAP:
                # A new stream: what was planned, and where the line of the lag begins, is far ahead of it.
                self._next_look = None
                self._lag.restart(round(self._lag.at(self._next)), at)
            self._next, self._fresh = at, False
        start = self._next
        whole = (self._microphone.end - start) // BLOCK
        if not whole:
            return np.zeros(0, np.int16), start / DETECTOR_RATE
        self._next = end = start + whole * BLOCK
        if self._needs_nothing(start, end):
            if at == start and len(samples) == end - start:  # nothing was waiting, nothing will
                return samples, start / DETECTOR_RATE
            return self._microphone.read(start, end - start).astype(np.int16), start / DETECTOR_RATE
        cleaned = self._microphone.read(start, end - start)
        at = start
        while at < end:
            next_look = self._look_when_due(at)
            # Blocks go together where the filter runs, up to the next look.
            together = self._state is EchoState.PRESENT and at + BLOCK < next_look
            blocks = cleaned[at - start : at - start + (MOST_BLOCKS * BLOCK if together else BLOCK)]
            error = self._take(at, blocks)
            if error is not None:
                blocks[:] = error
            at += len(blocks)
        np.rint(cleaned, cleaned)
        np.maximum(cleaned, -32768.0, out=cleaned)
        np.minimum(cleaned, 32767.0, out=cleaned)
        return cleaned.astype(np.int16), start / DETECTOR_RATE

    def judge(self, frame: VoiceFrame) -> VoiceFrame:
        """Return a detector's frame, without its probability if echo explains it."""
        return self._gate.judge(frame)

    def reset(self) -> None:
        """Another client, another room."""
        self._made_filter = None
        self._gate.restart()
        self._curve.reset()
        self._estimator.reset()
        self._state, self._fruitless, self._fresh = EchoState.UNKNOWN, 0, False
        self._lag, self._next_look, self._losses = Lag(), None, 0
        self._trial, self._trials, self._possible = None, 0, 0
        self._balance, self._watch = Balance(), PathWatch()

    def _needs_nothing(self, start: int, end: int) -> bool:
        """Say whether there is no echo in these samples, and nothing to look for."""
        if self._last_audible is None or start - self._last_audible > self._reach:
            if self._fresh:
                self._gate.rest()
            self._fresh, self._next_look = False, None
            return True
        if self._state is not EchoState.ABSENT or self._trial is not None:
            return False
        return self._next_look is not None and end <= self._next_look

    def _look_when_due(self, at: int) -> int:
        """Return the number of the sample at which the next look is due."""
        if self._next_look is None:
            self._next_look = at + _FIRST_LOOK
        if at >= self._next_look:
            self._look(at + BLOCK)
        return self._next_look

    def _take(self, at: int, microphone: Float) -> Float | None:
        """Take a block of the microphone, or some where the filter runs; return what is left, None for all."""
        if self._state is EchoState.PRESENT:
            return self._cancel(at, microphone)
        if self._trial is not None:
            self._try(at, microphone)
        if self._state is EchoState.UNKNOWN:
            self._gate.closed(at / DETECTOR_RATE)
        return None

    def _try(self, at: int, microphone: Float) -> None:
        """Run the filter at a candidate; only how much it takes off is used, not what it makes of the sound."""
        if float(microphone.dot(microphone)) < _AUDIBLE:
            self._fresh = False
            return
        model = self._filter
        error = self._step(at, microphone)
        self._balance.update(microphone, error)
        if self._state is EchoState.UNKNOWN:
            self._judge(at, model.powers, False)
        if float(model.powers[0, REFERENCE].sum()) < _AUDIBLE * _AUDIBLE * BLOCK * BLOCK:
            return
        found = self._trial.update(self._balance.erle_db) if self._trial is not None else None
        if found is None:
            return
        self._trial, self._fruitless = None, 0
        if found:
            self._state = EchoState.PRESENT
            self._watch.restart()
        elif self._trials >= self._TRIALS or not self._estimator.evidence.suspected:
            self._state = EchoState.ABSENT

    def _step(self, at: int, microphone: Float) -> Float:
        """Take the filter one block on, or some."""
        model = self._filter
        memory = self._curve.memory
        if not self._fresh:
            history = (model.partitions + 1) * BLOCK + memory
            model.load(self._curve.bend(self._reference.read(at - round(self._lag.at(at)) - history, history)))
            self._fresh = True
        sent = self._lag.delayed(self._reference.read, at - memory, len(microphone) + memory)
        return model.step(self._curve.bend(sent), microphone)

    def _consider(self, end: int) -> None:
        """See whether the loudspeaker bends what we send otherwise than is assumed."""
        curve, model = self._curve, self._filter
        count = curve.MEMORY + model.partitions * BLOCK + curve.WINDOW
        sent = self._reference.read(end - round(self._lag.at(end)) - count, count)
        factor = curve.consider(
            model.impulse_response(), sent, self._microphone.read(end - curve.WINDOW, curve.WINDOW)
        )
        if factor is not None:
            model.scale(factor)
            self._fresh = False

    def _cancel(self, at: int, microphone: Float) -> Float | None:
        if float(microphone.dot(microphone)) < _MUTED * len(microphone):
            # Nothing comes from the microphone, our echo neither: a path that could not be heard is not unlearnt.
            self._fresh = False
            for block in range(at, at + len(microphone), BLOCK):
                self._gate.closed(block / DETECTOR_RATE)
            return None
        model = self._filter
        error = self._step(at, microphone)
        self._balance.update(microphone, error)
        changed = self._watch.update(model.powers)
        if changed:
            self._relearn(at)
        self._judge(at, model.powers, changed)
        # A filter that adds more than it takes away is not asked.
        return None if self._balance.remainder > 1.0 else error

    def _judge(self, at: int, powers: Float, changed: bool) -> None:
        """Tell the gate of the blocks that the filter took, from sample number `at` on."""
        self._gate.update(at / DETECTOR_RATE, band_powers(powers), changed, self._filter.fading)

    def _relearn(self, at: int) -> None:
        """The path has changed, or begins to: forget what is wrong, and learn the rest anew."""
        watch = self._watch
        if watch.found < self._FOUND:
            self._losses += 1
            self._filter.doubt(watch.found)
            self._next_look = min(self._next_look or at, at + _LOOK_WHEN_LOST)
        else:
            # While a path moves, most of it is still right: the filter follows.
            self._filter.doubt(changed=min(1.0, watch.left))
        watch.restart()

    def _look(self, end: int) -> None:
        """Search for our voice in the last half second, if there is something to be seen in it."""
        estimator = self._estimator
        lost = self._state is EchoState.PRESENT and self._gate.taken_db < self._CANCELS_DB
        suspected = self._state is EchoState.ABSENT and estimator.evidence.suspected
        every = _LOOK_WHEN_SUSPECTED if suspected else _LOOK_EVERY[self._state]
        self._next_look = end + (_LOOK_WHEN_LOST if lost else every)
        heard = self._microphone.read(end - estimator.WINDOW, estimator.WINDOW)
        sent = self._reference.read(end - estimator.span, estimator.span)
        quiet = _AUDIBLE * _AUDIBLE * 1024
        if float(np.dot(sent, sent)) < quiet:
            return
        power = float(np.dot(heard, heard))
        if power < quiet / 10:
            # We are loud and the microphone is silent: what does not come back is no echo. But it may be muted, so
            # look again soon after it is not.
            self._next_look = end + _LOOK_WHEN_LOST // 2
            if self._state is EchoState.UNKNOWN:
                self._decide(None, end, False)
            return
        present = self._state is EchoState.PRESENT
        if present and self._gate.taken_db >= _CURVE_DB and self._curve.due:
            self._consider(end)
        if present and self._cancels:
            self._complete(end)
        lag = estimator.look(sent, heard, None if present else end)
        if not present:
            self._decide(lag, end, power > _COMES_BACK * float(np.dot(sent, sent)))
        elif lag is not None:
            self._fruitless = 0
            self._realign(lag, end)
        elif self._still_there(end) >= _KNOWN_LAG:
            self._fruitless = 0
        elif self._balance.erle_db < 1.0 and self._gate.taken_db < _STILL_DB:  # not only beside a voice
            self._fruitless += 1
            if self._fruitless >= self._LOOKS_TO_GIVE_UP:
                self._state = EchoState.ABSENT

    def _decide(self, lag: int | None, end: int, possible: bool) -> None:
        """While no echo is known: begin to cancel, begin to try, or know that there is none.

        `possible`: the microphone heard enough for an echo.
        """
        if lag is not None:
            self._state, self._fruitless, self._trial = EchoState.PRESENT, 0, None
            self._begin(max(0, lag - _HEADROOM), end)
            return
        if self._trial is not None:
            return
        self._fruitless += 1
        self._possible += possible
        if self._fruitless < self._LOOKS_TO_GIVE_UP:
            return
        # A person with a headset who begins to speak is heard in the last of them only.
        possible, self._possible = self._possible >= self._fruitless - 1, 0
        if self._state is EchoState.UNKNOWN and not possible:
            self._state, self._fruitless = EchoState.ABSENT, 0
        elif possible and (self._state is EchoState.UNKNOWN or self._estimator.evidence.suspected):
            self._trial, self._trials, self._fruitless = Trial(), self._trials + 1, 0
            self._begin(max(0, self._estimator.evidence.candidate - _BEFORE_CANDIDATE), end)

    def _begin(self, lag: int, end: int) -> None:
        """Learn a path anew that begins at a lag."""
        self._lag.restart(lag, end)
        self._fresh = False
        self._filter.forget()
        self._balance = Balance()
        self._mistrust()

    def _realign(self, lag: int, end: int) -> None:
        """Keep the path inside the model: take it along in a jump, follow a drift with the line of the lag."""
        base = self._lag.at(end)
        tap, target = round(lag - base), max(0, lag - _HEADROOM)
        jumped = self._lag.jumped(lag)
        if self._cancels:
            if abs(tap - self._peak()) > _ELSEWHERE:
                return  # music looks like itself a beat or a wave later, and a room is full of echoes
        elif jumped:
            if self._still_there(end) > _AS_CLEAR * self._estimator.sharpness:
                return  # another reflection of the same room
            self._filter.doubt()
            self._mistrust()
            self._lag.restart(target, end)
            self._fresh = False
            return
        if not 0 <= tap < self._partitions * BLOCK:
            self._begin(target, end)  # tried at the wrong place
            return
        if not 16 <= tap <= self._FARTHEST_TAP and abs(target - base) > 1.0:
            self._filter.shift(round(base) - target)
            if jumped:
                self._lag.restart(target, end)
            else:
                self._lag.move(target, end)
        else:
            self._lag.observe(lag, end)
            return
        self._fresh = False

    @property
    def _cancels(self) -> bool:
        """Whether the filter takes the echo off so clearly that no look may move it."""
        return self._gate.taken_db >= self._CANCELS_DB and self._balance.erle_db > _STILL_DB

    def _still_there(self, end: int) -> float:
        """Return how far the last look lets the echo stand out where it was learnt, in deviations."""
        return self._estimator.sharpness_at(round(self._lag.at(end)) + self._peak())

    def _complete(self, end: int) -> None:
        """Begin the model earlier if the path is learnt from its first tap on: what comes before it is missing.

        In a room the first look may have seen a reflection that is louder than the direct sound.
        """
        power, base = np.square(self._filter.impulse_response()), self._lag.at(end)
        earlier = min(_HEADROOM, round(base))
        if earlier > 0 and float(power[:_FRONT].sum()) > _FRONT_EMPTY * float(power.sum()):
            self._filter.shift(earlier)
            self._lag.move(base - earlier, end)
            self._fresh = False

    def _mistrust(self) -> None:
        self._watch.restart()
        self._gate.lost()

    def _peak(self) -> int:
        return int(np.argmax(np.abs(self._filter.impulse_response())))


def _checked(samples: Int16) -> Int16:
    if samples.ndim != 1 or samples.dtype != np.int16:
        raise LocalError(
            f"echo cancellation takes int16 samples of shape (n,), not {samples.dtype}{samples.shape}"
        )
    return samples
