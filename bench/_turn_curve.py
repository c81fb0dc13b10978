"""The end of turn as a curve: turns cut off against the wait, for every judge by the same rule.

Each turn is heard once; at each pause a judge says how finished it sounds, 0 to 1. Then the two waits between
which that moves the answer are swept, so a judge is compared over all its settings and not at one point. A turn is
cut off when a pause inside it lasts longer than the judge would have waited. What a model takes to answer is not
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench._voices import FRAME, RATE
from bench.report import Cell
from stack.voice import Pause, RuleEndpointer, SpeechFrontEnd, SpeechStarted, SpeechStopped, TurnMode, TurnSettings
from stack.voice.endpointing import LONGEST_LOOK, pitch_track

WAITS = ((0.2, 0.5), (0.25, 0.75), (0.3, 1.0), (0.45, 1.6), (0.6, 2.2), (0.8, 3.0), (1.0, 4.0))
"""Seconds for a turn that sounds finished, and for one that does not."""
SILENCES = (0.2, 0.3, 0.5, 0.8, 1.1, 1.5)
"""Seconds of a fixed silence."""
_SOONEST = 0.2


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
        start = max(first, event.media_time - LONGEST_LOOK)
        said = samples[round(start * RATE) : round(event.media_time * RATE)]
        silence = samples[round(event.media_time * RATE) : round((event.media_time + 0.5) * RATE)]
        pause = Pause(said, event.media_time - first, silence=silence)
        is_last = onset == float("inf")
        found.append(Heard(pause, onset - event.media_time, is_last, event.media_time - end))
    return found


def former_rules(pause: Pause) -> float:
    """Return what the rules said while they read a rise of four semitones and more as a fall."""
    said = pause.utterance[-5 * RATE // 2 :]
    pitch, level = pitch_track(said)
    voiced = pitch > 0
    if len(pitch) == 0 or voiced.mean() < 0.05:
        return 0.5
    fall = energy = 0.0
    if voiced.sum() >= 8:
        tones = 12.0 * np.log2(pitch[voiced])
        last = np.flatnonzero(voiced)[-1]
        near = voiced & (np.arange(len(pitch)) > last - 33)
        fall = (np.median(tones) - np.median(12.0 * np.log2(pitch[near])[-12:]) + 4.0) % 12.0 - 4.0
        energy = np.median(level[voiced]) - level[max(0, last - 15) : last + 1].mean()
    score = 0.45 + 0.30 * np.clip(fall / 4.0, -0.7, 1.0) + 0.25 * np.clip((energy - 3.0) / 6.0, -0.6, 1.0)
    return float(np.clip(score + 0.10 * np.clip((pause.speech - 1.2) / 2.0, -0.5, 1.0), 0.0, 1.0))


def rules(pause: Pause) -> float:
    return RuleEndpointer().finished(pause)


def curve(
    who: str, turns: Sequence[Sequence[Heard]], finished: Callable[[Pause], float] | None
) -> list[list[Cell]]:
    """Return a row for each setting: who, the setting, turns cut off in %, the others' waits (p50, p95) in ms.

    Without a judge the wait is a fixed silence.
    """
    settings = [(each, each) for each in SILENCES] if finished is None else list(WAITS)
    judged = [[(each, 0.0 if finished is None else finished(each.pause)) for each in turn] for turn in turns]
    rows: list[list[Cell]] = []
    for done, more in settings:
        cut, waits = 0, []
        for turn in judged:
            asked = [(each, max(_SOONEST, more + (done - more) * score)) for each, score in turn]
            if any(wait < each.lasted for each, wait in asked if not each.is_last):
                cut += 1
            else:
                waits += [wait + each.late for each, wait in asked if each.is_last]
        times = np.percentile(waits, (50, 95), method="nearest") * 1000 if waits else (np.nan, np.nan)
        setting = f"{done:g} s" if finished is None else f"{done:g} to {more:g} s"
        rows.append([who, setting, 100.0 * cut / max(1, len(turns)), *map(float, times)])
    return rows
