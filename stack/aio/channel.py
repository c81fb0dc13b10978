"""A data channel as a program holds it: `async for message in channel`, `await channel.send(…)`.

Backpressure works in both directions. `send` waits while more than `HIGH_WATER` bytes of this channel have not
left; what a program has not read narrows the SCTP receive window, so a peer cannot fill our memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

from stack.aio.control import CallControl
from stack.core.errors import LocalError
from stack.core.values import is_unicode
from stack.sctp import ChannelClosedError, ChannelId, ChannelOpened
from stack.voice import commands as cmd

HIGH_WATER = 1 << 20
"""Bytes waiting on a channel above which `send` waits."""
LOW_WATER = 1 << 18
"""Bytes waiting on a channel below which it goes on."""
_REPORT_EVERY = 1 << 16
"""Bytes that are read before the receive window hears of it."""


class DataChannel:
    """One open channel; iterating over it yields text (`str`) and binary (`bytes`) messages until it is closed.

    One task at a time may iterate.
    """

    def __init__(self, control: CallControl, opened: ChannelOpened) -> None:
        self._control = control
        self._messages: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._low = asyncio.Event()
        self._read = 0
        self.id = opened.channel
        self.label = opened.label
        self.protocol = opened.protocol
        self.ordered = opened.ordered
        self.max_retransmits = opened.max_retransmits
        self.max_lifetime_ms = opened.max_lifetime_ms
        self.closed = False

    def __repr__(self) -> str:
        return f"<DataChannel {self.id} {self.label!r}{' closed' if self.closed else ''}>"

    async def send(self, data: str | bytes) -> None:
        """Send a message; returns when it is queued and less than `HIGH_WATER` bytes wait.

        Raises `ChannelClosedError`, `MessageTooBigError` for more than the peer takes, `LocalError` for what is
        neither text nor bytes.
        """
        if isinstance(data, str):
            _check_text(data)
        elif not isinstance(data, bytes):
            if not isinstance(data, bytearray | memoryview):
                raise LocalError(f"a message is a str or bytes, not {type(data).__name__}")
            data = bytes(data)
        if self.closed:
            raise ChannelClosedError(f"the channel {self.label!r} is closed")
        self._low.clear()
        if await self._control.execute(cmd.SendMessage(self.id, data, LOW_WATER)) > HIGH_WATER:
            await self._low.wait()
            if self.closed:
                raise ChannelClosedError(f"the channel {self.label!r} was closed before everything had left")

    def close(self) -> None:
        """Close the channel when everything that was sent has left."""
        self._control.command(cmd.CloseChannel(self.id))

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)  # a further reader is told again
            await asyncio.sleep(0)  # and must not keep the loop to itself
            raise StopAsyncIteration
        self._read += len(message)
        if self._read >= _REPORT_EVERY or self._messages.empty():
            read, self._read = self._read, 0
            self._control.command(cmd.NoteRead(read))
        return message

    def deliver(self, message: str | bytes) -> None:
        """Take a message from the media side; runs on the program's loop."""
        self._messages.put_nowait(message)

    def note_low(self) -> None:
        """Little waits to be sent: go on."""
        self._low.set()

    def note_closed(self) -> None:
        """The channel is gone."""
        self.closed = True
        self._low.set()
        self._messages.put_nowait(None)


def _check_text(text: str) -> None:
    if not is_unicode(text):
        raise LocalError("half of a surrogate pair is no text")


class Channels:
    """The open channels of a call, and waiting for those to come."""

    def __init__(self, control: CallControl) -> None:
        self._control = control
        self._open: dict[ChannelId, DataChannel] = {}
        self._arrivals: list[tuple[Callable[[DataChannel], bool], asyncio.Future[DataChannel]]] = []
        self._ended = False
        self._at_the_end: dict[str, DataChannel] = {}  # by label

    def __iter__(self) -> Iterator[DataChannel]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    async def wait_for(self, label: str) -> DataChannel:
        """Return the open channel with this label, whichever side opens it, as soon as there is one.

        Raises `ChannelClosedError` if the call ends first.
        """
        return await self._wait(lambda channel: channel.label == label)

    async def open(
        self,
        label: str,
        *,
        protocol: str = "",
        ordered: bool = True,
        max_retransmits: int | None = None,
        max_lifetime_ms: int | None = None,
        negotiated_id: int | None = None,
    ) -> DataChannel:
        """Open a channel and return it; see `stack.sctp.DataChannels.open` for the errors.

        One that was open when the call ended, be it before this could return, can still be read: what the peer has
        said on it was said before the end.
        """
        _check_text(label)
        _check_text(protocol)
        if self._ended and label in self._at_the_end:
            return self._at_the_end[label]
        channel_id = await self._control.execute(
            cmd.OpenChannel(label, protocol, ordered, max_retransmits, max_lifetime_ms, negotiated_id)
        )
        if self._ended:
            for channel in self._at_the_end.values():
                if channel.id == channel_id:
                    return channel
        return await self._wait(lambda channel: channel.id == channel_id)

    async def _wait(self, wanted: Callable[[DataChannel], bool]) -> DataChannel:
        for channel in self._open.values():
            if wanted(channel):
                return channel
        if self._ended:
            await asyncio.sleep(0)  # who tries again must not keep the loop to itself
            raise ChannelClosedError("the call has ended")
        future: asyncio.Future[DataChannel] = asyncio.get_running_loop().create_future()
        self._arrivals.append((wanted, future))
        return await future

    def note_opened(self, event: ChannelOpened) -> None:
        """A channel is there."""
        channel = self._open[event.channel] = DataChannel(self._control, event)
        for wanted, future in self._arrivals:
            if not future.done() and wanted(channel):
                future.set_result(channel)
        self._arrivals = [(wanted, future) for wanted, future in self._arrivals if not future.done()]

    def note_closed(self, channel_id: ChannelId) -> None:
        """A channel is gone."""
        channel = self._open.pop(channel_id, None)
        if channel is not None:
            channel.note_closed()

    def note_ended(self) -> None:
        """The call is over."""
        self._ended = True
        self._at_the_end = {channel.label: channel for channel in self._open.values()}
        for channel_id in list(self._open):
            self.note_closed(channel_id)
        for _, future in self._arrivals:
            if not future.done():
                future.set_exception(ChannelClosedError("the call has ended"))
        self._arrivals.clear()

    def find(self, channel_id: ChannelId) -> DataChannel | None:
        """Return the open channel with this identifier."""
        return self._open.get(channel_id)
