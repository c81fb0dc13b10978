"""From the end of what a person says to the first sound of the assistant's answer, in a real browser.

Chromium calls `python -m stack serve --agent assistant` over loopback; its microphone is a file of sentences that
the assistant's grammar knows, in synthetic voices of other people than the assistant. The page records both sides
on one clock, the microphone in one channel and what it plays in the other, and the time is read there: from the
last sound of a sentence to the first of the answer. A sentence that the server took for over before its end is cut
off. The parts are those that the page shows: the wait for the end of the turn, the program, and the rest (network,
jitter buffer, capture and output).

Goals: p50 at most 500 ms, p95 at most 700 ms, at most 5 % cut off.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench._voices import RATE, first_sound, spoken
from bench.report import Options, Table
from interop import listening, servers
from interop.browsers import launch, loopback_namespace
from stack.audio import Samples, resample, write_wav

QUESTIONS = (
    "what time is it",
    "what is seven plus five",
    "tell me a joke",
    "what is twenty times three",
    "hello",
    "who are you",
    "say hello world",
    "how much is ninety minus eleven",
    "please tell me the time",
    "thank you",
)
SPEAKERS = (("en-us", 150, 30), ("en-us", 140, 65), ("en-us", 175, 85))
SENTENCES = 40
IN_A_CALL = 10
LEAD = 7.0
"""Seconds before the first sentence: the assistant greets."""
PAUSE = 8.5
"""Seconds from the end of a sentence to the next: longer than any answer here."""

RULES = {
    "server_vad, 500 ms": {"mode": "server_vad", "silence_duration_ms": 500},
    "server_vad, 300 ms": {"mode": "server_vad", "silence_duration_ms": 300},
    "semantic_vad, auto": {"mode": "semantic_vad", "eagerness": "auto"},
    "semantic_vad, high": {"mode": "semantic_vad", "eagerness": "high"},
}

_RECORD_BOTH = """(async () => {
  const context = new AudioContext();
  await context.resume();
  const merger = new ChannelMergerNode(context, { numberOfInputs: 2 });
  const microphone = voiceStack.connection.getSenders()[0].track;
  context.createMediaStreamSource(new MediaStream([microphone])).connect(merger, 0, 0);
  context.createMediaStreamSource(voiceStack.remote).connect(merger, 0, 1);
  const sink = context.createMediaStreamDestination();
  merger.connect(sink);
  const recorder = new MediaRecorder(sink.stream, { audioBitsPerSecond: 256000 }), parts = [];
  recorder.ondataavailable = event => parts.push(event.data);
  window.both = () => new Promise(resolve => {
    recorder.onstop = async () => {
      const bytes = await new Blob(parts).arrayBuffer();
      const sound = await new OfflineAudioContext(2, 16000, 16000).decodeAudioData(bytes);
      const text = channel => {
        const whole = value => Math.max(-1, Math.min(1, value)) * 32767;
        const scaled = Int16Array.from(sound.getChannelData(channel), whole);
        const octets = new Uint8Array(scaled.buffer);
        let out = "";
        for (let at = 0; at < octets.length; at += 32768) {
          out += String.fromCharCode(...octets.subarray(at, at + 32768));
        }
        return btoa(out);
      };
      resolve([text(0), text(1)]);
    };
    recorder.stop();
  });
  recorder.start();
})()"""


@dataclass
class Outcome:
    """What one rule came to; milliseconds."""

    total: list[float] = field(default_factory=list)
    endpointing: list[float] = field(default_factory=list)
    program: list[float] = field(default_factory=list)
    asked: int = 0
    cut_off: int = 0
    unanswered: int = 0


def sentences(count: int, seed: int) -> list[Samples]:
    """Return questions without silence around them, at `RATE`."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(count):
        sound = spoken(QUESTIONS[index % len(QUESTIONS)], *SPEAKERS[random.integers(len(SPEAKERS))])
        sound = sound[first_sound(sound) : len(sound) - first_sound(sound[::-1])]
        made.append(np.clip(sound, -32767, 32767).astype(np.int16))
    return made


async def one_call(asked: Sequence[Samples], rules: dict[str, object], outcome: Outcome) -> None:
    """Ask every question in one call, and read the recording."""
    parts: list[Samples] = [np.zeros(int(LEAD * RATE), np.int16)]
    for sentence in asked:
        parts += [sentence, np.zeros(int(PAUSE * RATE), np.int16)]
    microphone = np.concatenate(parts)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "microphone.wav"
        write_wav(path, resample(microphone, RATE, 48_000), 48_000)
        async with (
            servers.ours("assistant") as url,
            launch("chromium", audio_file=path, loop_audio=False) as browser,
        ):
            await browser.goto(url)
            await browser.evaluate(listening.PLAIN_SOUND)
            await browser.click("#call")
            await browser.wait_for("voiceStack.timings.channel")
            settings = {"type": "turn_settings", **rules}
            await browser.evaluate(_WATCH)
            await browser.evaluate(f"voiceStack.send({json.dumps(settings)})")
            await browser.evaluate(_RECORD_BOTH)
            await asyncio.sleep(len(microphone) / RATE - 1.5)
            events = await browser.evaluate("watched")
            pair = await browser.evaluate("both()", 120)
    person, program = (np.frombuffer(base64.b64decode(text), "<i2") for text in pair)
    _read(asked, person, program, events, outcome)


_WATCH = """(() => {
  window.watched = [];
  for (const type of ["utterance", "reply_started"]) voiceStack.on(type, event => watched.push(event));
})()"""


def _read(
    asked: Sequence[Samples],
    person: Samples,
    program: Samples,
    events: Sequence[dict[str, float]],
    outcome: Outcome,
) -> None:
    """Find each sentence in what the microphone gave, and the first sound of the program after its end."""
    first, ends = 0, []
    for sentence in asked:
        at, _ = listening.find(sentence, person[first : first + int((LEAD + PAUSE + 4) * RATE)], first=True)
        ends.append((first + at, first + at + len(sentence)))
        first = ends[-1][1]
    outcome.asked += len(asked)
    spoken_over = 0
    for (begin, end), following in zip(ends, [*(b for b, _ in ends[1:]), len(program)], strict=True):
        early = _first_loud(program[begin + int(0.1 * RATE) : end])
        if early is not None:
            spoken_over += 1
            continue
        after = _first_loud(program[end:following])
        if after is None:
            outcome.unanswered += 1
        else:
            outcome.total.append(1000.0 * after / RATE)
    waits = [event for event in events if event["type"] == "utterance"]
    outcome.cut_off += max(spoken_over, len(waits) - len(asked))
    outcome.endpointing += [event["waited_ms"] for event in waits]
    responses = [event["response_ms"] for event in events if event["type"] == "reply_started"]
    outcome.program += [response for response in responses if response is not None]


def _first_loud(sound: Samples) -> int | None:
    """Return the first sample of the first 5 ms that somebody would hear, above -50 dBFS; None: silence."""
    blocks = sound[: len(sound) // 80 * 80].astype(float).reshape(-1, 80)
    loud = np.sqrt((blocks**2).mean(axis=1)) > 100.0
    return int(np.argmax(loud)) * 80 if loud.any() else None


def _percentile(values: Sequence[float], which: int) -> float:
    return float(np.percentile(values, which)) if values else float("nan")


def run(options: Options) -> Sequence[Table]:
    """Ask under each rule of turn-taking."""
    wanted = max(2, round(SENTENCES * options.scale))
    rows: list[Sequence[str | int | float | None]] = []
    for name, rules in RULES.items():
        outcome = Outcome()
        for index in range(-(-wanted // IN_A_CALL)):
            asked = sentences(min(IN_A_CALL, wanted - index * IN_A_CALL), options.seed + index)
            with loopback_namespace():
                asyncio.run(one_call(asked, dict(rules), outcome))
        p50, p95 = _percentile(outcome.total, 50), _percentile(outcome.total, 95)
        parts = _percentile(outcome.endpointing, 50), _percentile(outcome.program, 50)
        rows.append(
            (
                name,
                outcome.asked,
                p50,
                p95,
                *parts,
                p50 - sum(parts),
                100.0 * outcome.cut_off / outcome.asked,
                outcome.unanswered,
            )
        )
    columns = (
        "rule",
        "sentences",
        "p50 ms",
        "p95",
        "end of turn",
        "program",
        "the rest",
        "cut off %",
        "no answer",
    )
    return [Table("voice to voice, the offline assistant in Chromium over loopback", columns, rows)]
