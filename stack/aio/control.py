"""What hosts, dialects and bridges need of a call, and programs do not: its commands, its replies, who hands over
turns.

A `Call` is the face for programs; `control_of(call)` is this. Commands are values (`stack.voice.commands`); the
link carries them to the conversation, wherever that runs, and brings back what comes of them.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from stack.aio.context import Tool
from stack.aio.dialect_events import DialectEvent, ToolFinished, ToolsOffered, TurnHandedOver, TurnsManaged
from stack.aio.inbox import Inbox
from stack.audio.wav import FilePath
from stack.core.counters import Counters, declare
from stack.core.errors import LocalError, StackError
from stack.session import Ended
from stack.voice import commands as cmd
from stack.voice.conversation import Command
from stack.voice.events import (
    ClientEvent,
    ClientNews,
    ContextAdded,
    ConversationEvent,
    ProgramMessage,
    ReplyFinished,
    ReplyHeard,
    ReplyInterrupted,
    SessionUpdated,
    ToolRequested,
    Utterance,
)
from stack.voice.recording import RecordingEvent

ResultT = TypeVar("ResultT")

EVENT_BACKLOG = 10_000
"""Events that wait for a program which does not read them; after that the oldest is dropped and counted."""
UTTERANCE_BACKLOG = 100
"""Turns that wait for a program which does not read them; after that the oldest is dropped and counted."""


DROPPED_EVENT_UNREAD = declare(
    "host", "dropped_event_unread", "Events that a program had not read when too many waited"
)
DROPPED_UTTERANCE_UNREAD = declare(
    "host", "dropped_utterance_unread", "Turns that a program had not read when too many waited"
)


class NotSent(LocalError):
    """A command did not leave the program's process: nothing of it has happened."""


class CallEnded(StackError):
    """The call is over: nothing can be said any more."""


class CallLink(Protocol):
    """The way from a call to its conversation."""

    def submit(self, command: Command[object]) -> None:
        """Have a command carried out soon; commands keep their order. Nothing happens after the call's end."""
        ...

    async def execute(self, command: Command[ResultT]) -> ResultT:
        """Have a command carried out and return (or raise) what comes of it."""
        ...

    def watch_recording(self, name: str, note: Callable[[RecordingEvent], None] | None) -> None:
        """Have `note` told, on the program's loop, what becomes of the recording of this name; None: no more."""
        ...


class PendingReply(Protocol):
    """A reply that waits to be told how it ended."""

    number: int

    def note_over(self, event: ReplyFinished | ReplyInterrupted | None) -> None:
        """It was said, or interrupted, or the call is over (None)."""
        ...

    def note_heard(self, event: ReplyHeard | None) -> None:
        """The client has said what it had played, or will not any more (None)."""
        ...


class ExpectedRecording(Protocol):
    """A recording that the media side is about to begin."""

    @property
    def name(self) -> str:
        """By which commands and events name it."""
        ...


def _no_backbone() -> None:
    """There is no backbone between a call and its program."""


class Turns(Inbox[Utterance]):
    """The turns that wait for the program; `latest` is the one that it took last."""

    latest: Utterance | None = None

    async def __anext__(self) -> Utterance:
        self.latest = await super().__anext__()
        return self.latest


class CallControl:
    """Everything here belongs to the program's event loop."""

    def __init__(
        self,
        link: CallLink,
        clock: Callable[[], float],
        session: Mapping[str, Any],
        deliver: Callable[[ConversationEvent], None],
        expect_recording: Callable[[FilePath], ExpectedRecording],
    ) -> None:
        self.clock = clock
        self.deliver = deliver
        """Hand the call an event of its conversation."""
        self.expect_recording = expect_recording
        """Return the recording that the media side is about to begin; it is the call's latest."""
        self.session = session
        """What the client has set for this call, in the dialect's words."""
        self.end: Ended | None = None
        self.counters = Counters()
        """What was counted on the program's side of the call."""
        self.events: Inbox[ConversationEvent] = Inbox(EVENT_BACKLOG, self.counters, DROPPED_EVENT_UNREAD)
        """What the program is told."""
        self.utterances = Turns(UTTERANCE_BACKLOG, self.counters, DROPPED_UTTERANCE_UNREAD)
        self.tools: tuple[Tool, ...] = ()
        """The functions that the client offers."""
        self.asks_for_turns = False
        """True once the program iterates over `utterances`."""
        self.turns_managed = False
        """True if a turn reaches the program by `hand_over` only."""
        self.dialect_channels: set[str] = set()
        """Labels of data channels whose messages a dialect reads."""
        self.other_side: Callable[[DialectEvent | ToolRequested], None] | None = None
        """Where the call's dialects and its program are in two processes: what carries to the other one what they
        tell each other. None: both are here."""
        self.backbone_round_trip: Callable[[], float | None] = _no_backbone
        """Returns the seconds of a round trip between the call's media and its program; None: not known, or there
        is nothing between them."""
        self._link = link
        self._watchers: list[Inbox[ConversationEvent]] = []
        self._tool_results: dict[str, asyncio.Future[str]] = {}
        self._replies: dict[int, PendingReply] = {}
        self._over_early: dict[int, ReplyFinished | ReplyInterrupted] = {}
        self._interrupted: PendingReply | None = None  # until the client has said what it had played of it

    @property
    def ended(self) -> bool:
        """True once the call is over."""
        return self.end is not None

    def command(self, command: Command[object]) -> None:
        """Have the conversation carry out a command soon; nothing happens after the call's end."""
        if not self.ended:
            self._link.submit(command)

    async def execute(self, command: Command[ResultT]) -> ResultT:
        """Have the conversation carry out a command and return (or raise) what comes of it.

        Raises `CallEnded` if the call is over.
        """
        if self.ended:
            await asyncio.sleep(0)  # a program that goes on after the end must not keep the loop to itself
            raise CallEnded("the call is over")
        return await self._link.execute(command)

    def watch_recording(self, name: str, note: Callable[[RecordingEvent], None] | None) -> None:
        """Have `note` told what becomes of the recording that is begun under this name; None: no more."""
        self._link.watch_recording(name, note)

    # -- events ----------------------------------------------------------------------------------------------

    def watch(self) -> Inbox[ConversationEvent]:
        """Return another stream of what the call's `events` say, until the call ends or `unwatch`."""
        inbox: Inbox[ConversationEvent] = Inbox(EVENT_BACKLOG, self.counters, DROPPED_EVENT_UNREAD)
        if self.ended:
            inbox.close()
        else:
            self._watchers.append(inbox)
        return inbox

    def unwatch(self, inbox: Inbox[ConversationEvent]) -> None:
        """End a stream that `watch` gave."""
        if inbox in self._watchers:
            self._watchers.remove(inbox)
        inbox.close()

    def publish(self, event: ConversationEvent) -> None:
        """Put an event into every stream that `watch` gave."""
        for watcher in self._watchers:
            watcher.put(event)

    def inform(self, event: ClientEvent) -> None:
        """Tell the program, and those that watch, what the client has set or put into the conversation."""
        self._tell_program(event)

    def tell_clients(self, news: ClientNews) -> None:
        """Have every client told, of whichever dialect: on the `events` channel, and by those who watch."""
        self.publish(news)
        self.command(cmd.Announce(news))

    def send_message(self, message: dict[str, Any]) -> None:
        """Have every client given a message of the program's; raises `LocalError` for what JSON cannot hold."""
        told = cmd.Tell(message)
        if not self.ended:
            self.publish(ProgramMessage(told.message))
            self.command(told)

    # -- turns and functions ---------------------------------------------------------------------------------

    def manage_turns(self) -> None:
        """From now on a turn reaches the program by `hand_over` only."""
        self._tell_program(TurnsManaged())

    def hand_over(self, utterance: Utterance) -> None:
        """Let the program have this turn."""
        self._tell_program(TurnHandedOver(utterance))

    def hand_over_typed(self, utterance: Utterance) -> None:
        """Let the program have a turn that was typed, which no conversation has told it of."""
        self._tell_program(TurnHandedOver(utterance, is_news=True))

    def offer_tools(self, tools: tuple[Tool, ...]) -> None:
        """The client offers these functions, and no others."""
        self._tell_program(ToolsOffered(tools))

    def finish_tool(self, request: str, output: str) -> None:
        """The client has called the function; harmless for a request that is not waited for."""
        self._tell_program(ToolFinished(request, output))

    def _tell_program(self, event: DialectEvent) -> None:
        self._note(event)
        if self.other_side is None:
            self.give(event)
        else:
            self.other_side(event)

    def take(self, event: DialectEvent) -> None:
        """Take what a dialect in another process tells the program, which is here."""
        self._note(event)
        self.give(event)

    def _note(self, event: DialectEvent) -> None:
        """Keep what the dialect says, and tell those that watch."""
        match event:
            case TurnsManaged():
                self.turns_managed = True
            case ToolsOffered(tools):
                self.tools = tools
            case SessionUpdated(session):
                self.session = session
        news = _news_of(event)
        if news is not None and not self.ended:
            self.publish(news)

    def give(self, event: DialectEvent) -> None:
        """Let the program have what is in `event` for it, where it reads."""
        if isinstance(event, TurnHandedOver):
            self.utterances.put(event.utterance)
        elif isinstance(event, ToolFinished):
            result = self._tool_results.get(event.request)
            if result is not None and not result.done():
                result.set_result(event.output)
        news = _news_of(event)
        if news is not None and not self.ended:
            self.events.put(news)

    async def call_tool(self, name: str, arguments: str) -> str:
        """Have a function of the client called (`arguments` is JSON) and return its output.

        Raises `CallEnded` if the call ends first.
        """
        if self.ended:
            raise CallEnded("the call is over")
        request = f"call_{secrets.token_hex(8)}"
        result: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._tool_results[request] = result
        try:
            event = ToolRequested(request, name, arguments)
            self.publish(event)
            if self.other_side is not None:
                self.other_side(event)
            return await result
        finally:
            del self._tool_results[request]

    # -- replies ---------------------------------------------------------------------------------------------

    def register_reply(self, reply: PendingReply) -> None:
        """A reply has begun: it is told when it is over."""
        self._replies[reply.number] = reply
        early = self._over_early.pop(reply.number, None)
        if early is not None or self.ended:
            self._settle_reply(reply.number, early)

    def forget_reply(self, reply: PendingReply) -> None:
        """A reply is not waited for any more."""
        self._replies.pop(reply.number, None)

    def note_reply(self, event: ReplyFinished | ReplyInterrupted | ReplyHeard) -> None:
        """The conversation says what became of a reply."""
        if isinstance(event, ReplyHeard):
            self._note_heard(event.reply, event)
        else:
            self._settle_reply(event.reply, event)

    def _settle_reply(self, number: int, event: ReplyFinished | ReplyInterrupted | None) -> None:
        reply = self._replies.pop(number, None)
        if reply is not None:
            reply.note_over(event)
            if isinstance(event, ReplyInterrupted) and event.provisional:
                self._interrupted = reply
        elif event is not None:
            self._over_early = {number: event}  # it ended before its program knew its number

    def _note_heard(self, number: int, event: ReplyHeard | None) -> None:
        if self._interrupted is not None and self._interrupted.number == number:
            self._interrupted.note_heard(event)
            self._interrupted = None

    # -- the end ---------------------------------------------------------------------------------------------

    def finish(self, end: Ended) -> None:
        """The call is over: what waits for something of it is told."""
        self.end = end
        for result in self._tool_results.values():
            if not result.done():
                result.set_exception(CallEnded("the call ended before the function had"))
        self.utterances.close()
        for number in list(self._replies):
            self._settle_reply(number, None)
        if self._interrupted is not None:
            self._note_heard(self._interrupted.number, None)
        for watcher in self._watchers:
            watcher.close()


def _news_of(event: DialectEvent) -> ConversationEvent | None:
    """Return what of it stands in `events`."""
    if isinstance(event, SessionUpdated | ContextAdded):
        return event
    return event.utterance if isinstance(event, TurnHandedOver) and event.is_news else None
