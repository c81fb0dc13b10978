"""The adaptive part of echo cancellation: the filter that models the room, and the search for its bulk delay.

`KalmanFilter` is a partitioned-block frequency-domain adaptive filter with a Kalman step size, diagonal in
frequency and partition: overlap-save with hops of 10 ms, one complex weight and one error variance for each bin of
each partition. What the filter knows about its own error decides how far it moves, and what the near end adds is
measured as noise, so double talk slows it down instead of tearing it away (Enzner and Vary, "Frequency-domain
adaptive Kalman filter for acoustic echo control in hands-free telephones", Signal Processing 2006). It is linear:
the near-end voice passes whole. Its error variance is also what the gate is told of bins that are not learnt yet.

`DelayEstimator` finds where in half a second of what was sent the echo sits, by phase correlation (GCC-PHAT) that
is accumulated over windows. `Lag` is what was found as a line in time, and reads the reference along it.

Left out: non-linear echo paths (a gate, not a suppressor, deals with what a linear filter leaves).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import as_strided

from stack.voice.echo_evidence import LagEvidence
from stack.voice.spectrum import Complex, forward, inverse
from stack.voice.vad import DETECTOR_RATE, Float

BLOCK = 160
"""Samples per step of the filter: 10 ms."""
BINS = BLOCK + 1

MOST_BLOCKS = 2
"""Blocks that `KalmanFilter.step` takes at once: a packet of 20 ms."""
ROWS = 6
"""Rows of each block of `KalmanFilter.powers`: these."""
MICROPHONE, ERROR, ECHO, REFERENCE, UNLEARNT, NEW = range(ROWS)

_RELIABLE = 1e2  # power per bin that is never taken for anything but rounding
_STEP = 0.9  # of the gain: what is not cut to its length yet was learnt wrong, and a shorter step leaves less
_LESSON = 0.25  # of what the filter would think to have learnt from a block
_LEAKAGE = 3e-4  # of a block's power, that may be found in any bin, because blocks have edges
_NEW_PATH = 2.0  # the power of another path, as a multiple of that of the old one
_LEARNT = 1e-3  # of the power that a path may have: a model that is smaller is none
_REACH = 0.7  # of the power of a block, that is still in the room 10 ms later
_NOISE_KEPT = 0.6
_CONSTRAINED = 2  # partitions that are cut to their length at each step, in turn
_QUICKEST_FALL, _SLOWEST_FALL = 0.5, 0.97  # of a path's power in 10 ms, where the model ends
_QUICKEST_FADING = 0.8  # the least that is ever counted on: 0.6 s of reverberation
_ENDS = 1e-4  # of a path's power, in the mean of its last partitions: with less it has ended in the model
_FALL_STEP = 0.1  # of the way to what is seen, at each step of the random walk
_DRIFT_EVERY = 8  # blocks between two steps of the random walk that the model takes a path for
_KNOWN_AFTER = 60  # blocks for which a bin of the reference must have been as loud as now, or it is new
_REMEMBERED = 0.9998  # per block, of what the bins have held
_SPARE_ROWS = 6  # blocks that the memory of the reference takes before it is moved


def power_of(spectra: Complex, squares: Float, power: Float) -> None:
    """Write the power of each bin of `spectra` into `power`; `squares`, twice as wide, is scratch."""
    parts = spectra.view(np.float32)
    np.multiply(parts, parts, squares)
    np.add(squares[..., ::2], squares[..., 1::2], power)


class _History:
    """Spectra of the last blocks of reference, newest first; a block is not moved at each step.

    Blocks that come together are transformed together; `advance` makes each of them the newest in its turn.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        rows = partitions + _SPARE_ROWS
        self._rings = (
            np.zeros((rows, BINS), np.complex64),
            np.zeros((rows, BINS), np.complex64),
            np.zeros((rows, BINS), np.float32),
            np.zeros(rows, np.float32),
        )
        self._samples: Float = np.zeros((MOST_BLOCKS + 1) * BLOCK, np.float32)
        step = self._samples.strides[0]
        windows = as_strided(self._samples, (MOST_BLOCKS, 2 * BLOCK), (BLOCK * step, step))
        self._windows = [windows[count - 1 :: -1] for count in range(1, MOST_BLOCKS + 1)]
        self._squares: Float = np.zeros((MOST_BLOCKS, 2 * BINS), np.float32)
        self._shares: Float = np.full(BINS, _LEAKAGE, np.float32)
        self._at = rows - partitions
        self._point()

    def push(self, blocks: Float) -> None:
        """Take the next block, or at most `MOST_BLOCKS` of them; each counts from its `advance` on."""
        spectra, conjugates, powers, leaks = self._rings
        count = len(blocks) // BLOCK
        if self._at < count:
            keep = self._partitions - 1
            top = len(leaks) - keep
            for ring in self._rings:
                ring[top:] = ring[self._at : self._at + keep]
            self._at = top
        begin, end = self._at - count, self._at
        samples = self._samples
        samples[BLOCK : BLOCK + len(blocks)] = blocks
        newest, power = spectra[begin:end], powers[begin:end]
        forward(self._windows[count - 1], newest)
        samples[:BLOCK] = blocks[-BLOCK:]
        np.conjugate(newest, conjugates[begin:end])
        power_of(newest, self._squares[:count], power)
        np.matmul(power, self._shares, leaks[begin:end])

    def advance(self) -> None:
        """Make the oldest block that was pushed and has not been the newest yet the newest."""
        self._at -= 1
        self._point()

    def clear(self) -> None:
        """Nothing was sent."""
        for ring in self._rings:
            ring.fill(0)
        self._samples.fill(0)

    def _point(self) -> None:
        at, end = self._at, self._at + self._partitions
        self.spectra, self.conjugates, self.powers, self.leaks = (ring[at:end] for ring in self._rings)
        self.newest = self.powers[0]


class KalmanFilter:
    """Models an echo path of `partitions` × 10 ms from reference to microphone; float32 samples in int16 scale.

    A step allocates next to nothing and calls numpy as seldom as can be: at 161 bins the calls cost more than
    the arithmetic. So spectra are transformed together, complex numbers are squared as pairs of floats, and only
    some of the partitions are cut to `BLOCK` taps at each step, in turn.
    """

    def __init__(self, partitions: int = 24, transition: float = 0.9992, path_gain: float = 0.5) -> None:
        self.partitions = partitions
        self._keep = transition * transition
        decay = 10.0 ** (-np.arange(partitions) / 10.0)
        share = decay / decay.sum() * path_gain * path_gain
        self._prior: Float = share.astype(np.float32)[:, None]  # the same in each bin
        self._weights: Complex = np.zeros((partitions, BINS), np.complex64)
        self._variance: Float = np.repeat(self._prior, BINS, axis=1)
        self._history = _History(partitions)
        self._powers: Float = np.zeros((MOST_BLOCKS, ROWS, BINS), np.float32)
        self.powers: Float = self._powers[:1]
        """Power spectra of each block of the last step: `MICROPHONE`, what was left (`ERROR`), the predicted
        `ECHO`, the `REFERENCE` that may be in the room (the past fading), `UNLEARNT`: what may be left of the
        echo, by what the filter knows of its own error, and by how the path goes on after its end, and `NEW`: what
        of the reference is new in its bin."""
        self._taught: Float = np.zeros(BINS, np.float32)
        self._fading: Float = np.zeros(BINS, np.float32)
        self._turn = 0  # the partition that is constrained next
        self._steps = 0
        self._some = some = math.gcd(_CONSTRAINED, partitions)
        self._bins: Complex = np.zeros((1 + some, BINS), np.complex64)
        self._signals: Float = np.zeros((2 + some, 2 * BLOCK), np.float32)
        self._spectra: Complex = np.zeros((3 + some, BINS), np.complex64)
        self._squares: Float = np.zeros((3, 2 * BINS), np.float32)
        self._product: Complex = np.zeros((partitions, BINS), np.complex64)
        self._explained: Float = np.zeros((partitions, BINS), np.float32)
        # When the model has moved the product is no longer needed, and its memory is taken for what shrinks.
        self._shrink: Float = self._product.reshape(-1).view(np.float32)[: partitions * BINS].reshape(-1, BINS)
        self._noise: Float = np.full(BINS, _RELIABLE, np.float32)
        self._scaled: Complex = np.zeros(BINS, np.complex64)
        self._row: Float = np.zeros(BINS, np.float32)
        self._lessons = _of_every_bin(-0.5 * _LESSON * self._keep / _STEP)
        self._kept: Float = np.full(BINS, self._keep, np.float32)
        self._ones: Complex = np.ones(partitions, np.complex64)
        self._fall = _QUICKEST_FALL
        self.fading = _QUICKEST_FADING
        """What the room keeps of its power in a block, by how the path ends."""
        self._falls, self._beyond, self._late = (np.zeros(BINS, np.float32) for _ in range(3))
        # Half of an overlap-save window is signal, hence the 0.5.
        self._halves: Float = np.full(partitions, 0.5, np.float32)

    def step(self, reference: Float, microphone: Float) -> Float:
        """Take a block of each, or `MOST_BLOCKS`; return the microphone without the echo, one array."""
        count = len(microphone) // BLOCK
        self.powers = self._powers[:count]
        self._history.push(reference)
        if count == 1:
            return self._block(microphone, self._powers[0])
        error = np.empty(count * BLOCK, np.float32)
        for index in range(count):
            part = slice(index * BLOCK, (index + 1) * BLOCK)
            error[part] = self._block(microphone[part], self._powers[index])
        return error

    def _block(self, microphone: Float, powers: Float) -> Float:
        """Take a block whose reference is in the history; write its power spectra."""
        history, signals, spectra = self._history, self._signals, self._spectra
        history.advance()
        np.multiply(self._fading, _REACHES, powers[REFERENCE])
        self._fading = fading = powers[REFERENCE]
        np.add(fading, history.newest, fading)
        self._find_new(fading, powers[NEW])
        np.multiply(history.spectra, self._weights, self._product)
        np.matmul(self._ones, self._product, self._bins[0])
        # The partitions whose turn it is to be constrained go along: a transform costs little, its call much.
        turn = self._turn
        constrained = self._weights[turn : turn + self._some]
        self._bins[1:] = constrained
        inverse(self._bins, signals[1:])
        signals[1, :BLOCK] = 0.0
        signals[2:, BLOCK:] = 0.0  # a path of one partition is BLOCK taps long
        error = microphone - signals[1, BLOCK:]
        signals[0, BLOCK:] = error
        forward(signals, spectra[1:])
        constrained[:] = spectra[3:]
        self._turn = (turn + self._some) % self.partitions
        left = spectra[1]
        np.add(left, spectra[2], spectra[0])
        power_of(spectra[:3], self._squares, powers[:3])
        self._adapt(left, powers[ERROR], powers[UNLEARNT])
        return error

    def load(self, history: Float) -> None:
        """Fill the memory of the reference with `(partitions + 1) * BLOCK` samples, oldest first."""
        self._history.clear()
        self._fading = fading = np.zeros(BINS, np.float32)
        for start in range(0, len(history), BLOCK):
            self._history.push(history[start : start + BLOCK])
            self._history.advance()
            fading *= _REACHES
            fading += self._history.newest

    def shift(self, taps: int) -> None:
        """Move the modelled path by `taps` samples to the right (later); what falls off the ends is lost."""
        response = self.impulse_response()
        moved = np.zeros_like(response)
        taps = max(-len(response), min(len(response), taps))
        if taps >= 0:
            moved[taps:] = response[: len(response) - taps]
        else:
            moved[: len(response) + taps] = response[-taps:]
        padded = np.zeros((self.partitions, 2 * BLOCK), np.float32)
        padded[:, :BLOCK] = moved.reshape(self.partitions, BLOCK)
        self._weights = np.fft.rfft(padded, axis=1).astype(np.complex64, copy=False)

    def impulse_response(self) -> Float:
        """Return the modelled path, `partitions * BLOCK` taps."""
        response = np.fft.irfft(self._weights, 2 * BLOCK, axis=1)[:, :BLOCK]
        return response.reshape(-1).astype(np.float32, copy=False)

    def doubt(self, keep: float = 1.0, changed: float = 1.0) -> None:
        """The path may be another one: keep a share of the model, and be ready to learn fast.

        `changed` is the power of what is wrong with the path, as a share of its own. Rooms keep their loudness and
        their decay, so another path is expected to be like the old one in both.
        """
        envelope = (self._weights.real**2 + self._weights.imag**2).mean(axis=1, keepdims=True)
        known = float(envelope.sum()) > _LEARNT * float(self._prior[:, 0].sum())
        prior = _NEW_PATH * envelope if known else self._prior
        self._weights *= keep
        self._variance = np.maximum(self._variance, changed * prior).astype(np.float32, copy=False)

    def scale(self, factor: float) -> None:
        """The reference is another one, of which so much more or less is in the microphone."""
        self._weights *= np.float32(factor)

    def forget(self) -> None:
        """Another client: nothing is known."""
        self._weights.fill(0)
        self._variance[:] = self._prior
        self._taught.fill(0)
        self._beyond.fill(0)
        self._late.fill(0)
        self._fall, self.fading = _QUICKEST_FALL, _QUICKEST_FADING

    def _find_new(self, reference: Float, new: Float) -> None:
        """Write how much of the reference is new in its bin: more than went through it before.

        The error variance does not know that. It is one number for 50 Hz, and a tone teaches it at all partitions
        and, by the skirts of its spectrum, in the bins around, though it says one thing about the path.
        """
        taught, row = self._taught, self._row
        np.subtract(reference, taught, new)
        np.maximum(new, _NOTHING, out=new)
        np.multiply(taught, _HELD, taught)
        np.multiply(reference, _TEACHES, row)
        np.add(taught, row, taught)

    def _adapt(self, error: Complex, power: Float, unlearnt: Float) -> None:
        """Learn from the spectrum of what was left and its power; write what may be left by the filter's error."""
        history, variance, row = self._history, self._variance, self._row
        explained, shrink, noise = self._explained, self._shrink, self._noise
        np.multiply(power, _NEW_NOISE, row)
        np.multiply(noise, _OLD_NOISE, noise)
        np.add(noise, row, noise)
        np.add(noise, _LEAST_NOISE, noise)
        np.multiply(variance, history.powers, explained)
        np.matmul(self._halves, explained, unlearnt)
        # What a loud vowel's edges spread over the quiet bins has not gone along the path bin by bin: nothing is
        # learnt from it, or the first "s" after a change would be taken for a person.
        np.matmul(history.leaks, variance, row)
        np.add(row, unlearnt, row)
        np.add(row, noise, row)
        np.divide(_STEPS, row, row)
        # The gain is the variance over all that.
        product = self._product
        np.multiply(error, row, self._scaled)
        np.multiply(history.conjugates, self._scaled, product)
        np.multiply(product, variance, product)
        np.add(self._weights, product, self._weights)
        # To the diagonal form each bin of each partition seems to be measured by itself. But windows overlap, and
        # a vowel that lasts says the same again and again: with the whole lesson the filter would believe to know
        # a path, and slow down, 10 dB before it does.
        np.multiply(row, self._lessons, row)
        np.multiply(explained, row, shrink)
        np.add(shrink, self._kept, shrink)
        np.multiply(variance, shrink, variance)
        self._steps += 1
        if self._steps % _DRIFT_EVERY == 0:
            magnitude = self._weights.real**2 + self._weights.imag**2
            variance += _DRIFT_EVERY * (1.0 - self._keep) * (magnitude + 1e-4 * self._prior)
            self._extrapolate(magnitude)
        # What comes after the last partition is not learnt either.
        np.multiply(self._late, self._falls, self._late)
        np.multiply(history.powers[-1], self._beyond, row)
        np.add(self._late, row, self._late)
        np.add(unlearnt, self._late, unlearnt)

    def _extrapolate(self, magnitude: Float) -> None:
        """See how the path goes on where the model ends: from there on it fades as it did in its last half."""
        quarter = self.partitions // 4
        if not quarter:
            return
        before, last = magnitude[-2 * quarter : -quarter], magnitude[-quarter:].mean(axis=0)
        fall = float(last.sum() / (before.mean(axis=0).sum() + 1e-12)) ** (1.0 / quarter)
        fall = min(_SLOWEST_FALL, max(_QUICKEST_FALL, fall))
        self._fall += _FALL_STEP * (fall - self._fall)
        self._falls.fill(self._fall)
        reverberates = float(last.sum()) > _ENDS * float(magnitude.sum())
        self.fading = max(_QUICKEST_FADING, self._fall) if reverberates else _QUICKEST_FADING
        np.multiply(last, 0.5 * self._fall ** (0.5 * (quarter + 1)), self._beyond)


def _of_every_bin(value: float) -> Float:
    # An array of constants is multiplied faster than a number, which numpy converts at each call.
    return np.full(BINS, value, np.float32)


_REACHES = _of_every_bin(_REACH)
_STEPS = _of_every_bin(_STEP)
_NOTHING = _of_every_bin(0.0)
_HELD = _of_every_bin(_REMEMBERED)
_TEACHES = _of_every_bin(1.0 / _KNOWN_AFTER)
_OLD_NOISE = _of_every_bin(_NOISE_KEPT)
_NEW_NOISE = _of_every_bin(1.0 - _NOISE_KEPT)
_LEAST_NOISE = _of_every_bin((1.0 - _NOISE_KEPT) * _RELIABLE)


class DelayEstimator:
    """Finds the lag of the echo behind what was sent."""

    WINDOW = 8192
    """Samples of microphone per look: half a second."""
    _FORGET = 0.6
    _AGREE = 24  # samples between two looks that mean the same lag
    _BESIDE = 80  # samples from a known lag that still belong to it

    def __init__(self, max_delay: float = 0.5) -> None:
        self.span = 1 << int(np.ceil(np.log2(self.WINDOW + max_delay * DETECTOR_RATE)))
        """Samples of reference per look; they end where the microphone's window ends."""
        self._lags = self.span - self.WINDOW
        step = DETECTOR_RATE / self.span
        self._band = slice(int(150.0 / step) + 1, math.ceil(4500.0 / step))
        self._spectrum: Complex = np.zeros(self._band.stop, np.complex64)  # nothing is known above it
        self._candidate = -1
        self.sharpness = 0.0
        """How far the best lag stands out, in standard deviations of all lags."""
        self.evidence = LagEvidence(self._lags, self.WINDOW)
        """What looks say together none of which is certain."""

    def look(self, reference: Float, microphone: Float, number: int | None = None) -> int | None:
        """Compare `span` samples of reference with the last `WINDOW` of microphone; return a lag that is certain.

        Certain is what stands out clearly, or what two looks agree on. With a `number`, the sample number of the
        end, what is not certain is noted as `evidence`.
        """
        padded = np.zeros(self.span, np.float32)
        padded[self._lags :] = microphone
        band = self._band
        cross = np.fft.rfft(padded)[band] * np.conj(np.fft.rfft(reference)[band])
        strength = np.abs(cross)
        known = self._spectrum[band]
        known *= self._FORGET
        cross /= strength**0.8 + (1e-3 * float(strength.max()) + 1.0)
        known += cross
        correlation = self._correlation()
        best = int(np.argmax(correlation))
        self.sharpness = float(correlation[best])
        agreed = abs(best - self._candidate) <= self._AGREE
        self._candidate = best
        if self.sharpness > 10.5 or (agreed and self.sharpness > 7.5):
            return best
        if number is not None:
            alone = np.zeros_like(self._spectrum)
            alone[band] = cross
            self.evidence.add(np.abs(np.fft.irfft(alone, self.span)[: self._lags]), number)
        return None

    def sharpness_at(self, lag: int) -> float:
        """Return how far the last look lets a lag stand out that was known before, or one just beside it.

        Of all lags the best is 4 deviations high by chance, of these few seldom more than 3.5.
        """
        first = max(0, lag - self._BESIDE)
        return float(self._correlation()[first : lag + self._BESIDE].max(initial=0.0))

    def _correlation(self) -> Float:
        """Return that of what the looks have seen, over all lags, in standard deviations."""
        correlation = np.abs(np.fft.irfft(self._spectrum, self.span)[: self._lags])
        deviation = math.sqrt(float(correlation.dot(correlation)) / len(correlation)) + 1e-9
        return np.asarray(correlation / np.float32(deviation), np.float32)

    def reset(self) -> None:
        """Forget what earlier windows said."""
        self._spectrum.fill(0)
        self._candidate = -1
        self.sharpness = 0.0
        self.evidence.reset()


@cache
def _fractions(half_taps: int, phases: int) -> Float:
    """Return kernels that read between samples, one for each fraction: (phases, 2 half_taps + 1)."""
    taps = np.arange(-half_taps, half_taps + 1)
    late = np.arange(phases)[:, None] / phases
    window = np.cos(np.pi * (taps - late) / (2 * half_taps + 3)) ** 2
    kernels = np.sinc(taps - late) * window
    return np.asarray(kernels / kernels.sum(axis=1, keepdims=True), np.float32)


class Lag:
    """The bulk delay as a line in time: samples at a sample number, and a slope that follows the clocks apart."""

    _MOST_DRIFT = 400e-6
    _LEAST_DRIFT = 8e-6
    _LOOKS = 24
    _APART = 12_000
    _JUMP = 24
    _ENOUGH_LOOKS = 6
    _SCATTER = 2.0  # samples around a line that is believed
    _HALF_TAPS = 12
    _PHASES = 64

    def __init__(self) -> None:
        self._origin, self._lag, self.drift = 0, 0.0, 0.0
        self._seen: deque[tuple[int, int]] = deque(maxlen=self._LOOKS)
        self._kernels = _fractions(self._HALF_TAPS, self._PHASES)

    def at(self, number: int) -> float:
        """Return the lag at a sample number."""
        return self._lag + self.drift * (number - self._origin)

    def restart(self, lag: int, number: int) -> None:
        """Another path: nothing that was seen says anything about the drift, but the clocks are the same."""
        self._seen.clear()
        self.move(lag, number)

    def move(self, lag: float, number: int) -> None:
        """Begin the line anew at a lag; its slope stays."""
        self._origin, self._lag = number, float(lag)

    def jumped(self, lag: int) -> bool:
        """Return True if the echo was found somewhere else than the last time."""
        return bool(self._seen) and abs(lag - self._seen[-1][1]) > self._JUMP

    def observe(self, lag: int, number: int) -> None:
        """Note where the echo was found, and follow the slope of what was found so far."""
        if self._seen and number - self._seen[-1][0] < self._APART:
            return
        self._seen.append((number, lag))
        if len(self._seen) < self._ENOUGH_LOOKS:
            return
        numbers, lags = np.array(self._seen, np.float64).T
        # Theil and Sen: the median of all slopes does not mind a look that saw something else.
        earlier, later = np.triu_indices(len(numbers), 1)
        slope = float(np.median((lags[later] - lags[earlier]) / (numbers[later] - numbers[earlier])))
        residual = lags - slope * (numbers - numbers[-1])
        if float(np.median(np.abs(residual - np.median(residual)))) > self._SCATTER:
            return
        steady = abs(slope) < self._LEAST_DRIFT
        drift = 0.0 if steady else max(-self._MOST_DRIFT, min(self._MOST_DRIFT, slope))
        self.move(self.at(number), number)
        self.drift = drift

    def delayed(self, read: Callable[[int, int], Float], number: int, count: int) -> Float:
        """Return `count` samples of what `read(start, count)` gives, late by the lag, whole samples or not."""
        position = number - self.at(number)
        steps = round(position * self._PHASES)
        whole, phase = divmod(steps, self._PHASES)
        if phase == 0:
            return read(whole, count)
        around = read(whole - self._HALF_TAPS, count + 2 * self._HALF_TAPS)
        return np.convolve(around, self._kernels[phase][::-1], "valid").astype(np.float32, copy=False)
