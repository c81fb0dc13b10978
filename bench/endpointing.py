"""End of turn in virtual time: how many turns are cut off, and how long the others wait, by mode and eagerness.

People read sentences; at quiet places inside them silence of a person who thinks (0.25 to 1.5 s, seeded) is put
in, and the turn ends where the sentence ends. `Listener`, `TurnTaking` and `RuleEndpointer` hear it in packets of
20 ms. A turn that is committed before its last sound has arrived was cut off; the wait is counted from the last
sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench._voices import FRAME, RATE, Missing, people, sounding, transcripts
from bench.report import Options, Table
from stack.voice import Listener, SpeechStarted, TurnAction, TurnMode, TurnSettings, TurnTaking
from stack.voice.endpointing import Pause, RuleEndpointer
from stack.voice.turns import Eagerness

TICK = FRAME / RATE
TURNS = 100
PAUSES = (0.25, 1.5)


@dataclass
class Turn:
    """Something that somebody says, with the words that are said by any moment."""

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


def listen(turn: Turn, settings: TurnSettings, with_words: bool) -> float:
    """Return when the turn was committed, in seconds after its last sound; negative: cut off."""
    listener, turns = Listener(settings), TurnTaking(settings)
    endpointer = RuleEndpointer(settings.eagerness)
    begin, stopped = 0.0, 0.0
    for tick in range(len(turn.samples) // FRAME):
        now = tick * TICK
        turns.handle_timeout(now)
        if any(event.action is TurnAction.COMMIT_UTTERANCE for event in turns.drain_events()):
            return now - turn.end
        arrived = now + TICK
        for event in listener.capture(turn.samples[tick * FRAME : (tick + 1) * FRAME], now).events:
            if isinstance(event, SpeechStarted):
                if stopped:
                    endpointer.resumed(event.onset - stopped)
                begin = begin or event.onset
                turns.speech_started(arrived, event.decided - event.onset)
                continue
            stopped = event.media_time
            turns.speech_stopped(arrived, event.duration, event.silence)
            if settings.mode is TurnMode.SEMANTIC:
                said = turn.samples[int(begin * RATE) : int(stopped * RATE)]
                words = turn.transcript(stopped) if with_words else None
                wait = endpointer.wait(Pause(said, stopped - begin, words))
                turns.end_of_turn_at(arrived - event.silence + wait, arrived)
    return float("inf")


def run(options: Options) -> list[Table]:
    """Run every mode over the same turns."""
    try:
        sentences, texts = people(), transcripts()
    except Missing as missing:
        return [Table("End of turn: not measured", ("why",), [[str(missing)]])]
    rng = np.random.default_rng(options.seed)
    count = max(10, round(TURNS * options.scale))
    pick = [(sentences[i % len(sentences)], texts[i % len(texts)]) for i in range(count)]
    plain = [make_turn(rng, *chosen, pauses=0) for chosen in pick[: len(sentences)]]
    turns = [make_turn(rng, *chosen, pauses=int(rng.integers(1, 3))) for chosen in pick]
    modes = [
        *((f"server_vad, {ms} ms", TurnSettings(silence_duration_ms=ms), False) for ms in (200, 500, 800)),
        *(
            (
                f"semantic, {e.value}{', words' if words else ''}",
                TurnSettings(TurnMode.SEMANTIC, eagerness=e),
                words,
            )
            for words in (False, True)
            for e in (Eagerness.HIGH, Eagerness.MEDIUM, Eagerness.LOW)
        ),
    ]
    rows = []
    for name, settings, words in modes:
        fluent = np.array([listen(turn, settings, words) for turn in plain])
        waits = np.array([listen(turn, settings, words) for turn in turns])
        whole = waits[waits >= 0]
        p50, p95 = np.percentile(whole, [50, 95], method="nearest") if len(whole) else (np.nan, np.nan)
        rows.append(
            [
                name,
                100.0 * float((fluent < 0).mean()),
                1000 * float(np.median(fluent)),
                100.0 * float((waits < 0).mean()),
                1000 * float(p50),
                1000 * float(p95),
            ]
        )
    return [
        Table(
            "End of turn",
            ("mode", "fluent: cut off, %", "wait p50, ms", "pausing: cut off, %", "wait p50, ms", "p95"),
            rows,
            (
                "fluent: five recorded sentences as they were read",
                f"pausing: {count} turns, one or two pauses of {PAUSES[0]:g} to {PAUSES[1]:g} s put into each",
                "words: a transcript that keeps up, its words spread evenly over the sound",
            ),
        )
    ]
