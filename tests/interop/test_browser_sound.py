"""Speech between Chromium and a program at ten per cent loss: what each end has to make up is little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from interop.browser_sound import RATE, converse, without_red
from interop.browsers import available
from interop.network_model import NetworkModel
from stack.audio import write_wav

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]

SECONDS = 12.0
LOSS = 0.1


def syllables() -> np.ndarray:
    """A harmonic sound that swells four times a second, so that nothing of it counts as silence."""
    at = np.arange(round(SECONDS * RATE)) / RATE
    voice = sum(np.sin(2 * np.pi * 180 * k * at) / k for k in range(1, 8))
    return (4000 * voice * (1.2 + np.sin(2 * np.pi * 4 * at)) / 2).astype(np.int16)


async def test_redundancy_repairs_ten_per_cent_both_ways(loopback: bool, tmp_path: Path) -> None:
    if "chromium" not in {browser.name for browser in available()}:
        pytest.skip("chromium is not installed here: nothing was tried in it")
    sound, microphone = syllables(), tmp_path / "voice.wav"
    write_wav(str(microphone), sound, RATE)
    result = await converse(sound, microphone, NetworkModel(loss=LOSS, delay=0.03), seed=5)
    for direction in ("up", "down"):
        assert result.relay[direction]["lost"] > 0.05 * result.relay[direction]["offered"]
    (rtp,) = result.statistics.session.rtp
    assert rtp.inbound is not None
    assert rtp.inbound.packets_recovered > 20
    assert rtp.outbound.redundancy_depth == 2
    assert result.program.concealed < 0.03
    assert result.browser.concealed < 0.06
    assert result.program.delay < 0.03
    assert np.abs(result.browser.sound.astype(int)).max() > 1000


def test_an_offer_without_redundancy_keeps_the_rest() -> None:
    offer = (
        "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63 9\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\n"
    )
    offer += "a=fmtp:63 111/111\r\na=fmtp:111 minptime=10\r\na=rtpmap:9 G722/8000\r\n"
    kept = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 9\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n"
    assert without_red(offer) == kept + "a=rtpmap:9 G722/8000\r\n"
