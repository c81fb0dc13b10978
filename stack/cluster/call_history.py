"""What a program process has to know of a call that it takes, whenever that is.

The connection, the channels that are open and what dialects have said hold for every process that comes. What
happens while none has the call waits for the next one: sound, messages, turns that were handed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

from stack.aio.dialect_events import DialectEvent, ToolsOffered, TurnHandedOver, TurnsManaged
from stack.sctp import ChannelClosed, ChannelOpened
from stack.session import Authenticated, Connected
from stack.voice.commands import BeginReply, ConversationCommand, Write, WriteReply
from stack.voice.events import ContextAdded, ConversationEvent

MAX_WAITING = 1500
"""Events that wait for a process: 30 s of sound, as a program's microphone holds."""
MAX_CONTEXTS = 100
"""Texts that the client has put into the conversation, the latest."""

Waiting: TypeAlias = ConversationEvent | TurnHandedOver
_HOLDS = (Connected, Authenticated, ChannelOpened, ChannelClosed)


class CallHistory:
    """Of one call at its node."""

    def __init__(self) -> None:
        self.replies = 0
        """The number of the latest reply."""
        self.writes = 0
        """How often sound was written: the media side says how much of that has been played."""
        self.contexts: deque[ContextAdded] = deque(maxlen=MAX_CONTEXTS)
        self.waiting: deque[Waiting] = deque(maxlen=MAX_WAITING)
        self._events: dict[Any, ConversationEvent] = {}
        self._told: dict[type[DialectEvent], DialectEvent] = {}

    def note_event(self, event: ConversationEvent) -> None:
        """Take what happens in the call."""
        if isinstance(event, Connected | Authenticated):
            self._events[type(event)] = event
        elif isinstance(event, ChannelOpened):
            self._events[event.channel] = event
        elif isinstance(event, ChannelClosed):
            self._events.pop(event.channel, None)

    def note_dialect(self, event: DialectEvent) -> None:
        """Take what a dialect says to the program. The session is not here: the call has it."""
        if isinstance(event, TurnsManaged | ToolsOffered):
            self._told[type(event)] = event
        elif isinstance(event, ContextAdded):
            self.contexts.append(event)

    def note_command(self, command: ConversationCommand, returned: object = None) -> None:
        """A command was carried out, and this came of it."""
        if isinstance(command, Write | WriteReply):
            self.writes += 1
        elif isinstance(command, BeginReply) and isinstance(returned, int):
            self.replies = returned

    def keep(self, event: Waiting) -> None:
        """No process has the call: the next one is told this."""
        if not isinstance(event, _HOLDS):
            self.waiting.append(event)

    @property
    def events(self) -> Sequence[ConversationEvent]:
        """What has happened and still holds."""
        return tuple(self._events.values())

    @property
    def told(self) -> Sequence[DialectEvent]:
        """What the dialects have said and still holds."""
        return tuple(self._told.values())
