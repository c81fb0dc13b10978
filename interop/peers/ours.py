"""This project's own client and server as ends of a call, in the harness's process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import numpy as np
from aiohttp import web

from interop.evidence import Side
from interop.peers.base import (
    ChannelKind,
    End,
    EndError,
    Needs,
    Peer,
    Traits,
    UnsupportedError,
    Wishes,
    tone_of,
)
from interop.rewriting import bundle_only, only_codec, with_section, without_last_section
from interop.sound import Samples, levels, sine
from interop.speech import recorded_speech
from stack import Call, DataChannel, __version__
from stack.aio import Host, HostConfig
from stack.core.errors import LocalError, ParseError, StackError
from stack.dtls import Version
from stack.sctp import ChannelClosedError
from stack.sdp import NegotiationError, Setup
from stack.signaling.client import DialConfig, DialError, dial
from stack.voice.conversation import ConversationConfig
from stack.voice.events import KeyPressed

RATE = 16_000
CHANNEL = "trial"
PATIENCE = 20.0
"""Seconds for any step; only to turn what hangs into an error."""
LONGEST_ANSWER = 120.0
"""Seconds that our client waits for an answer: the harness waits less for any other side, and blames that one."""
VERSIONS = {"1.2": Version.DTLS_1_2, "1.3": Version.DTLS_1_3}


def conversation(wishes: Wishes) -> ConversationConfig:
    """Sound comes through unchanged, and DTLS goes where every peer expects it: in datagrams of its own."""
    if wishes.dtls and wishes.dtls not in VERSIONS:
        raise UnsupportedError(f"there is no DTLS {wishes.dtls} here")
    return ConversationConfig(
        echo="off",
        microphone_rate=RATE,
        dtls_in_stun=False,
        dtls_version=VERSIONS.get(wishes.dtls),
    )


class OurEnd(End):
    """What both sides share: a `Call` whose program sends a tone and keeps what it hears."""

    def __init__(self, side: Side, wishes: Wishes) -> None:
        self.side = side
        self._speech = wishes.speech
        self._is_muted = wishes.silent
        self._pressed = ""
        self.call: Call | None = None
        self.heard: list[Samples] = []
        self.levels: list[float] = []
        """The RMS of each 100 ms that was heard since the connection."""
        self._channels: dict[str, DataChannel] = {}
        """Those that were asked for, open or not."""
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, call: Call) -> None:
        """Run the program of the call."""
        self.call = call
        self._tasks.append(asyncio.create_task(self._talk(call)))

    async def stop(self) -> None:
        """End the program."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _talk(self, call: Call) -> None:
        beside = [asyncio.create_task(each) for each in (self._speak(call), self._note_keys(call))]
        try:
            await self._hear(call)
        finally:
            for task in beside:
                task.cancel()

    async def _speak(self, call: Call) -> None:
        """Write a second ahead of its time, whatever is heard."""
        sound, rate = recorded_speech() if self._speech else (sine(tone_of(self.side), 1, RATE), RATE)
        loop = asyncio.get_running_loop()
        await call.wait_connected()
        began, written, at = loop.time(), 0, 0
        while True:
            if self._is_muted:
                call.speaker.flush()
                began, written = loop.time(), 0
            while not self._is_muted and written < loop.time() - began + 1:
                call.speaker.write(np.take(sound, range(at, at + rate), mode="wrap"), rate)
                written, at = written + 1, (at + rate) % len(sound)
            await asyncio.sleep(0.1)

    async def _note_keys(self, call: Call) -> None:
        async for event in call.watch():
            if isinstance(event, KeyPressed):
                self._pressed += event.digit

    async def _hear(self, call: Call) -> None:
        window = []
        async for frame in call.microphone:
            self.heard.append(frame.samples)
            del self.heard[:-1000]
            window.append(frame.samples)
            if len(window) == 5:
                self.levels += levels(np.concatenate(window), RATE)
                window = []

    def _the_call(self) -> Call:
        if self.call is None:
            raise EndError("there is no call")
        return self.call

    async def connected(self) -> None:
        call = self._the_call()
        ended = asyncio.create_task(call.wait_ended())
        standing = asyncio.create_task(self._stand(call))
        try:
            done, _ = await asyncio.wait({ended, standing}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ended, standing):
                task.cancel()
            await asyncio.gather(ended, standing, return_exceptions=True)
        if standing in done and not standing.cancelled() and standing.exception() is None:
            return
        if self.ended is not None:
            raise EndError(f"our {self.side}'s call ended: {self.ended}")
        what = "the channel" if call.connected is not None else "the connection"
        raise EndError(f"our {self.side} saw no sign of {what} within {PATIENCE:g} s")

    async def _stand(self, call: Call) -> None:
        await call.wait_connected()
        if self.expects_channel():
            await call.channels.wait_for(CHANNEL)

    def expects_channel(self) -> bool:
        """Whether a channel was agreed on."""
        return True

    async def listen(self, seconds: float) -> tuple[Samples, int] | None:
        self.heard.clear()
        end = asyncio.get_running_loop().time() + seconds + 3
        while sum(map(len, self.heard)) < seconds * RATE and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)
        return np.concatenate([np.zeros(0, np.int16), *self.heard]), RATE

    async def send(self, message: str | bytes) -> None:
        try:
            channel = await asyncio.wait_for(self._the_call().channels.wait_for(CHANNEL), PATIENCE)
            await channel.send(message)
        except (TimeoutError, StackError) as error:
            raise EndError(f"our {self.side} cannot send: {error or 'there is no channel'}") from error

    async def receive(self) -> str | bytes:
        try:
            channel = await asyncio.wait_for(self._the_call().channels.wait_for(CHANNEL), PATIENCE)
            return await asyncio.wait_for(anext(channel), PATIENCE)
        except (TimeoutError, StopAsyncIteration, ChannelClosedError) as error:
            raise EndError(f"our {self.side} got no message") from error

    async def mute(self, is_muted: bool) -> None:
        self._is_muted = is_muted
        await asyncio.sleep(0.2)

    async def press(self, keys: str) -> None:
        try:
            await self._the_call().send_digits(keys)
        except LocalError as error:
            raise UnsupportedError(f"our {self.side} cannot press a key: {error}") from error

    async def pressed(self) -> str | None:
        return self._pressed

    async def open_channel(self, label: str, kind: ChannelKind) -> None:
        try:
            opening = self._the_call().open_channel(
                label,
                protocol=kind.protocol,
                ordered=kind.ordered,
                max_retransmits=kind.max_retransmits,
                max_lifetime_ms=kind.max_packet_life_time,
                negotiated_id=kind.negotiated_id,
            )
            await asyncio.wait_for(opening, PATIENCE)
        except (TimeoutError, StackError) as error:
            raise EndError(f"our {self.side} cannot open a channel: {error or 'no answer'}") from error

    async def _channel(self, label: str) -> DataChannel:
        try:
            found = await asyncio.wait_for(self._the_call().channels.wait_for(label), PATIENCE)
        except (TimeoutError, StackError) as error:
            raise EndError(f"our {self.side} sees no channel {label!r}: {error or 'none came'}") from error
        self._channels[label] = found
        return found

    async def channel(self, label: str) -> dict[str, Any]:
        found = await self._channel(label)
        return {
            "id": found.id,
            "protocol": found.protocol,
            "ordered": found.ordered,
            "maxRetransmits": found.max_retransmits,
            "maxPacketLifeTime": found.max_lifetime_ms,
        }

    async def close_channel(self, label: str) -> None:
        (await self._channel(label)).close()

    async def channel_closed(self, label: str) -> None:
        end = asyncio.get_running_loop().time() + PATIENCE
        while not self._channels[label].closed:
            if asyncio.get_running_loop().time() > end:
                raise EndError(f"our {self.side} was not told that the channel {label!r} is closed")
            await asyncio.sleep(0.01)

    async def send_on(self, label: str, message: str | bytes) -> None:
        try:
            await (await self._channel(label)).send(message)
        except StackError as error:
            raise EndError(f"our {self.side} cannot send on {label!r}: {error}") from error

    async def receive_on(self, label: str) -> str | bytes:
        try:
            return await asyncio.wait_for(anext(await self._channel(label)), PATIENCE)
        except (TimeoutError, StopAsyncIteration) as error:
            raise EndError(f"our {self.side} got no message on {label!r}") from error

    async def hang_up(self) -> None:
        self._the_call().hang_up()

    async def wait_ended(self) -> None:
        try:
            await asyncio.wait_for(self._the_call().wait_ended(), PATIENCE)
        except TimeoutError:
            raise EndError(f"our {self.side} was not told that the call is over") from None

    @property
    def ended(self) -> str | None:
        end = self.call.end if self.call is not None else None
        if end is None:
            return None
        return f"{end.reason.value} ({end.detail})" if end.detail else end.reason.value

    async def statistics(self) -> Any:
        with suppress(StackError):
            return (await self._the_call().stats()).session.as_webrtc()
        return None


class OurServerEnd(OurEnd):
    """Our `Host`, with one call."""

    def __init__(self, host: Host, waits_for_channel: bool, wishes: Wishes) -> None:
        super().__init__("server", wishes)
        self._host = host
        self._waits_for_channel = waits_for_channel
        self._has_data = False

    async def offer(self, wishes: Wishes) -> str:
        raise UnsupportedError("our server makes no offer")

    async def answer(self, sdp: str) -> None:
        raise UnsupportedError("our server takes no answer")

    async def accept(self, sdp: str, wishes: Wishes) -> str:
        try:
            accepted = await self._host.accept(sdp)
        except (ParseError, NegotiationError) as error:
            raise EndError(f"our server refuses the offer: {error}") from error
        self.begin(accepted.call)
        agreed = "m=application 0" not in accepted.answer and "m=application" in accepted.answer
        self._has_data = wishes.data and agreed
        return accepted.answer

    async def trickle(self, candidates: Sequence[str]) -> None:
        await self._host.add_remote_candidates(self._the_call(), candidates)

    async def accept_again(self, sdp: str) -> str:
        try:
            return (await self._host.renegotiate(self._the_call(), sdp)).answer
        except (ParseError, NegotiationError, LocalError) as error:
            raise EndError(f"our server refuses the further offer: {error}") from error

    def expects_channel(self) -> bool:
        return self._has_data and self._waits_for_channel


class OurClientEnd(OurEnd):
    """`dial`, whose HTTP exchange ends in this object: it waits for what the harness answers."""

    def __init__(self, address: str, wishes: Wishes) -> None:
        super().__init__("client", wishes)
        self._address = address
        loop = asyncio.get_running_loop()
        self._offer: asyncio.Future[str] = loop.create_future()
        self._answer: asyncio.Future[str] = loop.create_future()
        self._leave = asyncio.Event()
        self._dialling: asyncio.Task[None] | None = None
        self._channel_asked = False
        self._added = 0
        """Sections that were added to its offer, and whose answers it never sees."""

    async def offer(self, wishes: Wishes) -> str:
        if wishes.bundle not in ("", "max-bundle"):
            raise UnsupportedError("our client has one transport for all: max-bundle")
        self._channel_asked = wishes.data
        self._dialling = asyncio.create_task(self._dial(wishes))
        await asyncio.wait({self._offer, self._dialling}, return_when=asyncio.FIRST_COMPLETED)
        if not self._offer.done():
            await self._dialling
            raise EndError("our client made no offer")
        return self._as_wished(self._offer.result(), wishes)

    def _as_wished(self, offer: str, wishes: Wishes) -> str:
        """What our client would not offer by itself: another order of codecs, a section that it leaves unused."""
        if wishes.codec != "opus":
            offer = only_codec(wishes.codec)(offer)
        for kind, times in (("video", int(wishes.video)), ("audio", wishes.audio_sections - 1)):
            for _ in range(times):
                offer = with_section(offer, kind)
                self._added += 1
        return bundle_only(offer) if wishes.bundle else offer

    async def _dial(self, wishes: Wishes) -> None:
        app = web.Application()
        app.router.add_post("/whip", self._exchange)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._address, 0).start()
            host = f"[{self._address}]" if ":" in self._address else self._address
            url = f"http://{host}:{runner.addresses[0][1]}/whip"
            config = DialConfig(conversation(wishes), data=wishes.data, answer_timeout=LONGEST_ANSWER)
            async with dial(url, config) as placed:
                self.begin(placed.call)
                if wishes.data:
                    self._tasks.append(asyncio.create_task(self._open(placed.call)))
                await self._leave.wait()
        finally:
            self._answer.cancel()  # what still waits for it ends by itself, not by the end of its server
            await runner.cleanup()

    @staticmethod
    async def _open(call: Call) -> None:
        with suppress(StackError):
            await call.wait_connected()
            await call.open_channel(CHANNEL)

    async def _exchange(self, request: web.Request) -> web.Response:
        self._offer.set_result(await request.text())
        with suppress(asyncio.CancelledError):
            return web.Response(text=await self._answer, status=201, content_type="application/sdp")
        return web.Response(status=503)

    async def answer(self, sdp: str) -> None:
        assert self._dialling is not None
        for _ in range(self._added):
            sdp = without_last_section(sdp)
        if not self._answer.done():
            self._answer.set_result(sdp)
        while self.call is None:
            if self._dialling.done():
                error = self._dialling.exception()
                raise EndError(str(error) if isinstance(error, DialError) else f"our client ended: {error}")
            await asyncio.sleep(0.005)

    async def accept(self, sdp: str, wishes: Wishes) -> str:
        raise UnsupportedError("our client answers no offer")

    def expects_channel(self) -> bool:
        return self._channel_asked

    async def stop(self) -> None:
        await super().stop()
        self._leave.set()
        if not self._answer.done():
            self._answer.cancel()
        if self._dialling is not None:
            self._dialling.cancel() if self.call is None else None
            with suppress(asyncio.CancelledError, StackError, TimeoutError):
                await self._dialling


class Ours(Peer):
    """The project itself, which plays both sides.

    `waits_for_channel`: as a server it takes a call for connected when the client has opened the channel "trial".
    """

    name = "ours"
    needs = Needs("nothing but this project")
    traits = Traits(waits_for_return=HostConfig().resume_timeout)

    def __init__(self, waits_for_channel: bool = True) -> None:
        self._waits_for_channel = waits_for_channel

    def why_absent(self) -> str | None:
        return None

    def version(self) -> str:
        return __version__

    @asynccontextmanager
    async def start(self, side: Side, wishes: Wishes) -> AsyncIterator[End]:
        async with self.start_many(side, wishes, 1) as ends:
            yield ends[0]

    @asynccontextmanager
    async def start_many(self, side: Side, wishes: Wishes, count: int) -> AsyncIterator[Sequence[End]]:
        from interop.tap import machine_address

        ends: Sequence[OurEnd]
        async with AsyncExitStack() as stack:
            if side == "client":
                address = machine_address(wishes.ip)
                ends = [OurClientEnd(address, wishes) for _ in range(count)]
            else:
                setup = {"active": Setup.ACTIVE, "passive": Setup.PASSIVE, "": Setup.PASSIVE}[wishes.setup]
                config = HostConfig(udp_port=0, setup=setup, conversation=conversation(wishes))
                host = await stack.enter_async_context(Host(_stay, config))
                ends = [OurServerEnd(host, self._waits_for_channel, wishes) for _ in range(count)]
            try:
                yield ends
            finally:
                await asyncio.gather(*(end.stop() for end in ends))


async def _stay(call: Call) -> None:
    """The program of the host: the end itself does everything."""
    await call.wait_ended()
