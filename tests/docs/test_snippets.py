"""Every program on a page runs as it stands there.

A comment before a block of Python says how:

- `<!-- run: call -->`: it serves a program, which is called here: the caller speaks, and hears something;
- `<!-- run: client -->`: it calls a server, which runs here in the place of the address that the page names;
- `<!-- run: script -->`: it is run, and prints what the block of text behind it shows, if there is one;
- `<!-- run: page -->`, before HTML: a browser opens it from a server of ours, and a click on its button is a call;
- `<!-- not run: why -->`: it is a part of something that a test elsewhere holds.

What a page leaves to its reader, a model for instance, stands in `GIVEN`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stack
from interop.browsers import available, launch
from stack import Call
from stack.agents.echo import echo
from stack.aio import HostConfig
from stack.cli import cli
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, serving
from stack.voice.config import ConversationConfig
from stack.voice.events import KeyPressed

ROOT = Path(__file__).parents[2]
FOLDERS = ("start", "guides", "learn")
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    *(page for folder in FOLDERS for page in sorted((ROOT / "docs" / folder).glob("*.md"))),
]
BLOCK = re.compile(
    r"(?:^<!-- (?P<how>run|not run): (?P<what>[^\n]*?) -->\n)?^```python\n(?P<code>.*?)^```$"
    r"(?:\n\n```text\n(?P<shown>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
KINDS = ("call", "client", "script")
RATE = 16_000
SPEECH = (9_000 * np.sin(2 * np.pi * 500 * np.arange(RATE * 6 // 10) / RATE)).astype(np.int16)
PATIENCE = 25.0
"""Seconds that a program has for its first sound."""


async def my_model(samples: np.ndarray) -> AsyncIterator[bytes]:
    """A model that answers with a tone, in pieces."""
    for _ in range(5):
        yield (9_000 * np.sin(2 * np.pi * 400 * np.arange(2_400) / 24_000)).astype(np.int16).tobytes()


GIVEN: dict[str, dict[str, Any]] = {"README.md": {"my_model": my_model}}


@dataclass(frozen=True)
class Snippet:
    """A program on a page."""

    page: str
    line: int
    how: str | None
    what: str
    code: str
    shown: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets() -> Iterator[Snippet]:
    for page in PAGES:
        text = page.read_text("utf-8")
        name = page.relative_to(ROOT).as_posix().removeprefix("docs/")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("code")) + 1
            yield Snippet(name, line, match["how"], match["what"] or "", match["code"], match["shown"])


ALL = list(snippets())


def of_kind(kind: str) -> Any:
    return pytest.mark.parametrize(
        "snippet", [each for each in ALL if (each.how, each.what) == ("run", kind)], ids=str
    )


@pytest.mark.parametrize("snippet", ALL, ids=str)
def test_a_program_says_how_it_is_run(snippet: Snippet) -> None:
    assert snippet.how is not None, "put <!-- run: call -->, client or script, or <!-- not run: why --> before it"
    assert snippet.how == "not run" or snippet.what in KINDS
    assert snippet.what
    compile(snippet.code, str(snippet), "exec")


def test_there_are_programs_of_every_kind() -> None:
    kinds = [each.what for each in ALL if each.how == "run"]
    assert {*kinds} == {*KINDS}
    assert len(kinds) >= 20


def load(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a snippet up to its `serve` and return the program."""
    served: list[Callable[..., Any]] = []

    def serve(program: Callable[..., Any]) -> None:
        served.append(program)

    monkeypatch.setattr(stack, "serve", serve, raising=False)
    given = {"__name__": "__main__", **GIVEN.get(snippet.page, {})}
    exec(compile(snippet.code, str(snippet), "exec"), given)
    assert len(served) == 1, "it serves no program, or more than one"
    return served[0]


async def hears_an_answer(call: Call, code: str) -> bool:
    """Do what a caller of the program does, until it has answered."""
    if "KeyPressed" in code:
        await call.send_digits("50")
        async for event in call.events:
            if isinstance(event, KeyPressed) and event.digit == "#":
                return True
        return False
    events = await call.open_channel("events")
    if "MANUAL" in code:  # a key is pressed while the microphone is on
        call.speaker.write(SPEECH, RATE)
        await call.speaker.drained()
        await events.send('{"type": "push_to_talk", "pressed": true}')
    call.speaker.write(SPEECH, RATE)
    if "MANUAL" in code:
        await call.speaker.drained()
        await events.send('{"type": "push_to_talk", "pressed": false}')
    async for frame in call.microphone:
        if np.abs(frame.samples).max() > 500:
            return True
    return False


async def answers(program: Callable[..., Any], code: str) -> str:
    """Serve a program and call it; return what went wrong."""
    a_tone_is_speech = ConversationConfig(detector="energy")
    config = ServeConfig(port=0, media=HostConfig(udp_port=0, conversation=a_tone_is_speech))
    async with serving(program, config) as server:
        try:
            async with asyncio.timeout(PATIENCE), dial(server.url) as placed:
                await placed.call.wait_connected()
                if not await hears_an_answer(placed.call, code):
                    return "it ended the call"
        except TimeoutError:
            return "it did not answer"
        return "it raised" if server.host.counters["host.program_failed"] else ""


@pytest.mark.real_clock
@pytest.mark.parametrize("page", sorted({each.page for each in ALL if each.what == "call"}))
async def test_served_programs_answer_a_call(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a page at once: each waits for silence, and no two for each other's."""
    found = [each for each in ALL if (each.page, each.how, each.what) == (page, "run", "call")]
    programs = [load(each, monkeypatch) for each in found]
    wrong = await asyncio.gather(
        *(answers(program, each.code) for program, each in zip(programs, found, strict=True))
    )
    assert [f"{each}: {what}" for each, what in zip(found, wrong, strict=True) if what] == []


@pytest.mark.real_clock
@of_kind("client")
async def test_a_client_calls(snippet: Snippet) -> None:
    async with serving(echo, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server:
        code = snippet.code.replace("http://127.0.0.1:8080", server.url)
        assert code != snippet.code
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, cwd=ROOT, env=environment(), stdout=-1, stderr=-1
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), 40)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
    assert process.returncode == 0, errors.decode()
    printed = set(re.findall(r'print\("([^"{}]+)"\)', snippet.code))
    assert printed <= set(output.decode().splitlines())


@of_kind("script")
def test_a_script_prints_what_the_page_shows(snippet: Snippet) -> None:
    done = subprocess.run(
        [sys.executable, "-c", snippet.code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if snippet.shown is not None:
        assert done.stdout == snippet.shown


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


PAGE = re.compile(r"^<!-- run: page -->\n```html\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.browser
@pytest.mark.xdist_group("browsers")
async def test_a_page_places_a_call() -> None:
    if "chromium" not in {browser.name for browser in available()}:
        pytest.skip("chromium is not installed here: the page of the guide was not opened")
    (page,) = PAGE.findall((ROOT / "docs" / "guides" / "your-client.md").read_text("utf-8"))
    heard = asyncio.Event()

    async def listen(call: Call) -> None:
        async with call.reply() as voice:
            await voice.write(SPEECH, RATE)
        async for frame in call.microphone:
            if np.abs(frame.samples).max() > 500:
                heard.set()

    config = ServeConfig(port=0, media=HostConfig(host="127.0.0.1", udp_port=0))
    async with serving(listen, config) as server, launch("chromium") as browser:
        await browser.goto(server.url)  # its origin, where the page of the guide takes the place of ours
        await browser.evaluate("window.told = []")
        await browser.evaluate("console.log = message => told.push(message.type)")
        await browser.evaluate(f"document.body.innerHTML = {json.dumps(page.partition('<script')[0])}")
        script = page.partition('<script type="module">')[2].partition("</script>")[0]
        await browser.evaluate(f"(async () => {{ {script} }})()")
        await browser.click("#call")
        await asyncio.wait_for(heard.wait(), 60)
        await browser.wait_for("told.includes('reply_finished')")
        assert browser.errors == []


COMMAND = re.compile(r"python -m stack (serve|call|health)((?: [^\n`|&#]*)?)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_exist(page: Path) -> None:
    """Every option that a page gives to a command is one of its options."""
    wrong = []
    for name, rest in COMMAND.findall(page.read_text("utf-8")):
        known = {option for parameter in cli.commands[name].params for option in parameter.opts}
        wrong += [f"{name} {option}" for option in re.findall(r"(?<!\w)--[a-z-]+", rest) if option not in known]
    assert wrong == []
