"""What was heard of an interrupted reply, as the server computes it and as the page plays it; and the next reply.

A real browser calls a program that always speaks (`interop/monologue.py`); recorded people interrupt it through
the browser's microphone every few seconds. The page records the track that it plays, muted or not. From the
recording is found up to which moment of each reply was played, which is the truth that `heard_ms` is held against:
as it is told at once, and as it is known a round trip later, when the page has said what it was playing. And the
next reply, begun 50 ms after the barge-in, must be there from its first 20 ms on.

Goals: heard within 40 ms (p95); every reply whole. What is in the output device when the track falls silent is
still played, and counts as heard on both sides. A hundred barge-ins take about six minutes in each browser.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench._progress import say
from bench.report import Cell, Options, Table
from interop import listening, monologue, servers
from interop.browsers import BrowserError, available, launch, loopback_namespace
from stack.audio import Samples, resample, write_wav
from stack.core.errors import LocalError

BARGE_INS = 100
IN_A_CALL = 25
QUIET = 1.5
"""Seconds between two barge-ins, give or take half a second: a reply is well under way by then."""
SHORTEST = 120.0
"""Milliseconds of a reply without which it cannot be found in a recording: a syllable."""
ATTEMPTS = 2
"""At a call: browsers fail to start now and then."""
NOTE_ESTIMATES = """(() => {
  window.estimates = {};
  voiceStack.on("reply_interrupted", event => { estimates[event.reply] = event.heard_ms; });
})()"""


@dataclass
class Outcome:
    """What a browser came to."""

    errors_ms: list[float] = field(default_factory=list)
    at_once_ms: list[float] = field(default_factory=list)
    """The same, of what was told before the page had answered."""
    stop_ms: list[float] = field(default_factory=list)
    whole: int = 0
    begun: int = 0
    spoiled: list[str] = field(default_factory=list)
    """How the first 20 ms were of those that were not whole."""
    missing: list[str] = field(default_factory=list)
    """Replies that are not in the recording, and how much of them is said to have been heard."""
    short: int = 0
    """Replies that were cut off before they could have been found."""

    def __str__(self) -> str:
        p95 = _percentile(self.errors_ms, 95)
        return f"{len(self.errors_ms)} barge-ins, p95 {p95} ms, whole {self.whole} of {self.begun}"

    def row(self, name: str) -> Sequence[Cell]:
        """Return the browser's row of the table."""
        errors = self.errors_ms
        return (
            name,
            len(errors),
            round(float(np.mean(errors)), 1) if errors else None,
            *(_percentile(errors, share) for share in (50, 95, 100)),
            _percentile(self.at_once_ms, 95),
            _percentile(self.stop_ms, 50),
            f"{self.whole} of {self.begun}",
        )


def _percentile(values: Sequence[float], share: float) -> float | None:
    return round(float(np.percentile(np.abs(values), share)), 1) if values else None


@contextmanager
def microphone_file(sound: Samples) -> Iterator[Path]:
    """Write what a browser takes for its microphone: 48 kHz."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "microphone.wav"
        write_wav(path, resample(sound, monologue.RATE, 48_000), 48_000)
        yield path


async def one_call(browser_name: str, microphone: Path, seconds: float, outcome: Outcome) -> None:
    """Call once, be interrupted for some seconds, and compare."""
    async with (
        servers.ours("interop.monologue:monologue") as url,
        launch(browser_name, audio_file=microphone, loop_audio=False) as browser,
    ):
        await browser.goto(url)
        await browser.evaluate(listening.PLAIN_SOUND)
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'connected'")
        await browser.evaluate(listening.RECORD)
        await browser.evaluate(NOTE_ESTIMATES)
        await asyncio.sleep(seconds)
        entries = await browser.evaluate("voiceStack.conversation.entries.filter(entry => entry.reply)")
        estimates = await browser.evaluate("estimates")
        announced = await listening.announcements(browser)
        sound = await listening.recorded(browser)
    # The last reply may still be speaking: it shows where the one before ends, and is not judged.
    replies = {entry["reply"]: monologue.reply_sound(entry["reply"]) for entry in entries}
    played = listening.played(replies, sound, announced)
    after_barge_in = False
    for entry in entries[:-1]:
        was = played.get(entry["reply"])
        follows, after_barge_in = after_barge_in, entry["outcome"] == "interrupted"
        if after_barge_in and was is None and entry["heardMs"] < SHORTEST:
            outcome.short += 1
            continue
        if was is None:
            outcome.missing.append(f"reply {entry['reply']}, {entry['outcome']}, {entry['heardMs']} ms")
        if follows:
            outcome.begun += 1
            outcome.whole += was is not None and was.is_whole
            if was is not None and not was.is_whole:
                outcome.spoiled.append(f"{was.first_20ms:.2f} alike, {was.first_20ms_db:+.0f} dB")
        if after_barge_in:
            outcome.stop_ms.append(entry["stopMs"])
            if was is not None:
                outcome.errors_ms.append(entry["heardMs"] - was.heard_ms)
                outcome.at_once_ms.append(estimates[str(entry["reply"])] - was.heard_ms)


def _call(browser_name: str, sound: Samples, outcome: Outcome) -> str | None:
    """Call, and call again if that fails; return what failed for good."""
    problem = None
    for _ in range(ATTEMPTS):
        try:
            with loopback_namespace(), microphone_file(sound) as path:
                asyncio.run(one_call(browser_name, path, len(sound) / monologue.RATE - 1.0, outcome))
            return None
        except (BrowserError, servers.ServerError, TimeoutError) as error:
            problem = f"{browser_name}: a call failed: {error}"
            say(problem)
    return problem


def run(options: Options) -> Sequence[Table]:
    """Interrupt in every browser that is here."""
    names = [browser.name for browser in available()]
    if not names:
        raise LocalError("neither Chromium nor Firefox is installed")
    wanted = max(2, round(BARGE_INS * options.scale))
    sounds = [
        monologue.microphone(min(IN_A_CALL, wanted - first) + 1, options.seed + first // IN_A_CALL, quiet=QUIET)
        for first in range(0, wanted, IN_A_CALL)
    ]
    minutes = len(names) * sum(map(len, sounds)) / monologue.RATE / 60
    say(f"{len(names) * len(sounds)} calls, {minutes:.1f} minutes of them")
    rows, notes = [], []
    for name in names:
        outcome = Outcome()
        for index, sound in enumerate(sounds, 1):
            problem = _call(name, sound, outcome)
            notes += [problem] if problem else []
            say(f"{name}, call {index} of {len(sounds)}: {outcome}")
        rows.append(outcome.row(name))
        notes += [f"{name}: not found in the recording: {which}" for which in outcome.missing]
        if outcome.short:
            notes.append(f"{name}: {outcome.short} replies were cut off within {SHORTEST:g} ms and are not judged")
        notes += [f"{name}: not whole: {how}" for how in outcome.spoiled]
    columns = (
        "browser",
        "barge-ins",
        "bias ms",
        "|error| p50",
        "p95",
        "max",
        "p95 at once",
        "stop ms p50",
        "next reply whole",
    )
    return [Table("heard_ms against what the page played", columns, rows, notes)]
