"""What the events of OpenAI's Realtime protocol may hold, and refusing what they may not.

The field names and kinds are those of the published client events; errors are worded and coded as the real
service does (`unknown_parameter`, `missing_required_parameter`, `invalid_type`, `invalid_value`), so that a client
is told of a field that would change nothing instead of being thanked for it. What is known but cannot be done here
is refused in `realtime_settings.py` and `realtime_session.py`.

Left out: the insides of `prompt`, `reasoning`, `tracing` and `truncation`, which only a program can judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from stack.core.errors import ParseError


class InvalidField(ParseError):
    """A field that cannot be; `param` is its path and `code` OpenAI's word for what is wrong."""

    def __init__(self, param: str, message: str, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param, self.code = param, code


@dataclass(frozen=True, slots=True)
class FieldType:
    """What a value is: one of `types`, one of `values`, and if it is an object, with which fields."""

    name: str
    types: tuple[type, ...]
    values: tuple[object, ...] = ()
    fields: Mapping[str, FieldType] | None = None
    required: tuple[str, ...] = ()
    nullable: bool = False
    variants: Mapping[str, FieldType] = field(default_factory=dict)
    """For objects whose fields depend on their `type`: the kind of each."""
    items: FieldType | None = None
    """For lists: the kind of each element."""
    lowest: float | None = None
    highest: float | None = None

    def check(self, value: object, param: str) -> None:
        """Raise `InvalidField` for a value that is not of this kind."""
        if value is None and self.nullable:
            return
        wrong = isinstance(value, bool) and bool not in self.types  # a bool is an int to Python, not to JSON
        if wrong or not isinstance(value, self.types):
            message = f"Invalid type for '{param}': expected {self.name}, but got {_kind_of(value)} instead."
            raise InvalidField(param, message, "invalid_type")
        if self.values and isinstance(value, str) and value not in self.values:
            known = ", ".join(repr(known) for known in self.values)
            raise InvalidField(param, f"Invalid value: {value[:64]!r}. Supported values are: {known}.")
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._check_range(value, param)
        if isinstance(value, dict):
            self._check_object(value, param)
        if isinstance(value, list) and self.items is not None:
            for index, item in enumerate(value):
                self.items.check(item, f"{param}[{index}]")

    def _check_range(self, value: float, param: str) -> None:
        if self.lowest is not None and not value >= self.lowest:
            raise InvalidField(param, f"Invalid '{param}': expected a value >= {self.lowest:g}, but got {value}.")
        if self.highest is not None and not value <= self.highest:
            raise InvalidField(param, f"Invalid '{param}': expected a value <= {self.highest:g}, but got {value}.")

    def _check_object(self, value: Mapping[str, Any], param: str) -> None:
        if self.variants:
            chosen = value.get("type")
            if "type" not in value:
                raise missing(f"{param}.type")
            FieldType("a string", (str,), tuple(self.variants)).check(chosen, f"{param}.type")
            self.variants[str(chosen)]._check_object(value, param)
            return
        if self.fields is None:
            return
        prefix = f"{param}." if param else ""
        for name, inner in value.items():
            kind = self.fields.get(name)
            if kind is None:
                where = f"{prefix}{name[:64]}"
                raise InvalidField(where, f"Unknown parameter: '{where}'.", "unknown_parameter")
            kind.check(inner, f"{prefix}{name}")
        for name in self.required:
            if name not in value:
                raise missing(f"{prefix}{name}")


def missing(param: str) -> InvalidField:
    """Return the error for a field that has to be there."""
    return InvalidField(param, f"Missing required parameter: '{param}'.", "missing_required_parameter")


def _kind_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"


def _object(fields: Mapping[str, FieldType], *required: str, nullable: bool = False) -> FieldType:
    return FieldType("an object", (dict,), fields=fields, required=required, nullable=nullable)


def _one_of(*values: str) -> FieldType:
    return FieldType(f"one of {', '.join(repr(value) for value in values)}", (str,), values)


def _list(items: FieldType, *, nullable: bool = False) -> FieldType:
    return FieldType("an array", (list,), items=items, nullable=nullable)


_TEXT: Final = FieldType("a string", (str,))
_TEXT_OR_NULL: Final = FieldType("a string", (str,), nullable=True)
_FLAG: Final = FieldType("a boolean", (bool,))
_ANY_OBJECT: Final = FieldType("an object", (dict,), nullable=True)
_MILLISECONDS: Final = FieldType("an integer", (int, float), lowest=0, highest=600_000)
_MODALITIES: Final = _list(_one_of("audio", "text"))
_TOKENS: Final = FieldType("an integer or 'inf'", (int, str), ("inf",), lowest=1, highest=4096)
_TOOL_CHOICE: Final = FieldType("a string or an object", (str, dict), ("auto", "none", "required"))
_ID: Final = FieldType("a string", (str,))

_FORMAT: Final = FieldType(
    "an object",
    (dict,),
    variants={
        "audio/pcm": _object(
            {"type": _TEXT, "rate": FieldType("an integer", (int,), lowest=24_000, highest=24_000)}
        ),
        "audio/pcmu": _object({"type": _TEXT}),
        "audio/pcma": _object({"type": _TEXT}),
    },
)
_DETECTION: Final = FieldType(
    "an object",
    (dict,),
    nullable=True,
    variants={
        "server_vad": _object(
            {
                "type": _TEXT,
                "create_response": _FLAG,
                "interrupt_response": _FLAG,
                "model_version": _TEXT,  # which OpenAI's own client knows
                "threshold": FieldType("a decimal", (int, float), lowest=0, highest=1),
                "prefix_padding_ms": _MILLISECONDS,
                "silence_duration_ms": _MILLISECONDS,
                "idle_timeout_ms": FieldType("an integer", (int, float), nullable=True, lowest=0, highest=600_000),
            }
        ),
        "semantic_vad": _object(
            {
                "type": _TEXT,
                "create_response": _FLAG,
                "interrupt_response": _FLAG,
                "model_version": _TEXT,
                "eagerness": _one_of("low", "medium", "high", "auto"),
            }
        ),
    },
)
_TOOL: Final = FieldType(
    "an object",
    (dict,),
    variants={
        "function": _object(
            {"type": _TEXT, "name": _TEXT, "description": _TEXT, "parameters": _ANY_OBJECT}, "name"
        )
    },
)
_VOICE: Final = FieldType("a string or an object", (str, dict), fields={"id": _TEXT}, required=("id",))
_INPUT: Final = _object(
    {
        "format": _FORMAT,
        "noise_reduction": _object(
            {"type": _one_of("near_field", "far_field"), "strength": FieldType("a decimal", (int, float))},
            nullable=True,
        ),
        "transcription": _object(
            {
                "model": _TEXT,
                "language": _TEXT_OR_NULL,
                "languages": _list(_TEXT, nullable=True),
                "prompt": _TEXT_OR_NULL,
                "keywords": _list(_TEXT, nullable=True),
                "delay": _TEXT_OR_NULL,
            },
            nullable=True,
        ),
        "turn_detection": _DETECTION,
    }
)
_OUTPUT: Final = {"format": _FORMAT, "voice": _VOICE}
SESSION: Final = _object(
    {
        "type": _one_of("realtime"),
        "model": _TEXT,
        "instructions": _TEXT,
        "output_modalities": _MODALITIES,
        "max_output_tokens": _TOKENS,
        "tools": _list(_TOOL),
        "tool_choice": _TOOL_CHOICE,
        "parallel_tool_calls": _FLAG,
        "prompt": _ANY_OBJECT,
        "reasoning": _ANY_OBJECT,
        "tracing": FieldType("a string or an object", (str, dict), ("auto",), nullable=True),
        "truncation": FieldType("a string or an object", (str, dict), ("auto", "disabled")),
        "include": _list(_one_of("item.input_audio_transcription.logprobs"), nullable=True),
        "audio": _object(
            {
                "input": _INPUT,
                "output": _object(
                    {**_OUTPUT, "speed": FieldType("a decimal", (int, float), lowest=0.25, highest=1.5)}
                ),
            }
        ),
    }
)
"""A session, of which every field may be left out; an event that updates one has to name its type."""

RESPONSE: Final = _object(
    {
        "audio": _object({"output": _object(_OUTPUT)}),
        "conversation": _one_of("auto", "none"),
        "input": _list(_ANY_OBJECT),
        "instructions": _TEXT,
        "max_output_tokens": _TOKENS,
        "metadata": FieldType("an object", (dict,), nullable=True),
        "output_modalities": _MODALITIES,
        "parallel_tool_calls": _FLAG,
        "prompt": _ANY_OBJECT,
        "reasoning": _ANY_OBJECT,
        "tool_choice": _TOOL_CHOICE,
        "tools": _list(_TOOL),
    },
    nullable=True,
)


def _parts(*types: str) -> FieldType:
    part = _object({"type": _TEXT, "text": _TEXT}, "text")
    return _list(FieldType("an object", (dict,), variants=dict.fromkeys(types, part)))


_ITEM_HEAD: Final = {
    "id": _ID,
    "type": _TEXT,
    "object": _one_of("realtime.item"),
    "status": _one_of("completed", "incomplete", "in_progress"),
}
_MESSAGES: Final = {
    role: _object({**_ITEM_HEAD, "role": _TEXT, "content": _parts(part)}, "role", "content")
    for role, part in (("user", "input_text"), ("system", "input_text"), ("assistant", "output_text"))
}
_OUTPUT_ITEM: Final = _object({**_ITEM_HEAD, "call_id": _TEXT, "output": _TEXT}, "call_id", "output")
MAX_METADATA = 16
"""Pairs of metadata; a name has at most 64 characters and a value 512."""


def check_item(item: object) -> dict[str, Any]:
    """Return an item that a client may create: a message of text, or the output of a function."""
    FieldType("an object", (dict,)).check(item, "item")
    assert isinstance(item, dict)
    if "type" not in item:
        raise missing("item.type")
    _one_of("message", "function_call_output").check(item["type"], "item.type")
    if item["type"] == "function_call_output":
        _OUTPUT_ITEM.check(item, "item")
        return item
    if "role" not in item:
        raise missing("item.role")
    _one_of(*_MESSAGES).check(item["role"], "item.role")
    _MESSAGES[item["role"]].check(item, "item")
    return item


def check_metadata(metadata: Mapping[str, Any], param: str) -> None:
    """Raise `InvalidField` for metadata that are not a few short strings."""
    if len(metadata) > MAX_METADATA:
        raise InvalidField(param, f"Invalid '{param}': too many properties, at most {MAX_METADATA} are allowed.")
    for name, value in metadata.items():
        _TEXT.check(value, f"{param}.{name[:64]}")
        if len(name) > 64 or len(value) > 512:
            raise InvalidField(param, f"Invalid '{param}': a name has at most 64 characters, a value 512.")


_EVENT: Final = {"type": _TEXT, "event_id": _TEXT_OR_NULL}
_PREVIOUS: Final = {"previous_item_id": _TEXT_OR_NULL}
EVENTS: Final[Mapping[str, FieldType]] = {
    "session.update": _object({**_EVENT, "session": FieldType("an object", (dict,))}, "session"),
    "input_audio_buffer.append": _object({**_EVENT, "audio": _TEXT}, "audio"),
    "input_audio_buffer.commit": _object(_EVENT),
    "input_audio_buffer.clear": _object(_EVENT),
    "conversation.item.create": _object({**_EVENT, **_PREVIOUS, "item": FieldType("an object", (dict,))}, "item"),
    "conversation.item.retrieve": _object({**_EVENT, "item_id": _ID}, "item_id"),
    "conversation.item.delete": _object({**_EVENT, "item_id": _ID}, "item_id"),
    "conversation.item.truncate": _object(
        {
            **_EVENT,
            "item_id": _ID,
            "content_index": FieldType("an integer", (int,), lowest=0),
            "audio_end_ms": FieldType("an integer", (int,), lowest=0),
        },
        "item_id",
        "content_index",
        "audio_end_ms",
    ),
    "response.create": _object({**_EVENT, "response": RESPONSE}),
    "response.cancel": _object({**_EVENT, "response_id": _TEXT_OR_NULL}),
    "output_audio_buffer.clear": _object(_EVENT),
}
"""The client events, by type."""
