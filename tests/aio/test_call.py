"""What a program holds, without a network: the inbox, the speaker, the end of a call."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from stack.aio import Call, CallContext, CallEnded, Inbox, control_of
from stack.aio.call import MICROPHONE_BACKLOG
from stack.aio.channel import DataChannel
from stack.aio.control import DROPPED_EVENT_UNREAD as DROPPED
from stack.aio.control import NotSent
from stack.aio.reply import Reply
from stack.audio import AudioFrame
from stack.core.counters import Counters
from stack.core.errors import LocalError
from stack.sctp import ChannelId, ChannelOpened
from stack.session import Ended, EndReason
from stack.voice.commands import BeginReply, CancelReply, ReportFrames
from stack.voice.events import AudioReceived, ReplyFinished, ReplyHeard, ReplyInterrupted, SpeakerDrained


class Line:
    """Stands where the media thread would: keeps the commands."""

    def __init__(self) -> None:
        self.commands: list = []
        self.now = 100.0
        self.call = Call("abcd", CallContext(), self, lambda: self.now)

    def submit(self, command: object) -> None:
        self.commands.append(command)


async def test_an_inbox_hands_over_in_order_and_ends_when_closed() -> None:
    inbox: Inbox[int] = Inbox(10, Counters(), DROPPED)
    inbox.put(1)
    inbox.put(2)
    inbox.close()
    assert [item async for item in inbox] == [1, 2]


async def test_a_full_inbox_drops_the_oldest_and_counts_it() -> None:
    counters = Counters()
    inbox: Inbox[int] = Inbox(3, counters, DROPPED)
    for item in range(5):
        inbox.put(item)
    inbox.close()
    assert [item async for item in inbox] == [2, 3, 4]
    assert counters[DROPPED] == 2


def test_a_program_sees_what_is_for_programs() -> None:
    call = Line().call
    shown = {name for name in dir(call) if not name.startswith("_")}
    assert {"microphone", "speaker", "events", "utterances", "reply", "transcribed", "hang_up"} <= shown
    assert not shown & {"control", "deliver", "inform", "note_transcript", "hand_over", "publish"}


async def test_what_a_program_does_not_read_is_counted_by_name() -> None:
    line = Line()
    frame = AudioFrame(np.zeros(320, np.int16), 16_000, 0.0)
    assert len(line.call.microphone) == 0
    for _ in range(MICROPHONE_BACKLOG + 2):
        control_of(line.call).deliver(AudioReceived(frame))
    assert control_of(line.call).counters["host.dropped_sound_unread"] == 2


async def test_a_waiting_reader_is_woken() -> None:
    inbox: Inbox[int] = Inbox(3, Counters(), DROPPED)
    reader = asyncio.create_task(anext(inbox))
    await asyncio.sleep(0)
    inbox.put(7)
    assert await reader == 7


async def test_two_readers_of_one_stream_are_told() -> None:
    inbox: Inbox[int] = Inbox(3, Counters(), DROPPED)
    first = asyncio.create_task(anext(inbox))
    await asyncio.sleep(0)
    with pytest.raises(LocalError, match="two tasks"):
        await anext(inbox)
    first.cancel()


async def test_a_program_that_takes_turns_gets_frames_from_its_first_look_at_the_microphone() -> None:
    line = Line()
    frames = [AudioReceived(AudioFrame(np.zeros(320, np.int16), 16_000, at * 0.02)) for at in range(4)]
    control_of(line.call).deliver(frames[0])
    line.call.utterances()
    line.call.utterances()  # says it once
    assert line.commands.count(ReportFrames(False)) == 1
    control_of(line.call).deliver(frames[1])  # on its way when the command left, or for a recording
    line.commands.clear()
    assert len(line.call.microphone) == 0
    assert line.commands == [ReportFrames(True)]
    control_of(line.call).deliver(frames[2])
    line.call.utterances()
    assert ReportFrames(False) not in line.commands
    control_of(line.call).deliver(frames[3])
    assert [(await anext(line.call.microphone)).media_time for _ in range(2)] == [0.04, 0.06]


async def test_frames_wait_half_a_minute_for_a_program_that_never_looks() -> None:
    line = Line()
    frame = AudioFrame(np.zeros(320, np.int16), 16_000, 0.0)
    for _ in range(MICROPHONE_BACKLOG):
        control_of(line.call).deliver(AudioReceived(frame))
    assert line.commands == []
    control_of(line.call).deliver(AudioReceived(frame))
    assert line.commands == [ReportFrames(False)]
    assert len(line.call.microphone) == 0
    assert control_of(line.call).counters["host.dropped_sound_unread"] == MICROPHONE_BACKLOG
    assert line.commands[1:] == [ReportFrames(True)]
    for _ in range(MICROPHONE_BACKLOG + 3):  # it has looked, and reads slowly
        control_of(line.call).deliver(AudioReceived(frame))
    assert len(line.commands) == 2
    assert control_of(line.call).counters["host.dropped_sound_unread"] == MICROPHONE_BACKLOG + 3


async def test_a_program_that_reads_the_microphone_keeps_it() -> None:
    line = Line()
    frame = AudioFrame(np.zeros(320, np.int16), 16_000, 0.0)
    microphone = line.call.microphone
    control_of(line.call).deliver(AudioReceived(frame))
    line.call.utterances()
    assert not any(isinstance(command, ReportFrames) for command in line.commands)
    assert await anext(microphone) == frame


async def test_the_microphone_ends_with_the_call() -> None:
    line = Line()
    frame = AudioFrame(np.zeros(320, np.int16), 16_000, 0.0)
    control_of(line.call).deliver(AudioReceived(frame))
    control_of(line.call).deliver(Ended(EndReason.PEER_CLOSED))
    assert [heard async for heard in line.call.microphone] == [frame]
    assert (await line.call.wait_ended()).reason is EndReason.PEER_CLOSED
    with pytest.raises(CallEnded, match="the peer closed"):
        await line.call.wait_connected()


async def test_the_speaker_is_drained_only_when_the_last_write_is_out() -> None:
    line = Line()
    line.call.speaker.write(np.zeros(16_000, np.int16), 16_000)
    line.call.speaker.write(np.zeros(16_000, np.int16), 16_000)
    waiting = asyncio.create_task(line.call.speaker.drained())
    control_of(line.call).deliver(SpeakerDrained(writes=1))  # it left before the second write was known
    await asyncio.sleep(0)
    assert not waiting.done()
    control_of(line.call).deliver(SpeakerDrained(writes=2))
    await waiting


async def test_what_a_reply_writes_is_waited_for_too() -> None:
    line = Line()
    reply = spoken(line, 1)
    writing = asyncio.create_task(reply.write(np.zeros(160, np.int16), 8_000))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(line.call.speaker.drained())
    await asyncio.sleep(0)
    assert not waiting.done()
    control_of(line.call).deliver(SpeakerDrained(writes=1))
    await waiting
    control_of(line.call).deliver(Ended(EndReason.PEER_CLOSED))
    writing.cancel()
    await line.call.speaker.drained()


async def test_what_was_heard_is_known_when_the_person_hangs_up() -> None:
    line = Line()
    reply = spoken(line, 1)
    control_of(line.call).deliver(ReplyInterrupted(1, 1234.0, 1400.0))
    control_of(line.call).deliver(Ended(EndReason.PEER_CLOSED))
    assert reply.interrupted
    assert await reply.heard(60.0) == reply.heard_ms == 1234.0


async def test_the_speaker_refuses_what_is_no_sound() -> None:
    line = Line()
    with pytest.raises(LocalError, match="sample_rate"):
        line.call.speaker.write(np.zeros(10, np.int16))
    with pytest.raises(LocalError, match="int16 or float32"):
        line.call.speaker.write(np.zeros(10, np.int64), 16_000)
    with pytest.raises(LocalError, match="would wait"):
        line.call.speaker.write(np.zeros(601 * 8000, np.int16), 8_000)
    assert line.commands == []


@pytest.mark.parametrize("rate", [0, -1, 1, 10**9, 47_999, 24_000.5, float("nan"), True, "24000"])
async def test_the_speaker_and_replies_refuse_what_is_no_sample_rate(rate: object) -> None:
    line = Line()
    reply = line.call.reply()
    before = list(line.commands)
    with pytest.raises(LocalError, match="sample rate"):
        line.call.speaker.write(np.zeros(10, np.int16), rate)  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="sample rate"):
        await reply.write(np.zeros(10, np.int16), rate)  # type: ignore[arg-type]
    assert line.commands == before


async def test_text_is_text_and_what_has_no_utf_8_is_replaced() -> None:
    line = Line()
    reply = line.call.reply()
    line.call.transcribed("half\ud800")
    reply.write_text("\ud83d\ude00 whole")
    assert [command.news.text for command in line.commands] == ["half\ufffd", "\U0001f600 whole"]
    for wrong in (None, b"words", 5):
        with pytest.raises(LocalError, match="text is a str, not"):
            line.call.transcribed(wrong)  # type: ignore[arg-type]
        with pytest.raises(LocalError, match="text is a str, not"):
            reply.write_text(wrong)  # type: ignore[arg-type]
        with pytest.raises(LocalError, match="is a dict, not"):
            line.call.tell(wrong)  # type: ignore[arg-type]
        with pytest.raises(LocalError, match="are TurnSettings, not"):
            line.call.configure_turns(wrong)  # type: ignore[arg-type]
    assert len(line.commands) == 2


async def test_a_channel_refuses_what_is_neither_text_nor_bytes() -> None:
    line = Line()
    channel = DataChannel(
        control_of(line.call), ChannelOpened(ChannelId(0), "chat", "", True, None, None, 0, False, False)
    )
    for wrong in ("half\ud800", None, 5, {"a": 1}):
        with pytest.raises(LocalError):
            await channel.send(wrong)  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="half of a surrogate pair"):
        await line.call.open_channel("half\ud800")
    assert line.commands == []


async def test_nothing_is_said_after_the_end() -> None:
    line = Line()
    control_of(line.call).deliver(Ended(EndReason.HUNG_UP))
    line.call.speaker.write(np.zeros(160, np.int16), 8_000)
    line.call.hang_up()
    assert line.commands == []
    await line.call.speaker.drained()


class SlowLine(Line):
    """Carries a command out at once, and brings what comes of it later."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def execute(self, command: object) -> int:
        self.submit(command)
        return await asyncio.shield(self.answer)


@pytest.mark.parametrize("steps", range(5))
async def test_a_reply_that_is_cancelled_while_it_begins_does_not_stay_open(steps: int) -> None:
    line = SlowLine()

    async def speak() -> None:
        async with line.call.reply():
            await asyncio.Event().wait()

    speaking = asyncio.create_task(speak())
    for step in range(1 + steps):
        if step == 2:
            line.answer.set_result(7)
        await asyncio.sleep(0)
    speaking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await speaking
    if not line.answer.done():
        line.answer.set_result(7)
    for _ in range(5):
        await asyncio.sleep(0)
    assert line.commands == [BeginReply(), CancelReply(7)]


def spoken(line: Line, number: int) -> Reply:
    """A reply that has begun."""
    reply = Reply(control_of(line.call), line.call.speaker)
    reply.number = number
    control_of(line.call).register_reply(reply)
    return reply


async def test_what_was_heard_is_certain_when_the_client_has_said_so() -> None:
    line = Line()
    reply = spoken(line, 1)
    control_of(line.call).deliver(ReplyInterrupted(1, 500.0, 600.0, provisional=True))
    assert reply.heard_ms == 500.0
    waiting = asyncio.create_task(reply.heard(60.0))
    await asyncio.sleep(0)
    control_of(line.call).deliver(ReplyHeard(7, 1.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    control_of(line.call).deliver(ReplyHeard(1, 520.0))
    assert await waiting == 520.0 == reply.heard_ms


async def test_nobody_waits_for_a_client_that_will_say_nothing() -> None:
    line = Line()
    finished, interrupted, abandoned = (spoken(line, number) for number in (1, 2, 3))
    control_of(line.call).deliver(ReplyFinished(1, 1000.0))
    control_of(line.call).deliver(ReplyInterrupted(2, 500.0, 600.0))
    control_of(line.call).deliver(ReplyInterrupted(3, 700.0, 800.0, provisional=True))
    assert (await finished.heard(60.0), await interrupted.heard(60.0)) == (1000.0, 500.0)
    assert await abandoned.heard(0.0) == 700.0
    control_of(line.call).deliver(Ended(EndReason.PEER_CLOSED))
    assert await abandoned.heard(60.0) == 700.0


async def test_a_write_that_did_not_leave_is_not_waited_for() -> None:
    class Full(Line):
        is_full = False

        def submit(self, command: object) -> None:
            if self.is_full:
                raise NotSent("too much")
            super().submit(command)

        async def execute(self, command: object) -> object:
            self.submit(command)
            return 1 if isinstance(command, BeginReply) else 0.0

    line = Full()
    sound = np.ones(16_000, np.int16)
    line.call.speaker.write(sound, 16_000)
    line.is_full = True
    with pytest.raises(LocalError):
        line.call.speaker.write(sound, 16_000)
    line.is_full = False
    reply = line.call.reply()
    await reply.__aenter__()
    line.is_full = True
    with pytest.raises(LocalError):
        await reply.write(sound, 16_000)
    control_of(line.call).deliver(SpeakerDrained(1))
    await asyncio.wait_for(line.call.speaker.drained(), 1.0)
