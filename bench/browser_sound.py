"""Sound between Chromium and a program through bad networks: PESQ, what was concealed, added delay, at both ends.

Recorded speech goes both ways at once through `interop.impair` (`interop.browser_sound` says how), with redundancy
(RED) as it is negotiated by default and without. "drop" is the PESQ that the network cost: against the first row,
the same way through both codecs without any loss or jitter. "concealed" is the share of the sound that was made up
for lost packets, by our own and by Chromium's getStats; "added" how long packets waited in the receiver: for the
program nothing but repair, for the listener the jitter buffer of a player.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from statistics import fmean

import numpy as np

from bench.report import Cell, Options, Table
from bench.sound import RATE, Speech
from interop.browser_sound import ReceivedSound, Result, converse, find
from interop.network_model import Jitter, NetworkModel
from stack.audio import Samples, write_wav

SENTENCES = 3
LOSSES = (0.0, 0.05, 0.1)
NETWORK_DELAY, NETWORK_JITTER = 0.020, 0.060
"""Between them 50 ± 30 ms, in order."""
TAIL = 1.0


def score(speech: Speech, sentences: int, sound: Samples) -> float:
    """Return the mean wideband PESQ of the sentences, each found in `sound` by itself."""
    from pesq import NoUtterancesError, pesq

    scores = []
    for begin, end in speech.sentences[:sentences]:
        piece = speech.samples[begin:end]
        try:
            scores.append(pesq(RATE, piece, find(piece, sound), "wb"))
        except NoUtterancesError:
            scores.append(1.0)
    return fmean(scores)


def rows(
    name: str, red: str, result: Result, speech: Speech, sentences: int, clean: dict[str, float]
) -> list[list[Cell]]:
    """Two lines of the table; the first call that comes here says what clean is."""
    lines: list[list[Cell]] = []
    ways: tuple[tuple[str, ReceivedSound], ...] = (
        ("up: program hears", result.program),
        ("down: Chromium hears", result.browser),
    )
    for way, received in ways:
        pesq = score(speech, sentences, received.sound)
        drop = clean.setdefault(way, pesq) - pesq
        lines.append(
            [name, red, way, received.packets_lost, 100 * received.concealed, 1000 * received.delay, pesq, drop]
        )
    return lines


async def measure(options: Options) -> list[list[Cell]]:
    """Place the calls one after the other."""
    sentences = max(1, round(SENTENCES * options.scale))
    speech = Speech()
    last = speech.sentences[sentences - 1][1]
    sound = np.concatenate((speech.samples[:last], np.zeros(round(TAIL * RATE), np.int16)))
    bad = [
        (
            f"{loss:.0%} loss, 50 ± 30 ms",
            red,
            NetworkModel(loss=loss, delay=NETWORK_DELAY, jitter=Jitter(NETWORK_JITTER)),
        )
        for loss in LOSSES
        for red in (True, False)
    ]
    lines: list[list[Cell]] = []
    clean: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        microphone = Path(folder) / "speech.wav"
        write_wav(str(microphone), sound, RATE)
        for name, red, network in [("clean", True, NetworkModel()), *bad]:
            result = await converse(sound, microphone, network, red=red, seed=options.seed)
            lines += rows(name, "on" if red else "off", result, speech, sentences, clean)
    return lines


def run(options: Options) -> Table:
    """Return the table."""
    columns = ["network", "RED", "way", "lost", "concealed %", "added ms", "PESQ", "drop"]
    return Table("Speech between Chromium and a program", columns, asyncio.run(measure(options)))
