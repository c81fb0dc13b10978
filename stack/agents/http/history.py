"""What both have said, as the language model is told it: of the program's words, those that were heard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from stack.agents.http.services import ToolCall
from stack.core.values import as_unicode

Message: TypeAlias = dict[str, Any]

MAX_HISTORY: Final = 24_000
"""Characters of a conversation that the model is told; beyond that the oldest turns go, half at once."""


class ChatHistory:
    """The messages of one conversation."""

    def __init__(self) -> None:
        self._messages: list[Message] = []

    def prompt(self, instructions: str) -> list[Message]:
        """Return what the model is asked: the instructions, and all that was said."""
        return [{"role": "system", "content": as_unicode(instructions)}, *self._messages]

    def add(self, role: str, text: str) -> None:
        """Add what was said; a piece of the same speaker becomes one message with the one before it."""
        text = as_unicode(text)
        last = self._messages[-1] if self._messages else None
        if last is not None and last["role"] == role and role != "system" and "tool_calls" not in last:
            last["content"] = f"{last['content']} {text}"
        else:
            self._messages.append({"role": role, "content": text})
        self._forget()

    def add_calls(self, calls: Sequence[ToolCall], outputs: Sequence[str]) -> None:
        """Add what the model has called, and what each returned: servers refuse one without the other."""
        asked = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments or "{}"},
            }
            for call in calls
        ]
        self._messages.append({"role": "assistant", "content": "", "tool_calls": asked})
        self._messages += [
            {"role": "tool", "tool_call_id": call.id, "content": as_unicode(output)}
            for call, output in zip(calls, outputs, strict=True)
        ]

    def _forget(self) -> None:
        if _size(self._messages) <= MAX_HISTORY:
            return
        while len(self._messages) > 1 and _size(self._messages) > MAX_HISTORY / 2:
            del self._messages[0]
            while len(self._messages) > 1 and self._messages[0]["role"] not in ("user", "system"):
                del self._messages[0]


def _size(messages: Sequence[Message]) -> int:
    return sum(len(message["content"]) for message in messages)
