"""One call at the media node whose program is behind the backbone.

Its events go to the process that has it, and what that process says is carried out. Which process that is, and
what happens when it is gone, is the business of `remote_program.py`, its owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from msgspec import structs

from stack.aio.call import Call, control_of
from stack.aio.dialect_events import DialectEvent, TurnHandedOver
from stack.aio.ipc import STALE_EVENTS
from stack.cluster.backbone import Backbone
from stack.cluster.call_history import CallHistory
from stack.cluster.messages import (
    MAX_MANAGED,
    NODE_SAYS,
    PROGRAM_SAYS,
    WITHHELD,
    AttachmentProgress,
    CallCommand,
    CallEvent,
    CallReturned,
    CommandResult,
    NodeSays,
    TakeCall,
    agent_subject,
)
from stack.cluster.ordered import DROPPED_MALFORMED, BacklogFull, OrderedStream
from stack.cluster.round_trip import RoundTrip
from stack.core.counters import declare
from stack.core.errors import LocalError, ParseError, StackError
from stack.core.values import check_json
from stack.sctp import MessageReceived
from stack.session import Ended
from stack.voice.commands import Announce, ConversationCommand, Listen, Tell
from stack.voice.events import (
    AudioReceived,
    ConversationEvent,
    ProgramMessage,
    ReplyFinished,
    ReplyHeard,
    ReplyInterrupted,
    SpeakerDrained,
    ToolRequested,
    TurnPaused,
    Utterance,
    UtterancePiece,
)
from stack.voice.wire import encode_error, encode_result

log = logging.getLogger("stack.cluster")

MAX_COMMANDS = 10_000
"""Commands of a process that wait to be carried out; with more it is given up."""
PATH_EVERY = 5.0
"""Seconds between two words to the client on how far its program is, if that has changed."""
PATH_CHANGE = 0.25
"""The part of a round trip by which it has to change."""

FOR_PROGRAM = (
    AudioReceived, UtterancePiece, TurnPaused, Utterance, MessageReceived, SpeakerDrained, ReplyFinished,
    ReplyInterrupted, ReplyHeard,
)  # fmt: skip
"""Events that reach the call's program alone, and of these:"""
FOR_DIALECTS = (Utterance, ReplyFinished, ReplyInterrupted, ReplyHeard)
"""what the node's dialects see as well."""

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
        """The process that has it; empty: none has, or the offer is not answered yet."""
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
        self._history = CallHistory()
        self._turns: deque[tuple[float, int]] = deque(maxlen=MAX_MANAGED)  # whose sound the process has
        self._commands: asyncio.Queue[tuple[str, CallCommand | ToolRequested]] = asyncio.Queue(MAX_COMMANDS)
        self._offers = 0
        self._unsent: list[bytes] = []  # for the process that takes the offer
        self._path_told: tuple[str, float, float] | None = None  # the attachment, when, and the round trip
        self._has_agent = asyncio.Event()
        self._has_said = False  # anything: only then is known whether its program asks for turns
        self.control.deliver = self._take_event
        self.control.other_side = self._take_dialect
        self.control.backbone_round_trip = self._round_trip

    def _round_trip(self) -> float | None:
        return self._owner.round_trip(self.agent).latest if self.agent else None

    # -- events ----------------------------------------------------------------------------------------------

    def _take_event(self, event: ConversationEvent) -> None:
        self._history.note_event(event)
        if self._is_of_dialect(event):
            self._deliver(event)
            return
        if not self.is_local:
            self._pass_on(event)
        if self.is_local or not isinstance(event, FOR_PROGRAM):
            self._deliver(event)
        elif isinstance(event, FOR_DIALECTS):
            self.control.publish(event)
        if isinstance(event, Ended):
            self.lost.set()
            self._owner.note_ended(self)

    def _is_of_dialect(self, event: ConversationEvent) -> bool:
        """Return True for a message on a channel that a dialect of this node reads."""
        if not isinstance(event, MessageReceived):
            return False
        channel = self.call.channels.find(event.channel)
        return channel is not None and channel.label in self.control.dialect_channels

    def _pass_on(self, event: ConversationEvent) -> None:
        if not self.agent:
            self._history.keep(event)
        self._say_event(event)

    def _say_event(self, event: ConversationEvent) -> None:
        if isinstance(event, Utterance) and self.control.turns_managed:
            self._turns.append(_sound_of(event))
        self.say(CallEvent(event), isinstance(event, STALE_EVENTS))

    def _take_dialect(self, event: DialectEvent | ToolRequested) -> None:
        """Tell the process what a dialect of this node says; it may be another by the time that matters."""
        if isinstance(event, ToolRequested):
            return  # of no program of this node
        self._history.note_dialect(event)
        if not self.agent and isinstance(event, TurnHandedOver):
            self._history.keep(event)
        self.say(self._without_sound(event))

    def _without_sound(self, event: DialectEvent) -> DialectEvent:
        if isinstance(event, TurnHandedOver):
            turn = event.utterance
            if not turn.is_typed and _sound_of(turn) in self._turns:
                self._turns.remove(_sound_of(turn))
                return TurnHandedOver(structs.replace(turn, samples=np.zeros(0, np.int16)), has_sound=False)
        return event

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
        if self.agent:
            self._owner.backbone.post_all(agent_subject(self.agent, self.attachment), frames)
        else:  # it is not known yet which process that is
            self._unsent.extend(frames)

    def tell_path(self) -> None:
        """Tell the client how far its program is from here, once that is known, and when it is another way."""
        seconds = self._round_trip()
        if seconds is None:
            return
        now = asyncio.get_running_loop().time()
        if self._path_told is not None:
            attachment, told_at, former = self._path_told
            is_other = abs(seconds - former) > max(PATH_CHANGE * former, 0.005)
            if attachment == self.attachment and not (is_other and now - told_at >= PATH_EVERY):
                return
        self._path_told = self.attachment, now, seconds
        context = self.call.context
        milliseconds = round(seconds * 1000.0, 1)
        told = {"type": "path", "node": context.node, "region": context.region, "program_ms": milliseconds}
        self.control.command(Tell(told))

    # -- attaching -------------------------------------------------------------------------------------------

    def offer(self, node: str) -> TakeCall:
        """Return the call as it is offered to the processes, under an attachment that has not been used.

        The one that takes it may speak before we know which it is: it has all that it needs.
        """
        self.detach()
        self.lost.clear()
        self._offers += 1
        self.attachment = f"{self.call.id}-{self._offers}"
        self.stream = OrderedStream(self._owner.backbone.counters)
        self._turns.clear()
        self._has_said = False
        self.control.asks_for_turns = True  # as far as is known until it says anything
        context = replace(
            self.call.context,
            state={},
            session=_as_json(self.control.session),
            node=node,
            continuation=self.attached,
        )
        offered = TakeCall(
            self.call.id,
            self.attachment,
            node,
            context,
            self.attached,
            tuple(self._history.told),
            tuple(self._history.events),
            self._history.replies,
            self._history.writes,
        )
        for text in self._history.contexts:
            self.say(text)
        for early in self._history.waiting:
            if isinstance(early, TurnHandedOver):
                self.say(self._without_sound(early))
            else:
                self._say_event(early)
        return offered

    def attach(self, agent: str) -> None:
        """A process has the call: tell it what it was not offered."""
        self.agent = agent
        self.attached += 1
        self.since = asyncio.get_running_loop().time()
        self._has_agent.set()
        self._owner.backbone.post_all(agent_subject(agent, self.attachment), self._unsent)
        self._unsent.clear()
        self._history.waiting.clear()
        if self.call.ended:
            self.lost.set()

    def detach(self) -> None:
        """The process has the call no more, or none has taken it."""
        self.stream, self.attachment, self.agent = None, "", ""
        self._has_agent.clear()
        self._unsent.clear()
        while not self._commands.empty():
            self._commands.get_nowait()

    def go_local(self) -> None:
        """The node's own program has the call from now on."""
        self.detach()
        self.is_local = True
        self.control.other_side = None
        self.control.asks_for_turns = False
        self.call.speaker.note_earlier(self._history.writes)
        for context in self._history.contexts:
            self.control.give(context)
        early = list(self._history.waiting)
        self._history.waiting.clear()
        for event in early:
            if isinstance(event, TurnHandedOver):
                self.control.give(event)
            elif isinstance(event, FOR_PROGRAM):
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
            self._commands.put_nowait((self.attachment, said))
        except asyncio.QueueFull:
            self.lost.set()

    async def carry_out(self) -> None:
        """Carry out what the process says, in order."""
        while True:
            attachment, said = await self._commands.get()
            await self._has_agent.wait()  # it may speak before its answer to the offer is read
            if attachment != self.attachment:
                continue  # it was given up
            if isinstance(said, ToolRequested):
                if said.name in {tool.name for tool in self.control.tools}:
                    self.control.publish(said)
                continue
            try:
                if isinstance(said.command, WITHHELD):
                    self._owner.backbone.counters.add(DROPPED_REFUSED)
                    raise LocalError("a program behind the backbone may not do that")
                self._show(said.command)
                if not said.number:
                    self.control.command(said.command)
                    self._history.note_command(said.command)
                    continue
                command: Any = said.command
                returned = await self.control.execute(command)
                self._history.note_command(command, returned)
                result = encode_result(returned)
            except StackError as error:
                result = encode_error(error)
            if said.number and attachment == self.attachment:
                self.say(CommandResult(said.number, result))

    def _show(self, command: ConversationCommand) -> None:
        """Let the node's dialects know what a command says to them."""
        if isinstance(command, Announce):
            self.control.publish(command.news)
        elif isinstance(command, Tell):
            self.control.publish(ProgramMessage(command.message))
        asks = isinstance(command, Listen) and command.whole_turns
        if asks or not self._has_said:
            self.control.asks_for_turns = asks
        self._has_said = True

    def progress(self) -> AttachmentProgress | None:
        """Return how far the present attachment is."""
        if self.stream is None or not self.agent:
            return None
        return AttachmentProgress(self.attachment, self.stream.sent, self.stream.received)

    def take_progress(self, other: AttachmentProgress) -> None:
        """The process says how far it is: send again what it lacks."""
        if self.stream is not None and self.agent and other.attachment == self.attachment:
            again = self.stream.acknowledge(other.received)
            self._owner.backbone.post_all(agent_subject(self.agent, self.attachment), again)

    def close(self) -> None:
        """The call is over, or has its program here."""
        self.detach()


def _sound_of(turn: Utterance) -> tuple[float, int]:
    """Return what tells the sound of a turn from that of others, and of turns that a dialect has put together."""
    return turn.media_time, len(turn.samples)


def _as_json(session: Any) -> dict[str, Any]:
    """Return what a client has set, if it can leave the process."""
    try:
        found = dict(session)
        check_json(found)
    except (LocalError, TypeError, ValueError):
        return {}
    return found
