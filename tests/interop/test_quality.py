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
from stack.audio import read_wav
from stack.dtls import Version
from stack.session import Connected
from stack.voice.commands import Write
from stack.voice.conversation import ConversationConfig
from stack.voice.events import AudioReceived
from tests.sim.calls import CallPair

RATE = 16_000
SPEECH = Path("/usr/share/pocketsphinx/test/data/librivox")


@pytest.fixture
def speech() -> Path:
    """Seven seconds of a reader's voice at 16 kHz, from Debian's pocketsphinx-testdata."""
    files = sorted(SPEECH.glob("sense_and_sensibility*0870.wav"))
    if not files:
        pytest.skip("no recorded speech here (Debian: pocketsphinx-testdata): quality was not measured")
    return files[0]


def aligned(reference: np.ndarray, heard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shift one against the other by their correlation, and cut both to what they share."""
    size = 1 << (len(reference) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard.astype(float), size) * np.fft.rfft(reference.astype(float), size).conj()
    lag = int(np.argmax(np.fft.irfft(spectrum, size)))
    lag = lag if lag < size // 2 else lag - size
    reference, heard = reference[max(0, -lag) :], heard[max(0, lag) :]
    length = min(len(reference), len(heard))
    return reference[:length], heard[:length]


def wideband_pesq(reference: np.ndarray, heard: np.ndarray) -> float:
    pesq = pytest.importorskip("pesq", reason="the package pesq is not here: quality was not measured")
    reference, heard = aligned(reference, heard)
    assert len(heard) > 6 * RATE
    return float(pesq.pesq(RATE, reference, heard, "wb"))


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
