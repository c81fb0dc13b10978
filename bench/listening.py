"""The listening path of one call in memory: µs of processor time for 20 ms, by part.

A turn manager with everything on, fed as an audio line feeds it, packet by packet of 20 ms: what leaves, its
echo (60 ms late, 6 dB below it) and recorded people, over a hiss at -75 dBFS. Nothing is sent or decoded. Each
situation runs whole first, and then once for each part, with a clock around that part alone; parts lie within one
another (`canceller` holds `filter`, `gate`, `path` and `delay`). Each run is a process of its own, and with
`--against DIR` another checkout takes its turn with this one. Processor time of the thread, medians over the runs.

`python -m bench listening --against ../other-checkout`
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from bench._voices import FRAME, RATE, Missing, agent, impulse_response, people
from bench.report import Cell, Options, Table

ROUNDS = 5
SECONDS = 8.0
WARM = 6.0
"""Seconds of each situation that are not counted: until delay and path are found."""
DELAY = 0.06
TICK = FRAME / RATE
HISS = 6.0
SITUATIONS = {
    # name: (our voice, its echo, a person)
    "both silent": (False, False, False),
    "microphone muted": (False, False, None),
    "person speaks": (False, False, True),
    "headset: we speak": (True, False, False),
    "headset: both speak": (True, False, True),
    "loudspeaker: we speak": (True, True, False),
    "loudspeaker: both speak": (True, True, True),
}
PARTS = {
    "canceller": ("stack.voice.echo", "KalmanEchoCanceller", "capture"),
    "filter": ("stack.voice.echo_filter", "KalmanFilter", "step"),
    "gate": ("stack.voice.echo_gate", "EchoGate", "update"),
    "path": ("stack.voice.echo_watch", "PathWatch", "update"),
    "delay": ("stack.voice.echo_filter", "DelayEstimator", "look"),
    "judge": ("stack.voice.echo", "KalmanEchoCanceller", "judge"),
    "detector": ("stack.voice.vad", "FramedDetector", "push"),
    "reference": ("stack.voice.turn_manager", "TurnManager", "note_sent"),
}
COLUMNS = ("situation", "who", "whole", "least", "most", *PARTS)


def run(options: Options) -> Table:
    """Run everything; about 2 minutes at scale 1."""
    seconds, rounds = options.amount(SECONDS, ROUNDS)
    title = "the listening path in memory: µs of processor time for 20 ms of a call"
    checkouts = {"ours": str(Path(__file__).parent.parent)} | {
        Path(path).resolve().name: str(Path(path).resolve()) for path in options.against
    }
    found: dict[str, list[dict[str, dict[str, float]]]] = {who: [] for who in checkouts}
    try:
        with tempfile.NamedTemporaryFile(suffix=".npz") as file:
            np.savez(file, **_sounds(WARM + seconds, options.seed))
            file.flush()
            for _ in range(rounds):
                for who, folder in checkouts.items():
                    found[who].append(_measured(folder, file.name))
    except Missing as missing:
        return Table(title, ("why",), [[f"not measured: {missing}"]])
    rows: list[Sequence[Cell]] = []
    for situation in SITUATIONS:
        for who, measured in found.items():
            wholes = [each[situation]["whole"] for each in measured]
            parts = [statistics.median(each[situation][part] for each in measured) for part in PARTS]
            rows.append((situation, who, statistics.median(wholes), min(wholes), max(wholes), *parts))
    return Table(title, COLUMNS, rows, (f"{seconds:.0f} s of sound, {rounds} runs each; one call, warm caches",))


def _sounds(seconds: float, seed: int) -> dict[str, np.ndarray]:
    """Return our voice, its echo, people and a hiss: float32 at 16 kHz in int16 scale, `seconds` long."""
    rng = np.random.default_rng(seed)
    count = int(seconds * RATE) // FRAME * FRAME
    ours = np.resize(agent(seed), count).astype(np.float32)
    late = np.concatenate([np.zeros(int(DELAY * RATE), np.float32), ours])[:count]
    echo = np.convolve(late, impulse_response(rng, -6.0))[:count]
    person = np.resize(np.concatenate(people()), count)
    return {"ours": ours, "echo": echo, "person": person, "hiss": rng.standard_normal(count) * HISS}


def _measured(folder: str, sounds: str) -> dict[str, dict[str, float]]:
    """Measure the checkout in `folder`: what a call costs in each situation, and what its parts do."""
    command = [sys.executable, __file__, sounds]
    environment = os.environ | {"PYTHONPATH": folder, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{folder} cannot be measured:\n{done.stderr}")
    measured: dict[str, dict[str, float]] = json.loads(done.stdout)
    return measured


def _pcm(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def _call(ours: np.ndarray, microphone: np.ndarray, count_from: int, spent: Callable[[], float] | None) -> float:
    """Run a call; return the µs for 20 ms from tick `count_from` on, of all of it or of what `spent` counts."""
    from stack.audio import AudioFrame
    from stack.voice import KalmanEchoCanceller, SpeechFrontEnd, TurnSettings
    from stack.voice.audio_sender import AudioSender, SendParameters, SpokenFrame
    from stack.voice.turn_manager import TurnManager

    settings = TurnSettings()
    sender = AudioSender(SendParameters("opus"))
    sender.write(np.zeros(FRAME, np.int16), RATE, 0.0)  # now it has a rate
    front_end = SpeechFrontEnd(settings, make_canceller=KalmanEchoCanceller)
    manager = TurnManager(sender, front_end, settings)
    ticks = len(microphone) // FRAME
    clock = spent or (lambda: time.thread_time_ns() / 1000.0)
    begun = 0.0
    for tick in range(ticks):
        if tick == count_from:
            begun = clock()
        now, part = tick * TICK, slice(tick * FRAME, (tick + 1) * FRAME)
        manager.hear(AudioFrame(microphone[part], RATE, now), now)
        manager.note_sent(SpokenFrame(tick, ours[part], now, False, part.start, now), now)
        due = manager.poll_timeout()
        if due is not None and due <= now:
            manager.handle_timeout(now)
        manager.drain_events()
    return (clock() - begun) / (ticks - count_from)


def _part(module: str, name: str, method: str, run_call: Callable[[Callable[[], float]], float]) -> float:
    """Return the µs for 20 ms that one method takes, less what its clock takes."""
    kind = getattr(import_module(module), name)
    inner = getattr(kind, method)
    spent = [0.0]
    now = time.thread_time_ns
    reading = statistics.median(-(now() - now()) for _ in range(1001))

    def timed(*arguments: Any, **named: Any) -> Any:
        begun = now()
        try:
            return inner(*arguments, **named)
        finally:
            spent[0] += (now() - begun - reading) / 1000.0

    setattr(kind, method, timed)
    try:
        return run_call(lambda: spent[0])
    finally:
        setattr(kind, method, inner)


def _measure_this(sounds: str) -> dict[str, dict[str, float]]:
    with np.load(sounds) as file:
        voice, echo, person, hiss = (file[name] for name in ("ours", "echo", "person", "hiss"))
    measured = {}
    for situation, (speaks, echoes, heard) in SITUATIONS.items():
        ours = _pcm(voice if speaks else np.zeros_like(voice))
        microphone = hiss if heard is not None else np.zeros_like(hiss)
        microphone = _pcm(microphone + (echo if echoes else 0.0) + (person if heard else 0.0))

        def call(
            spent: Callable[[], float] | None = None, ours: np.ndarray = ours, microphone: np.ndarray = microphone
        ) -> float:
            return _call(ours, microphone, int(WARM / TICK), spent)

        measured[situation] = {"whole": call()} | {part: _part(*where, call) for part, where in PARTS.items()}
    return measured


if __name__ == "__main__":
    print(json.dumps(_measure_this(sys.argv[1])))
