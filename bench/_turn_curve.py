"""The end of turn as a curve: turns cut off against the wait, for every judge by the same rule.

Each turn is heard once; at each pause a judge says how finished it sounds, 0 to 1, which moves the wait between
two bounds. All pairs of bounds are tried, and those are shown that no other pair beats in both: so a judge is held
against others at its best, and one that knows nothing is a fixed silence. A turn is cut off when a pause inside it
lasts longer than the judge would have waited. What a model takes to answer is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench._voices import FRAME, RATE
from bench.report import Cell
from stack.voice import (
    Expects,
    Pause,
    RuleEndpointer,
    SpeechFrontEnd,
    SpeechStarted,
    SpeechStopped,
    TurnMode,
    TurnSettings,
)
from stack.voice.endpointing import LONGEST_LOOK
from stack.voice.prosody import BEFORE, ProsodyWeights, prosody, sounds_finished

SILENCES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
"""Seconds of a fixed silence, and for a turn that sounds finished."""
WAITS = tuple((done, more) for done in SILENCES for more in (*SILENCES, 1.75, 2.0, 2.5, 3.0) if more >= done)
"""Seconds for a turn that sounds finished, and for one that does not."""
_SOONEST = 0.2
LOOK = 5 * RATE // 2
"""Samples of an utterance that the rules look at."""


@dataclass(frozen=True)
class Heard:
    """A pause, how long it lasted, and whether it is the end. What was said after it is another pause."""

    pause: Pause
    lasted: float
    is_last: bool
    late: float
    """Seconds by which its beginning was put after the last sound."""


def pauses(samples: np.ndarray, end: float) -> list[Heard]:
    """Return the pauses of a turn whose last sound is at `end` seconds."""
    front_end = SpeechFrontEnd(TurnSettings(TurnMode.SEMANTIC))
    events = [
        event
        for at in range(0, len(samples) - FRAME + 1, FRAME)
        for event in front_end.capture(samples[at : at + FRAME], at / RATE).events
    ]
    begun = [event for event in events if isinstance(event, SpeechStarted)]
    stopped = [event for event in events if isinstance(event, SpeechStopped)]
    if not begun:
        return []
    first, found = begun[0].media_time, []
    for event in stopped:
        onset = next((other.onset for other in begun if other.onset > event.media_time), float("inf"))
        # Speech begins `prefix_padding_ms` early, which can be before the recording does.
        start = max(0.0, first, event.media_time - LONGEST_LOOK)
        said = samples[round(start * RATE) : round(event.media_time * RATE)]
        silence = samples[round(event.media_time * RATE) : round((event.media_time + 0.5) * RATE)]
        pause = Pause(said, event.media_time - first, silence=silence)
        is_last = onset == float("inf")
        found.append(Heard(pause, onset - event.media_time, is_last, event.media_time - end))
    return found


def former_rules(pause: Pause) -> float:
    """Return what the rules said before their weights were fitted."""
    return _judged(pause, BEFORE)


def rules(pause: Pause) -> float:
    return RuleEndpointer().finished(pause)


def long_answer(pause: Pause) -> float:
    """Return what the rules say if the program has asked for a long answer."""
    return RuleEndpointer().finished(replace(pause, expects=Expects.LONG))


def _judged(pause: Pause, weights: ProsodyWeights) -> float:
    return sounds_finished(prosody(pause.utterance[-LOOK:]), pause.speech, weights)


def curve(
    who: str, turns: Sequence[Sequence[Heard]], finished: Callable[[Pause], float] | None
) -> list[list[Cell]]:
    """Return a row for each setting: who, the setting, turns cut off in %, the others' waits (p50, p95) in ms.

    Without a judge the wait is a fixed silence. In the order of the waits; each row cuts off fewer than the one
    before.
    """
    settings = [(each, each) for each in SILENCES] if finished is None else list(WAITS)
    judged = [[(each, 0.0 if finished is None else finished(each.pause)) for each in turn] for turn in turns]
    points: list[tuple[float, float, float, str]] = []
    for done, more in settings:
        cut, waits = 0, []
        for turn in judged:
            asked = [(each, max(_SOONEST, more + (done - more) * score)) for each, score in turn]
            if any(wait < each.lasted for each, wait in asked if not each.is_last):
                cut += 1
            else:
                waits += [wait + each.late for each, wait in asked if each.is_last]
        if waits:
            middle, most = np.percentile(waits, (50, 95), method="nearest") * 1000
            setting = f"{done:g} s" if finished is None else f"{done:g} to {more:g} s"
            points.append((float(middle), 100.0 * cut / len(turns), float(most), setting))
    rows: list[list[Cell]] = []
    least = float("inf")
    for middle, share, most, setting in sorted(points):
        if share < least:
            rows.append([who, setting, share, middle, most])
            least = share
    return rows


def cut_at(rows: Sequence[Sequence[Cell]], wait_ms: float) -> float | None:
    """Return the percentage of turns that are cut off by the best setting that waits so long at most (p50)."""
    shares = [float(row[2] or 0.0) for row in rows if float(row[3] or 0.0) <= wait_ms]
    return min(shares, default=None)
