"""End of turn in virtual time: how many turns are cut off, and how long the others wait, by mode and eagerness.

People read sentences; at quiet places inside them silence of a person who thinks (0.25 to 1.5 s, seeded) is put
in, and the turn ends where the sentence ends. Others say short things to a machine. A `TurnManager` hears it in
packets of 20 ms. A turn that is committed before its last sound has arrived was cut off; the wait is counted from
the last sound.

Then the same turns, recorded commands with such pauses and the turns of `--data DIR` (`bench/_turn_data.py`) as
curves, beside the rules from before they were fitted: `--plot DIR` draws them.

SMART_TURN=FILE in the environment adds what a smart-turn model makes of it. The time that it takes on this machine
passes in the virtual time, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench._turn_curve import Heard, curve, cut_at, former_rules, long_answer, pauses, rules
from bench._turn_data import PAUSES, known, recorded
from bench._voices import FRAME, RATE, Missing, commands, last_sound, people, sounding, transcripts
from bench.report import Cell, Curves, Options, Table
from stack.audio import AudioFrame
from stack.core.errors import LocalError
from stack.voice import Eagerness, Pause, SmartTurnEndpointer, SpeechFrontEnd, TurnMode, TurnSettings
from stack.voice.audio_sender import AudioSender, SendParameters
from stack.voice.events import TurnPaused, UserStoppedSpeaking, Utterance
from stack.voice.turn_manager import TurnManager

TICK = FRAME / RATE
TURNS = 100


@dataclass
class Turn:
    """Something that a person says, with the words that are said by any moment."""

    samples: np.ndarray
    end: float
    """Seconds, of the last sound."""
    words: list[tuple[float, str]]
    """When each word is over."""

    def transcript(self, until: float) -> str:
        return " ".join(word for at, word in self.words if at <= until)


def make_turn(rng: np.random.Generator, sentence: np.ndarray, text: str, pauses: int) -> Turn:
    """Put so many pauses into a sentence, at quiet places at least 0.6 s from its ends and from each other."""
    loud = sounding(sentence)
    first = int(np.argmax(loud))
    last = int(np.flatnonzero(sounding(sentence, 20.0))[-1])
    quiet = [index for index in range(first + 60, last - 60) if not loud[index - 2 : index + 3].any()]
    places: list[int] = []
    for place in rng.permutation(quiet):
        if len(places) < pauses and all(abs(place - other) > 60 for other in places):
            places.append(int(place))
    # Not the recording's own background: repeated, it would have a pitch.
    level = float(np.std(sentence[: first * 160 - 320]))

    def silence(count: int) -> np.ndarray:
        return np.convolve(rng.standard_normal(count + 3), np.full(4, 0.5), "valid") * level

    parts, at, shifts = [], 0, []
    for place in sorted(places):
        pause = int(rng.uniform(*PAUSES) * RATE)
        parts += [sentence[at : place * 160], silence(pause)]
        shifts.append((place * 160, pause))
        at = place * 160
    parts += [sentence[at : (last + 1) * 160], silence(12 * RATE)]

    def moved(sample: float) -> float:
        return (sample + sum(pause for place, pause in shifts if place < sample)) / RATE

    # There is no alignment with the recordings: the words are spread evenly over the blocks that sound.
    sounds = np.flatnonzero(loud)
    words = text.split()
    ends = [sounds[min(len(sounds) - 1, round(len(sounds) * (i + 1) / len(words)) - 1)] for i in range(len(words))]
    spoken = [(moved((end + 1) * 160), word) for end, word in zip(ends, words, strict=True)]
    return Turn(np.rint(np.concatenate(parts)).astype(np.int16), moved((last + 1) * 160 - 1), spoken)


def errands() -> list[Turn]:
    """Return what people say to a machine, as they say it, not as it would be written."""
    rng = np.random.default_rng(0)
    turns = []
    for said in commands():
        end = last_sound(said)
        blocks = said[: len(said) // 160 * 160].reshape(-1, 160)
        background = float(np.percentile(np.std(blocks, axis=1), 5))
        silence = rng.standard_normal(12 * RATE) * background
        turns.append(Turn(np.rint(np.concatenate([said[:end], silence])).astype(np.int16), end / RATE, []))
    return turns


class Model(SmartTurnEndpointer):
    """A smart-turn model that is asked once only about the same sound, and how long each answer took."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._known: dict[bytes, tuple[float, float]] = {}
        self.took = 0.0
        """Seconds that the latest answer took."""

    @property
    def times(self) -> list[float]:
        return [took for _, took in self._known.values()]

    def probability(self, sound: np.ndarray) -> float:
        key = sound.tobytes()
        if key not in self._known:
            begun = time.perf_counter()
            probability = super().probability(sound)
            self._known[key] = probability, time.perf_counter() - begun
        probability, self.took = self._known[key]
        return probability


def listen(turn: Turn, settings: TurnSettings, with_words: bool, model: Model | None) -> float:
    """Return when the turn was committed, in seconds after its last sound; negative: cut off."""
    manager = TurnManager(AudioSender(SendParameters("opus")), SpeechFrontEnd(settings), settings)
    manager.report_pauses(model is not None, 0.0)
    answers: list[tuple[float, int, float]] = []  # when, to which question, what
    for tick in range(len(turn.samples) // FRAME):
        arrived = (tick + 1) * TICK
        while True:
            due = manager.poll_timeout()
            answer = answers[0][0] if answers else None
            now = min((at for at in (due, answer, arrived) if at is not None), default=arrived)
            if now == arrived:
                samples = turn.samples[tick * FRAME : (tick + 1) * FRAME]
                manager.hear(AudioFrame(samples, RATE, tick * TICK), now)
            elif now == answer:
                _, number, wait = answers.pop(0)
                manager.note_end_of_turn(number, wait, now)
            else:
                manager.handle_timeout(now)
            for event in manager.drain_events():
                if isinstance(event, Utterance):
                    return now - turn.end
                if isinstance(event, UserStoppedSpeaking) and with_words:
                    manager.note_transcript(turn.transcript(event.media_time), now)
                if isinstance(event, TurnPaused) and model is not None:
                    wait = model.wait(event.pause)
                    begin = max([now, *(at for at, _, _ in answers)])  # one at a time
                    answers.append((begin + model.took, event.number, wait))
            if now == arrived:
                break
    return float("inf")


AT = (500, 700, 900, 1100, 1300)
"""Milliseconds at which the judges are held against each other."""


def heard_by(model: Model, pause: Pause) -> float:
    """Return what a model makes of a pause: it hears a fifth of a second of the silence, too."""
    return model.probability(np.concatenate([pause.utterance, pause.silence[: RATE // 5]]))


def outcome(waits: np.ndarray, *percentiles: float) -> list[Cell]:
    """Return the share of turns that were cut off in percent, and percentiles of the others' waits in ms."""
    whole = waits[waits >= 0]
    times = np.percentile(whole, percentiles, method="nearest") if len(whole) else [np.nan] * len(percentiles)
    return [100.0 * float((waits < 0).mean()), *(1000.0 * float(wait) for wait in times)]


def described(model: Model | None) -> str:
    if model is None:
        return "smart-turn: not measured; SMART_TURN=FILE names the model"
    return f"smart-turn: {1000 * np.median(model.times):.0f} ms for an answer (p50 of {len(model.times)})"


def run(options: Options) -> list[Table]:
    """Run every mode over the same turns."""
    path = os.environ.get("SMART_TURN")
    try:
        sentences, texts, short = people(), transcripts(), errands()
        model = Model(path) if path else None
    except (Missing, LocalError) as missing:
        return [Table("End of turn: not measured", ("why",), [[str(missing)]])]
    rng = np.random.default_rng(options.seed)
    count = max(10, round(TURNS * options.scale))
    pick = [(sentences[i % len(sentences)], texts[i % len(texts)]) for i in range(count)]
    plain = [make_turn(rng, *chosen, pauses=0) for chosen in pick[: len(sentences)]]
    turns = [make_turn(rng, *chosen, pauses=int(rng.integers(1, 3))) for chosen in pick]
    modes: list[tuple[str, TurnSettings, bool, Model | None]] = [
        (f"server_vad, {ms} ms", TurnSettings(silence_duration_ms=ms), False, None) for ms in (200, 500, 800)
    ]
    for judge in (None, model)[: 1 if model is None else 2]:
        for words in (False, True):
            for eagerness in (Eagerness.HIGH, Eagerness.MEDIUM, Eagerness.LOW):
                name = ", ".join(["semantic", eagerness.value, *["smart-turn"] * (judge is not None)])
                settings = TurnSettings(TurnMode.SEMANTIC, eagerness=eagerness)
                modes.append((f"{name}, words" if words else name, settings, words, judge))
    rows: list[list[Cell]] = []
    for name, settings, words, judge in modes:
        fluent, pausing, said = (
            np.array([listen(turn, settings, words, judge) for turn in group]) for group in (plain, turns, short)
        )
        rows.append(
            [
                name,
                *outcome(fluent, 50),
                *outcome(pausing, 50, 95),
                *([None, None] if words else outcome(said, 50)),
            ]
        )
    heard = {"read sentences, 1 or 2 pauses": [pauses(turn.samples, turn.end) for turn in turns]}
    said = [known(each) for each in commands()]
    heard["commands, 1 or 2 pauses"] = [
        pauses(*said[i % len(said)].thinking(rng, int(rng.integers(1, 3)))) for i in range(count)
    ]
    try:
        data = recorded(Path(options.data)) if options.data else []
    except LocalError as wrong:
        raise SystemExit(f"error: {wrong}") from None
    if data:
        data = [data[i] for i in rng.permutation(len(data))[: 2 * count]]
        heard["--data, as it is"] = [pauses(*turn.whole(rng)) for turn in data]
        heard["--data, 1 or 2 pauses"] = [pauses(*turn.thinking(rng, int(rng.integers(1, 3)))) for turn in data]
    columns = ("fluent: cut off, %", "wait p50, ms", "pausing: cut off, %", "wait p50, ms", "p95")
    return [
        Table(
            "End of turn",
            ("mode", *columns, "errands: cut off, %", "wait p50, ms"),
            rows,
            (
                "fluent: five recorded sentences as they were read",
                f"pausing: {count} turns, one or two pauses of {PAUSES[0]:g} to {PAUSES[1]:g} s put into each",
                f"errands: {len(short)} things said to a machine, as they were said",
                "words: a transcript that keeps up, its words spread evenly over the sound",
                described(model),
            ),
        ),
        *curves(heard, model),
    ]


def curves(heard: Mapping[str, Sequence[Sequence[Heard]]], model: Model | None) -> list[Table]:
    """Return a table and a chart for each kind of turns, and before them the figures of all at the same waits."""
    judges: list[tuple[str, Callable[[Pause], float] | None]] = [
        ("fixed silence", None),
        ("former rules", former_rules),
        ("rules", rules),
        ("rules, long answer expected", long_answer),
    ]
    if model is not None:
        judges.append(("smart-turn", lambda pause: heard_by(model, pause)))
    tables: list[Table] = []
    at: list[list[Cell]] = []
    for kind, found in heard.items():
        turns = [turn for turn in found if turn]
        rows: list[list[Cell]] = []
        for who, judge in judges:
            points = curve(who, turns, judge)
            rows += points
            at.append([kind, who, *(cut_at(points, wait) for wait in AT)])
        tables.append(
            Table(
                f"End of turn: cut off against the wait ({kind})",
                ("who", "waits", "cut off, %", "wait p50, ms", "p95"),
                rows,
                (f"{len(turns)} turns; each judge moves the wait between two bounds: the best pairs of them",),
                Curves("wait p50, ms", "cut off, %"),
            )
        )
    same = Table(
        "End of turn: turns cut off, %, at the same wait (p50)",
        ("turns", "who", *(f"{wait} ms" for wait in AT)),
        at,
        ("-: no setting waits so short",),
    )
    return [same, *tables]
