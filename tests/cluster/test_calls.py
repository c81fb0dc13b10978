"""Calls whose program is behind the backbone: a media node, program processes, and NATS, over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stack import Call
from stack.agents import echo
from stack.aio import HostConfig
from stack.aio.programs import Program
from stack.cluster.backbone import Backbone, BackboneConfig
from stack.cluster.messages import take_subject
from stack.cluster.program_host import ProgramHost, ProgramHostConfig
from stack.cluster.remote_call import RemoteCall
from stack.cluster.remote_program import RemoteProgram
from stack.core.errors import LocalError, StackError
from stack.session import EndReason
from stack.signaling.client import dial
from stack.signaling.server import ServeConfig, Serving, serving
from stack.voice.commands import GetParameters
from tests.cluster.engine import Engine
from tests.listening import until

pytestmark = [pytest.mark.real_clock]
PATIENCE = 15.0
OFFER = (Path(__file__).parents[1] / "vectors/offers/chromium156-audio_dc.sdp").read_text()


@asynccontextmanager
async def node(
    engine: Engine, local: Program | None = None, serve_config: ServeConfig | None = None, **settings: Any
) -> AsyncIterator[Serving]:
    backbone = Backbone(BackboneConfig((engine.url,)), "node n1")
    program = RemoteProgram(backbone, "n1", local=local)
    await backbone.start()
    await program.start()
    config = serve_config or ServeConfig(port=0)
    media = HostConfig(host="127.0.0.1", udp_port=0, node="n1", region="here", **settings)
    try:
        async with serving(program, replace(config, media=media)) as server:
            yield server
    finally:
        await program.stop()
        await backbone.stop()


@asynccontextmanager
async def agent(engine: Engine, program: Callable[..., Any], **settings: Any) -> AsyncIterator[ProgramHost]:
    host = ProgramHost(program, BackboneConfig((engine.url,)), ProgramHostConfig(**settings))
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


async def within(seconds: float, work: Any) -> Any:
    return await asyncio.wait_for(work, seconds)


class Told:
    """A program that keeps what it has seen, and stays until the call ends."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> None:
        self.calls.append(call)
        await call.wait_ended()


async def test_the_program_holds_the_same_call_as_a_local_one(engine: Engine) -> None:
    answers: list[Any] = []

    async def program(call: Call) -> None:
        answers.append((await call.stats()).session is not None)
        answers.append(call.context.node)
        answers.append(call.context.region)
        while (program := (await call.stats()).path.program) is None:
            await asyncio.sleep(0.02)  # both sides tell each other four times a second
        answers.append(0.0 <= program < 5.0)
        channel = await call.open_channel("back")
        await channel.send("over the backbone")
        async for message in channel:
            answers.append(message)
            break
        async with call.reply() as voice:
            await voice.write(np.full(16_000, 9000, np.int16), 16_000)
        with pytest.raises(LocalError, match="may not"):
            await call._control.execute(GetParameters())

    async with node(engine) as server, agent(engine, program), dial(server.url) as ours:
        await within(PATIENCE, ours.call.wait_connected())
        channel = await within(PATIENCE, ours.call.channels.wait_for("back"))
        async for message in channel:
            assert message == "over the backbone"
            await channel.send("and back")
            break
        loudest = 0
        async with asyncio.timeout(PATIENCE):
            async for frame in ours.call.microphone:
                loudest = max(loudest, int(np.abs(frame.samples).max()))
                if loudest > 5000:
                    break
        end = await within(PATIENCE, ours.call.wait_ended())  # the program has returned
    assert answers == [True, "n1", "here", True, "and back"]
    assert end.reason is EndReason.PEER_CLOSED


async def test_a_long_speech_crosses_at_once(engine: Engine) -> None:
    """More than NATS takes in one message."""
    written: list[int] = []

    async def program(call: Call) -> None:
        call.speaker.write(np.zeros(24_000 * 60, np.int16), 24_000)
        written.append(len((await call.stats()).counters))  # what is asked comes after what was written
        call.hang_up()

    async with node(engine) as server, agent(engine, program) as process, dial(server.url) as ours:
        await within(PATIENCE, ours.call.wait_connected())
        await until(lambda: bool(written), PATIENCE)
        assert process.backbone.counters.snapshot() == {}


async def test_what_is_said_before_a_process_has_the_call_reaches_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.cluster.remote_program.TAKE_PATIENCE", 60.0)
    refused = 0
    offer = RemoteCall.offer

    def count(remote: RemoteCall, node: str) -> Any:
        nonlocal refused
        refused += 1
        return offer(remote, node)

    monkeypatch.setattr(RemoteCall, "offer", count)
    heard: list[object] = []

    async def program(call: Call) -> None:
        channel = await call.channels.wait_for("words")
        heard.extend([await anext(channel), await anext(channel)])

    async with node(engine) as server, dial(server.url) as ours:
        await within(PATIENCE, ours.call.wait_connected())
        await until(lambda: refused >= 2, PATIENCE)
        words = await ours.call.open_channel("words")
        await words.send("one")
        await until(lambda: refused >= 5, PATIENCE)
        await words.send("two")
        async with agent(engine, program):
            await until(lambda: len(heard) == 2, PATIENCE)
    assert heard == ["one", "two"]


async def test_messages_that_are_sent_together_keep_their_order(engine: Engine) -> None:
    async def program(call: Call) -> None:
        channel = await call.open_channel("many")
        await asyncio.gather(*(channel.send(str(number)) for number in range(50)))
        await call.wait_ended()

    async with node(engine) as server, agent(engine, program), dial(server.url) as ours:
        channel = await within(PATIENCE, ours.call.channels.wait_for("many"))
        async with asyncio.timeout(PATIENCE):
            assert [await anext(channel) for _ in range(50)] == [str(number) for number in range(50)]


async def test_a_process_that_is_gone_loses_its_calls_to_another(engine: Engine) -> None:
    first, second, told = Told(), Told(), []
    async with node(engine) as server:
        dying = ProgramHost(first, BackboneConfig((engine.url,)))
        await dying.start()
        async with dial(server.url) as ours:
            await within(PATIENCE, ours.call.wait_connected())
            await until(lambda: bool(first.calls), PATIENCE)
            channel = await within(PATIENCE, ours.call.channels.wait_for("events"))

            async def read() -> None:
                async for message in channel:
                    if '"program"' in str(message):
                        told.append((time.monotonic(), str(message)))

            reading = asyncio.create_task(read())
            async with agent(engine, second):
                await dying.backbone.unsubscribe(take_subject("default"))
                killed = time.monotonic()
                await _cut_off(dying)
                await until(lambda: bool(second.calls), PATIENCE)
                assert second.calls[0].context.continuation == 1
                assert second.calls[0].id == first.calls[0].id
                await until(lambda: len(told) == 2, PATIENCE)
                reading.cancel()
        assert ["lost" in told[0][1], "continued" in told[1][1]] == [True, True]
        assert told[0][0] - killed < 5.0
        await dying.stop()


async def _cut_off(host: ProgramHost) -> None:
    """Let a process be silent, as one that was killed."""
    await host._alive.stop()
    await host.backbone.stop()


async def test_a_process_that_was_given_up_cannot_speak_in_the_call_any_more(engine: Engine) -> None:
    first, second = Told(), Told()
    async with node(engine) as server, agent(engine, first) as former, dial(server.url) as ours:
        await within(PATIENCE, ours.call.wait_connected())
        await until(lambda: bool(first.calls), PATIENCE)
        await former.backbone.unsubscribe(take_subject("default"))
        async with agent(engine, second):
            await former._alive.stop()  # its connection is there, and its calls are another's
            await until(lambda: bool(second.calls), PATIENCE)
            first.calls[0].hang_up()
            end = await within(PATIENCE, first.calls[0].wait_ended())
            assert end.reason is EndReason.WORKER_FAILED
            assert not second.calls[0].ended
            assert not ours.call.ended


async def test_a_node_that_was_cut_off_for_long_gives_its_calls_to_a_process_again(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stack.cluster.program_host.NODE_PATIENCE", 0.6)
    post, cut_off = Backbone.post, False

    def post_unless_cut_off(backbone: Backbone, subject: str, data: bytes) -> None:
        if not (cut_off and backbone.name == "node n1"):
            post(backbone, subject, data)

    monkeypatch.setattr(Backbone, "post", post_unless_cut_off)
    told = Told()
    async with node(engine) as server, agent(engine, told), dial(server.url) as ours:
        await within(PATIENCE, ours.call.wait_connected())
        await until(lambda: bool(told.calls), PATIENCE)
        cut_off = True
        end = await within(PATIENCE, told.calls[0].wait_ended())
        assert (end.reason, end.detail) == (EndReason.WORKER_FAILED, "nothing is heard of its media node")
        assert len(told.calls) == 1
        cut_off = False
        await until(lambda: len(told.calls) == 2, PATIENCE)
        assert told.calls[1].context.continuation == 1
        assert not ours.call.ended
        ours.call.hang_up()
        await within(PATIENCE, told.calls[1].wait_ended())


async def test_without_a_process_the_node_runs_its_own_program(engine: Engine) -> None:
    async with node(engine, local=echo) as server, dial(server.url) as ours:
        await within(PATIENCE, ours.call.wait_connected())
        ours.call.speaker.write(np.full(32_000, 9000, np.int16), 16_000)
        async with asyncio.timeout(PATIENCE):
            async for frame in ours.call.microphone:
                if np.abs(frame.samples).max() > 3000:
                    break


async def test_without_any_program_the_call_ends_and_its_client_is_told(engine: Engine) -> None:
    async with node(engine) as server, dial(server.url) as ours:
        await within(PATIENCE, ours.call.wait_connected())
        await within(PATIENCE, ours.call.wait_ended())
        assert (await server.host.all_counters())["host.program_failed"] == 1


async def test_calls_survive_the_engine_and_new_ones_go_to_the_local_program(engine: Engine) -> None:
    remote, local = Told(), Told()
    async with node(engine, local=local) as server, agent(engine, remote) as process, dial(server.url) as ours:
        await within(PATIENCE, ours.call.wait_connected())
        await until(lambda: bool(remote.calls), PATIENCE)
        engine.stop()
        await until(lambda: not process.backbone.is_up, PATIENCE)
        async with dial(server.url) as other:
            await within(PATIENCE, other.call.wait_connected())
            await until(lambda: bool(local.calls), PATIENCE)
        engine.start()
        await until(lambda: process.backbone.is_up, PATIENCE)
        # what was said meanwhile is not lost, and the call is still the same process's
        await within(PATIENCE, remote.calls[0].stats())
        assert not ours.call.ended
        assert len(remote.calls) == 1
        ours.call.hang_up()
        await within(PATIENCE, remote.calls[0].wait_ended())


async def test_what_is_said_while_the_engine_is_away_arrives_later(engine: Engine) -> None:
    remote = Told()
    async with node(engine) as server, agent(engine, remote) as process, dial(server.url) as ours:
        await within(PATIENCE, ours.call.wait_connected())
        await until(lambda: bool(remote.calls), PATIENCE)
        mine = await ours.call.open_channel("words")
        theirs = await within(PATIENCE, remote.calls[0].channels.wait_for("words"))
        engine.stop()
        await until(lambda: not process.backbone.is_up, PATIENCE)
        await mine.send("while it was away")
        asked = asyncio.create_task(remote.calls[0].stats())
        engine.start()
        async with asyncio.timeout(PATIENCE):
            assert await anext(aiter(theirs)) == "while it was away"
            await asked


async def test_a_process_that_is_shut_down_gives_its_calls_back(engine: Engine) -> None:
    first, second = Told(), Told()
    async with node(engine) as server, agent(engine, first) as former, dial(server.url) as ours:
        await within(PATIENCE, ours.call.wait_connected())
        await until(lambda: bool(first.calls), PATIENCE)
        async with agent(engine, second):
            await former.drain(0.0)
            await former.stop()
            await until(lambda: bool(second.calls), PATIENCE)
            assert not ours.call.ended


async def test_a_full_process_is_not_asked(engine: Engine) -> None:
    small, large = Told(), Told()
    async with node(engine) as server, agent(engine, small, max_calls=1) as full:
        async with dial(server.url) as one:
            await within(PATIENCE, one.call.wait_connected())
            await until(lambda: bool(small.calls), PATIENCE)
            await until(lambda: not full._is_offered, PATIENCE)
            async with agent(engine, large), dial(server.url) as other:
                await within(PATIENCE, other.call.wait_connected())
                await until(lambda: bool(large.calls), PATIENCE)
            assert len(small.calls) == 1
        await until(lambda: full._is_offered, PATIENCE)  # it has room again


async def test_a_call_that_never_connects_leaves_nothing(engine: Engine) -> None:
    backbone = Backbone(BackboneConfig((engine.url,)), "node n1")
    program = RemoteProgram(backbone, "n1")
    media = HostConfig(host="127.0.0.1", udp_port=0)
    async with serving(program, ServeConfig(port=0, media=media)) as server:
        accepted = await server.host.accept(OFFER)
        assert len(program._calls) == 1
        accepted.call.hang_up()
        await within(PATIENCE, accepted.call.wait_ended())
        await until(lambda: not server.host.calls, PATIENCE)
    assert program._calls == {}


async def test_a_process_starts_before_the_engine(engine: Engine) -> None:
    engine.stop()
    remote = Told()
    async with agent(engine, remote), node(engine) as server:
        engine.start()
        async with dial(server.url) as ours:
            await within(PATIENCE, ours.call.wait_connected())
            with contextlib.suppress(StackError):
                await until(lambda: bool(remote.calls), PATIENCE)
            assert remote.calls
