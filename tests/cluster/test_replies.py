"""Replies behind the backbone wait for no answer of the media; what they foresee is corrected by what comes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pytest

from stack import Call
from stack.aio.control import CallEnded, NotSent
from stack.cluster.backbone import Backbone
from stack.cluster.messages import CommandResult
from stack.cluster.remote_call import RemoteCall
from stack.cluster.replies import RepliesAhead
from stack.core.errors import LocalError
from stack.signaling.client import DialConfig, dial
from stack.voice.commands import BeginReply, CancelReply, WriteReply
from stack.voice.events import ReplyFinished, ReplyInterrupted
from tests.cluster.engine import Engine
from tests.cluster.test_calls import agent, node
from tests.cluster.test_dialects import cut_off, doomed
from tests.listening import until

PATIENCE = 20.0
RATE = 16_000
SECOND = np.zeros(RATE, np.int16)
BUSY = LocalError("another reply is being spoken: end or interrupt it first")


class Media:
    """The other side: what it was asked, and its answers, which the test gives."""

    def __init__(self, latest: int = 0) -> None:
        self.asked: list[tuple[Any, asyncio.Future[Any]]] = []
        self.said: list[Any] = []
        self.ended: list[ReplyInterrupted] = []
        self.not_written = 0
        self.replies = RepliesAhead(latest, self._ask, self.said.append, self.ended.append, self._note)

    def _ask(self, command: Any) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append((command, answer))
        return answer

    def _note(self) -> None:
        self.not_written += 1

    async def answer(self, place: int, what: object) -> None:
        answer = self.asked[place][1]
        if isinstance(what, Exception):
            answer.set_exception(what)
        else:
            answer.set_result(what)
        await asyncio.sleep(0)

    async def begin(self) -> int:
        return await self.replies.begin(BeginReply())

    async def write(self, number: int) -> float | None:
        return await self.replies.write(WriteReply(number, SECOND, RATE))


async def test_a_reply_is_numbered_and_written_before_any_answer() -> None:
    media = Media(latest=4)
    assert await media.begin() == 5
    assert await media.write(5) == pytest.approx(1.0, abs=0.9)
    more = await media.write(5)
    assert more is not None
    assert more > 1.0
    assert [type(command) for command, _ in media.asked] == [BeginReply, WriteReply, WriteReply]
    await media.answer(0, 5)
    media.replies.note(ReplyFinished(5, 2000.0))
    assert await media.begin() == 6
    assert media.ended == []


async def test_what_waits_is_corrected_by_the_answers() -> None:
    media = Media()
    number = await media.begin()
    for _ in range(3):
        await media.write(number)
    await media.answer(1, 40.0)  # with the first there were 40 s before it, and two more have been written since
    waits = await media.write(number)
    assert waits is not None
    assert waits > 40.0


async def test_a_reply_that_did_not_begin_ends_and_says_why_at_the_next_write() -> None:
    media = Media()
    assert await media.begin() == 1
    await media.write(1)
    await media.answer(0, BUSY)
    await media.answer(1, BUSY)
    assert media.ended == [ReplyInterrupted(1, 0.0, 0.0)]
    assert media.not_written == 1
    with pytest.raises(NotSent, match="another reply"):
        await media.write(1)
    assert await media.begin() == 1  # nothing was counted
    assert await media.write(1) is not None


async def test_an_answer_that_was_not_foreseen_ends_both_replies() -> None:
    media = Media()
    assert await media.begin() == 1
    await media.answer(0, 7)
    assert media.said == [CancelReply(7)]
    assert media.ended == [ReplyInterrupted(1, 0.0, 0.0)]
    assert await media.begin() == 8


async def test_beside_an_open_reply_another_waits_for_what_the_media_say() -> None:
    media = Media()
    await media.begin()
    second = asyncio.create_task(media.begin())
    await asyncio.sleep(0)
    await media.answer(1, BUSY)
    with pytest.raises(LocalError, match="another reply"):
        await second
    assert media.ended == []  # the first is not touched
    third = asyncio.create_task(media.begin())
    await asyncio.sleep(0)
    await media.answer(2, 2)  # it was just over
    assert await third == 2


async def test_what_is_written_to_a_reply_that_is_over_is_told_all_the_same() -> None:
    """The media side counts writes, and says when all of them have been played."""
    media = Media()
    number = await media.begin()
    media.replies.note(ReplyInterrupted(number, 20.0, 40.0))
    assert await media.write(number) is None
    assert [type(command) for command in media.said] == [WriteReply]


async def test_without_answers_a_program_waits_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.cluster.replies.MAX_UNANSWERED", -1.0)
    media = Media()
    number = await media.begin()
    writing = asyncio.create_task(media.write(number))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not writing.done()
    await media.answer(1, 1.0)
    assert (await writing) is not None


async def test_the_end_of_the_call_is_no_fault_of_a_reply() -> None:
    media = Media()
    number = await media.begin()
    await media.write(number)
    await media.answer(0, CallEnded("the call is over"))
    await media.answer(1, CallEnded("the call is over"))
    assert (media.ended, media.not_written) == ([], 0)


# -- over a backbone ---------------------------------------------------------------------------------------


@pytest.mark.real_clock
async def test_a_reply_is_said_while_its_answers_are_on_the_way(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, held = asyncio.Event(), []
    say = RemoteCall.say

    def hold(remote: RemoteCall, message: Any, is_stale_when_late: bool = False) -> None:
        if isinstance(message, CommandResult) and not written.is_set():
            held.append((remote, message))
        else:
            while held:
                say(*held.pop(0))
            say(remote, message, is_stale_when_late)

    monkeypatch.setattr(RemoteCall, "say", hold)
    outcomes: list[Any] = []

    async def program(call: Call) -> None:
        for _ in range(2):
            async with call.reply() as voice:
                for _ in range(25):
                    await voice.write(np.full(320, 9000, np.int16), RATE)
                written.set()
            outcomes.append((voice.interrupted, round(voice.heard_ms), voice.number))
        call.hang_up()

    async with asyncio.timeout(PATIENCE), node(engine) as server, agent(engine, program), dial(server.url) as ours:
        await ours.call.wait_ended()
    assert outcomes == [(False, 500, 1), (False, 500, 2)]


@pytest.mark.real_clock
async def test_a_program_may_speak_before_its_node_knows_who_it_is(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins with the offer: half a round trip, and not one and a half."""
    heard = asyncio.Event()
    request, take_frame = Backbone.request, RemoteCall.take_frame

    async def ask(backbone: Backbone, subject: str, data: bytes, timeout: float) -> bytes:
        answer = await request(backbone, subject, data, timeout)
        if ".take." in subject:
            await asyncio.wait_for(heard.wait(), PATIENCE)
        return answer

    def note(remote: RemoteCall, frame: bytes) -> None:
        take_frame(remote, frame)
        heard.set()

    monkeypatch.setattr(Backbone, "request", ask)
    monkeypatch.setattr(RemoteCall, "take_frame", note)

    async def program(call: Call) -> None:
        channel = await call.open_channel("greeting")
        await channel.send(str(call.context.node))
        assert await anext(channel) == "bye"

    async with asyncio.timeout(PATIENCE), node(engine) as server, agent(engine, program), dial(server.url) as ours:
        channel = await ours.call.channels.wait_for("greeting")
        assert await anext(channel) == "n1"
        await channel.send("bye")
        await ours.call.wait_ended()


@pytest.mark.real_clock
async def test_in_a_call_without_sound_a_reply_is_over_at_once(engine: Engine) -> None:
    outcomes: list[Any] = []

    async def program(call: Call) -> None:
        async with call.reply() as voice:
            await voice.write(SECOND, RATE)
        await call.speaker.drained()
        outcomes.append((voice.interrupted, voice.heard_ms))

    async with (
        asyncio.timeout(PATIENCE),
        node(engine) as server,
        agent(engine, program),
        dial(server.url, DialConfig(audio=False)) as ours,
    ):
        await ours.call.wait_connected()
        await until(lambda: bool(outcomes), PATIENCE)
    assert outcomes == [(True, 0.0)]


@pytest.mark.real_clock
@pytest.mark.parametrize("goes_on", ["elsewhere", "here"])
async def test_the_program_that_goes_on_waits_for_its_own_words_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, goes_on: str
) -> None:
    """Writes and replies are counted in the call, and another program has begun both counts."""
    monkeypatch.setattr("stack.cluster.remote_program.TAKE_PATIENCE", 1.0 if goes_on == "here" else 60.0)
    numbers: list[int] = []

    async def program(call: Call) -> None:
        for _ in range(2):
            call.speaker.write(SECOND[:1600], RATE)
        await call.speaker.drained()
        async with call.reply() as voice:
            await voice.write(SECOND[:1600], RATE)
        await call.speaker.drained()
        assert not voice.interrupted
        numbers.append(voice.number)
        await call.wait_ended()

    local = program if goes_on == "here" else None
    async with (
        asyncio.timeout(2 * PATIENCE),
        node(engine, local=local) as server,
        doomed(engine, program) as dying,
        dial(server.url) as ours,
    ):
        await until(lambda: numbers == [1], PATIENCE)
        async with AsyncExitStack() as stack:
            if goes_on == "elsewhere":
                await stack.enter_async_context(agent(engine, program))
            await cut_off(dying)
            await until(lambda: numbers == [1, 2], PATIENCE)
            ours.call.hang_up()
