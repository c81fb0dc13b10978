"""The dialects of a media node whose programs are behind the backbone: the tests that they pass beside them."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stack import Call
from stack.aio.context import Tool
from stack.aio.dialect_events import TurnHandedOver
from stack.cluster.backbone import BackboneConfig
from stack.cluster.messages import take_subject
from stack.cluster.program_host import ProgramHost
from stack.cluster.remote_call import RemoteCall
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, Serving
from stack.voice.events import ContextAdded, ProgramMessage, SessionUpdated, ToolRequested
from tests.cluster.engine import Engine
from tests.cluster.test_calls import agent, node
from tests.listening import until
from tests.signaling import test_pipecat, test_realtime
from tests.signaling.test_realtime import TONE, Events

pytestmark = [pytest.mark.real_clock]
PATIENCE = 20.0
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


def of_dialect(module: Any) -> list[Any]:
    """Return the tests of a dialect that serve a program of their own, and need no fixture."""
    found = [
        each
        for name, each in vars(module).items()
        if name.startswith("test_") and inspect.iscoroutinefunction(each)
    ]
    return [each for each in found if not inspect.signature(each).parameters]


def behind(engine: Engine) -> Callable[..., Any]:
    """Return what takes the place of `serving`: a node, and a process that has the program."""

    @asynccontextmanager
    async def serve(program: Callable[[Call], Awaitable[None]], config: ServeConfig) -> AsyncIterator[Serving]:
        async with node(engine, serve_config=config) as server, agent(engine, program):
            yield server

    return serve


@pytest.mark.parametrize("test", of_dialect(test_realtime), ids=lambda test: test.__name__)
async def test_realtime_is_the_same_behind_the_backbone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, test: Callable[[], Awaitable[None]]
) -> None:
    monkeypatch.setattr(test_realtime, "serving", behind(engine))
    await test()


async def test_the_sound_of_a_managed_turn_crosses_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    say = RemoteCall.say

    def note(remote: RemoteCall, message: Any, is_stale_when_late: bool = False) -> None:
        said.append(message)
        say(remote, message, is_stale_when_late)

    monkeypatch.setattr(RemoteCall, "say", note)
    monkeypatch.setattr(test_realtime, "serving", behind(engine))
    await test_realtime.test_a_manual_turn_is_committed_and_an_empty_one_refused()
    (handed,) = [each for each in said if isinstance(each, TurnHandedOver)]
    assert (handed.has_sound, len(handed.utterance.samples)) == (False, 0)


async def test_rtvi_is_the_same_behind_the_backbone(engine: Engine) -> None:
    """Pipecat's client says it on `chat`, which the node reads; the program is told, and answers."""
    known: list[object] = []

    async def program(call: Call) -> None:
        watching = call.watch()
        async for utterance in call.utterances():
            while len(watching):
                if isinstance(event := await anext(watching), ContextAdded):
                    known.append(event.text)
            known.append(utterance.text)
            async with call.reply() as voice:
                voice.write_text("well")
                await voice.write(TONE[:1600], 16_000)

    class Placed(test_pipecat.RtviSession):
        """As `restart_pc` in an offer has it made."""

    async with asyncio.timeout(PATIENCE), node(engine) as server, agent(engine, program), dial(server.url) as ours:
        (call,) = server.host.calls.values()
        Placed(call)
        await ours.call.wait_connected()
        channel = await ours.call.open_channel("chat")

        async def say(kind: str, data: dict[str, Any]) -> None:
            await channel.send(json.dumps({"label": "rtvi-ai", "type": kind, "id": "n", "data": data}))

        async def wait(kind: str) -> list[str]:
            kinds = [json.loads(await anext(channel))["type"]]
            while kinds[-1] != kind:
                kinds.append(json.loads(await anext(channel))["type"])
            return kinds

        await say("client-ready", {"version": "2.1.0"})
        await wait("bot-ready")
        await say("send-text", {"content": "it rains", "options": {"run_immediately": False}})
        await say("send-text", {"content": "hello"})
        assert {"bot-started-speaking", "bot-output"} <= set(await wait("bot-stopped-speaking"))
        await say("disconnect-bot", {})
        await ours.call.wait_ended()
    assert known == ["it rains", "hello"]


class Knowing:
    """A program that stays, and asks for turns."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.typed: list[str] = []

    async def __call__(self, call: Call) -> None:
        self.calls.append(call)
        async for turn in call.utterances():
            self.typed.append(turn.text)


@asynccontextmanager
async def doomed(engine: Engine, program: Callable[..., Any]) -> AsyncIterator[ProgramHost]:
    """Context: a process that the test cuts off with `cut_off`."""
    host = ProgramHost(program, BackboneConfig((engine.url,)))
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


async def cut_off(host: ProgramHost) -> None:
    """Let a process be silent, as one that was killed."""
    await host.backbone.unsubscribe(take_subject("default"))
    await host._alive.stop()
    await host.backbone.stop()


async def test_the_process_that_goes_on_knows_what_the_client_has_set(engine: Engine) -> None:
    """And what was asked of the client by the one before is answered to no program."""
    first, second = Knowing(), Knowing()
    async with (
        asyncio.timeout(2 * PATIENCE),
        node(engine) as server,
        doomed(engine, first) as dying,
        dial(server.url + "/v1/realtime/calls") as ours,
    ):
        await ours.call.wait_connected()
        events = Events(ours.call)
        await events.open()
        session = {"type": "realtime", "instructions": "be brief", "tools": [WEATHER]}
        await events.say("session.update", session=session)
        await events.wait("session.updated")
        item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "it rains"}]}
        await events.say("conversation.item.create", item=item)
        await until(lambda: first.calls and first.calls[0].tools, PATIENCE)
        asking = asyncio.create_task(first.calls[0].call_tool("weather"))
        asked = await events.wait("response.function_call_arguments.done")
        async with agent(engine, second):
            await cut_off(dying)
            await until(lambda: bool(second.calls), PATIENCE)
            (call,) = second.calls
            assert call.tools == (Tool("weather", parameters={"type": "object"}),)
            assert call.session["instructions"] == "be brief"
            while (event := await anext(call.events)) != ContextAdded("system", "it rains"):
                assert not isinstance(event, ContextAdded)
            output = {"type": "function_call_output", "call_id": asked["call_id"], "output": "rain"}
            await events.say("conversation.item.create", item=output)
            await events.say("response.create")
            await events.say("response.cancel")  # the program that had asked is gone
            await events.say("response.create", response={"instructions": "go on"})
            await until(lambda: second.typed == ["go on"], PATIENCE)
            assert not call.ended
        asking.cancel()


async def test_without_a_process_the_nodes_own_program_knows_it(engine: Engine) -> None:
    local = Knowing()
    seen: list[object] = []

    async def program(call: Call) -> None:
        seen.extend([call.session["instructions"], [tool.name for tool in call.tools]])
        await local(call)

    async with (
        asyncio.timeout(PATIENCE),
        node(engine, local=program) as server,
        dial(server.url + "/v1/realtime/calls") as ours,
    ):
        await ours.call.wait_connected()
        events = Events(ours.call)
        await events.open()
        await until(lambda: bool(local.calls), PATIENCE)
        watching = local.calls[0].watch()
        await events.say("session.update", session={"type": "realtime", "tools": [WEATHER]})
        while not isinstance(await anext(watching), SessionUpdated):
            pass
        asking = asyncio.create_task(local.calls[0].call_tool("weather"))
        asked = await events.wait("response.function_call_arguments.done")
        output = {"type": "function_call_output", "call_id": asked["call_id"], "output": "rain"}
        await events.say("conversation.item.create", item=output)
        await events.say("response.create")
        assert await asking == "rain"
        await events.say("response.cancel")
        await events.say("response.create", response={"instructions": "go on"})
        await until(lambda: local.typed == ["go on"], PATIENCE)
    assert seen[1] == []


async def test_a_function_that_the_client_does_not_offer_is_asked_of_no_client(engine: Engine) -> None:
    """Whatever a process says: the node holds it against what the client offers."""
    remote = Knowing()
    async with (
        asyncio.timeout(PATIENCE),
        node(engine) as server,
        agent(engine, remote) as process,
        dial(server.url) as ours,
    ):
        await ours.call.wait_connected()
        await until(lambda: bool(remote.calls), PATIENCE)
        (call,) = server.host.calls.values()
        watching = call.watch()
        (link,) = process._links.values()
        link.say(ToolRequested("call_1", "format_disk", "{}"))
        remote.calls[0].tell({"type": "after"})
        while not isinstance(event := await anext(watching), ProgramMessage):
            assert not isinstance(event, ToolRequested)


def test_the_tests_of_the_dialect_are_found() -> None:
    assert len(of_dialect(test_realtime)) >= 8
