"""From the end of a spoken question to the first sound of the local assistant's answer, over loopback.

Our own client asks `stack.agents.local` questions in synthetic voices; both ends are in one process, the models in
theirs. The time runs from the last sound of the question at the client to the first sound of the answer there. The
parts are what the assistant itself reports: they overlap the wait for the end of the turn where the answer was
drafted before it. `pause_ms` is the silence at which a draft begins; where it is as long as the wait, nothing is
gained. Needs the extras `local` and `demo`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench._voices import RATE, Missing, first_sound, spoken
from bench.report import Options, Table
from stack.agents import local_assistant
from stack.agents.local.worker import start
from stack.aio import Call, HostConfig
from stack.aio.channel import DataChannel
from stack.audio import Samples
from stack.core.errors import LocalError
from stack.signaling import ServeConfig
from stack.signaling.client import dial
from stack.signaling.server import serving

QUESTIONS = (
    "What is the capital of France?",
    "Tell me something about the moon.",
    "Why is the sky blue?",
    "Can you recommend a good book?",
    "I cannot sleep at night, what should I do?",
    "How do I make a cup of tea?",
    "What did people eat in the middle ages?",
    "Do you like music?",
    "Where do penguins live?",
    "Thank you, that was very kind of you.",
)
SPEAKERS = (("en-us", 150, 30), ("en-us", 140, 65), ("en-us", 165, 50))
RULES = {
    "500 ms, drafted from 200 ms on": {"silence_duration_ms": 500, "pause_ms": 200},
    "500 ms, drafted at its end": {"silence_duration_ms": 500, "pause_ms": 500},
}
PARTS = ("recognition_ms", "first_token_ms", "first_sentence_ms", "synthesis_ms")
PATIENCE = 30.0
_LOUD = 300


@dataclass
class Outcome:
    """What one rule came to; milliseconds."""

    total: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PARTS})
    asked: int = 0
    drafted: int = 0
    words: list[str] = field(default_factory=list)


def questions(count: int, seed: int) -> list[tuple[str, Samples]]:
    """Return questions and how they sound, without silence around them."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        text = QUESTIONS[index % len(QUESTIONS)]
        sound = spoken(text, *SPEAKERS[rng.integers(len(SPEAKERS))])
        sound = sound[first_sound(sound) : len(sound) - first_sound(sound[::-1])]
        made.append((text, np.clip(sound, -32767, 32767).astype(np.int16)))
    return made


async def one_call(asked: Sequence[tuple[str, Samples]], rules: dict[str, object], outcome: Outcome) -> None:
    """Ask every question in one call."""
    config = ServeConfig(port=0, media=HostConfig(udp_port=0))
    async with serving(local_assistant, config) as server, dial(server.url) as placed:
        call = placed.call
        await call.wait_connected()
        events = await call.open_channel("events")
        await events.send(json.dumps({"type": "turn_settings", **rules}))
        await _until(events, "reply_finished", outcome)
        for _, sound in asked:
            await asyncio.sleep(0.5)
            outcome.asked += 1
            await _ask(call, events, sound, outcome)


async def _ask(call: Call, events: DataChannel, sound: Samples, outcome: Outcome) -> None:
    hiss = np.random.default_rng(outcome.asked).normal(0.0, 8.0, 6 * RATE).astype(np.int16)
    call.microphone.clear()
    call.speaker.write(np.concatenate([sound, hiss]), RATE)
    ended = time.monotonic() + len(sound) / RATE
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            async for frame in call.microphone:
                if np.abs(frame.samples).max() > _LOUD:
                    break
            outcome.total.append(1000.0 * (time.monotonic() - ended))
            await _until(events, "reply_finished", outcome)


async def _until(events: DataChannel, kind: str, outcome: Outcome) -> None:
    async for message in events:
        told = json.loads(message)
        if told["type"] == "utterance":
            outcome.waited.append(told["waited_ms"])
        elif told["type"] == "timing":
            outcome.drafted += told["drafted"]
            for name in PARTS:
                outcome.parts[name].append(told[name])
        elif told["type"] == "transcript" and told["role"] == "user":
            outcome.words.append(told["text"])
        if told["type"] == kind:
            return


def resident(pid: int | str) -> float | None:
    """Return the megabytes of memory that a process has; None where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return float(status.partition("VmRSS:")[2].split()[0]) / 1024.0


def run(options: Options) -> Sequence[Table]:
    """Ask under each rule of turn-taking."""
    try:
        models = start()
    except LocalError as error:
        raise Missing(str(error)) from error
    loaded = resident(models.pid)
    rows: list[Sequence[str | int | float | None]] = []
    asked = questions(max(2, round(len(QUESTIONS) * options.scale)), options.seed)
    for name, rules in RULES.items():
        outcome = Outcome()
        asyncio.run(one_call(asked, dict(rules), outcome))
        values = (outcome.waited, *outcome.parts.values())
        medians = [float(np.median(value)) if value else None for value in values]
        p50, p95 = (
            (float(np.percentile(outcome.total, which)) for which in (50, 95)) if outcome.total else (None, None)
        )
        rows.append((name, outcome.asked, outcome.drafted, p50, p95, *medians))
    columns = (
        "end of turn",
        "asked",
        "drafted",
        "p50 ms",
        "p95",
        "wait",
        "recognition",
        "first token",
        "sentence",
        "voice",
    )
    memory = (
        f"the models' process: {_megabytes(loaded)} when loaded, {_megabytes(resident(models.pid))} at the end"
    )
    return [Table("the local assistant: end of a question to first sound, medians", columns, rows, (memory,))]


def _megabytes(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f} MB"
