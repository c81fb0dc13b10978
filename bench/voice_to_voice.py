"""From the end of what a person says to the first sound of the assistant's answer, in a real browser.

Chromium calls `python -m stack serve --agent assistant` over loopback; its microphone is a file. Two kinds of
voice speak there: recorded people, who say commands with the pauses that they made, and synthetic ones (not the
assistant's), who ask questions. The page records both sides on one clock, the microphone in one channel and what
it plays in the other, and the time is read there: from the last sound of a sentence (within 20 dB of the voice's
level, so that a final "s" counts) to the first of the answer. A sentence that the server took for over before its
end is cut off. The parts are those that the server tells: the wait for the end of the turn, the program, and the
rest (network, jitter buffer, capture and output).

Goals: p50 at most 500 ms, p95 at most 700 ms, at most 5 % cut off, with the rules that the assistant brings.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench._progress import say
from bench._voices import RATE, commands, last_sound, spoken
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
SENTENCES = 45
IN_A_CALL = 9
LEAD = 7.0
"""Seconds before the first sentence: the assistant greets."""
PAUSE = 6.5
"""Seconds from the end of a sentence to the next: longer than any answer here."""

ITS_OWN: dict[str, object] = {}
RULES = {
    "the assistant's": ITS_OWN,
    "semantic_vad, low": {"mode": "semantic_vad", "eagerness": "low"},
    "server_vad, 500 ms": {"mode": "server_vad", "silence_duration_ms": 500},
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


def asked_by_people(seed: int) -> Iterator[Samples]:
    """Give recorded commands, all of them in some order, again and again."""
    random, recordings = np.random.default_rng(seed), commands()
    while True:
        for index in random.permutation(len(recordings)):
            yield _whole(recordings[index])


def asked_by_voices(seed: int) -> Iterator[Samples]:
    """Give synthetic questions, all of them in some order, again and again."""
    random = np.random.default_rng(seed)
    while True:
        for index in random.permutation(len(QUESTIONS)):
            yield _whole(spoken(QUESTIONS[index], *SPEAKERS[random.integers(len(SPEAKERS))]))


VOICES = {"recorded people": asked_by_people, "synthetic": asked_by_voices}


def _whole(sound: np.ndarray) -> Samples:
    return np.clip(np.rint(sound), -32767, 32767).astype(np.int16)


async def one_call(asked: Sequence[Samples], rules: Mapping[str, object], outcome: Outcome) -> None:
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
            await browser.evaluate(_WATCH)
            if rules:
                settings = {"type": "turn_settings", **rules}
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
        ends.append((first + at, first + at + last_sound(sentence.astype(float))))
        first += at + len(sentence)
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
    """Return the first sample of the first 5 ms that a person would hear, above -50 dBFS; None: silence."""
    blocks = sound[: len(sound) // 80 * 80].astype(float).reshape(-1, 80)
    loud = np.sqrt((blocks**2).mean(axis=1)) > 100.0
    return int(np.argmax(loud)) * 80 if loud.any() else None


def _percentile(values: Sequence[float], which: int) -> float:
    return float(np.percentile(values, which)) if values else float("nan")


def run(options: Options) -> Sequence[Table]:
    """Ask under each rule of turn-taking; the assistant's own are asked most."""
    rows: list[Sequence[str | int | float | None]] = []
    for (name, rules), (voice, asking) in product(RULES.items(), VOICES.items()):
        outcome, questions = Outcome(), asking(options.seed)
        wanted = max(2, round(SENTENCES * options.scale / (1 if rules is ITS_OWN else 2)))
        while outcome.asked < wanted:
            say(f"{name}, {voice}: {outcome.asked} of {wanted} sentences")
            asked = list(islice(questions, min(IN_A_CALL, wanted - outcome.asked)))
            with loopback_namespace():
                asyncio.run(one_call(asked, rules, outcome))
        p50, p95 = _percentile(outcome.total, 50), _percentile(outcome.total, 95)
        parts = _percentile(outcome.endpointing, 50), _percentile(outcome.program, 50)
        rows.append(
            (
                name,
                voice,
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
        "voices",
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
