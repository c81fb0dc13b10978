"""Setting the encoder by what the peer reports to lose, and by how busy this machine is.

In-band FEC is switched on by loss, but only where the peer cannot receive redundancy (RFC 2198), which repairs
better. The copies take bits from the voice itself: at 24 kb/s and 10 % expected loss that costs 0.3 of a clean
PESQ of 4.2, so with FEC the bitrate rises by `FEC_BITRATE`. Loss is believed at once when it rises and slowly
when it falls.

Complexity is what the encoder may spend: at 5 a frame of 20 ms costs twice what it costs at 0 (`docs/audio.md`).
It falls step by step while the thread that carries the media is busy, and rises again when that has been calm.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from stack.core.machine import Instant

FEC_ON, FEC_OFF = 0.02, 0.01
"""Loss from which on FEC is used, and below which it ends."""
FEC_BITRATE = 8_000
"""Bits per second that FEC gets on top of the voice."""
HALF_LIFE = 5.0
"""Seconds in which loss that is not reported any more is half forgotten."""
LEAST_EXPECTED_LOSS, MOST_EXPECTED_LOSS = 10, 20
"""Per cent: below, libopus 1.3 makes no copies at 24 to 32 kb/s; above, it takes too much from the voice."""


COMPLEXITIES = (5, 2, 0)
"""The complexities that load chooses from, from the calm to the busy."""
LOWER_AT, RAISE_AT = 0.7, 0.4
"""Load, as a share of a core, from which on less is spent, and below which more. A step saves at most 36 % of what
the encoder takes, so that a step down cannot by itself lead to a step up."""
RAISE_AFTER = 5
"""So many looks in a row must find the load low before more is spent."""


@runtime_checkable
class AdaptiveEncoder(Protocol):
    """An encoder that can follow loss and load: the settings that are changed."""

    bitrate: int
    complexity: int
    fec: bool
    expected_loss: int


class EncoderTuner:
    """Owns bitrate, FEC and expected loss of one encoder.

    `redundancy` says that RED is sent, `wanted` that the peer can make use of FEC (`useinbandfec`, RFC 7587 §6.1).
    """

    def __init__(self, encoder: AdaptiveEncoder, *, redundancy: bool = False, wanted: bool = True) -> None:
        self._encoder = encoder
        self._bitrate = encoder.bitrate
        self.redundancy = redundancy
        self._wanted = wanted
        self.loss = 0.0
        self._updated: Instant | None = None

    def update(self, loss: float, now: Instant) -> None:
        """Take the fraction lost of a receiver report, 0 … 1."""
        elapsed = 0.0 if self._updated is None else max(0.0, now - self._updated)
        self._updated = now
        faded = self.loss * 0.5 ** (elapsed / HALF_LIFE)
        self.loss = max(loss, faded)
        self._apply()

    def _apply(self) -> None:
        encoder = self._encoder
        threshold = FEC_OFF if encoder.fec else FEC_ON
        fec = self.loss >= threshold and self._wanted and not self.redundancy
        expected = min(max(round(100 * self.loss), LEAST_EXPECTED_LOSS), MOST_EXPECTED_LOSS) if fec else 0
        bitrate = self._bitrate + (FEC_BITRATE if fec else 0)
        if fec != encoder.fec:
            encoder.fec = fec
        if bitrate != encoder.bitrate:
            encoder.bitrate = bitrate
        # libopus shares the bits out anew at each change: leave small ones alone
        if abs(expected - encoder.expected_loss) >= 3 or (expected == 0) != (encoder.expected_loss == 0):
            encoder.expected_loss = expected


def choose_complexity(load: float, present: int) -> int:
    """Return the complexity that follows on `present` at this load (0 … 1): one step down, one up, or the same."""
    step = COMPLEXITIES.index(present)
    if load >= LOWER_AT:
        step += 1
    elif load < RAISE_AT:
        step -= 1
    return COMPLEXITIES[min(max(step, 0), len(COMPLEXITIES) - 1)]


class ComplexityByLoad:
    """`choose_complexity` with patience: less is spent at once, more when the load has been low for a while."""

    __slots__ = ("_calm", "complexity")

    def __init__(self) -> None:
        self.complexity = COMPLEXITIES[0]
        self._calm = 0  # looks in a row that would raise it

    def update(self, load: float) -> int:
        """Take the load of the last second or so; return the complexity from now on."""
        chosen = choose_complexity(load, self.complexity)
        self._calm = self._calm + 1 if chosen > self.complexity else 0
        if chosen < self.complexity or self._calm >= RAISE_AFTER:
            self.complexity, self._calm = chosen, 0
        return self.complexity
