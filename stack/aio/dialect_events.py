"""What the dialects of a call tell its program, beside what its conversation does.

These are values, as the two may be in two processes (docs/scale.md). The other way there is `ToolRequested`
(`stack.voice.events`). Each is applied by `CallControl.take`.
"""

from __future__ import annotations

from typing import TypeAlias

from stack.aio.context import Tool
from stack.core.values import Value
from stack.voice.events import ContextAdded, SessionUpdated, Utterance


class TurnsManaged(Value, frozen=True):
    """From now on a turn reaches the program by `TurnHandedOver` only: the dialect decides when."""


class ToolsOffered(Value, frozen=True):
    """The functions that the client offers: `call.tools` from now on."""

    tools: tuple[Tool, ...]


class TurnHandedOver(Value, frozen=True, eq=False):
    """The program is to have this turn in `utterances`."""

    utterance: Utterance
    is_news: bool = False
    """The conversation has told the program nothing of it: a turn that was typed in the dialect's words."""
    has_sound: bool = True
    """False if its samples were left out: the other process had them with the `Utterance` in `events`."""


class ToolFinished(Value, frozen=True):
    """The client has called a function, and this came of it."""

    request: str
    output: str


DialectEvent: TypeAlias = (
    TurnsManaged | ToolsOffered | TurnHandedOver | ToolFinished | SessionUpdated | ContextAdded
)

__all__ = ["DialectEvent", "ToolFinished", "ToolsOffered", "TurnHandedOver", "TurnsManaged"]
