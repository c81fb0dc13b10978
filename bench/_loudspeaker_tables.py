"""Tables of `bench bargein` with real loudspeakers in rooms: what is taken off, who is heard, and what it costs.

Rooms and loudspeakers are computed (`_loudspeakers.py`), the echo is 6 dB below what is sent, delayed by 120 ms.
Ten voices: the five recorded people and five of espeak-ng, which differ in kind, pace and pitch; three of them are
soft, 12 dB below the others. The detector is the default one (`auto`). AEC3 is beside ours where its wheel is
installed (the extra `aec3`), and AECMOS (how little the echo disturbs, how little else is spoilt; 1 to 5) where
the wheels of the extra `plcmos` are. `--rooms DIR` takes measured impulse responses instead of the computed rooms.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench._aecmos import BOTH, FAR_END, Aecmos
from bench._loudspeakers import LOUDSPEAKERS, PLACES, measured
from bench._loudspeakers import Room as Place
from bench._noises import music, piano
from bench._talking import DEFAULTS, TICK, Room, barge_ins, converse, last, phrases, silence
from bench._voices import FRAME, RATE, SENTENCES, agent, pcm, people, spoken
from bench.report import Cell, Options, Table
from stack.core.errors import LocalError
from stack.voice import Aec3EchoCanceller, EchoCanceller, KalmanEchoCanceller
from stack.voice.cascade import CascadeDetector

DELAY = 0.12
HISS = 6.0
GAIN_DB = -6.0
SECONDS = 30.0
"""Of far end for each row of ERLE; the first five do not count."""
SETTLED = 5.0
PEOPLE = 60
SOFT_DRAWS = 3
"""Calls with soft people, each with a seed of its own: of one call's 18 the p95 is the slowest of all."""
IN_TIME_MS = 200.0
"""What is aimed at: the p95. Decisions fall on packets of 20 ms, so what is rounded may be a little above."""
MINUTES = 3.0
SOFT_DB = -12.0
SYNTHETIC = (
    ("en-us+f2", 170, 60),
    ("en+m3", 160, 40),
    ("en-us+Andrea", 180, 70),
    ("en+f4", 150, 50),
    ("en-us+Michael", 165, 35),
)
SOFT = (1, 4, 7)
"""Which of the ten are soft: two recorded, one synthetic."""
SAID = "Wait, please. I would like to say something about that. Stop it, no, tell me the other one."
CANCELLERS: dict[str, Callable[[], EchoCanceller]] = {"ours": KalmanEchoCanceller, "AEC3": Aec3EchoCanceller}


def cancellers() -> tuple[dict[str, Callable[[], EchoCanceller]], tuple[str, ...]]:
    """Return the cancellers that are installed, and what to say of the others."""
    here, notes = {}, []
    for name, make in CANCELLERS.items():
        try:
            make()
            here[name] = make
        except LocalError as error:
            notes.append(f"{name}: not measured: {error}")
    return here, tuple(notes)


def places(options: Options) -> dict[str, Place]:
    """Return the rooms: the measured ones of a folder, else the computed ones."""
    return dict(PLACES) if options.rooms is None else measured(Path(options.rooms))


@cache
def judge() -> Aecmos | None:
    """Return AECMOS, if it is installed."""
    return Aecmos.installed()


def _judged(sent: np.ndarray, heard: np.ndarray, outputs: list[np.ndarray], who: str, both: bool) -> list[Cell]:
    """Return for each output the score of the echo, and with `both` that of everything else."""
    network, cells = judge(), list[Cell]()
    if network is not None:
        part = slice(round(SETTLED * RATE), None)
        for output in outputs:
            scores = network.score(sent[part], heard[part], output[part], who)
            cells += scores if both else scores[:1]
    return cells


@cache
def _programs(seed: int) -> dict[str, np.ndarray]:
    """Return what a program plays."""
    rng = np.random.default_rng(seed)
    return {"speech": agent(seed), "music": music(rng, 60.0), "piano": piano(rng, 60.0)}


def echo(sent: np.ndarray, place: Place, loudspeaker: str, seed: int, gain_db: float = GAIN_DB) -> np.ndarray:
    """Return the echo of `sent`, without noise."""
    rng, play = np.random.default_rng(seed), LOUDSPEAKERS[loudspeaker]()
    played = np.concatenate([play(sent[at : at + FRAME]) for at in range(0, len(sent), FRAME)])
    late = np.concatenate([np.zeros(round(DELAY * RATE)), np.convolve(played, place.response(rng, gain_db))])
    return late[: len(sent)]


def cancelled(canceller: EchoCanceller, sent: np.ndarray, heard: np.ndarray) -> np.ndarray:
    """Return what a canceller makes of a microphone, packet by packet."""
    ours, microphone, out = pcm(sent), pcm(heard), np.zeros(len(heard))
    for at in range(0, len(heard) - FRAME + 1, FRAME):
        canceller.render(ours[at : at + FRAME], at / RATE)
        samples, media_time = canceller.capture(microphone[at : at + FRAME], at / RATE)
        begin = round(media_time * RATE)
        out[begin : begin + len(samples)] = samples
    return out


def _db(above: np.ndarray, below: np.ndarray) -> float:
    return float(10.0 * np.log10((np.square(above).sum() + 1.0) / (np.square(below).sum() + 1.0)))


def _loudspeakers(options: Options, only: str = "") -> Table:
    here, notes = cancellers()
    rows: list[list[Cell]] = []
    count = round(SECONDS * RATE) // FRAME * FRAME
    part = slice(round(SETTLED * RATE), count - FRAME)
    minutes = max(0.5, MINUTES * options.scale)
    for what, program in _programs(options.seed).items():
        for where, place in places(options).items():
            for loudspeaker in LOUDSPEAKERS:
                name = f"{what}: {where}, {loudspeaker}"
                if only not in name:
                    continue
                sent = np.resize(program, count)
                rng = np.random.default_rng(options.seed)
                heard = echo(sent, place, loudspeaker, options.seed) + rng.standard_normal(count) * HISS
                outputs = [cancelled(make(), sent, heard) for make in here.values()]
                gains = [_db(heard[part], output[part]) for output in outputs]
                marks = _judged(sent, heard, outputs, FAR_END, both=False)
                room = Room(rng, GAIN_DB, place=place, loudspeaker=loudspeaker, delay=DELAY)
                parts = {"make_detector": CascadeDetector.installed}
                outcome = last(converse(program, silence, room, round(minutes * 60 / TICK), DEFAULTS, **parts))
                rows.append([name, *gains, *marks, outcome.seconds / 60, len(outcome.holds)])
    scores = [f"AECMOS, echo: {name}" for name in here] if judge() is not None else []
    gained = [f"ERLE, dB: {name}" for name in here]
    columns = ("program: room, loudspeaker", *gained, *scores, "minutes", "false starts")
    hours = sum(float(row[-2] or 0.0) for row in rows) / 60  # type: ignore[arg-type]
    starts = sum(int(row[-1] or 0) for row in rows)  # type: ignore[arg-type]
    total = f"{starts} false starts in {hours:.2f} h; goal: at most 1 an hour"
    return Table("Loudspeakers: only the program is to be heard", columns, rows, (total, *notes))


@cache
def voices() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return what the seven usual and the three soft voices say, from a first sound on."""
    ten = [[each] for each in people()] + [
        [spoken(SAID, *kind), spoken(SENTENCES[0], *kind)] for kind in SYNTHETIC
    ]
    usual = [sound for index, said in enumerate(ten) if index not in SOFT for sound in phrases(said)]
    soft = [sound * 10 ** (SOFT_DB / 20) for index in SOFT for sound in phrases(ten[index])]
    return usual, soft


def _voices(options: Options, only: str = "") -> Table:
    usual, soft = voices()
    count = max(10, round(PEOPLE * options.scale))
    rows: list[list[Cell]] = []
    kinds: dict[str, dict[str, Any]] = {
        "headset": {"gain_db": None},
        "headset of a telephone's band": {"gain_db": None, "telephone": True},
    }
    for where, place in places(options).items():
        for loudspeaker in ("faithful", "clips", "voice coil"):
            bent: dict[str, Any] = {"place": place, "loudspeaker": loudspeaker}
            kinds[f"{where}, {loudspeaker}"] = {"gain_db": GAIN_DB, "delay": DELAY} | bent
    everybody: list[float] = []
    strays = 0
    for name, more in kinds.items():
        if only not in name:
            continue
        row: list[Cell] = [name]
        here = 0
        above: list[float] = []
        waited: list[float] = []
        for sounds, share, draws in ((usual, 0.7, 1), (soft, 0.3, SOFT_DRAWS)):
            above, waited = [], []
            for seed in range(options.seed, options.seed + draws):
                room, track = Room(np.random.default_rng(seed), **more), agent(seed)
                call = barge_ins(
                    room, sounds, round(share * count), track, make_detector=CascadeDetector.installed
                )
                waited += call.waited
                above += call.above_db
                here += call.stray
            row += [len(waited), sum(not np.isfinite(each) for each in waited)]
            row += [sum(each > IN_TIME_MS + 1.0 for each in waited)]
            row += [float(np.percentile(waited, q, method="higher")) for q in (50, 95)]
            if more["gain_db"] is not None:
                everybody += waited
        strays += here
        for wanted in (True, False):  # of the soft ones
            each = [level for level, wait in zip(above, waited, strict=True) if np.isfinite(wait) == wanted]
            row.append(float(np.median(each)) if each and "telephone" not in more else None)
        row.append(here)
        rows.append(row)
    quantiles = "/".join(f"{float(np.percentile(everybody or [0.0], q, method='higher')):.0f}" for q in (50, 95))
    late = f"later than {IN_TIME_MS:.0f} ms"
    columns = ("room, loudspeaker",) + tuple(
        f"{kind}: {what}" for kind in ("usual", "soft") for what in ("people", "missed", late, "p50, ms", "p95")
    )
    columns += ("soft: dB above what is left, if heard", "if missed", "stray stops")
    return Table(
        "Ten voices over a reply by loudspeaker: first sound arrives -> decision",
        columns,
        rows,
        (
            f"seven voices at the usual level, three {-SOFT_DB:.0f} dB softer; who is missed has waited for ever",
            f"soft ones in {SOFT_DRAWS} calls: seeds {options.seed} to {options.seed + SOFT_DRAWS - 1}",
            f"all of them over an echo: p50/p95 {quantiles} ms, {strays} stray stops;"
            f" goal: p95 <= {IN_TIME_MS:.0f} ms",
        ),
    )


def near_gain_db(near: np.ndarray, left: np.ndarray) -> float:
    """Return by how much the near end in `left` is louder than it was; it may be up to 20 ms late."""
    like = np.fft.irfft(np.fft.rfft(left, 2 * len(left)) * np.conj(np.fft.rfft(near, 2 * len(near))))
    return float(20.0 * np.log10(np.abs(like[:FRAME]).max() / near.dot(near) + 1e-6))


def _near(options: Options, only: str = "") -> Table:
    here, notes = cancellers()
    rows: list[list[Cell]] = []
    sent = np.resize(agent(options.seed), round(20 * RATE) // FRAME * FRAME)
    person = np.resize(np.concatenate(people()), len(sent)).astype(np.float64)
    person[: 8 * RATE] = 0.0
    for where, place in places(options).items():
        for loudspeaker in ("faithful", "clips"):
            for level in (0.0, SOFT_DB):
                name = f"{where}, {loudspeaker}, person {level:+.0f} dB"
                if only not in name:
                    continue
                near = person * 10 ** (level / 20)
                heard = echo(sent, place, loudspeaker, options.seed) + near
                outputs = [cancelled(make(), sent, heard) for make in here.values()]
                gains = [near_gain_db(near, output) for output in outputs]
                rows.append([name, *gains, *_judged(sent, heard, outputs, BOTH, both=True)])
    scores = (
        [f"AECMOS, {what}: {name}" for name in here for what in ("echo", "other")] if judge() is not None else []
    )
    columns = ("room, loudspeaker", *(f"near end, dB: {name}" for name in here), *scores)
    return Table("Both speak: the near end that the program hears", columns, rows, ("goal: within 1 dB", *notes))


def _cost(options: Options, only: str = "") -> Table:
    here, notes = cancellers()
    sent = np.resize(agent(options.seed), round(20 * RATE) // FRAME * FRAME)
    heard = echo(sent, next(iter(places(options).values())), "voice coil", options.seed)
    rows: list[list[Cell]] = []
    for what, microphone in (("loudspeaker", heard), ("headset", np.zeros_like(heard))):
        hiss = np.random.default_rng(options.seed).standard_normal(len(sent)) * HISS
        for name, make in here.items():
            if only in f"{what} {name}":
                costs = []
                for _ in range(5):
                    begun = time.thread_time_ns()
                    cancelled(make(), sent, microphone + hiss)
                    costs.append((time.thread_time_ns() - begun) / 1000 / (len(sent) / FRAME))
                rows.append([what, name, float(np.median(costs)), min(costs)])
    return Table(
        "Cancellers: processor time for 20 ms, µs",
        ("situation", "who", "median", "least"),
        rows,
        ("the program speaks all the time; the reference is handed over in it",) + notes,
    )


TABLES: dict[str, Callable[[Options, str], Table]] = {
    "loudspeakers": _loudspeakers,
    "voices": _voices,
    "near": _near,
    "cost": _cost,
}
