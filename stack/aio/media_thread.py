"""The media side in a thread of this process, with an event loop of its own: what `workers=0` and clients have.

A program that blocks its loop does not stall it; one that computes in pure Python shares the interpreter with it
(`docs/decisions/0004-media-thread.md`), which worker processes (`workers.py`) do not.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from stack.aio.control import CallEnded
from stack.aio.driver import MediaThread
from stack.aio.hosted import CallTable
from stack.aio.media import (
    Events,
    GatherFrom,
    GetTally,
    MediaCalls,
    MediaLink,
    MediaRequest,
    MediaSetup,
    MediaTally,
    NoMoreServers,
    SetTicketKeys,
    many_calls,
)
from stack.aio.ticket_site import CallMade, TicketMedia
from stack.aio.udp import UdpSockets
from stack.core.machine import Address
from stack.core.trace import PacketTrace
from stack.dtls import Certificate, KeyLog
from stack.ice.servers import LocatedServer
from stack.server import Gathered
from stack.voice.config import ConversationConfig
from stack.voice.recording import RecordingEvent

log = logging.getLogger("stack.calls")

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class MediaConfig:
    """What the program's side has settled for all its calls."""

    certificate: Certificate
    conversation: ConversationConfig
    max_calls: int = 1000
    trace: PacketTrace | None = None
    key_log: KeyLog | None = None
    """Takes the DTLS secrets of every call: on the media thread, or where a worker's messages are read."""
    tickets: TicketMedia | None = None
    gathers: bool = False
    """Whether servers will be named that candidates come from (`ask_server`)."""


class ThreadMedia:
    """The media side of a host, or of a client, in one thread: the only link there is."""

    number = 0

    def __init__(self, config: MediaConfig, table: CallTable, sockets: UdpSockets) -> None:
        self.load = 0
        self.is_late = False
        self.gathered = Gathered(is_complete=not config.gathers)
        self.thread: MediaThread | None = None
        self._config = config
        self._table = table
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()

    async def start(self, make: Callable[[MediaSetup, UdpSockets], MediaCalls] = many_calls) -> None:
        """Begin to carry datagrams."""
        config = self._config
        setup = MediaSetup(
            config.certificate,
            config.conversation,
            self._on_events,
            self._on_recording,
            config.trace,
            config.max_calls,
            config.key_log,
            config.tickets,
            self._on_made,
            config.gathers,
            self._on_gathered,
        )
        self.thread = thread = MediaThread()

        def begin() -> MediaCalls:
            media = make(setup, self._sockets)
            media.counters = thread.counters
            media.driver.pump()
            return media

        self.media = await self.thread.run(begin)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The UDP addresses on which media arrives."""
        return self._sockets.addresses

    async def choose(self) -> ThreadMedia:
        """Return the link for a new call."""
        return self

    async def choose_any(self) -> ThreadMedia:
        """Return the link for a call whose first packet makes it."""
        return self

    def set_ticket_keys(self, tickets: TicketMedia) -> None:
        """Have tickets opened with these keys from now on."""
        self._config = replace(self._config, tickets=tickets)
        self.submit(SetTicketKeys(tickets.ring))

    def ask_server(self, located: LocatedServer) -> None:
        """Have candidates gathered from a server."""
        self.submit(GatherFrom(located))

    def finish_asking(self) -> None:
        """Every server was named that can be by now."""
        self.submit(NoMoreServers())

    async def tally(self) -> MediaTally:
        """Return what was counted on the media side."""
        return await self.execute(GetTally())

    def submit(self, request: MediaRequest[object]) -> None:
        """Have something done soon; what belongs to a call that is closed is passed over."""
        if self.thread is not None:
            self.thread.submit(partial(self._submitted, request))

    async def execute(self, request: MediaRequest[ResultT]) -> ResultT:
        """Have something done and return (or raise) what comes of it."""
        if self.thread is None:
            raise CallEnded("the media thread has stopped")
        return await self.thread.run(partial(self._apply, request))

    def link(self, worker: int) -> MediaLink | None:
        """Return the link that a fragment's digit names; None if there is none."""
        return self if worker == self.number and self.thread is not None else None

    def adopt(self, sock: socket.socket, begun: bytes) -> None:
        """Hand an ICE-TCP connection over, and what was read of it."""
        if self.thread is None:
            sock.close()
        else:
            self.thread.submit(lambda: self.media.driver.adopt(sock, begun))

    async def stop(self) -> None:
        """Stop reading, close the sockets and end the thread."""
        thread, self.thread = self.thread, None
        if thread is None:
            self._sockets.close()
            return
        await thread.run(self.media.stop)
        await asyncio.to_thread(thread.stop)

    def _apply(self, request: MediaRequest[ResultT]) -> ResultT:
        return request.apply(self.media)

    def _submitted(self, request: MediaRequest[object]) -> None:
        try:
            request.apply(self.media)
        except CallEnded:
            log.debug("a command came after the end of its call")

    def _on_events(self, events: Events) -> None:
        self._hand_over(partial(self._table.deliver, events))

    def _on_made(self, made: CallMade) -> None:
        self._hand_over(partial(self._table.note_made, self, made))

    def _on_gathered(self, gathered: Gathered) -> None:
        self._hand_over(partial(setattr, self, "gathered", gathered))

    def _on_recording(self, event: RecordingEvent) -> None:
        self._hand_over(partial(self._table.note_recording, event))

    def _hand_over(self, action: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(action)
        except RuntimeError:
            log.debug("events came after the program's loop had closed")
