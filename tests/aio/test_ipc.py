"""The link between the program's process and a media worker: framing, order, bounds, and how it fails."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stack.aio import message_stream
from stack.aio.ipc import REPORTS, REQUESTS, Answered, Ask, Happened
from stack.aio.media import CarryOut, CloseCall
from stack.aio.message_stream import FrameReader, LinkError, MessageStream
from stack.audio import AudioFrame
from stack.core.errors import LocalError, ParseError
from stack.voice.commands import HangUp, Write
from stack.voice.events import AudioReceived, KeyPressed
from tests.listening import until


@dataclass
class End:
    """One end, and what came of it."""

    stream: MessageStream
    got: list[bytes] = field(default_factory=list)
    failed: list[LinkError] = field(default_factory=list)
    dropped: int = 0


def end_of(sock: socket.socket) -> End:
    def on_message(data: memoryview) -> None:
        if bytes(data) == b"nonsense":
            raise ParseError("nonsense")
        end.got.append(bytes(data))

    def on_dropped() -> None:
        end.dropped += 1

    stream = MessageStream(sock, on_message, lambda error: end.failed.append(error), on_dropped)
    end = End(stream)
    return end


@asynccontextmanager
async def linked(buffer: int | None = None) -> AsyncIterator[tuple[End, End]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    if buffer is not None:
        for sock in (one, other):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    ends = end_of(one), end_of(other)
    try:
        yield ends
    finally:
        for end in ends:
            end.stream.close()


@given(st.lists(st.binary(max_size=40), max_size=20), st.lists(st.integers(1, 30), min_size=1))
def test_messages_come_out_as_they_went_in_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(len(each).to_bytes(4, "big") + each for each in messages)
    reader, found, place = FrameReader(), [], 0
    while place < len(stream):
        size = cuts[place % len(cuts)]
        found += [bytes(each) for each in reader.feed(stream[place : place + size])]
        place += size
    assert found == messages


def test_a_message_that_is_too_long_is_refused_at_its_first_bytes() -> None:
    with pytest.raises(ParseError, match="a message of"):
        FrameReader().feed(b"\xff\xff\xff\xff")


async def test_order_is_kept_and_what_one_turn_says_leaves_together() -> None:
    async with linked() as (one, other):
        for number in range(1500):
            one.stream.send(b"%d" % number)
        assert one.stream.waiting == 1500  # nothing leaves before the turn is over
        await until(lambda: len(other.got) == 1500)
        assert other.got == [b"%d" % number for number in range(1500)]
        assert one.stream.waiting == 0


async def test_more_than_the_socket_takes_waits_and_arrives() -> None:
    async with linked(buffer=4096) as (one, other):
        sizes = [1, 100_000, 3, 0, 50_000, 7]
        for size in sizes:
            one.stream.send(b"x" * size)
        await until(lambda: len(other.got) == len(sizes))
        assert [len(each) for each in other.got] == sizes


async def test_what_comes_in_one_go_lets_others_have_their_turn() -> None:
    async with linked() as (one, other):
        messages = [bytes([number]) * 1000 for number in range(150)]
        for message in messages:
            one.stream.send(message)
        one.stream.flush_now()
        most, before = 0, 0
        while len(other.got) < len(messages):
            await asyncio.sleep(0)  # one turn of the loop
            most, before = max(most, len(other.got) - before), len(other.got)
        assert other.got == messages
        assert 1 < most <= len(messages) // 3


async def test_of_what_gets_stale_the_oldest_is_dropped_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "MAX_STALE", 10)
    async with linked() as (one, other):
        one.stream.send(b"first")
        for number in range(25):
            one.stream.send(b"%d" % number, is_stale_when_late=True)
            if number == 12:
                one.stream.send(b"middle")
        one.stream.send(b"end")
        assert one.dropped == 15
        await until(lambda: b"end" in other.got)
        assert other.got == [b"first", b"middle", *(b"%d" % number for number in range(15, 25)), b"end"]


async def test_what_was_dropped_leaves_no_place_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "MAX_STALE", 10)
    async with linked() as (one, other):
        for number in range(1000):  # in one turn of the loop: nothing can leave
            one.stream.send(b"%d" % number, is_stale_when_late=True)
            assert one.stream.waiting <= 3 * 10
        await until(lambda: b"999" in other.got)
        assert other.got == [b"%d" % number for number in range(990, 1000)]


async def test_a_side_that_takes_nothing_is_given_up_at_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "MAX_KEPT", 1000)
    async with linked() as (one, other):
        for _ in range(12):
            one.stream.send(b"x" * 100)
        assert "wait for the other side" in str(one.failed[0])
        assert len(one.failed) == 1
        await until(lambda: other.failed)  # it sees the end of the stream


async def test_one_call_that_is_asked_too_much_is_refused_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_stream, "MAX_KEPT_OF_CALL", 1000)
    async with linked() as (one, other):
        one.stream.send_of("much", b"x" * 900)
        with pytest.raises(LocalError, match="write less at once"):
            one.stream.send_of("much", b"y" * 101)
        one.stream.send_of("other", b"z" * 900)
        one.stream.send(b"ping")
        await until(lambda: len(other.got) == 3)
        one.stream.send_of("much", b"w" * 1000)  # what has left does not count any more
        await until(lambda: len(other.got) == 4)
        assert [each[:1] for each in other.got] == [b"x", b"z", b"p", b"w"]
        assert not one.failed


async def test_calls_with_little_waiting_are_served_while_others_fill_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(message_stream, "MAX_KEPT", 2000)
    monkeypatch.setattr(message_stream, "MAX_OF_CALL_WHEN_FULL", 100)
    async with linked() as (one, other):
        one.stream.send_of("much", b"x" * 1900)
        with pytest.raises(LocalError):
            one.stream.send_of("another", b"y" * 101)
        for _ in range(10):
            one.stream.send_of("little", b"z" * 10)
        one.stream.send_of("another", b"y" * 100)
        with pytest.raises(LocalError):
            one.stream.send_of("much", b"x")
        await until(lambda: len(other.got) == 12)
        assert not one.failed


async def test_what_is_no_message_ends_the_link_with_a_reason() -> None:
    async with linked() as (one, other):
        one.stream.send(b"good")
        one.stream.send(b"nonsense")
        one.stream.send(b"late")
        await until(lambda: other.failed and one.failed)
        assert other.got == [b"good"]
        assert "no message: nonsense" in str(other.failed[0])
        one.stream.send(b"nothing happens")


async def test_the_end_of_the_other_side_is_told_once() -> None:
    async with linked() as (one, other):
        one.stream.send(b"the last word")
        one.stream.flush_now()
        one.stream.close()
        await until(lambda: other.failed)
        assert other.got == [b"the last word"]
        assert [str(each) for each in other.failed] == ["the other side is gone"]


def test_values_cross_with_their_sound() -> None:
    pcm = np.arange(960, dtype=np.int16).reshape(-1, 2)
    ask = REQUESTS.decode(memoryview(REQUESTS.encode(Ask(7, CarryOut("call", Write(pcm, 48_000))))))
    assert isinstance(ask, Ask)
    assert isinstance(ask.request, CarryOut)
    assert isinstance(ask.request.command, Write)
    assert (ask.number, ask.request.call, ask.request.command.sample_rate) == (7, "call", 48_000)
    assert (ask.request.command.pcm == pcm).all()
    frame = AudioFrame(np.arange(320, dtype=np.int16), 16_000, 1.5)
    report = REPORTS.decode(REPORTS.encode(Happened("call", AudioReceived(frame))))
    assert isinstance(report, Happened)
    assert isinstance(report.event, AudioReceived)
    assert (report.event.frame.samples == frame.samples).all()


def test_each_direction_has_its_own_messages_and_another_version_is_refused() -> None:
    for data in (REQUESTS.encode(Ask(0, CloseCall("call"))), b"\x92\x63" + REPORTS.encode(Answered(1, b""))[2:]):
        with pytest.raises(ParseError):
            REPORTS.decode(data)
    with pytest.raises(LocalError):
        REPORTS.encode(HangUp())  # type: ignore[arg-type]
    with pytest.raises(ParseError):
        REQUESTS.decode(REPORTS.encode(Happened("call", KeyPressed("5"))))


@given(st.binary(max_size=60))
def test_bytes_that_are_no_message_are_a_parse_error(data: bytes) -> None:
    for codec in (REQUESTS, REPORTS):
        try:
            codec.decode(data)
        except ParseError:
            continue


async def test_a_connection_counts_nothing_after_its_end() -> None:
    async with linked() as (one, _):
        one.stream.close()
        one.stream.send(b"late", is_stale_when_late=True)
        await asyncio.sleep(0)
        assert (one.stream.waiting, one.dropped, one.failed) == (0, 0, [])
