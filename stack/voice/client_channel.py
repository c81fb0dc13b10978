"""The client's `events` channel: it is told what happens in the same call, and its requests are carried out.

`client.py` says what the messages are. What is told before the channel is open waits for it, because a program
greets as soon as there is sound, and the channel opens a little later: its words, and that replies began or ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stack.core.counters import Counters, declare
from stack.core.errors import ParseError
from stack.core.machine import Instant
from stack.sctp import ChannelId
from stack.voice.audio_line import AudioLine
from stack.voice.client import (
    announce,
    describe_turns,
    read_audible,
    read_playout_delay,
    read_request,
    read_silenced,
    read_text,
    read_turn_settings,
    to_json,
)
from stack.voice.events import ClientNews, LineEvent, ReplyFinished, ReplyInterrupted, ReplyStarted, TurnChanged
from stack.voice.turns import TurnSettings, TurnState

DROPPED_ANNOUNCEMENT_WITHOUT_CLIENT = declare(
    "conversation", "dropped_announcement_without_client", "Messages for a client that has no events channel"
)
DROPPED_CLIENT_REPORT_IMPLAUSIBLE = declare(
    "conversation",
    "dropped_client_report_implausible",
    "Reports of the client about what it played that cannot be true",
)
DROPPED_CLIENT_REQUEST_MALFORMED = declare(
    "conversation", "dropped_client_request_malformed", "Requests of the client that could not be read"
)

_WAITING = ClientNews | ReplyStarted | ReplyInterrupted | ReplyFinished
"""Events that are told although they happened before the channel was open; the others are of their moment."""
MAX_EARLY = 64
"""Messages that wait for the client's channel to open; what is told beyond them is dropped."""


class ClientChannel:
    """Queue of what the client is to be told, and the reader of what it asks for. Its owner sends."""

    def __init__(self, counters: Counters) -> None:
        self.channel: ChannelId | None = None
        self._counters = counters
        self.waiting: list[str] = []
        """Messages to be sent as soon as there is a channel; `drain` takes them."""
        self._was_open = False

    def open(self, channel: ChannelId) -> None:
        """The client has opened its channel."""
        self.channel = channel
        self._was_open = True

    def close(self) -> None:
        """The client has closed its channel: what is told from now on is dropped."""
        self.channel = None
        self.waiting.clear()

    def tell(self, message: dict[str, Any]) -> None:
        """Queue a JSON message; counted and dropped for a client that closed its channel or never opens it."""
        if self.channel is None and (self._was_open or len(self.waiting) >= MAX_EARLY):
            self._counters.add(DROPPED_ANNOUNCEMENT_WITHOUT_CLIENT)
        else:
            self.waiting.append(to_json(message))

    def announce(self, event: LineEvent | ClientNews) -> None:
        """Tell the client of an event, if it is one that concerns it and the channel is open.

        What the program says, and the ends of its replies, wait for a channel that was never open. Beyond
        `MAX_EARLY` nothing is counted, as a client of another dialect never opens it.
        """
        may_wait = isinstance(event, _WAITING) and not self._was_open and len(self.waiting) < MAX_EARLY
        if self.channel is not None or may_wait:
            message = announce(event)
            if message is not None:
                if self.channel is None:
                    message.pop("rtp_timestamp", None)  # nothing is left to be silenced when it is told
                self.waiting.append(to_json(message))

    def announce_state(self, state: TurnState) -> None:
        """Tell a client whose channel has opened where the conversation is, unless it is where each begins."""
        if state is not TurnState.LISTENING:
            self.announce(TurnChanged(state))

    def announce_turns(self, settings: TurnSettings) -> None:
        """Tell the client the rules in force, if it has a channel; it is told again when that opens."""
        if self.channel is not None:
            self.waiting.append(to_json(describe_turns(settings)))

    def drain(self) -> Sequence[str]:
        """Return what is to be sent now, in order."""
        waiting, self.waiting = self.waiting, []
        return waiting

    def handle_message(self, data: str | bytes, line: AudioLine, now: Instant) -> bool:
        """Do what the client asks for; False if it is no request of ours, but a message for the program."""
        manager = line.turn_manager
        try:
            request = read_request(data)
            match request["type"]:
                case "turn_settings":
                    manager.configure(read_turn_settings(request, manager.settings), now)
                    self.announce_turns(manager.settings)
                case "push_to_talk":
                    manager.push_to_talk(request.get("pressed") is True, now)
                case "interrupt":
                    manager.interrupt(now)
                case "text":
                    manager.take_text(read_text(request), now)
                case "ping":
                    pass
                case "playout_delay":
                    manager.playout_delay = read_playout_delay(request)
                case "silenced":
                    if not manager.note_silenced(read_silenced(request), now):
                        self._counters.add(DROPPED_CLIENT_REPORT_IMPLAUSIBLE)
                case "audible":
                    manager.note_audible(read_audible(request), now)
                case _:
                    return False
        except ParseError:
            self._counters.add(DROPPED_CLIENT_REQUEST_MALFORMED)
            return False
        return True
