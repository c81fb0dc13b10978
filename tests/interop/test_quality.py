"""What is left of recorded human speech after both codecs, both stacks and the echo agent: PESQ, wideband."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from interop import servers
from interop.speech import RATE, speech_file, why_quality_is_not_measured, wideband_pesq
from stack.audio import read_wav
from stack.dtls import Version
from stack.session import Connected
from stack.voice.commands import Write
from stack.voice.conversation import ConversationConfig
from stack.voice.events import AudioReceived
from tests.sim.calls import CallPair


@pytest.fixture
def speech() -> Path:
    """Seven seconds of a reader's voice at 16 kHz."""
    why = why_quality_is_not_measured()
    if why is not None:
        pytest.skip(why)
    return speech_file()


@pytest.mark.parametrize("version", [Version.DTLS_1_2, Version.DTLS_1_3])
def test_speech_survives_both_codecs(version: Version, speech: Path) -> None:
    """In virtual time, so that it is the protocols and the codecs that are judged, and not this machine."""
    samples, rate = read_wav(speech)
    assert rate == RATE
    pair = CallPair(client=ConversationConfig(dtls_version=version))
    server = pair.right

    def echo(event: object, now: float) -> None:
        if isinstance(event, AudioReceived):
            server.machine.handle_command(Write(event.frame.samples, RATE), now)

    server.react = echo
    assert pair.run(10, lambda: bool(pair.left.seen(Connected)))
    pair.left.handle(Write(samples, RATE))
    pair.run(len(samples) / RATE + 0.5)
    heard = np.concatenate([event.frame.samples for event in pair.left.seen(AudioReceived)])
    assert not any(event.frame.concealed for host in pair.hosts for event in host.seen(AudioReceived))
    assert wideband_pesq(samples, heard) >= 3.8


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.real_clock
async def test_speech_survives_a_real_call(version: str, speech: Path, tmp_path: Path) -> None:
    """Processes, sockets and clocks: the best of four, because a busy machine may stall any one of them."""
    scores: list[float] = []
    async with servers.ours() as url:
        while len(scores) < 4 and max(scores, default=0.0) < 3.8:
            heard_file = tmp_path / f"heard{len(scores)}.wav"
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "stack", "call", url, "--json", "--dtls", version),
                *("--play", str(speech), "--record", str(heard_file)),
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await asyncio.wait_for(process.communicate(), 60)
            assert json.loads(output)["dtls"]["version"] == f"DTLS {version}"
            (reference, rate), (heard, heard_rate) = read_wav(speech), read_wav(heard_file)
            assert rate == heard_rate == RATE
            scores.append(wideband_pesq(reference, heard))
    if max(scores) < 3.8 and os.getloadavg()[0] > 2 * (os.cpu_count() or 1):
        pytest.skip(f"this machine is too busy for a real-time call to be judged: load {os.getloadavg()[0]:.0f}")
    assert max(scores) >= 3.8
