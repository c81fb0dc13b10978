"""The two contestants of `bench data` behind one face: a data channel end that sits on two `Link`s.

Both leave DTLS out: what is compared is SCTP and data channels, and both would pay the same for the encryption.
"""

from __future__ import annotations

import asyncio
import random
import types
from collections.abc import Callable
from typing import Any, Protocol

from bench._virtual import VirtualLoop, Wire
from stack.sctp import (
    AssociationState,
    BufferedAmountLow,
    ChannelId,
    ChannelOpened,
    DataChannels,
    MessageReceived,
    SctpConfig,
)


class End(Protocol):
    """What the benchmark needs of either."""

    on_message: Callable[[Any, str | bytes], None]
    on_channel: Callable[[Any], None]
    on_low: Callable[[Any], None]

    async def start(self) -> None: ...
    def open(self, label: str) -> Any: ...
    def is_open(self, channel: Any) -> bool: ...
    def send(self, channel: Any, data: str | bytes) -> None: ...
    def buffered(self, channel: Any) -> int: ...
    def set_low_threshold(self, channel: Any, size: int) -> None: ...
    async def close(self) -> None: ...


class OurEnd:
    """`stack.sctp.DataChannels`, pumped by the loop."""

    def __init__(self, loop: VirtualLoop, out: Wire, into: Wire, client: bool, seed: int, **config: Any) -> None:
        into.deliver = self._receive
        self.on_message = self.on_channel = self.on_low = lambda *_: None
        self._loop = loop
        self._out = out
        self._timer: asyncio.TimerHandle | None = None
        self.channels = DataChannels(SctpConfig(is_dtls_client=client, **config), random.Random(seed).randbytes)

    async def start(self) -> None:
        self.channels.start(self._loop.time())
        self._pump()

    def open(self, label: str) -> ChannelId:
        channel = self.channels.open(label, self._loop.time())
        self._pump()
        return channel

    def is_open(self, channel: ChannelId) -> bool:
        return self.channels.state is AssociationState.ESTABLISHED

    def send(self, channel: ChannelId, data: str | bytes) -> None:
        self.channels.send(channel, data, self._loop.time())
        self._pump()

    def buffered(self, channel: ChannelId) -> int:
        return self.channels.buffered_amount(channel)

    def set_low_threshold(self, channel: ChannelId, size: int) -> None:
        self.channels.set_low_threshold(channel, size)

    async def close(self) -> None:
        self.channels.abort(self._loop.time())
        self._pump()

    def _receive(self, packets: list[bytes]) -> None:
        self.channels.handle_datagrams(packets, self._loop.time())
        self._pump()

    def _wake(self) -> None:
        self._timer = None
        due = self.channels.poll_timeout()
        if due is not None and due <= self._loop.time():
            self.channels.handle_timeout(self._loop.time())
        self._pump()

    def _pump(self) -> None:
        for packet in self.channels.drain_transmits():
            self._out.send(packet)
        due = self.channels.poll_timeout()
        # A timer that fires early costs less than moving it for each packet; only an earlier one replaces it.
        if due is not None and (self._timer is None or self._timer.when() > due):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(due, self._wake)
        for event in self.channels.drain_events():
            if isinstance(event, MessageReceived):
                self.on_message(event.channel, event.data)
            elif isinstance(event, ChannelOpened) and event.by_peer:
                self.on_channel(event.channel)
            elif isinstance(event, BufferedAmountLow):
                self.on_low(event.channel)


class _FakeDtls:
    """As much of aiortc's RTCDtlsTransport as its SCTP asks for."""

    state = "connected"

    def __init__(self, out: Wire, into: Wire, client: bool) -> None:
        self._role = "client" if client else "server"
        self._out = out
        self._receiver: Any = None
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._reading: asyncio.Task[None] | None = None
        into.deliver = self._receive

    def _register_data_receiver(self, receiver: Any) -> None:
        self._receiver = receiver
        self._reading = asyncio.ensure_future(self._read())

    def _unregister_data_receiver(self, receiver: Any) -> None:
        self._receiver = None
        if self._reading is not None:
            self._reading.cancel()

    async def _send_data(self, data: bytes) -> None:
        self._out.send(data)

    def _receive(self, packets: list[bytes]) -> None:
        for packet in packets:
            self._arrived.put_nowait(packet)

    async def _read(self) -> None:
        """One task reads a queue of datagrams and awaits their handling, as in aiortc over aioice."""
        while True:
            packet = await self._arrived.get()
            if self._receiver is not None:
                await self._receiver._handle_data(packet)


class AiortcEnd:
    """aiortc's RTCSctpTransport over a fake DTLS, its clock replaced by the loop's."""

    def __init__(self, loop: VirtualLoop, out: Wire, into: Wire, client: bool) -> None:
        from aiortc import rtcsctptransport

        rtcsctptransport.time = types.SimpleNamespace(time=loop.time)
        self.on_message = self.on_channel = self.on_low = lambda *_: None
        self.sctp: Any = rtcsctptransport.RTCSctpTransport(_FakeDtls(out, into, client))  # type: ignore[arg-type]
        self.sctp.on("datachannel", self._opened)

    async def start(self) -> None:
        from aiortc import RTCSctpCapabilities

        await self.sctp.start(RTCSctpCapabilities(maxMessageSize=262_144), 5000)

    def open(self, label: str) -> Any:
        from aiortc import RTCDataChannel, RTCDataChannelParameters

        channel = RTCDataChannel(self.sctp, RTCDataChannelParameters(label=label))
        self._watch(channel)
        return channel

    def is_open(self, channel: Any) -> bool:
        return bool(channel.readyState == "open")

    def send(self, channel: Any, data: str | bytes) -> None:
        channel.send(data)

    def buffered(self, channel: Any) -> int:
        amount: int = channel.bufferedAmount
        return amount

    def set_low_threshold(self, channel: Any, size: int) -> None:
        channel.bufferedAmountLowThreshold = size

    async def close(self) -> None:
        await self.sctp.stop()

    def _opened(self, channel: Any) -> None:
        self._watch(channel)
        self.on_channel(channel)

    def _watch(self, channel: Any) -> None:
        channel.on("message", lambda data: self.on_message(channel, data))
        channel.on("bufferedamountlow", lambda: self.on_low(channel))
