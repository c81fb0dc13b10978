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

    def add_calls(self, calls: Sequence[ToolCall], outputs: Sequence[str], words: str = "") -> CalledTools:
        """Add what the model has called, `words` that it wrote before, and what each call returned.

        Servers refuse one without the other, and some of them every later request if arguments are no JSON object:
        those are left out.
        """
        asked = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments if call.is_readable else "{}"},
            }
            for call in calls
        ]
        message: Message = {"role": "assistant", "content": as_unicode(words), "tool_calls": asked}
        told: list[Message] = [
            {"role": "tool", "tool_call_id": call.id, "content": as_unicode(output)}
            for call, output in zip(calls, outputs, strict=True)
        ]
        self._messages += [message, *told]
        return CalledTools(message, told)

    def forget_half(self) -> bool:
        """Forget the older half of what was said before the last turn; False if there is none."""
        turns = [at for at, message in enumerate(self._messages) if message["role"] == "user"]
        if not turns or not turns[-1]:
            return False
        size = _size(self._messages)
        for at in (*turns[1:], turns[-1]):
            if 2 * _size(self._messages[at:]) <= size:
                break
        del self._messages[:at]
        return True

    def _forget(self) -> None:
        if _size(self._messages) <= MAX_HISTORY:
            return
        while len(self._messages) > 1 and _size(self._messages) > MAX_HISTORY / 2:
            del self._messages[0]
            while len(self._messages) > 1 and self._messages[0]["role"] not in ("user", "system"):
                del self._messages[0]


class CalledTools:
    """What the model has called, in the history: what each call returned and which words were heard come later."""

    def __init__(self, message: Message, told: Sequence[Message]) -> None:
        self._message, self._told = message, told

    def returned(self, number: int, output: str) -> None:
        """Note what a call returned."""
        self._told[number]["content"] = as_unicode(output)

    def heard(self, words: str) -> None:
        """Note what was heard of the words before the calls."""
        self._message["content"] = as_unicode(words)


def _size(messages: Sequence[Message]) -> int:
    return sum(len(message["content"]) for message in messages)
