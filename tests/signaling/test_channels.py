"""Data channels as programs use them: our client and our server on loopback."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from interop.lab import Ask
from stack import Call, DataChannel
from stack.aio import HostConfig, control_of
from stack.aio.channel import HIGH_WATER
from stack.sctp import ChannelClosedError, MessageTooBigError
from stack.signaling.client import DialConfig, dial
from stack.signaling.server import ServeConfig, serving

pytestmark = pytest.mark.real_clock


@asynccontextmanager
async def calling(program: Callable[[Call], Awaitable[None]], audio: bool = True) -> AsyncIterator[Call]:
    """A call to a server that runs `program`."""
    async with (
        asyncio.timeout(60),
        serving(program, ServeConfig(port=0, media=HostConfig(udp_port=0))) as server,
        dial(server.url, DialConfig(audio=audio)) as placed,
    ):
        await placed.call.wait_connected()
        yield placed.call


async def parrot(call: Call) -> None:
    """Answer every message on every channel with itself."""

    async def answer(channel: DataChannel) -> None:
        async for message in channel:
            await channel.send(message)

    async with asyncio.TaskGroup() as group:
        async for event in call.events:
            if type(event).__name__ == "ChannelOpened":
                channel = call.channels.find(event.channel)
                if channel is not None:
                    group.create_task(answer(channel))


@pytest.mark.parametrize("audio", [True, False])
async def test_messages_of_every_kind_come_back(audio: bool) -> None:
    messages: list[str | bytes] = ["hello", b"\x00\x01", "", b"", "ä" * 1000, bytes(100_000), "z" * 200_000]
    async with calling(parrot, audio) as call:
        channel = await call.open_channel("talk")
        for message in messages:
            await channel.send(message)
        assert [await anext(channel) for _ in messages] == messages


async def test_channels_of_every_kind_from_either_side() -> None:
    async def program(call: Call) -> None:
        for options in ({}, {"ordered": False}, {"max_retransmits": 0}, {"max_lifetime_ms": 500}):
            channel = await call.open_channel(f"from the server {options}", protocol="p", **options)
            await channel.send("first")
        await parrot(call)

    async with calling(program) as call:
        for options in ({}, {"ordered": False}, {"max_retransmits": 0}, {"max_lifetime_ms": 500}):
            theirs = await call.channels.wait_for(f"from the server {options}")
            assert (theirs.protocol, theirs.ordered) == ("p", options.get("ordered", True))
            assert theirs.max_retransmits == options.get("max_retransmits")
            assert theirs.max_lifetime_ms == options.get("max_lifetime_ms")
            assert await anext(theirs) == "first"
            ours = await call.open_channel(f"from the client {options}", **options)
            await ours.send("second")
            assert await anext(ours) == "second"


async def test_twenty_channels_at_once() -> None:
    async with calling(parrot) as call:
        channels = await asyncio.gather(*(call.open_channel(f"channel {index}") for index in range(20)))
        assert len({channel.id for channel in channels}) == 20

        async def talk(channel: DataChannel) -> list[str | bytes]:
            for index in range(20):
                await channel.send(f"{channel.label} {index}")
            return [await anext(channel) for _ in range(20)]

        for channel, heard in zip(channels, await asyncio.gather(*map(talk, channels)), strict=True):
            assert heard == [f"{channel.label} {index}" for index in range(20)]


async def test_a_channel_that_the_peer_closes_ends_the_iteration() -> None:
    async def program(call: Call) -> None:
        channel = await call.channels.wait_for("short")
        await channel.send("bye")
        channel.close()
        await parrot(call)

    async with calling(program) as call:
        channel = await call.open_channel("short")
        assert [message async for message in channel] == ["bye"]
        assert channel.closed
        with pytest.raises(ChannelClosedError, match="closed"):
            await channel.send("too late")
        again = await call.open_channel("again")
        await again.send("there")
        assert await anext(again) == "there"


async def test_a_message_that_is_too_big_is_refused_and_nothing_is_lost() -> None:
    async with calling(parrot) as call:
        channel = await call.open_channel("talk")
        with pytest.raises(MessageTooBigError, match="262144"):
            await channel.send(bytes(262_145))
        await channel.send("still there")
        assert await anext(channel) == "still there"


async def test_the_end_of_a_call_ends_its_channels() -> None:
    async def program(call: Call) -> None:
        channel = await call.channels.wait_for("talk")
        await anext(channel)

    async with calling(program) as call:
        channel = await call.open_channel("talk")
        waiting = asyncio.create_task(call.channels.wait_for("never"))
        await channel.send("hang up")
        assert [message async for message in channel] == []
        with pytest.raises(ChannelClosedError, match="ended"):
            await waiting


async def test_a_large_transfer_arrives_whole_and_send_waits() -> None:
    data = Random(1).randbytes(64_000) * 80
    heard = hashlib.sha256()
    most = 0

    async def program(call: Call) -> None:
        channel = await call.channels.wait_for("transfer")
        size = 0
        async for message in channel:
            assert isinstance(message, bytes)
            heard.update(message)
            size += len(message)
            if size == len(data):
                await channel.send("done")

    async with calling(program, audio=False) as call:
        channel = await call.open_channel("transfer")
        for start in range(0, len(data), 64_000):
            await channel.send(data[start : start + 64_000])
            waiting = await control_of(call).execute(
                Ask(lambda conversation, now: conversation.session.channels.buffered_amount(channel.id))
            )
            most = max(most, waiting)
        assert await anext(channel) == "done"
    assert heard.digest() == hashlib.sha256(data).digest()
    assert most <= HIGH_WATER


async def test_a_program_that_does_not_read_is_not_flooded() -> None:
    """The receive window closes: what is sent waits at the sender, who is told by `send` that waits."""
    calls: list[Call] = []

    async def program(call: Call) -> None:
        calls.append(call)
        await call.wait_ended()

    async with calling(program, audio=False) as call:
        channel = await call.open_channel("flood")
        sent = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                while True:
                    await channel.send(bytes(64_000))
                    sent += 64_000
        theirs = await calls[0].channels.wait_for("flood")
        assert sum(len(m or b"") for m in list(theirs._messages._queue)) <= (4 << 20) + 300_000
        assert sent < 8 << 20
