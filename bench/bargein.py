"""Barge-in in virtual time: how fast a person stops the agent, and how often an echo or a cough does.

A whole conversation without a network: the agent's sound goes through a room into the microphone, the person
speaks over it, and `SpeechFrontEnd` and `TurnTaking` decide, packet by packet of 20 ms. When they hold the reply
the agent really falls silent, and its echo with it. Latency counts from the arrival of the packet with the first
sample of sound (the first 20 ms within 14 dB of the speaker's level) to the packet that decides; network and
program add to it elsewhere. The echo is 6 dB below what is sent, and the person is as loud as the agent.

A stop counts for a person from the first sample of his phrase (a breath, up to a tenth of a second before his
first sound: then he has not waited) until two seconds after his first sound; any other stop of a reply is a stray
one, and a person for whom the agent did not stop is missed and has waited for ever in the percentiles.

All of it takes an hour. Each table, and each of its rooms, can be run alone:
`python -m bench.bargein stops "path moves" --seed 2 --scale 3`; the tables are latencies, stops,
noises, after, and those of `_loudspeaker_tables.py`: loudspeakers, voices, near and cost, to which `--rooms DIR`
gives rooms whose impulse responses were measured. Only alone run those of `_false_starts.py`, with rooms from
`--rooms` as well: hours (80 s of processor time for each of 72 rows) and beginnings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bench import _false_starts, _loudspeaker_tables
from bench._interrupted import QUEUED, interrupted
from bench._talking import DEFAULTS, ECHO_DB, TICK, Interrupter, Room, barge_ins, converse, last, phrases, silence
from bench._voices import Missing, agent, commands, cough, people, spoken, typing
from bench.report import Options, Table, add_scale, add_seed
from interop.arguments import OneLineParser
from interop.interruption import run_alone
from stack.core.errors import LocalError
from stack.voice.cascade import CascadeDetector

BARGE_INS = 200
MINUTES = 20.0
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
MORE_PEOPLE: dict[str, dict[str, Any]] = {
    "headset: no echo; commands, too": {"gain_db": None},
    "echo -6 dB; commands, too": {},
}
"""With what people said to machines: half of it begins softly, with an "s", an "f" or an "n"."""
DETECTORS: dict[str, dict[str, Any]] = {"": {}, "; detector auto": {"make_detector": CascadeDetector.installed}}
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


def _latencies(options: Options, only: str = "") -> Table:
    count = max(10, round(BARGE_INS * min(1.0, options.scale)))
    rows = []
    everything = phrases([*people(), *commands()])
    kinds = [(name, more, phrases(), dict[str, Any]()) for name, more in ROOMS_OF_PEOPLE.items()]
    for who, parts in DETECTORS.items():
        kinds += [(name + who, more, everything, parts) for name, more in MORE_PEOPLE.items()]
    for name, more, sounds, parts in kinds:
        if only not in name:
            continue
        room = Room(np.random.default_rng(options.seed), **more)
        waited, stray, _ = barge_ins(room, sounds, count, agent(options.seed), **parts)
        stopped = [delay for delay in waited if np.isfinite(delay)]
        shares = (float(share) for share in np.percentile(waited, [50, 95], method="higher"))
        rows.append([name, len(stopped), len(waited) - len(stopped), stray, *shares, max(stopped), min(stopped)])
    return Table(
        "Barge-ins: first sound arrives -> decision, ms",
        ("room", "stopped", "missed", "stray", "p50", "p95", "max", "min"),
        rows,
        (
            f"{len(phrases())} different phrases of recorded people, {len(everything)} with commands",
            "goals: p50 <= 120 ms, p95 <= 200 ms",
        ),
    )


def _false_stops(options: Options, only: str = "") -> Table:
    minutes = MINUTES * options.scale
    rows = []
    for name, more in ROOMS_OF_THE_AGENT.items():
        if only not in name:
            continue
        rng = np.random.default_rng(options.seed)
        conversation = converse(agent(options.seed), silence, Room(rng, **more), round(minutes * 60 / TICK))
        outcome = last(conversation)
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
            outcome = last(converse(agent(options.seed), person, room, ticks, settings))
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
    **_loudspeaker_tables.TABLES,
}
ALONE = _false_starts.TABLES
"""What takes hours, unless a room is named."""


def run(options: Options) -> list[Table]:
    """Run everything; `--scale 3` listens to a whole hour of agent in each room."""
    if options.rooms is not None:
        _loudspeaker_tables.places(options)  # what cannot be used is said before an hour has passed
    try:
        return [table(options, "") for table in TABLES.values()]
    except Missing as missing:
        return [Table("Barge-in: not measured", ("why",), [[str(missing)]])]


def one_table(name: str, options: Options, only: str) -> Table:
    """Run one table, or those of its rooms in whose name `only` occurs.

    `LocalError` if there is none, or for rooms and files that cannot be used; `Missing` where a sound is.
    """
    table = (TABLES | ALONE)[name](options, only)
    if not table.rows:  # its notes would say that a goal is met
        raise LocalError(f"the table {name} has no row in whose name {only!r} occurs")
    return table


def main(arguments: list[str] | None = None) -> None:
    """Run one table, or one room of it."""
    parser = OneLineParser(prog="python -m bench.bargein", description="One table of this benchmark.")
    parser.add_argument("table", choices=TABLES | ALONE)
    parser.add_argument("room", nargs="?", default="", help="only the rooms in whose name this occurs")
    add_scale(parser)
    add_seed(parser)
    parser.add_argument("--rooms", metavar="DIR", help="measured impulse responses, as WAV files")
    parser.add_argument(
        "--keep", metavar="FILE", help="calls that were run before, to go on from (hours, beginnings)"
    )
    chosen = parser.parse_args(arguments)
    options = Options(chosen.scale, chosen.seed, rooms=chosen.rooms, keep=chosen.keep)
    try:
        print(one_table(chosen.table, options, chosen.room).text(), flush=True)
    except (LocalError, Missing) as error:
        parser.exit(2, f"bench.bargein: {error}\n")


if __name__ == "__main__":
    run_alone(main)
