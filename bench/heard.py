"""What was heard of an interrupted reply, as the server computes it and as the page plays it; and the next reply.

A real browser calls a program that always speaks (`interop/talker.py`); recorded people interrupt it through
the browser's microphone every few seconds. The page records the track that it plays, muted or not. From the
recording is found up to which moment of each reply was played, which is the truth that `heard_ms` is held against,
and whether the next reply, begun 50 ms after the barge-in, is there from its first 20 ms on.

Goals: heard within 40 ms (p95); every reply whole. What is in the output device when the track falls silent is
still played, and counts as heard on both sides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.report import Options, Table
from interop import listening, servers, talker
from interop.browsers import available, launch, loopback_namespace
from stack.audio import Samples, resample, write_wav
from stack.core.errors import LocalError

BARGE_INS = 100
IN_A_CALL = 25


@dataclass
class Outcome:
    """What a browser came to."""

    errors_ms: list[float] = field(default_factory=list)
    stop_ms: list[float] = field(default_factory=list)
    whole: int = 0
    begun: int = 0
    missing: int = 0


@contextmanager
def microphone_file(sound: Samples) -> Iterator[Path]:
    """Write what a browser takes for its microphone: 48 kHz."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "microphone.wav"
        write_wav(path, resample(sound, talker.RATE, 48_000), 48_000)
        yield path


async def one_call(browser_name: str, microphone: Path, seconds: float, outcome: Outcome) -> None:
    """Call once, be interrupted for some seconds, and compare."""
    async with (
        servers.ours("interop.talker:talker") as url,
        launch(browser_name, audio_file=microphone, loop_audio=False) as browser,
    ):
        await browser.goto(url)
        await browser.evaluate(listening.PLAIN_SOUND)
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'connected'")
        await browser.evaluate(listening.RECORD)
        await asyncio.sleep(seconds)
        entries = await browser.evaluate("voiceStack.conversation.entries.filter(entry => entry.reply)")
        sound = await listening.recorded(browser)
    replies = {entry["reply"]: talker.reply_sound(entry["reply"]) for entry in entries[:-1]}
    played = listening.played(replies, sound)
    after_barge_in = False
    for entry in entries[:-1]:
        was = played.get(entry["reply"])
        if after_barge_in:
            outcome.begun += 1
            outcome.whole += was is not None and was.is_whole
        after_barge_in = entry["outcome"] == "interrupted"
        if after_barge_in:
            outcome.stop_ms.append(entry["stopMs"])
            if was is None:
                outcome.missing += 1
            else:
                outcome.errors_ms.append(entry["heardMs"] - was.heard_ms)


def run(options: Options) -> Sequence[Table]:
    """Interrupt in every browser that is here."""
    names = [browser.name for browser in available()]
    if not names:
        raise LocalError("neither Chromium nor Firefox is installed")
    wanted = max(2, round(BARGE_INS * options.scale))
    rows, notes = [], []
    for name in names:
        outcome = Outcome()
        for index in range(-(-wanted // IN_A_CALL)):
            bursts = min(IN_A_CALL, wanted - index * IN_A_CALL) + 1
            sound = talker.microphone(bursts, options.seed + index)
            with loopback_namespace(), microphone_file(sound) as path:
                asyncio.run(one_call(name, path, len(sound) / talker.RATE - 1.0, outcome))
        absolute = np.abs(outcome.errors_ms)
        rows.append(
            (
                name,
                len(absolute),
                float(np.mean(outcome.errors_ms)),
                float(np.percentile(absolute, 50)),
                float(np.percentile(absolute, 95)),
                float(absolute.max()),
                float(np.percentile(outcome.stop_ms, 50)),
                f"{outcome.whole} of {outcome.begun}",
            )
        )
        if outcome.missing:
            notes.append(f"{name}: {outcome.missing} replies were not found in the recording")
    columns = ("browser", "barge-ins", "bias ms", "|error| p50", "p95", "max", "stop ms p50", "next reply whole")
    return [Table("heard_ms against what the page played", columns, rows, notes)]
