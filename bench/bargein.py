"""Barge-in in virtual time: how fast a person stops the agent, and how often an echo or a cough does.

A whole conversation without a network: the agent's sound goes through a room into the microphone, the person
speaks over it, and `SpeechFrontEnd` and `TurnTaking` decide, packet by packet of 20 ms. When they hold the reply
the agent really falls silent, and its echo with it. Latency counts from the arrival of the packet with the first
sample of sound (the first 20 ms within 14 dB of the speaker's level) to the packet that decides; network and
program add to it elsewhere. The echo is 6 dB below what is sent, and the person is as loud as the agent.

A stop counts for a person only after his first sound has arrived and within two seconds of it; any other stop of
a reply is a stray one, and a person for whom the agent did not stop is missed and has waited for
ever in the percentiles.

All of it takes an hour. Each table, and each of its rooms, can be run alone:
`python -m bench.bargein stops "path moves" --seed 2 --scale 3`; the tables are latencies, stops, noises and after.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench._interrupted import QUEUED, interrupted
from bench._voices import (
    FRAME,
    RATE,
    Missing,
    agent,
    cough,
    first_sound,
    impulse_response,
    people,
    sounding,
    spoken,
    typing,
)
from bench.report import Options, Table
from stack.audio import OpusDecoder, OpusEncoder
from stack.voice import (
    CascadeDetector,
    KalmanEchoCanceller,
    SpeechFrontEnd,
    SpeechStarted,
    TurnSettings,
    TurnTaking,
)
from stack.voice.echo_filter import Lag
from stack.voice.turns import TurnAction, TurnState

TICK = FRAME / RATE
BARGE_INS = 200
MINUTES = 20.0
ECHO_DB = -6.0
DEFAULTS = TurnSettings()
IN_TIME = 2.0
"""Seconds after a person's first sound within which a stop is his."""
_MOVES = {"changes_every": 30.0}
_REPLACED = {"changes_every": 30.0, "changes_over": 0.0}
ROOMS_OF_PEOPLE: dict[str, dict[str, Any]] = {
    "headset: no echo": {"gain_db": None},
    "echo -6 dB": {},
    "echo -6 dB, 50 ppm drift": {"drift": 50e-6},
    "echo -6 dB, path moves every 30 s, within 0.3 s": _MOVES,
    "echo -6 dB, path replaced at once every 30 s": _REPLACED,
    "echo -6 dB, Opus both ways": {"opus": True},
}
ROOMS_OF_THE_AGENT: dict[str, dict[str, Any]] = {
    "echo -6 dB": {},
    "50 ppm drift": {"drift": 50e-6},
    "200 ppm drift": {"drift": 200e-6},
    "path moves every 30 s, within 0.3 s": _MOVES,
    "path replaced at once every 30 s": _REPLACED,
    "loudspeaker distorts": {"drive": 6000.0},
    "Opus both ways": {"opus": True},
    "echo 0 dB, Opus, 50 ppm, path moves": {"gain_db": 0.0, "opus": True, "drift": 5e-5} | _MOVES,
}


@dataclass
class Room:
    """From loudspeaker to microphone: a delay, an impulse response that may change, a clock that may drift."""

    rng: np.random.Generator
    gain_db: float | None = ECHO_DB
    drift: float = 0.0
    changes_every: float | None = None
    """Seconds from one place in another room to the next; `changes_over` is how long it takes to get there."""
    changes_over: float = 0.3
    drive: float | None = None
    opus: bool = False
    delay: float = 0.18
    _sent: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    _tick: int = 0

    def __post_init__(self) -> None:
        self._tail = RATE
        self._sent = np.zeros(2 * RATE, np.float32)
        self._lag = Lag()
        self._lag.move(self.delay * RATE, 0)
        self._lag.drift = self.drift
        self._response = impulse_response(self.rng, self.gain_db or 0.0)
        self._from = self._to = self._response
        self._moved = 1.0

    def hear(self, sent: np.ndarray) -> np.ndarray:
        """Take a frame that is played; return what of our voice the microphone hears in the same 20 ms."""
        if self.gain_db is None:
            return self.rng.standard_normal(FRAME) * 6.0
        played = sent if self.drive is None else np.tanh(sent / self.drive) * self.drive
        self._sent = np.concatenate([self._sent[FRAME:], played])
        at, self._tick = self._tick * FRAME, self._tick + 1
        if self.changes_every and at % int(self.changes_every * RATE) < FRAME:
            self._from, self._to = self._response, impulse_response(self.rng, self.gain_db)
            self._moved = 0.0
        if self._moved < 1.0:
            self._moved = min(1.0, self._moved + TICK / max(TICK, self.changes_over))
            self._response = (1.0 - self._moved) * self._from + self._moved * self._to
        first = at + FRAME - len(self._sent)
        taps = len(self._response)

        def read(start: int, count: int) -> np.ndarray:
            begin = start - first
            return self._sent[max(0, begin) : begin + count]

        source = self._lag.delayed(read, at - taps + 1, FRAME + taps - 1)
        # The lag of a drifting clock grows without end; the jitter buffer of a client takes a step now and then.
        if self._lag.at(at) > 0.4 * RATE or self._lag.at(at) < 0.05 * RATE:
            self._lag.move(self.delay * RATE, at)
        return np.convolve(source, self._response, "valid") + self.rng.standard_normal(FRAME) * 6.0


class Codec:
    """Opus there or back, at 16 kHz, 24 kb/s."""

    def __init__(self) -> None:
        self._encoder, self._decoder = OpusEncoder(RATE, bitrate=24_000), OpusDecoder(RATE)

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        pcm = np.clip(np.rint(frame), -32768, 32767).astype(np.int16)
        return np.asarray(self._decoder.decode(self._encoder.encode(pcm))).reshape(-1)


@dataclass
class Outcome:
    """What happened to the agent's speech."""

    holds: list[float] = field(default_factory=list)
    drops: int = 0
    resumes: int = 0
    seconds: float = 0.0
    """Of agent's speech that left."""


def converse(
    track: np.ndarray,
    near: Callable[[int, bool], np.ndarray],
    room: Room,
    ticks: int,
    settings: TurnSettings = DEFAULTS,
) -> Iterator[tuple[int, Outcome]]:
    """Run a conversation tick by tick; `near(tick, agent_speaking)` is what the person does."""
    front_end = SpeechFrontEnd(settings, CascadeDetector.installed, KalmanEchoCanceller)
    turns, outcome = TurnTaking(settings), Outcome()
    down, up = (Codec(), Codec()) if room.opus else (None, None)
    position, reply_at = 0, 0.0
    silence = np.zeros(FRAME, np.float32)
    for tick in range(ticks):
        now = tick * TICK
        turns.handle_timeout(now)
        if turns.state in (TurnState.LISTENING, TurnState.THINKING) and now >= reply_at:
            turns.reply_started(now)
        speaking = turns.state is TurnState.AGENT_SPEAKING
        sent = silence
        if speaking:
            position = (position + FRAME) % (len(track) - FRAME)
            sent = track[position : position + FRAME]
            outcome.seconds += TICK
        played = down(sent).astype(np.float32) if down else sent
        heard = room.hear(played) + near(tick, speaking)
        microphone = up(heard) if up else np.clip(np.rint(heard), -32768, 32767).astype(np.int16)
        front_end.over_reply = speaking
        front_end.render(np.rint(played).astype(np.int16), now)
        arrived = now + TICK
        for event in front_end.capture(microphone, now).events:
            if isinstance(event, SpeechStarted):
                turns.speech_started(arrived, event.decided - event.onset)
            else:
                turns.speech_stopped(arrived, event.duration, event.silence)
        for done in turns.drain_events():
            if done.action is TurnAction.HOLD_PLAYOUT and speaking:
                outcome.holds.append(arrived)
            elif done.action is TurnAction.DROP_REPLY:
                outcome.drops += 1
            elif done.action is TurnAction.RESUME_PLAYOUT:
                outcome.resumes += 1
            elif done.action is TurnAction.CREATE_REPLY:
                reply_at = arrived + 0.3
        yield tick, outcome


def phrases() -> list[np.ndarray]:
    """Return what people say after each pause, two seconds at most, from its first sound on."""
    found = []
    for sentence in people():
        loud, quiet = sounding(sentence), 100
        for index in range(len(loud) - 60):
            if loud[index] and loud[index + 1] and quiet >= 10:
                found.append(sentence[max(0, index * 160 - 1600) :][: 2 * RATE])
            quiet = 0 if loud[index] else quiet + 1
    return found


class Interrupter:
    """Says a phrase some seconds into each reply, and waits for the next one."""

    def __init__(self, rng: np.random.Generator, sounds: list[np.ndarray], gap: tuple[float, float]) -> None:
        self._rng, self._sounds, self._gap = rng, sounds, gap
        self._wait = self._pick()
        self._playing: np.ndarray | None = None
        self._at = 0
        self.onsets: list[float] = []
        """When the packet with the first sound of each phrase arrives."""

    def _pick(self) -> float:
        return float(self._rng.uniform(*self._gap))

    def __call__(self, tick: int, speaking: bool) -> np.ndarray:
        if self._playing is None:
            self._wait -= TICK if speaking else 0.0
            if self._wait > 0:
                return np.zeros(FRAME, np.float32)
            sound = self._sounds[self._rng.integers(len(self._sounds))]
            # Not on the grid of the packets, at any loudness within 3 dB.
            lead = int(self._rng.integers(FRAME))
            sound = np.concatenate([np.zeros(lead), sound]) * 10 ** (self._rng.uniform(-3, 3) / 20)
            self._playing, self._at = np.pad(sound, (0, -len(sound) % FRAME)), 0
            onset = tick * FRAME + lead + first_sound(sound[lead:])
            self.onsets.append((onset // FRAME + 1) * TICK)
        frame = self._playing[self._at : self._at + FRAME]
        self._at += FRAME
        if self._at >= len(self._playing):
            self._playing, self._wait = None, self._pick()
        return frame


def _barge_ins(more: dict[str, Any], count: int, options: Options) -> tuple[list[float], int]:
    """Return how long `count` people waited in a room, in ms, and how often the agent stopped without a person."""
    rng = np.random.default_rng(options.seed)
    track, room = agent(options.seed), Room(rng, **more)
    person = Interrupter(rng, phrases(), (4.0, 7.0))
    waited: dict[int, float] = {}
    seen = stray = 0
    for _, outcome in converse(track, person, room, int(count * 60 / TICK)):
        for stop in outcome.holds[seen:]:
            after = stop - person.onsets[-1] if person.onsets else 0.0
            if 0.0 < after < IN_TIME:
                waited.setdefault(len(person.onsets), 1000.0 * after)
            else:
                stray += 1
        seen = len(outcome.holds)
        if len(person.onsets) > count:
            break
    return [waited.get(number, np.inf) for number in range(1, min(count, len(person.onsets)) + 1)], stray


def _latencies(options: Options, only: str = "") -> Table:
    count = max(10, round(BARGE_INS * min(1.0, options.scale)))
    rows = []
    for name, more in ROOMS_OF_PEOPLE.items():
        if only not in name:
            continue
        waited, stray = _barge_ins(more, count, options)
        stopped = [delay for delay in waited if np.isfinite(delay)]
        shares = (float(share) for share in np.percentile(waited, [50, 95], method="higher"))
        rows.append([name, len(stopped), len(waited) - len(stopped), stray, *shares, max(stopped), min(stopped)])
    return Table(
        "Barge-ins: first sound arrives -> decision, ms",
        ("room", "stopped", "missed", "stray", "p50", "p95", "max", "min"),
        rows,
        (f"{len(phrases())} different phrases of recorded people; goals: p50 <= 120 ms, p95 <= 200 ms",),
    )


def _silence(tick: int, speaking: bool) -> np.ndarray:
    return np.zeros(FRAME, np.float32)


def _last(conversation: Iterator[tuple[int, Outcome]]) -> Outcome:
    return deque(conversation, maxlen=1)[0][1]


def _false_stops(options: Options, only: str = "") -> Table:
    minutes = MINUTES * options.scale
    rows = []
    for name, more in ROOMS_OF_THE_AGENT.items():
        if only not in name:
            continue
        rng = np.random.default_rng(options.seed)
        conversation = converse(agent(options.seed), _silence, Room(rng, **more), round(minutes * 60 / TICK))
        outcome = _last(conversation)
        hours = outcome.seconds / 3600
        rows.append([name, hours * 60, len(outcome.holds), len(outcome.holds) / hours, outcome.drops])
    return Table(
        "Only the agent speaks: false stops",
        ("room", "minutes of speech", "stops", "per hour", "of them final"),
        rows,
        ("goal: at most 1 an hour",),
    )


def _noises(options: Options, only: str = "") -> Table:
    rng = np.random.default_rng(options.seed)
    mumbles = [spoken(text, "en-us", 150, pitch) for text in ("mm hmm", "uh huh") for pitch in (30, 60, 90)]
    patient = replace(DEFAULTS, confirm_interruption_ms=800.0)
    kinds = [
        ("coughs", [cough(rng) for _ in range(8)], DEFAULTS),
        ("typing", [typing(rng) for _ in range(8)], DEFAULTS),
        ("mm-hm, uh-huh", mumbles, DEFAULTS),
        ("mm-hm, uh-huh; final after 800 ms", mumbles, patient),
    ]
    rows = []
    for name, sounds, settings in kinds:
        for echo in (None, ECHO_DB):
            label = name + ("; headset" if echo is None else "; echo -6 dB")
            if only not in label:
                continue
            room = Room(np.random.default_rng(options.seed), gain_db=echo)
            person = Interrupter(rng, sounds, (6.0, 10.0))
            ticks = round(MINUTES / 2 * options.scale * 60 / TICK)
            outcome = _last(converse(agent(options.seed), person, room, ticks, settings))
            rows.append([label, len(person.onsets), len(outcome.holds), outcome.resumes, outcome.drops])
    return Table(
        "Noises over the agent: held, gone on by itself, dropped",
        ("noise", "times", "held", "resumed", "dropped"),
        rows,
        ("coughs and typing are synthetic, mm-hm and uh-huh are a synthetic voice: 0.5 to 0.8 s",),
    )


def _after(options: Options, only: str = "") -> Table:
    count = max(10, round(BARGE_INS * min(1.0, options.scale)))
    rows = []
    for name, settings, speech in (
        ("final at once", replace(DEFAULTS, resume_after_ms=None), 0.8),
        ("held, then confirmed", DEFAULTS, 1.2),
    ):
        if only not in name:
            continue
        stops = interrupted(count, options.seed, settings, speech)
        times = (float(np.percentile(each, 99)) for each in (stops.drop_ms, stops.whole_ms))
        usual = float(np.median(stops.whole_ms))
        rows.append([name, len(stops.late), sum(stops.late), min(stops.dropped), *times, usual])
    return Table(
        "After the decision: what still leaves, and how long it takes to fall silent",
        ("interruption", "replies", "packets", "s in queue", "drop p99 ms", "whole call p99 ms", "p50 ms"),
        rows,
        (
            f"whole calls in virtual time, {QUEUED:.0f} s of speech written at once; goal: no packet",
            "wall clock of this machine: emptying the queue (goal: < 1 ms at p99), and the whole call in which it"
            " is emptied: decode, detect, decide, drop, tell",
        ),
    )


TABLES: dict[str, Callable[[Options, str], Table]] = {
    "latencies": _latencies,
    "stops": _false_stops,
    "noises": _noises,
    "after": _after,
}


def run(options: Options) -> list[Table]:
    """Run everything; `--scale 3` listens to a whole hour of agent in each room."""
    try:
        return [table(options, "") for table in TABLES.values()]
    except Missing as missing:
        return [Table("Barge-in: not measured", ("why",), [[str(missing)]])]


def main() -> None:
    """Run one table, or one room of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.bargein", description="One table of this benchmark.")
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("room", nargs="?", default="", help="only the rooms in whose name this occurs")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    print(TABLES[chosen.table](Options(chosen.scale, chosen.seed), chosen.room).text(), flush=True)


if __name__ == "__main__":
    main()
