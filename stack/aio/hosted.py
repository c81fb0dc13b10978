"""One hosted call on the program's side: the `Call`, and its link to the conversation on the media side.

`Host` has many of them, the client (`stack.signaling.client`) has one. Commands cross to the media side in order
and each is followed by a pump; events come back in batches, to the `CallTable`. A call's id is its own: the ICE
username fragment that finds it on the wire is no secret and may change.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

from stack.aio.call import Call, control_of
from stack.aio.context import CallContext
from stack.aio.media import CarryOut, CloseCall, Events, MediaLink, OpenCall
from stack.aio.recording import StartRecording
from stack.aio.ticket_site import CallMade
from stack.core.counters import Counters, declare
from stack.core.faults import Faults
from stack.session import Ended, EndReason, SessionParameters
from stack.voice.commands import GetStatistics, HangUp
from stack.voice.conversation import Command
from stack.voice.recording import RecordingEvent, RecordingFailed, RecordingOpened
from stack.voice.statistics import CallStatistics

log = logging.getLogger("stack.calls")

FAULT_DELIVER = declare("host", "fault_deliver", "Exceptions survived while handing an event to a call")

ResultT = TypeVar("ResultT")

ID_BYTES = 12
"""Random bytes in a call's id: it cannot be guessed."""
MAX_LOST = 4096
"""Calls of tickets that are remembered as lost with their media side, the latest."""


def new_call_id() -> str:
    """Return an id that is not in use, fit for a URL and a file name."""
    return secrets.token_hex(ID_BYTES)


class CallTable:
    """The calls of a program by id, and its recordings by name: where events find their way. Of the program's
    loop."""

    def __init__(self) -> None:
        self.calls: dict[str, HostedCall] = {}
        self.counters = Counters()
        self._faults = Faults(self.counters)
        self._recordings: dict[str, tuple[MediaLink, Callable[[RecordingEvent], None]]] = {}
        self.lost: deque[str] = deque(maxlen=MAX_LOST)
        """Calls of tickets that have ended with their media side: what takes its place makes none of them."""
        self.on_made: Callable[[MediaLink, CallMade], None] | None = None
        """Told of a call that a ticket has made on a media side, before its first event."""

    def note_made(self, link: MediaLink, made: CallMade) -> None:
        """A ticket has made a call."""
        if self.on_made is not None:
            self.on_made(link, made)

    def add(self, hosted: HostedCall) -> None:
        """A call begins."""
        self.calls[hosted.id] = hosted
        hosted.link.load += 1

    def remove(self, hosted: HostedCall) -> None:
        """A call is forgotten; its events reach it no more."""
        if self.calls.pop(hosted.id, None) is not None:
            hosted.link.load -= 1

    def deliver(self, events: Events) -> None:
        """Hand events to their calls."""
        for call_id, event in events:
            hosted = self.calls.get(call_id)
            if hosted is None:
                continue
            try:
                hosted.control.deliver(event)
            except Exception as error:  # the events of other calls are behind it
                self._faults.note(FAULT_DELIVER, error, time.monotonic())
        for fault in self._faults.drain():
            log.error("a bug was survived while doing %s", fault.doing, exc_info=fault.error)

    def watch_recording(self, name: str, link: MediaLink, note: Callable[[RecordingEvent], None] | None) -> None:
        """Have `note` told what becomes of a recording, until it is over; None: no more."""
        if note is None:
            self._recordings.pop(name, None)
        else:
            self._recordings[name] = link, note

    def note_recording(self, event: RecordingEvent) -> None:
        """Hand on what has become of a recording."""
        known = self._recordings.get(event.name)
        if known is None:
            return
        if not isinstance(event, RecordingOpened):
            del self._recordings[event.name]
        known[1](event)

    def lose(self, link: MediaLink, detail: str) -> None:
        """The media side behind `link` is gone: end its calls and recordings."""
        lost = [each.id for each in self.calls.values() if each.link is link and not each.call.ended]
        self.lost.extend(call_id for call_id in lost if self.calls[call_id].call.context.ticket)
        self.deliver([(call_id, Ended(EndReason.WORKER_FAILED, detail)) for call_id in lost])
        for name in [name for name, (of, _) in self._recordings.items() if of is link]:
            self.note_recording(RecordingFailed(name, f"the recording broke off: {detail}"))


class HostedCall:
    """A `CallLink` between a `Call` and its conversation."""

    def __init__(
        self, table: CallTable, link: MediaLink, context: CallContext | None = None, call_id: str | None = None
    ) -> None:
        self.id = call_id or new_call_id()
        self.link = link
        self.call = Call(self.id, context or CallContext(), self, time.monotonic)
        self.control = control_of(self.call)
        self._table = table

    async def open(
        self, parameters: SessionParameters, record: StartRecording | None = None, offered: float | None = None
    ) -> None:
        """Have the conversation made on the media side, and recorded.

        `offered` is when the call's offer arrived, by `time.monotonic`.
        """
        self._table.add(self)
        try:
            await self.link.execute(OpenCall(self.id, parameters, record, offered))
        except BaseException:  # also a cancelled caller: it may have been made by then, or will be
            self._table.remove(self)
            self.submit(HangUp())
            self.link.submit(CloseCall(self.id))
            raise

    def adopt(self, record: StartRecording | None = None) -> None:
        """Take a conversation that a ticket has made there, whose first event follows; have it recorded."""
        self._table.add(self)
        if record is not None:
            self.submit(record)

    def end(self, ended: Ended) -> None:
        """End the call for a reason that the media side cannot know."""
        self._table.deliver([(self.id, ended)])
        self._table.remove(self)  # the media side says an end of its own, which is none any more
        self.submit(HangUp())

    def close(self) -> None:
        """Forget the call, which is over; its events reach it no more."""
        self._table.remove(self)
        self.link.submit(CloseCall(self.id))

    def submit(self, command: Command[object]) -> None:
        """Have a command carried out soon; nothing happens once the call is closed."""
        self.link.submit(CarryOut(self.id, cast(Any, command)))

    async def execute(self, command: Command[ResultT]) -> ResultT:
        """Have a command carried out and return (or raise) what comes of it; `CallEnded` once the call is
        closed.
        """
        result: ResultT = await self.link.execute(CarryOut(self.id, cast(Any, command)))
        return result

    def watch_recording(self, name: str, note: Callable[[RecordingEvent], None] | None) -> None:
        """Have `note` told what becomes of the recording of this name; None: no more."""
        self._table.watch_recording(name, self.link, note)

    async def stats(self) -> CallStatistics:
        """Return the call's statistics, also when it is over, until it is closed."""
        return await self.execute(GetStatistics())
