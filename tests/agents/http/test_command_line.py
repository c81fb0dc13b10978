"""`serve --agent http`: three variables of the environment away from servers of models."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

pytest.importorskip("openai", reason="openai is not installed: the extra http")

from stack.testing import calling
from tests.agents.http.model_server import model_server, refusal

COMMAND = (sys.executable, "-m", "stack", "serve", "--port", "0", "--udp-port", "0", "--host", "127.0.0.1")


@pytest.mark.real_clock
async def test_three_variables_are_enough() -> None:
    async with model_server() as chat, model_server() as speech:
        settings = {
            "VOICE_STACK_AGENT": "http",
            "VOICE_STACK_LLM": chat.url,
            "VOICE_STACK_STT": f"{speech.url}/v1",
            "VOICE_STACK_TTS": f"{speech.url}/v1/audio/speech",
            "VOICE_STACK_TTS_KEY": "sk-speech",
            "VOICE_STACK_GREETING": "Hello.",
            "OPENAI_API_KEY": "",
        }
        process = await asyncio.create_subprocess_exec(
            *COMMAND, stdout=asyncio.subprocess.PIPE, env=os.environ | settings
        )
        assert process.stdout is not None
        try:
            url = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().split()[1]
            async with asyncio.timeout(60), calling(url=url) as caller:
                assert (await caller.reply_heard()).duration > 0.2
        finally:
            process.send_signal(signal.SIGINT)
            await asyncio.wait_for(process.communicate(), 30)
        (asked,) = speech.of("/audio/speech")
        assert asked.json["input"] == "Hello."
        assert asked.headers["authorization"] == "Bearer sk-speech"


async def test_a_key_that_is_refused_ends_the_start_with_one_line() -> None:
    async with model_server() as models:
        models.others.append(lambda _: refusal(401, "who are you?"))
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "--agent", "http", "--llm", models.url, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 1
        assert errors.decode().splitlines() == [
            f"Error: speech recognition at {models.url}/v1: answered 401: who are you?"
        ]
