"""One hosted call: the conversation on the media side, the `Call` on the program's side, and the bridge between
them.

`Host` has many of them behind one port, the client (`stack.signaling.client`) has one. Commands cross to the media
side in order and each is followed by a pump; events come back in batches. A call's id is its own: the ICE username
fragment that finds it on the wire is no secret and may change.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from stack.aio.call import Call
from stack.aio.context import CallContext
from stack.aio.control import CallEnded
from stack.aio.driver import DatagramEndpoint, Driver, MediaThread
from stack.aio.udp import UdpSockets
from stack.core.counters import Counters, declare
from stack.core.faults import Faults
from stack.core.machine import Instant
from stack.core.trace import PacketTrace
from stack.dtls import Certificate, KeyLog
from stack.server import SingleEndpoint
from stack.session import SessionParameters
from stack.voice.commands import GetStatistics, HangUp
from stack.voice.config import ConversationConfig
from stack.voice.conversation import Command, Conversation
from stack.voice.events import ConversationEvent
from stack.voice.statistics import CallStatistics

log = logging.getLogger("stack.calls")

FAULT_DELIVER = declare("host", "fault_deliver", "Exceptions survived while handing an event to a call")

ResultT = TypeVar("ResultT")

ID_BYTES = 12
"""Random bytes in a call's id: it cannot be guessed."""


def new_call_id() -> str:
    """Return an id that is not in use, fit for a URL and a file name."""
    return secrets.token_hex(ID_BYTES)


class CallEndpoint(DatagramEndpoint[ConversationEvent], Protocol):
    """An endpoint that is told which call was given a command."""

    counters: Counters

    def touch(self, name: str) -> None:
        """Say that a command was given to a hosted machine, so that the next `pump` looks at it."""


class MediaSide:
    """The media thread with its driver, sockets and endpoint, and the calls that they carry."""

    def __init__(self, key_log: KeyLog | None = None) -> None:
        self.thread = MediaThread()
        self.key_log = key_log
        """Takes the secrets of every call, on the media thread."""
        self.calls: dict[str, HostedCall] = {}
        """By id; belongs to the program's loop."""
        self.closing: dict[str, HostedCall] = {}
        """Those whose conversation is just being forgotten."""
        self._loop = asyncio.get_running_loop()
        self.counters = Counters()
        """What was counted on the program's loop."""
        self._faults = Faults(self.counters)

    async def start(
        self, make_endpoint: Callable[[], CallEndpoint], sockets: UdpSockets, trace: PacketTrace | None
    ) -> None:
        """Begin to carry datagrams to the endpoint that `make_endpoint` makes on the media thread."""

        def begin() -> None:
            self.endpoint = make_endpoint()
            self.driver = Driver(self.endpoint, sockets, self._on_events, trace)
            self.driver.pump()

        await self.thread.run(begin)

    def all_counters(self) -> Counters:
        """Return the counters of the endpoint, the driver, its thread and the sockets; call it on the thread."""
        total = Counters()
        sockets = self.driver.sockets
        for counters in (each.counters for each in (self.endpoint, self.driver, self.thread, sockets, *sockets)):
            total.merge(counters)
        return total

    async def stop(self) -> None:
        """Stop reading, close the sockets and end the thread."""
        if hasattr(self, "driver"):
            await self.thread.run(self.driver.close)
        await asyncio.to_thread(self.thread.stop)

    def _on_events(self, events: Sequence[tuple[str, ConversationEvent]]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._deliver, events)
        except RuntimeError:
            log.debug("%d events came after the program's loop had closed", len(events))

    def _deliver(self, events: Sequence[tuple[str, ConversationEvent]]) -> None:
        for call_id, event in events:
            hosted = self.calls.get(call_id)
            if hosted is None:
                continue
            try:
                hosted.call.deliver(event)
            except Exception as error:  # the events of other calls are behind it
                self._faults.note(FAULT_DELIVER, error, time.monotonic())
        for fault in self._faults.drain():
            log.error("a bug was survived while doing %s", fault.doing, exc_info=fault.error)


class HostedCall:
    """A `CallLink` between a `Call` and its conversation."""

    def __init__(
        self,
        media: MediaSide,
        parameters: SessionParameters,
        certificate: Certificate,
        config: ConversationConfig,
        context: CallContext | None = None,
    ) -> None:
        self.id = new_call_id()
        self.call = Call(self.id, context or CallContext(), self, time.monotonic)
        self.conversation: Conversation | None = None
        """Belongs to the media side; None before `open` and after `close`."""
        self._media = media
        self._parameters = parameters
        self._certificate = certificate
        self._config = config

    async def open(self, host: Callable[[HostedCall, Conversation, Instant], None]) -> None:
        """Make the conversation on the media side, have `host(call, conversation, now)` host it there, and
        pump.
        """
        self._media.calls[self.id] = self

        def begin() -> None:
            now = self._media.driver.now()
            conversation = self._make(now)
            host(self, conversation, now)
            self.conversation = conversation
            self._media.driver.pump()

        try:
            await self._media.thread.run(begin)
        except BaseException:  # also a cancelled caller: `begin` may have run by then, or will
            del self._media.calls[self.id]
            self.submit(HangUp())
            raise

    async def open_alone(self, sockets: UdpSockets, trace: PacketTrace | None) -> None:
        """Begin as the one call of its own sockets: a client. Checks of ours are answered without a ufrag."""
        self._media.calls[self.id] = self

        def make_endpoint() -> CallEndpoint:
            self.conversation = self._make(time.monotonic())
            return SingleEndpoint(self.id, self.conversation)

        await self._media.start(make_endpoint, sockets, trace)

    def _make(self, now: Instant) -> Conversation:
        return Conversation(
            self._parameters,
            self._certificate,
            self._config,
            os.urandom,
            now,
            wall_clock=time.time() - now,
            key_log=self._media.key_log,
        )

    async def close(self, account: Callable[[Conversation, Instant], None] | None = None) -> None:
        """Forget the conversation, which is over; its events reach the call no more.

        `account` is called with it on the media side, so that no sum over all calls is without it for a moment.
        """

        def forget() -> None:
            conversation, self.conversation = self.conversation, None
            if conversation is not None and account is not None:
                account(conversation, self._media.driver.now())

        self._media.closing[self.id] = self  # before it leaves the other: it is never in neither
        self._media.calls.pop(self.id, None)
        try:
            await self._media.thread.run(forget)
        finally:
            self._media.closing.pop(self.id, None)

    def submit(self, command: Command[object]) -> None:
        """Have a command carried out soon; nothing happens once the call is closed."""
        self._media.thread.submit(partial(self._submitted, command))

    async def execute(self, command: Command[ResultT]) -> ResultT:
        """Have a command carried out and return (or raise) what comes of it; `CallEnded` once the call is
        closed.
        """
        return await self._media.thread.run(partial(self._carry_out, command))

    async def stats(self) -> CallStatistics:
        """Return the call's statistics, also when it is over, until it is closed."""
        return await self.execute(GetStatistics())

    def _submitted(self, command: Command[object]) -> None:
        if self.conversation is not None:
            self._carry_out(command)

    def _carry_out(self, command: Command[ResultT]) -> ResultT:
        if self.conversation is None:
            raise CallEnded("the call is over")
        driver = self._media.driver
        try:
            return self.conversation.handle_command(command, driver.now())
        finally:
            self._media.endpoint.touch(self.id)
            driver.pump()
