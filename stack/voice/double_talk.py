"""Does the near end speak while we do: double-talk detection, by a small network on the echo gate's estimates.

The gate's rules hold what the canceller leaves in each band against the most that can be ours, and put margins on
it that no room and no loudspeaker passes. So a soft person waits until one of the margins is passed. What lies
below them is not without order, though: how far what is left is above *each* of the estimates, in which bands, and
how that was in the last tenth of a second tells a person from an echo far sooner than any single bound. What
weight each of it has is learnt, from calls in computed rooms with computed loudspeakers in which it is known who
speaks (`python -m bench._fit_double_talk`): one layer of hidden units, 1.6 MFLOP a second.

Three quantiles of the remainder are followed here as the gate follows its own: they say how much the estimates are
worth in this room. The answer is in log-odds, and is not believed where the canceller does not take the echo off:
there, in a hall, and before it has learnt the path, the rules decide (`echo_gate.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stack.core.errors import LocalError
from stack.voice.vad import Float

_WEIGHTS = Path(__file__).with_suffix(".npz")
_POWERS = 7  # rows of the estimates that are powers; gains follow
_FIRST_GAIN, _GAINS = 1, 2  # the coupling, the leak; the quantiles of this file follow them
FLOOR, OURS, LATE, ECHO, UNLEARNT, NEW, HALL, COUPLING, LEAK = range(9)
"""Rows of the estimates: seven powers in the gate's bands, and the two gains that it follows."""
_BOUND = _POWERS  # the greater of what the leak and what the unlearnt allow

# What is left is compared with these, power times gain (0: alone).
_COMPARED: Final = (
    (FLOOR, 0),
    (OURS, 1),
    (LATE, 1),
    (ECHO, 2),
    (UNLEARNT, 0),
    (NEW, 1),
    (UNLEARNT, 3),
    (_BOUND, 4),
    (_BOUND, 5),
    (ECHO, 0),
    (HALL, 0),
)
_OF_POWER = np.array([power for power, _ in _COMPARED])
_OF_GAIN = np.array([gain for _, gain in _COMPARED])
_HALL_ROW = len(_COMPARED) - 1
_FOLLOWED = np.array([UNLEARNT, _BOUND, _BOUND])
_QUANTILES = np.array([0.9, 0.5, 0.98])[:, None]
_STARTS = np.array([-0.3, -0.6, 0.0])[:, None]  # decades, as all here
_STEPS = np.array([0.02, 0.01, 0.01])[:, None]
_RISES, _FALLS = _STEPS * _QUANTILES, _STEPS * (_QUANTILES - 1.0)
_EAGER_STEPS, _EAGER, _DOUBTFUL = 4.0, 100, 0.1
_LOWEST, _HIGHEST = -4.0, 2.0
_TINY = 1e-6
_MOST = 4.0  # decades that count
_MOST_DEVIATIONS = 5.0
_KEPT = 0.64  # of the context, in 20 ms
_SMOOTHING = 0.36
_OLD = 1000  # packets after which a path is no older: calls are longer than those that were learnt from
_ELSEWHERE = 1.0  # what stands for the hall where there is none
_MEASURES = 7


@dataclass(frozen=True, slots=True, eq=False)
class DoubleTalkWeights:
    """A layer of hidden units over normalised inputs, and one output."""

    mean: Float
    """Of the inputs, shape (n,)."""
    scale: Float
    """One through their deviation, shape (n,)."""
    hidden: Float
    """Shape (n, units)."""
    hidden_bias: Float
    output: Float
    """Shape (units,)."""
    output_bias: float

    @property
    def inputs(self) -> int:
        """How many inputs there are: twice `DoubleTalkDetector.measured`."""
        return len(self.mean)

    def check(self) -> None:
        """Raise `LocalError` unless the shapes of the arrays fit one another."""
        inputs, units = np.size(self.mean), np.size(self.output)
        wanted = {
            "mean": (inputs,),
            "scale": (inputs,),
            "hidden": (inputs, units),
            "hidden_bias": (units,),
            "output": (units,),
            "output_bias": (),
        }
        for name, shape in wanted.items():
            found = np.shape(getattr(self, name))
            if found != shape:
                raise LocalError(f"weights: {name} has the shape {found}; with the others it is {shape}")

    def save(self, path: Path) -> None:
        """Write a file that `load` reads."""
        arrays = {name: np.asarray(getattr(self, name), np.float32) for name in self.__slots__}
        np.savez(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> DoubleTalkWeights:
        """Read a file that `save` wrote.

        `OSError`, `EOFError`, `ValueError`, `KeyError` or `zipfile.BadZipFile` if it is none.
        """
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {name: file[name] for name in cls.__slots__}
        return cls(**arrays | {"output_bias": float(arrays["output_bias"])})


@lru_cache(1)
def learnt_weights() -> DoubleTalkWeights:
    """Return the weights that come with this file."""
    return DoubleTalkWeights.load(_WEIGHTS)


class DoubleTalkDetector:
    """Fed with the gate's estimates in each packet; `bands` of them. One for each call.

    `LocalError` if the weights are for other inputs than so many bands give, or do not fit one another.
    """

    def __init__(self, bands: int, weights: DoubleTalkWeights | None = None) -> None:
        self._weights = weights or learnt_weights()
        self._weights.check()
        self._bands = bands
        comparisons = len(_COMPARED) * bands
        self.measured = comparisons + 2 * bands + _MEASURES
        """How many inputs are measured; their context is as many again."""
        if self._weights.inputs != 2 * self.measured:
            raise LocalError(f"{bands} bands give {2 * self.measured} inputs, not {self._weights.inputs}")
        self._input: Float = np.zeros(2 * self.measured, np.float32)
        self._now, self._context = self._input[: self.measured], self._input[self.measured :]
        self._compared = self._now[:comparisons].reshape(len(_COMPARED), bands)
        self._spectrum = self._now[comparisons : comparisons + bands]
        self._agreement = self._now[comparisons + bands : comparisons + 2 * bands]
        self._others = self._now[comparisons + 2 * bands :]
        self._levels = np.zeros((_POWERS + 1, bands))
        self._gains = np.zeros((1 + _GAINS + len(_FOLLOWED), bands))
        self._quantiles = self._gains[1 + _GAINS :]
        self._above, self._by_gain = np.zeros((2, len(_COMPARED), bands))
        self._scaled = np.zeros_like(self._input)
        self._cross = [0.0] * bands
        self.restart()

    @property
    def input(self) -> Float:
        """What the network was last shown: measures and their context, shape (2 * `measured`,)."""
        return self._input

    @property
    def age(self) -> int:
        """How many packets there were since the path was found, `_OLD` at most."""
        return self._age

    @property
    def unchanged(self) -> int:
        """How many packets there were since the path was found or became another one, `_OLD` at most."""
        return self._unchanged

    def restart(self) -> None:
        """The path is another one."""
        self._quantiles[:] = _STARTS
        self._cross = [0.0] * self._bands
        self._seen = self._age = self._unchanged = 0
        self._follows = False

    def changed(self) -> None:
        """The path became another one; what is usually left of it stays."""
        self._unchanged = 0

    def rest(self) -> None:
        """The next packet does not follow on the last."""
        self._cross = [0.0] * self._bands
        self._follows = False

    def update(
        self,
        spectra: Sequence[Sequence[float]],
        error: Sequence[float],
        estimates: Sequence[Sequence[float]],
        measures: Sequence[float],
        learnt: bool,
        doubtful: bool,
    ) -> float:
        """Take the end of a packet; return the log-odds that the near end speaks.

        `spectra`: what was heard, what is left and what was predicted, in the bands. `error`: what is left,
        smoothed. `estimates`: the gate's, in the rows named above; `HALL` is 0 where there is none. `measures`:
        decibels taken off now and at best, how the path fades (a factor), the share that the rules do not explain.
        `learnt`: the path is known well enough for something to be learnt from what is left; `doubtful`: a person
        may speak.
        """
        self._age, self._unchanged = min(_OLD, self._age + 1), min(_OLD, self._unchanged + 1)
        levels, gains = self._levels, self._gains
        floor, ours, late, echo, unlearnt, new, hall, coupling, leak = estimates
        # One flat list is an array sooner than rows of them.
        flat = [*error, *floor, *ours, *late, *echo, *unlearnt, *new, *hall, *coupling, *leak]
        logs = np.array(flat)
        np.log10(np.maximum(logs, _TINY, out=logs), out=logs)
        rows = logs.reshape(-1, self._bands)
        left = rows[0]
        levels[:_POWERS] = rows[1 : 1 + _POWERS]
        gains[_FIRST_GAIN : _FIRST_GAIN + _GAINS] = rows[1 + _POWERS :]
        bound = levels[_BOUND]
        np.add(levels[ECHO], gains[2], out=bound)
        np.maximum(bound, levels[UNLEARNT], out=bound)
        if learnt:
            self._follow(left, doubtful)
        above = levels.take(_OF_POWER, 0, self._above, "clip")
        above += gains.take(_OF_GAIN, 0, self._by_gain, "clip")
        np.maximum(above, 0.0, out=above)
        np.subtract(left, above, out=self._compared, casting="same_kind")
        if hall[0] <= 0.0:
            self._compared[_HALL_ROW] = _ELSEWHERE
        level = math.log10(sum(error) + 1.0)
        np.subtract(left, level, out=self._spectrum, casting="same_kind")
        self._agreement[:] = self._agree(spectra, error, echo)
        taken, most_taken, fading, share = measures
        relative = math.log10((sum(ours) + 1.0) / (sum(late) + 1.0))
        age = math.log10(self._unchanged + 1.0)
        self._others[:] = (taken / 10.0, most_taken / 10.0, age, fading, share, level, relative)
        return self._answer()

    def _agree(
        self, spectra: Sequence[Sequence[float]], error: Sequence[float], echo: Sequence[float]
    ) -> list[float]:
        """Return how much of what is left is the prediction, with its sign, in each band: -1 to 1."""
        cross, shares = self._cross, []
        for band, (heard, rest, predicted) in enumerate(zip(*spectra, strict=True)):
            # The product of the two, summed over the bins of a band, from the three powers.
            cross[band] = now = cross[band] + _SMOOTHING * (0.5 * (heard - rest - predicted) - cross[band])
            shares.append(now / math.sqrt((error[band] + 1.0) * (echo[band] + 1.0)))
        return shares

    def _follow(self, left: npt.NDArray[np.float64], doubtful: bool) -> None:
        """Let the quantiles of what is left, as a share of what may be, take a step."""
        self._seen += 1
        pace = _EAGER_STEPS if self._seen <= _EAGER else _DOUBTFUL if doubtful else 1.0
        quantiles, followed = self._quantiles, self._levels.take(_FOLLOWED, 0)
        steps = np.where(left > followed + quantiles, _RISES, _FALLS)
        steps *= followed > self._levels[FLOOR]
        steps *= pace
        quantiles += steps
        np.minimum(np.maximum(quantiles, _LOWEST, out=quantiles), _HIGHEST, out=quantiles)

    def _answer(self) -> float:
        """Return the network's answer to the present input."""
        weights, now, context = self._weights, self._now, self._context
        np.minimum(np.maximum(now, -_MOST, out=now), _MOST, out=now)
        if self._follows:
            context += (1.0 - _KEPT) * (now - context)
        else:
            context[:] = now
        self._follows = True
        scaled = np.subtract(self._input, weights.mean, out=self._scaled)
        scaled *= weights.scale
        np.minimum(np.maximum(scaled, -_MOST_DEVIATIONS, out=scaled), _MOST_DEVIATIONS, out=scaled)
        units = scaled.dot(weights.hidden)
        units += weights.hidden_bias
        np.maximum(units, 0.0, out=units)
        return float(units.dot(weights.output)) + weights.output_bias
