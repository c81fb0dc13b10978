"""Tables of `bench bargein` about a program that interrupts itself: an hour in each room, and calls that begin.

Only the program is to be heard, so whatever stops it is a false start. An hour is six calls of ten minutes: each
has its own seed, which draws the program's sentences or music, the room and the noise, and begins with a canceller
that knows nothing. Rooms, loudspeakers and measured responses are those of `_loudspeaker_tables.py`.

An hour of one room takes 80 s of processor time. `--keep FILE` notes each call as it ends, a line of JSON, and
takes from the file what it has: what was interrupted goes on, and rooms that were run alone become one table. The
file does not know the code that was measured, so another state of it wants another file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench._loudspeaker_tables import DELAY, GAIN_DB, places
from bench._loudspeakers import Room as Place
from bench._noises import music, piano
from bench._talking import DEFAULTS, TICK, Room, converse, last, silence
from bench._voices import agent
from bench.report import Cell, Options, Table
from stack.core.errors import LocalError
from stack.voice import EarshotDetector, VoiceDetector
from stack.voice.cascade import CascadeDetector

CALLS = 6
CALL_MINUTES = 10.0
BEGINNINGS = 30
BEGINNING = 6.0
"""Seconds."""
GOAL = 1.0
"""False starts an hour of program speech, at most."""
LOUDSPEAKERS = ("faithful", "clips", "voice coil")
DETECTORS: dict[str, Callable[[], VoiceDetector]] = {
    "auto": CascadeDetector.installed,
    "earshot": EarshotDetector,
}


def _music(seed: int) -> np.ndarray:
    return music(np.random.default_rng(seed), 60.0)


def _piano(seed: int) -> np.ndarray:
    return piano(np.random.default_rng(seed), 60.0)


PROGRAMS: dict[str, Callable[[int], np.ndarray]] = {
    "speech": lru_cache(CALLS)(agent),
    "music": lru_cache(CALLS)(_music),
    "piano": lru_cache(CALLS)(_piano),
}


@dataclass(frozen=True)
class Situation:
    """What a program is heard in, and by what."""

    program: str
    where: str
    place: Place
    loudspeaker: str
    detector: str

    @property
    def name(self) -> str:
        """As it stands in a table."""
        return f"{self.program}: {self.where}, {self.loudspeaker}; {self.detector}"

    def call(self, seed: int, seconds: float) -> tuple[float, list[float]]:
        """Return the seconds of program that were sent in a call, and when it was stopped."""
        rng = np.random.default_rng(seed)
        room = Room(rng, GAIN_DB, place=self.place, loudspeaker=self.loudspeaker, delay=DELAY)
        program = PROGRAMS[self.program](seed)
        parts: dict[str, Any] = {"make_detector": DETECTORS[self.detector]}
        outcome = last(converse(program, silence, room, round(seconds / TICK), DEFAULTS, **parts))
        return outcome.seconds, [round(hold, 2) for hold in outcome.holds]


def situations(options: Options, only: str = "") -> Iterator[Situation]:
    """Yield those in whose name `only` occurs."""
    for program in PROGRAMS:
        for where, place in places(options).items():
            for loudspeaker in LOUDSPEAKERS:
                for detector in DETECTORS:
                    situation = Situation(program, where, place, loudspeaker, detector)
                    if only in situation.name:
                        yield situation


class Kept:
    """Calls that were run before, in a file of lines."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._calls: dict[tuple[str, int, float], tuple[float, list[float]]] = {}
        if path is not None and path.exists():
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                try:
                    call = json.loads(line)
                    key = str(call["situation"]), int(call["seed"]), float(call["length"])
                    self._calls[key] = float(call["sent"]), [float(stop) for stop in call["stops"]]
                except (ValueError, KeyError, TypeError) as error:
                    raise LocalError(f"{path}, line {number} is no call that was kept: {error!r}") from error

    def call(self, situation: Situation, seed: int, seconds: float) -> tuple[float, list[float]]:
        """Return what `Situation.call` does, from the file if it is there."""
        key = situation.name, seed, seconds
        if key not in self._calls:
            self._calls[key] = sent, stops = situation.call(seed, seconds)
            if self._path is not None:
                line = {"situation": situation.name, "seed": seed, "length": seconds, "sent": sent, "stops": stops}
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
        return self._calls[key]


def _kept(options: Options) -> Kept:
    return Kept(None if options.keep is None else Path(options.keep))


def _hours(options: Options, only: str = "") -> Table:
    kept, rows = _kept(options), list[list[Cell]]()
    calls = max(1, round(CALLS * options.scale))
    everything = {"sent": 0.0, "stops": 0}
    for situation in situations(options, only):
        each = [kept.call(situation, options.seed + call, CALL_MINUTES * 60) for call in range(calls)]
        sent, stops = sum(sent for sent, _ in each), [stop for _, stops in each for stop in stops]
        early = sum(stop < BEGINNING for stop in stops)
        rows.append([situation.name, calls, sent / 60, len(stops), early, 3600 * len(stops) / max(sent, 1.0)])
        everything["sent"] += sent
        everything["stops"] += len(stops)
    hours = everything["sent"] / 3600
    return Table(
        "Only the program is to be heard: false starts in an hour",
        (
            "program: room, loudspeaker; detector",
            "calls",
            "minutes sent",
            "false starts",
            f"of them in the first {BEGINNING:.0f} s",
            "an hour",
        ),
        rows,
        (f"{everything['stops']} false starts in {hours:.2f} h; goal: at most {GOAL:.0f} an hour in each",),
    )


def _beginnings(options: Options, only: str = "") -> Table:
    kept, rows = _kept(options), list[list[Cell]]()
    calls = max(1, round(BEGINNINGS * options.scale))
    for situation in situations(options, only):
        each = [kept.call(situation, options.seed + call, BEGINNING)[1] for call in range(calls)]
        rows.append([situation.name, calls, sum(map(bool, each)), sum(map(len, each))])
    return Table(
        f"Calls that begin: false starts in the first {BEGINNING:.0f} s of each",
        ("program: room, loudspeaker; detector", "calls", "calls with one", "false starts"),
        rows,
    )


TABLES: dict[str, Callable[[Options, str], Table]] = {"hours": _hours, "beginnings": _beginnings}
