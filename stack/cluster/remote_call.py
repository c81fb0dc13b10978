"""One call at the media node whose program is behind the backbone.

Its events go to the process that has it, and what that process says is carried out. Which process that is, and
what happens when it is gone, is the business of `remote_program.py`, its owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Protocol

from stack.aio.call import Call, control_of
from stack.aio.inbox import Inbox
from stack.aio.ipc import STALE_EVENTS
from stack.cluster.backbone import Backbone
from stack.cluster.messages import (
    NODE_SAYS,
    PROGRAM_SAYS,
    WITHHELD,
    AttachmentProgress,
    CallCommand,
    CallEvent,
    CallReturned,
    CommandResult,
    NodeSays,
    agent_subject,
)
from stack.cluster.ordered import DROPPED_MALFORMED, BacklogFull, OrderedStream
from stack.cluster.round_trip import RoundTrip
from stack.core.counters import declare
from stack.core.errors import LocalError, ParseError, StackError
from stack.sctp import ChannelClosed, ChannelOpened, MessageReceived
from stack.session import Authenticated, Connected, Ended
from stack.voice.commands import Announce, Tell
from stack.voice.events import (
    AudioReceived,
    ContextAdded,
    ConversationEvent,
    ProgramMessage,
    ReplyFinished,
    ReplyHeard,
    ReplyInterrupted,
    SessionUpdated,
    SpeakerDrained,
    TurnPaused,
    Utterance,
    UtterancePiece,
)
from stack.voice.wire import encode_error, encode_result

log = logging.getLogger("stack.cluster")

MAX_EARLY = 1500
"""Events that wait for the first process: 30 s of sound, as a program's microphone holds."""
MAX_COMMANDS = 10_000
"""Commands of a process that wait to be carried out; with more it is given up."""


FOR_PROGRAM = (
    AudioReceived, UtterancePiece, TurnPaused, Utterance, MessageReceived, SpeakerDrained, ReplyFinished,
    ReplyInterrupted, ReplyHeard,
)  # fmt: skip
"""Events that reach the call's program alone."""

DROPPED_REFUSED = declare("backbone", "dropped_refused", "Commands of a program process that it may not give")


class CallOwner(Protocol):
    """What a call asks of `RemoteProgram`."""

    backbone: Backbone

    def round_trip(self, agent: str) -> RoundTrip:
        """Return what is measured of the way to a process."""
        ...

    def note_ended(self, remote: RemoteCall) -> None:
        """Note that a call is over, perhaps before there was anything to run."""
        ...


class RemoteCall:
    """One call whose program is elsewhere."""

    def __init__(self, owner: CallOwner, call: Call) -> None:
        self.call = call
        self.control = control_of(call)
        self.agent = ""
        self.attachment = ""
        self.attached = 0
        """How many processes have had it."""
        self.since = 0.0
        """When the present one took it."""
        self.stream: OrderedStream | None = None
        self.lost = asyncio.Event()
        self.is_local = False
        self._owner = owner
        self._deliver = self.control.deliver
        self._state: dict[Any, ConversationEvent] = {}  # what a process has to know that comes later
        self._early: deque[ConversationEvent] = deque(maxlen=MAX_EARLY)
        self._commands: asyncio.Queue[CallCommand] = asyncio.Queue(MAX_COMMANDS)
        self._news: Inbox[ConversationEvent] = call.watch()
        self.control.deliver = self._take_event
        self.control.backbone_round_trip = self._round_trip

    def _round_trip(self) -> float | None:
        return self._owner.round_trip(self.agent).latest if self.stream is not None else None

    # -- events ----------------------------------------------------------------------------------------------

    def _take_event(self, event: ConversationEvent) -> None:
        self._note_state(event)
        if not self.is_local:
            self._pass_on(event)
        if self.is_local or not isinstance(event, FOR_PROGRAM):
            self._deliver(event)
        if isinstance(event, Ended):
            self.lost.set()
            self._owner.note_ended(self)

    def _note_state(self, event: ConversationEvent) -> None:
        if isinstance(event, Connected | Authenticated):
            self._state[type(event)] = event
        elif isinstance(event, ChannelOpened):
            self._state[event.channel] = event
        elif isinstance(event, ChannelClosed):
            self._state.pop(event.channel, None)

    def _pass_on(self, event: ConversationEvent) -> None:
        if self.stream is not None:
            self.say(CallEvent(event), isinstance(event, STALE_EVENTS))
        elif not self.attached and not isinstance(
            event, Connected | Authenticated | ChannelOpened | ChannelClosed
        ):
            self._early.append(event)

    async def forward_news(self) -> None:
        """Tell the process what the client sets by way of its dialect."""
        async for event in self._news:
            if isinstance(event, SessionUpdated | ContextAdded) and self.stream is not None:
                self.say(CallEvent(event))

    def say(self, message: NodeSays, is_stale_when_late: bool = False) -> None:
        """Tell the process that has the call; one that takes nothing any more is given up."""
        if self.stream is None:
            return
        try:
            frames = self.stream.send(NODE_SAYS.encode(message), is_stale_when_late)
        except BacklogFull as error:
            log.error("call %s: %s", self.call.id, error)
            self.lost.set()
            return
        self._owner.backbone.post_all(agent_subject(self.agent, self.attachment), frames)

    # -- attaching -------------------------------------------------------------------------------------------

    def next_attachment(self) -> str:
        """Return the name of an attachment that has not been used."""
        self.detach()
        self.attached += 1
        return f"{self.call.id}-{self.attached}"

    def attach(self, attachment: str, agent: str) -> None:
        """A process has the call: tell it what has happened so far."""
        self.agent, self.attachment = agent, attachment
        self.since = asyncio.get_running_loop().time()
        self.lost.clear()
        self.stream = OrderedStream(self._owner.backbone.counters)
        for event in self._state.values():
            self.say(CallEvent(event))
        for event in self._early:
            self.say(CallEvent(event), isinstance(event, STALE_EVENTS))
        self._early.clear()
        if self.call.ended:
            self.lost.set()

    def detach(self) -> None:
        """The process has the call no more."""
        self.stream, self.attachment = None, ""
        while not self._commands.empty():
            self._commands.get_nowait()

    def go_local(self) -> None:
        """The node's own program has the call from now on."""
        self.detach()
        self.is_local = True
        early, self._early = list(self._early), deque(maxlen=0)
        for event in early:
            if isinstance(event, FOR_PROGRAM):
                self._deliver(event)

    # -- commands --------------------------------------------------------------------------------------------

    def take_frame(self, frame: bytes) -> None:
        """Take what the process says."""
        if self.stream is None:
            return
        whole = self.stream.receive(frame)
        if whole is None:
            return
        try:
            said = PROGRAM_SAYS.decode(whole)
        except ParseError as error:
            self._owner.backbone.counters.add(DROPPED_MALFORMED)
            log.warning("call %s: %s", self.call.id, error)
            return
        if isinstance(said, CallReturned):
            self.lost.set()
            return
        try:
            self._commands.put_nowait(said)
        except asyncio.QueueFull:
            self.lost.set()

    async def carry_out(self) -> None:
        """Carry out what the process says, in order."""
        while True:
            said = await self._commands.get()
            attachment = self.attachment
            try:
                if isinstance(said.command, WITHHELD):
                    self._owner.backbone.counters.add(DROPPED_REFUSED)
                    raise LocalError("a program behind the backbone may not do that")
                if isinstance(said.command, Announce):
                    self.control.publish(said.command.news)
                elif isinstance(said.command, Tell):
                    self.control.publish(ProgramMessage(said.command.message))
                if not said.number:
                    self.control.command(said.command)
                    continue
                command: Any = said.command
                result = encode_result(await self.control.execute(command))
            except StackError as error:
                result = encode_error(error)
            if said.number and attachment == self.attachment:
                self.say(CommandResult(said.number, result))

    def progress(self) -> AttachmentProgress | None:
        """Return how far the present attachment is."""
        if self.stream is None:
            return None
        return AttachmentProgress(self.attachment, self.stream.sent, self.stream.received)

    def take_progress(self, other: AttachmentProgress) -> None:
        """The process says how far it is: send again what it lacks."""
        if self.stream is not None and other.attachment == self.attachment:
            again = self.stream.acknowledge(other.received)
            self._owner.backbone.post_all(agent_subject(self.agent, self.attachment), again)

    def close(self) -> None:
        """The call is over, or has its program here."""
        self.detach()
        self.call.unwatch(self._news)
