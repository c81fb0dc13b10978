"""What the tests against other people's programs share: the browsers, and a network of their own."""

from __future__ import annotations

import math
import struct
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.browsers import available, loopback_namespace

TONE_HZ = 1000

# Browsers take a steady tone for noise, and remove it.
PLAIN_SOUND = "document.querySelectorAll('.settings input:checked').forEach(box => box.click())"

# The pitch and the loudness of what the page plays, from one second of it, decoded without a sound device.
LISTEN = """(async () => {
  const recorder = new MediaRecorder(voiceStack.remote), parts = [];
  recorder.ondataavailable = event => parts.push(event.data);
  recorder.start();
  await new Promise(resolve => setTimeout(resolve, 1500));
  await new Promise(resolve => { recorder.onstop = resolve; recorder.stop(); });
  const bytes = await new Blob(parts).arrayBuffer();
  const sound = await new OfflineAudioContext(1, 48000, 48000).decodeAudioData(bytes);
  const samples = sound.getChannelData(0).slice(-48000);
  let crossings = 0, energy = 0;
  for (let i = 1; i < samples.length; i++) crossings += samples[i - 1] <= 0 && samples[i] > 0;
  for (const sample of samples) energy += sample * sample;
  return { seconds: samples.length / 48000, hertz: crossings * 48000 / samples.length,
           rms: Math.sqrt(energy / samples.length) };
})()"""


@pytest.fixture(params=["chromium", "firefox"])
def browser_name(request: pytest.FixtureRequest) -> str:
    """Each browser in turn."""
    name: str = request.param
    if name not in {browser.name for browser in available()}:
        pytest.skip(f"{name} is not installed here: nothing was tried in it")
    return name


@pytest.fixture
def loopback() -> Iterator[bool]:
    """Run the test, and all that it starts, with loopback as the only network where that is permitted."""
    with loopback_namespace() as isolated:
        yield isolated


@pytest.fixture(scope="session")
def tone_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV of two seconds of a sine at `TONE_HZ`, which loops without a seam."""
    path = tmp_path_factory.mktemp("sound") / "tone.wav"
    samples = (round(8000 * math.sin(2 * math.pi * TONE_HZ * n / 48000)) for n in range(96000))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return path
