"""The page as a part of a FastAPI application, below a prefix, in real browsers."""

from __future__ import annotations

from pathlib import Path

import pytest

from interop.browsers import launch
from stack.agents import echo
from stack.aio import HostConfig
from tests.embedding.serving import uvicorn_runs
from tests.interop.conftest import LISTEN, PLAIN_SOUND, TONE_HZ

pytest.importorskip("uvicorn", reason="uvicorn is not installed")
fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browsers")]


async def test_a_call_from_the_page_below_a_prefix(browser_name: str, loopback: bool, tone_file: Path) -> None:
    from stack.asgi import VoiceApp

    voice = VoiceApp(echo, config=HostConfig(host="127.0.0.1", udp_port=0))
    app = fastapi.FastAPI(lifespan=voice.lifespan)
    app.mount("/voice", voice)
    async with uvicorn_runs(app) as url, launch(browser_name, audio_file=tone_file) as browser:
        await browser.goto(f"{url}/voice")
        assert await browser.evaluate("location.pathname") == "/voice/"
        await browser.evaluate(PLAIN_SOUND)
        await browser.click("#call")
        assert await browser.wait_for("voiceStack.problem || voiceStack.timings.first_packet") > 0
        await browser.wait_for("voiceStack.state === 'connected'")
        heard = await browser.evaluate(LISTEN)
        assert heard["hertz"] == pytest.approx(TONE_HZ, abs=15)
        await browser.click("#call")
        await browser.wait_for("voiceStack.state === 'ended'")
        assert browser.errors == []
