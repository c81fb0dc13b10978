"""What a loudspeaker makes of what we send that is not linear: a curve and a coil, found by trying.

A linear filter models the way from the loudspeaker to the microphone, not an amplifier that cuts the peaks off and
not a coil that leaves its magnet: what those add is left, 9 to 17 dB below the echo. So the reference is bent as
the loudspeaker bends it before the filter sees it:

    c = x / (1 + (x/L)⁴)^¼                       what the amplifier cuts off, between hard and soft clipping
    y = c · (1 + a₁|c| + a₂c + b₁m + b₂m²)       how strongly the coil drives where it is

(a curve before the filter as in Nollett and Jones, "Nonlinear echo cancellation for hands-free speakerphones",
NSIP 1997). `m` is how far the coil has been moved: what is sent, through the second-order low pass of a mass on a
spring, for which there are three resonances to choose from (the force factor of Klippel, "Loudspeaker
nonlinearities", JAES 2006, to the second order).

All of it is held against the microphone now and then, along the path that the filter has learnt: the limit L among
a few values, the four numbers by least squares over the last looks. What leaves clearly less than the present
model is taken. Loudspeakers that do nothing wrong never leave the first model, which changes nothing; once nothing
changes, it is seldom looked at.

Left out: stiffness of the spring, inductance, loudspeakers that rattle.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Final

import numpy as np

from stack.voice.echo_filter import BLOCK, MOST_BLOCKS
from stack.voice.spectrum import Complex
from stack.voice.vad import DETECTOR_RATE, Float

_LIMITS = (math.inf, 14_000.0, 10_000.0, 7_500.0, 5_600.0, 4_200.0, 3_100.0, 2_300.0)
"""Full scale is 32768; speech at a usual level has peaks of some 10 000."""
_RESONANCES_HZ = (150.0, 220.0, 320.0)
_Q = 0.9
_SCALE = 1 / 4096.0  # of samples, so that the numbers are of the order of one
_BETTER = 0.94  # of what the present model leaves
_WORTH_ITS_TIME = 0.8  # of what is left without a coil: with less to gain none is modelled
_LOOKS = 2  # before which nothing is changed
_FORGET = 0.7
_SETTLED = 6  # looks that changed nothing, after which every eighth is enough
_SELDOM = 8
_LOUD = 4_000.0  # peak, in int16 scale, without which a window says nothing about a curve
_LEAST_LEFT = 1e-3  # of the microphone's power: with less there is nothing to gain
_RIDGE = 1e-3  # of the power of a term: what two looks do not tell apart stays small
_FREEDOM = 32  # numbers that say where a coil is during 10 ms
_MOST_BENT: Final = np.float32(0.8)  # of the sound itself, that a coil may add to it or take away
_LEAST_BENT: Final = np.float32(-0.8)


def _low_pass(hertz: float, taps: int) -> Float:
    """Return the impulse response of a mass on a spring, 1 at 0 Hz; oldest sample first, as a kernel to slide."""
    angle = 2.0 * math.pi * hertz / DETECTOR_RATE
    damping = angle / (2.0 * _Q)
    ringing = math.sqrt(max(1e-9, angle * angle - damping * damping))
    time = np.arange(taps)
    response = np.exp(-damping * time) * np.sin(ringing * time)
    return np.asarray(response / response.sum(), np.float32)[::-1].copy()


class LoudspeakerCurve:
    """Bends the reference; `consider` finds by how much."""

    WINDOW = 4096
    """Samples of microphone that are looked at."""
    MEMORY = 120
    """Samples before those that are bent, on which they depend."""

    def __init__(self) -> None:
        self._at = 0
        self._left: Float = np.zeros(len(_LIMITS), np.float32)
        self._looks = self._called = 0
        self._resonance = 0
        self._numbers: Float | None = None
        self._grams = np.zeros((len(_RESONANCES_HZ), 5, 5))
        self._products = np.zeros((len(_RESONANCES_HZ), 5))
        self._heard = 0.0

    @property
    def limit(self) -> float:
        """Where the amplifier's curve is flat, in int16 scale; infinite if it is straight."""
        return _LIMITS[self._at]

    @property
    def moves(self) -> bool:
        """True if the coil is seen to drive more strongly in one place than in another."""
        return self._numbers is not None

    @property
    def memory(self) -> int:
        """How many samples `bend` takes before those that it returns: `MEMORY`, or 0 while no coil is modelled."""
        return 0 if self._numbers is None else self.MEMORY

    def bend(self, samples: Float) -> Float:
        """Return what the loudspeaker makes of samples, without the first `memory` of them."""
        cut = clipped(samples, self.limit)
        if self._numbers is None:
            return cut
        return _driven(cut, self._resonance, self._numbers)

    @property
    def due(self) -> bool:
        """Count, and say whether `consider` is worth its time now: 3 to 4 ms."""
        self._called += 1
        return self._looks < _SETTLED or self._called % _SELDOM == 0

    def consider(self, path: Float, sent: Float, heard: Float) -> float | None:
        """Hold all models against each other; return a factor for the path if another one is taken.

        `path` is what the filter has learnt, `heard` are `WINDOW` samples, `sent` as many and the `len(path)` and
        `MEMORY` before them.
        """
        if float(np.abs(sent).max()) < _LOUD:
            return None
        spectrum = np.fft.rfft(path, 1 << (len(sent) - 1).bit_length()).astype(np.complex64, copy=False)
        self._looks += 1
        by_limit = self._consider_limit(spectrum, len(path), sent, heard)
        return by_limit if by_limit is not None else self._consider_coil(spectrum, len(path), sent, heard)

    def _consider_limit(self, path: Complex, taps: int, sent: Float, heard: Float) -> float | None:
        numbers = self._numbers
        bent = np.stack([clipped(sent, limit) for limit in _LIMITS])
        bent = bent[:, self.MEMORY :] if numbers is None else _driven(bent, self._resonance, numbers)
        echoes = _along(path, bent, taps)
        gains = (echoes @ heard) / (np.square(echoes).sum(axis=1) + 1.0)
        rests = np.square(heard - gains[:, None] * echoes).sum(axis=1) / (float(heard.dot(heard)) + 1.0)
        self._left = _FORGET * self._left + rests.astype(np.float32)
        best = int(np.argmin(self._left))
        if self._looks < _LOOKS or self._left[best] >= _BETTER * self._left[self._at]:
            return None
        self._at = best
        self._learn_anew()
        return float(gains[best])

    def _consider_coil(self, path: Complex, taps: int, sent: Float, heard: Float) -> float | None:
        cut = clipped(sent, self.limit)
        now = cut[self.MEMORY :]
        scaled = now * np.float32(_SCALE)
        terms = [now, now * np.abs(scaled), now * scaled]
        for index in range(len(_KERNELS)):
            moved = _moved(cut, index)
            terms += [now * moved, now * moved * moved]
        echoes = _along(path, np.stack(terms), taps).astype(np.float64)
        gram, product = echoes @ echoes.T, echoes @ heard
        self._grams *= _FORGET
        self._products *= _FORGET
        self._heard = _FORGET * self._heard + float(heard.dot(heard))
        best, left, numbers = 0, math.inf, np.zeros(5)
        for index in range(len(_KERNELS)):
            chosen = [0, 1, 2, 3 + 2 * index, 4 + 2 * index]
            self._grams[index] += gram[np.ix_(chosen, chosen)]
            self._products[index] += product[chosen]
            found = _solve(self._grams[index], self._products[index])
            rest = self._rest(index, found)
            if rest < left:
                best, left, numbers = index, rest, found
        if self._looks < _LOOKS or numbers[0] <= 0.0:
            return None
        model = (numbers[1:] / numbers[0]).astype(np.float32)
        enough, now_left = (_WORTH_ITS_TIME if self._numbers is None else _BETTER), self._rest_now()
        if left >= enough * now_left or now_left < _LEAST_LEFT * self._heard:
            return None
        self._resonance, self._numbers = best, model
        self._learn_anew()
        return float(numbers[0])

    def _rest(self, index: int, numbers: np.ndarray) -> float:
        """Return the power that a model leaves of the last looks."""
        return self._heard + float(numbers @ (self._grams[index] @ numbers - 2.0 * self._products[index]))

    def _rest_now(self) -> float:
        """Return the power that the present model leaves, with the best factor."""
        shape = np.array([1.0, *(self._numbers if self._numbers is not None else np.zeros(4))])
        like = float(shape @ self._products[self._resonance])
        return self._heard - like * like / (float(shape @ self._grams[self._resonance] @ shape) + 1.0)

    def _learn_anew(self) -> None:
        self._looks = 0
        self._left.fill(0)
        self._grams.fill(0)
        self._products.fill(0)
        self._heard = 0.0

    def reset(self) -> None:
        """Another loudspeaker."""
        self._at = self._called = self._resonance = 0
        self._numbers = None
        self._learn_anew()


_KERNELS = [_low_pass(hertz, LoudspeakerCurve.MEMORY + 1) for hertz in _RESONANCES_HZ]


def clipped(samples: Float, limit: float) -> Float:
    """Return what an amplifier makes of samples that cuts them off at a limit, in int16 scale."""
    if limit == math.inf:
        return samples
    power: Float = samples * np.float32(1.0 / limit)
    np.square(power, out=power)
    np.square(power, out=power)
    power += np.float32(1.0)
    np.sqrt(power, out=power)
    np.sqrt(power, out=power)
    np.divide(samples, power, out=power)
    return power


@cache
def _factors(resonance: int) -> tuple[Float, Float]:
    """Return two narrow matrices that take `MEMORY` and a block of samples to the places of the coil in the block.

    What a low pass lets through has few degrees of freedom in 10 ms: with 32 of them it is right to 1 % for
    speech, and costs a tenth of sliding the kernel along.
    """
    kernel = _KERNELS[resonance]
    slides = np.zeros((LoudspeakerCurve.MEMORY + BLOCK, BLOCK))
    for at in range(BLOCK):
        slides[at : at + len(kernel), at] = kernel * _SCALE
    down, strength, up = np.linalg.svd(slides, full_matrices=False)
    kept = strength[:_FREEDOM]
    return (down[:, :_FREEDOM] * kept).astype(np.float32), up[:_FREEDOM].astype(np.float32)


@cache
def _response(resonance: int, size: int) -> Complex:
    """Return the spectrum of a low pass, for `size` samples."""
    return np.fft.rfft(_KERNELS[resonance][::-1] * _SCALE, size).astype(np.complex64)


def _moved(samples: Float, resonance: int) -> Float:
    """Return where the coil is at all but the first `MEMORY` samples of the last axis."""
    blocks, rest = divmod(samples.shape[-1] - LoudspeakerCurve.MEMORY, BLOCK)
    if rest == 0 and blocks <= MOST_BLOCKS and samples.ndim == 1:
        down, up = _factors(resonance)
        if blocks == 1:
            return np.asarray(samples.dot(down).dot(up), np.float32)
        windows: Float = np.empty((blocks, LoudspeakerCurve.MEMORY + BLOCK), np.float32)
        for block in range(blocks):
            windows[block] = samples[block * BLOCK : block * BLOCK + windows.shape[1]]
        return np.asarray(windows.dot(down).dot(up).reshape(-1), np.float32)
    size = 1 << (samples.shape[-1] - 1).bit_length()
    moved = np.fft.irfft(np.fft.rfft(samples, size) * _response(resonance, size), size)
    return moved[..., LoudspeakerCurve.MEMORY : samples.shape[-1]].astype(np.float32, copy=False)


def _driven(samples: Float, resonance: int, numbers: Float) -> Float:
    """Return what a coil makes of samples, without the first `MEMORY` of the last axis."""
    now = samples[..., LoudspeakerCurve.MEMORY :]
    moved = _moved(samples, resonance)
    scaled = now * np.float32(_SCALE)
    more = moved * numbers[3]
    more += numbers[2]
    more *= moved
    np.abs(scaled, out=moved)
    moved *= numbers[0]
    more += moved
    scaled *= numbers[1]
    more += scaled
    np.minimum(more, _MOST_BENT, out=more)
    np.maximum(more, _LEAST_BENT, out=more)
    more *= now
    more += now
    return np.asarray(more)


def _along(path: Complex, signals: Float, taps: int) -> Float:
    """Return signals after a path, by its spectrum, without their first `taps` samples."""
    size = 2 * (len(path) - 1)
    echoes = np.fft.irfft(np.fft.rfft(signals, size) * path, size)[:, taps : signals.shape[1]]
    return echoes.astype(np.float32, copy=False)


def _solve(gram: np.ndarray, product: np.ndarray) -> np.ndarray:
    """Return the least squares of a Gram matrix, with a ridge on all but the first term."""
    ridge = np.diag(gram) * _RIDGE + 1.0
    ridge[0] = 0.0
    return np.asarray(np.linalg.solve(gram + np.diag(ridge), product))
