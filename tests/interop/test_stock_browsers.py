"""The page in browsers as people have them: no setting of theirs is changed, and the server is told nothing.

A browser gathers no loopback candidate once the machine has another address, Firefox does not send from there to
127.0.0.1, and on a machine with loopback alone neither gathers anything.
"""

from __future__ import annotations

import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interop import monologue, servers
from interop.browsers import Browser, addressed_namespace, launch
from interop.browsers.namespace import ADDRESS
from stack.audio import resample, write_wav
from tests.interop.conftest import LISTEN, PLAIN_SOUND, TONE_HZ

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]

SERVER_IS_IDLE = "fetch('/healthz').then(response => response.json()).then(health => health.calls === 0)"
CANDIDATES = """voiceStack.connection.getStats().then(reports => [...reports.values()]
  .filter(report => report.type === "local-candidate").map(report => report.address))"""


@pytest.fixture
def network() -> Iterator[None]:
    """A machine with one address and a default route."""
    with addressed_namespace() as absent:
        if absent is not None:
            pytest.skip(f"no network for a stock browser: {absent}")
        yield


def microphone(browser_name: str, tone_file: Path) -> dict[str, Any]:
    """Firefox's own fake microphone is a tone of 1 kHz; Chromium's beeps, and can be given a file."""
    return {"audio_file": tone_file} if browser_name == "chromium" else {}


async def start_call(browser: Browser, url: str) -> str | None:
    """Open the page, press Start, and wait until the call stands or has failed; return the problem's code."""
    await browser.goto(url)
    await browser.evaluate(PLAIN_SOUND)
    await browser.click("#call")
    await browser.wait_for("voiceStack.problem || voiceStack.timings.first_packet")
    code: str | None = await browser.evaluate("voiceStack.problem && voiceStack.problem.code")
    return code


async def test_a_call_with_what_people_have(browser_name: str, network: None, tone_file: Path) -> None:
    async with (
        servers.ours(host=None) as url,
        launch(browser_name, stock=True, **microphone(browser_name, tone_file)) as browser,
    ):
        assert await start_call(browser, url) is None
        await browser.wait_for("voiceStack.state === 'connected'")
        offered = await browser.evaluate("voiceStack.connection.remoteDescription.sdp")
        candidates = [
            tuple(line.split()[2:5:2]) for line in offered.splitlines() if line.startswith("a=candidate:")
        ]
        expected = [(protocol, host) for protocol in ("udp", "tcp") for host in (ADDRESS, "127.0.0.1")]
        assert sorted(candidates) == sorted(2 * expected), "in both sections"
        local = await browser.evaluate(CANDIDATES)
        assert local
        assert "127.0.0.1" not in local  # no setting of the browser was changed
        heard = await browser.evaluate(LISTEN)  # the program says everything back: sound went both ways
        assert heard["hertz"] == pytest.approx(TONE_HZ, abs=15)
        assert heard["rms"] > 0.05
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'ended'")
        assert await browser.evaluate("voiceStack.endedBy") == "you"
        await browser.wait_for(SERVER_IS_IDLE, timeout=15)
        assert browser.errors == []


async def test_with_loopback_alone_the_page_says_that_there_is_no_network(
    browser_name: str, loopback: bool
) -> None:
    if not loopback:
        pytest.skip("network namespaces are not permitted here")
    async with servers.ours(host=None) as url, launch(browser_name, stock=True) as browser:
        assert await start_call(browser, url) == "no-network"
        assert "loopback" in await browser.evaluate("document.querySelector('[role=alert]').innerText")


@pytest.mark.skipif(not monologue.RECORDINGS.exists(), reason="no recorded speech: pocketsphinx-testdata")
async def test_a_conversation_is_spoken_interrupted_and_hung_up(
    browser_name: str, network: None, tmp_path: Path
) -> None:
    """What a new user does first, recorded by the server: listen, interrupt, and leave."""
    person, folder = tmp_path / "person.wav", tmp_path / "recorded"
    speech = monologue.microphone(4, 1, quiet=2.5, lead=6.0)
    write_wav(person, resample(speech, monologue.RATE, 48_000), 48_000)
    recording = ["--record-dir", str(folder)]
    async with servers.ours("interop.monologue:monologue", recording, host=None) as url:  # noqa: SIM117 - its files are whole when it has ended
        async with launch(browser_name, stock=True, audio_file=person, loop_audio=False) as browser:
            await browser.goto(url)
            await browser.evaluate(PLAIN_SOUND)
            await browser.click("#call")
            assert await browser.wait_for(
                "voiceStack.problem || voiceStack.conversation.entries.some(e => e.outcome === 'interrupted')",
                timeout=45,
            )
            assert await browser.evaluate("voiceStack.problem") is None
            await browser.wait_for("voiceStack.conversation.entries.at(-1).outcome === 'speaking'")
            struck = await browser.evaluate("document.querySelector('#transcript s').textContent.trim()")
            assert monologue.WORDS.endswith(struck)
            entries = await browser.evaluate("voiceStack.conversation.entries")
            lanes = await browser.evaluate("voiceStack.spans")
            assert len(lanes["program"]) >= len(entries), "a block for each reply, the greeting's, too"
            assert all(span["end"] for span in lanes["program"][:-1])
            assert lanes["program"][-1]["end"] is None, "it is being spoken"
            assert lanes["you"]
            await browser.click("#call")
            await browser.wait_for("voiceStack.state === 'ended'")
            assert await browser.evaluate("voiceStack.endedBy") == "you"
            assert await browser.evaluate("voiceStack.spans.program.at(-1).end !== null")
            await browser.wait_for(SERVER_IS_IDLE, timeout=15)
            assert browser.errors == []
    (wav,), (log,) = folder.glob("*.wav"), folder.glob("*.jsonl")
    happened = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = [line.get("event", line.get("type")) for line in happened]
    assert "ReplyInterrupted" in kinds, kinds
    with wave.open(str(wav)) as file:
        assert file.getnchannels() == 2
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).astype(float)
    person_heard, program_said = np.sqrt((sound**2).mean(axis=0))
    assert person_heard > 100, "the person was heard"
    assert program_said > 100, "the program spoke"
    assert any(entry["outcome"] == "interrupted" and entry["heardMs"] > 0 for entry in entries)
