"""The parts of a Realtime session: its items and responses, and the commands that it has for the call."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np

from stack.aio import Tool
from stack.core.errors import RemoteError
from stack.voice import events as ev
from stack.voice.turns import TurnSettings
from stack.voice.vad import DETECTOR_RATE

Event: TypeAlias = dict[str, Any]


MAX_ITEMS = 1000
"""Items of a conversation that are remembered; beyond that the oldest goes."""
MAX_SPOKEN = 64
"""Spoken turns that may still be told what was said in them."""
PROGRAM_FAILED: Final = {
    "type": "server_error",
    "code": "program_failed",
    "message": "the program failed",
    "param": None,
    "event_id": None,
}
"""What a client is told of a program that raised."""


@dataclass(frozen=True, slots=True)
class Configure:
    """Other rules of turn-taking, the functions that the client offers now, and the session if it was updated."""

    settings: TurnSettings
    tools: tuple[Tool, ...]
    session: Event | None = None


@dataclass(frozen=True, slots=True)
class HandOver:
    """Let the program have a turn."""

    utterance: ev.Utterance


@dataclass(frozen=True, slots=True)
class InterruptReply:
    """Drop the reply that is being spoken."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The turn is over; tell `refuse` with this event id if there is nothing in it."""

    event_id: str | None


@dataclass(frozen=True, slots=True)
class Clear:
    """Forget what was heard of this turn."""


@dataclass(frozen=True, slots=True)
class FinishTool:
    """A function's output; `soon` if the client may still ask for a response in the same breath."""

    request: str
    output: str
    soon: bool


@dataclass(frozen=True, slots=True)
class AddContext:
    """Let the program know of a message that asks for no answer."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class AwaitReply:
    """Call `give_up` with this response if the program lets it wait for too long."""

    response_id: str


SessionCommand: TypeAlias = (
    Configure | HandOver | InterruptReply | Commit | Clear | FinishTool | AddContext | AwaitReply
)


class EventRefused(RemoteError):
    """A client event that is refused: why, OpenAI's code for it, and the field that is to blame."""

    def __init__(self, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message, self.code, self.param = message, code, param


class Items:
    """The items of a conversation, in order."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, Event] = OrderedDict()

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._items

    @property
    def last(self) -> str | None:
        """The newest one's identifier."""
        return next(reversed(self._items), None)

    def get(self, item_id: str) -> Event | None:
        """Return the item of this name."""
        return self._items.get(item_id)

    def known(self, item_id: str) -> Event:
        """Return the item of this name that a client asks for; raises `EventRefused` if there is none."""
        item = self._items.get(item_id)
        if item is None:
            raise EventRefused("there is no such item", "item_not_found", "item_id")
        return item

    def remove(self, item_id: str) -> None:
        """Forget an item that is there."""
        del self._items[item_id]

    def before(self, item_id: str) -> str | None:
        """Return the name of the item before this one."""
        previous = None
        for name in self._items:
            if name == item_id:
                return previous
            previous = name
        return None

    def add(self, item: Event, after: str | None = None) -> str | None:
        """Put an item at the end, behind the one named `after`, or first ("root"); return its predecessor."""
        while len(self._items) >= MAX_ITEMS:
            self._items.popitem(last=False)
        self._items[item["id"]] = item
        if after is not None:
            order = [name for name in self._items if name != item["id"]]
            at = order.index(after) + 1 if after in order else 0
            for name in order[at:]:
                self._items.move_to_end(name)
        return self.before(item["id"])


class SpokenItems:
    """Which item stands for which spoken turn; a turn is known by when it began (`Utterance.media_time`)."""

    def __init__(self) -> None:
        self._names: OrderedDict[float, str] = OrderedDict()
        self._so_far = ""  # of the latest turn, in words that are not final

    def take_transcript(self, said: ev.UserTranscript) -> str:
        """Return what is new of what is understood so far; nothing of what is understood otherwise meanwhile."""
        so_far, self._so_far = self._so_far, "" if said.final else said.text
        return said.text[len(so_far) :] if said.text.startswith(so_far) else ""

    def add(self, item_id: str, began: float) -> None:
        """A turn has become an item."""
        while len(self._names) >= MAX_SPOKEN:
            self._names.popitem(last=False)
        self._names[began] = item_id

    def of(self, began: float | None) -> str:
        """Return the item of a turn; of the latest one for None, "" if it is not known (any more)."""
        if began is None:
            return next(reversed(self._names.values()), "")
        return self._names.get(began, "")


@dataclass(slots=True)
class Response:
    """A response: what stands for a reply that is owed or spoken."""

    id: str
    metadata: Event | None = None
    output: list[Event] = field(default_factory=list)
    reply: int | None = None
    """The reply's number, once it has begun."""
    message: Event | None = None
    """The item that is spoken."""
    audible: bool = False
    cancelled: bool = False
    """The client asked for its end."""

    def describe(self, conversation_id: str, status: str, reason: str | None = None) -> Event:
        """Return the response as events carry it; tokens are not counted."""
        over = status != "in_progress"
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": status,
            "status_details": {"type": status, **({"reason": reason} if reason else {})} if over else None,
            "output": [copy_item(item) for item in self.output],
            "output_modalities": ["audio"],
            "conversation_id": conversation_id,
            "metadata": self.metadata,
            "usage": {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0} if over else None,
        }

    def place(self, item: Event) -> Event:
        """Return the fields that say where an item stands, or will stand, in the output."""
        index = next((at for at, one in enumerate(self.output) if one is item), len(self.output))
        return {"response_id": self.id, "output_index": index}

    def part(self) -> Event:
        """Return the fields that say which part of which item is spoken."""
        assert self.message is not None
        return {**self.place(self.message), "item_id": self.message["id"], "content_index": 0}


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds."""
    return round(seconds * 1000.0)


def make_message(item_id: str, role: str, content: list[Event], status: str) -> Event:
    """Return a message as an item of the conversation."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": role,
        "content": content,
    }


def copy_item(item: Event) -> Event:
    """Return an item as it is now, without what only we know of it."""
    copy = {name: value for name, value in item.items() if not name.startswith("_")}
    if isinstance(copy.get("content"), list):
        copy["content"] = [dict(part) for part in copy["content"]]
    return copy


def user_part(utterance: ev.Utterance) -> Event:
    """Return the content of the item that stands for a turn."""
    if utterance.is_typed:
        return {"type": "input_text", "text": utterance.text}
    return {"type": "input_audio", "transcript": None}


def typed_turn(text: str) -> ev.Utterance:
    """Return a turn that was typed."""
    return ev.Utterance(np.zeros(0, np.int16), DETECTOR_RATE, 0.0, 0.0, 0.0, text)


def text_of(item: Event) -> str:
    """Return the text of a message of the client."""
    return "\n".join(part["text"] for part in item["content"])
