"""The session object of OpenAI's Realtime protocol: merged, checked, and turned into our rules of turn-taking.

What only a program can act upon (a model's name, instructions, voices, limits) is kept, told back as clients
expect, and is there for the program in `call.session`, which `SessionUpdated` announces. What neither of us could
do is refused: see `realtime_schema.py` for fields that are unknown, and below for those that we cannot honour. The
formats are those of sound in events, of which a call on a track has none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stack.aio import Tool
from stack.core.errors import LocalError
from stack.signaling.realtime_schema import SESSION, InvalidField, check_metadata, missing
from stack.voice.turns import Eagerness, TurnMode, TurnSettings

MAX_SESSION = 64 * 1024
"""Characters of a session, as JSON."""
MAX_TOOLS = 128
_MERGED = frozenset({"audio", "input", "output", "transcription", "noise_reduction"})
"""What is updated field by field; everything else is replaced as a whole."""

DEFAULT_SESSION: Mapping[str, Any] = {
    "type": "realtime",
    "model": "voice-stack",
    "output_modalities": ["audio"],
    "instructions": "",
    "tools": [],
    "tool_choice": "auto",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "transcription": None,
            "noise_reduction": None,
            "turn_detection": {
                "type": "server_vad",
                "threshold": 0.5,
                "prefix_padding_ms": 300,
                "silence_duration_ms": 500,
                "create_response": True,
                "interrupt_response": True,
                "idle_timeout_ms": None,
            },
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy", "speed": 1.0},
    },
}


def merge_session(session: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Return `session` with the fields of `update`; raises `InvalidField` for what cannot be."""
    SESSION.check(update, "session")
    merged = merge_unchecked(session, update)
    _check_modalities(merged, "session")
    read_turns(merged)
    read_tools(merged)
    return merged


def merge_unchecked(session: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Return `session` with the fields of `update`, without judging them, within `MAX_SESSION`."""
    merged = _merge(session, update)
    if len(json.dumps(merged)) > MAX_SESSION:
        raise InvalidField("session", f"a session has at most {MAX_SESSION} characters")
    return merged


def update_session(session: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Return `session` after a `session.update`, which has to say the session's type."""
    if "type" not in update:
        raise missing("session.type")
    return merge_session(session, update)


def read_response(wanted: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Return what a `response.create` asks of the program for this one response, and its metadata.

    Raises `InvalidField` for what a program has no means to do: to answer without being heard, or from something
    else than the conversation.
    """
    _check_modalities(wanted, "response")
    if wanted.get("conversation") == "none":
        raise InvalidField(
            "response.conversation",
            "Out-of-band responses are not supported here: what is answered is spoken, in the conversation. "
            "Supported values are: 'auto'.",
        )
    for name, instead in (("input", "conversation.item.create"), ("tools", "session.update")):
        if name in wanted:
            message = f"'response.{name}' is not supported for a single response here: use {instead}."
            raise InvalidField(f"response.{name}", message)
    metadata = wanted.get("metadata")
    if metadata is not None:
        check_metadata(metadata, "response.metadata")
    others = ("conversation", "metadata", "output_modalities")
    return {name: value for name, value in wanted.items() if name not in others}, metadata


def _check_modalities(settings: Mapping[str, Any], where: str) -> None:
    if settings.get("output_modalities", ["audio"]) != ["audio"]:
        raise InvalidField(
            f"{where}.output_modalities", "Responses without sound are not supported here: say ['audio']."
        )


def _merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in update.items():
        former = merged.get(name)
        if name in _MERGED and isinstance(value, dict) and isinstance(former, dict):
            value = _merge(former, value)
        merged[name] = value
    return merged


def read_turns(session: Mapping[str, Any]) -> TurnSettings:
    """Return the rules that `session.audio.input.turn_detection` stands for; raises `InvalidField`.

    An interruption is final at once: the protocol has no word for a reply that goes on.
    """
    given = session["audio"]["input"].get("turn_detection")
    if given is None:  # turns are ended by the client
        return TurnSettings(mode=TurnMode.MANUAL, create_response=False, interrupt_response=False)
    rules = TurnSettings(
        mode=TurnMode(given["type"]),
        resume_after_ms=None,
        create_response=given.get("create_response", True),
        interrupt_response=given.get("interrupt_response", True),
    )
    try:
        if given["type"] == "semantic_vad":
            return replace(rules, eagerness=Eagerness(given.get("eagerness", "auto")))
        names = ("threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms")
        numbers: dict[str, Any] = {name: float(given[name]) for name in names if given.get(name) is not None}
        return replace(rules, **numbers)
    except (ValueError, LocalError) as error:
        raise InvalidField("session.audio.input.turn_detection", str(error)) from error


def read_tools(session: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Return the functions that the client offers; raises `InvalidField` for too many."""
    given = session.get("tools") or []
    if len(given) > MAX_TOOLS:
        raise InvalidField("session.tools", f"tools are a list of at most {MAX_TOOLS}")
    return tuple(Tool(tool["name"], tool.get("description", ""), tool.get("parameters") or {}) for tool in given)
