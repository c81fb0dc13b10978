"""Fit the weights by which the rules tell the end of a turn: `python -m bench._fit_end_of_turn --data DIR …`.

Turns come from folders (`bench/_turn_data.py`) and from the synthesiser; each is heard as it is, and with one or
two silences of a person who thinks. A turn costs the seconds that its end is waited for, or `--cut` seconds if
it is cut off; every folder counts the same. Coordinate descent from the weights that were chosen by hand, with a
small price on leaving them, finds those towards which the ones in `stack/voice/prosody.py` were moved.

They come from the 619 recordings of Picovoice's speech-to-intent benchmark (commands of more than 50 people), 50
sentences and 25 answers in the voice "joe" of Piper and in those of espeak-ng, and 12 sentences of LJ Speech.
What they are worth is shown on other people: `python -m bench endpointing`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench._turn_curve import LOOK, Heard, pauses
from bench._turn_data import LONG, SHORT_ANSWERS, KnownTurn, recorded, synthetic
from bench._voices import Missing
from stack.core.errors import LocalError
from stack.voice.endpointing import Bounds, Pause, bounds_of
from stack.voice.prosody import BEFORE, ProsodyWeights, parts, prosody
from stack.voice.turns import Expects

_BLUR = 0.08
"""Seconds over which a pause that is nearly as long as the wait begins to count: so the cost has a slope."""
_PRICE = 0.05
_STEPS = (0.1, 0.05, 0.025, 0.0125)
FITTED = ("pitch_fall", "length", "movement")
"""The weights that are looked for; the others keep the eagerness what it is. For a long answer they are, too."""


@dataclass(frozen=True)
class Corpus:
    """The pauses of many turns: their measures, how long they lasted, whether they are an end, and whose."""

    measures: np.ndarray
    lasted: np.ndarray
    is_last: np.ndarray
    late: np.ndarray
    turn: np.ndarray
    weights: np.ndarray
    """Of each turn."""

    def cost(self, weights: np.ndarray, bounds: Bounds, cut: float) -> float:
        """Return the seconds that a turn costs on average."""
        score = np.clip(self.measures @ weights, 0.0, 1.0)
        wait = bounds.unfinished + (bounds.finished - bounds.unfinished) * score
        outlasted = np.exp(np.minimum((self.lasted - wait) / _BLUR, 50.0))
        survives = np.where(self.is_last, 1.0, 1.0 / (1.0 + outlasted))
        count = len(self.weights)
        whole = np.exp(np.bincount(self.turn, np.log(np.maximum(survives, 1e-6)), count))
        ends = np.zeros(count)
        ends[self.turn[self.is_last]] = (wait + self.late)[self.is_last]
        return float((self.weights * (whole * ends + (1.0 - whole) * cut)).sum() / self.weights.sum())


def gather(groups: Sequence[Sequence[Sequence[Heard]]]) -> Corpus:
    """Return the pauses of groups of turns; every group counts the same, and every turn of a group."""
    rows, lasted, is_last, late, turn, weights = [], [], [], [], [], []
    for group in groups:
        for heard in group:
            for each in heard:
                rows.append(parts(prosody(each.pause.utterance[-LOOK:]), each.pause.speech))
                lasted.append(min(each.lasted, 99.0))
                is_last.append(each.is_last)
                late.append(each.late)
                turn.append(len(weights))
            weights.append(1.0 / len(group))
    columns = (np.array(lasted), np.array(is_last, bool), np.array(late), np.array(turn), np.array(weights))
    return Corpus(np.array(rows, float), *columns)


def fit(corpus: Corpus, bounds: Bounds, cut: float, names: Sequence[str]) -> ProsodyWeights:
    """Return the weights at which a turn costs least, to two decimals; only those with these names change."""
    start = np.array(BEFORE)

    def cost(weights: np.ndarray) -> float:
        return corpus.cost(weights, bounds, cut) + _PRICE * float(((weights - start)[1:] ** 2).sum())

    best, least = start.copy(), cost(start)
    for step in (each for each in _STEPS for _ in range(3)):
        for place in map(ProsodyWeights._fields.index, names):
            for change in (step, -step):
                while (value := cost(moved := best + change * (np.arange(len(start)) == place))) < least - 1e-6:
                    best, least = moved, value
    return ProsodyWeights(*(round(float(each), 2) for each in best))


def hear(turns: Sequence[KnownTurn], rng: np.random.Generator, thinking: bool) -> list[list[Heard]]:
    """Return the pauses of each turn that is heard, as it is or with silences put in."""
    said = (turn.thinking(rng, int(rng.integers(1, 3))) if thinking else turn.whole(rng) for turn in turns)
    return [found for samples, end in said if (found := pauses(samples, end)) and found[-1].is_last]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench._fit_end_of_turn", description=__doc__)
    parser.add_argument(
        "--data", type=Path, nargs="*", default=[], metavar="DIR", help="turns of a sentence or more"
    )
    parser.add_argument(
        "--short", type=Path, nargs="*", default=[], metavar="DIR", help="answers of a word or two"
    )
    parser.add_argument("--cut", type=float, default=3.0, help="seconds that a turn which is cut off costs")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    rng = np.random.default_rng(chosen.seed)
    try:
        turns = {"synthetic sentences": synthetic(LONG)} | {str(each): recorded(each) for each in chosen.data}
        short = {"synthetic answers": synthetic(SHORT_ANSWERS)} | {
            str(each): recorded(each) for each in chosen.short
        }
    except (Missing, LocalError) as wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    thinking = [hear(each, rng, True) for each in turns.values()]
    plain = [hear(each, rng, False) for each in (*turns.values(), *short.values())]
    for name, found in zip((*turns, *short), plain, strict=True):
        print(f"{name}: {len(found)} turns, {sum(map(len, found)) - len(found)} pauses inside them")
    for expects, groups, names in (
        (Expects.ANY, [*thinking, *plain], FITTED),
        (Expects.LONG, thinking, ("base", "energy_fall", *FITTED)),
    ):
        bounds = bounds_of(Pause(np.zeros(0, np.int16), 0.0, expects=expects))
        corpus = gather([group for group in groups if group])
        weights = fit(corpus, bounds, chosen.cut, names)
        costs = (corpus.cost(np.array(each), bounds, chosen.cut) for each in (BEFORE, weights))
        print(f"{expects.value}: {weights}; a turn costs %.3f s, before %.3f s" % tuple(reversed(list(costs))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
