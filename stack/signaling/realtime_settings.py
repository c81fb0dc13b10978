"""The session object of OpenAI's Realtime protocol: merged, checked, and turned into our rules of turn-taking.

What we do not act upon (a model's name, its instructions, voices, formats) is kept and told back, as clients
expect, and is there for the program in `call.context.session`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stack.aio import Tool
from stack.core.errors import LocalError, ParseError
from stack.voice.turns import Eagerness, TurnMode, TurnSettings

MAX_SESSION = 64 * 1024
"""Characters of a session, as JSON."""
MAX_TOOLS = 128
_MAX_DEPTH = 8

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


class InvalidSession(ParseError):
    """A session that cannot be; `param` names the field."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


def merge_session(session: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Return `session` with the fields of `update`; raises `InvalidSession` for what cannot be."""
    if update.get("type", "realtime") != "realtime":
        raise InvalidSession("session.type", "only sessions of the type 'realtime' are held here")
    merged = _merge(session, update, 0)
    if len(json.dumps(merged)) > MAX_SESSION:
        raise InvalidSession("session", f"a session has at most {MAX_SESSION} characters")
    read_turns(merged)
    read_tools(merged)
    return merged


def _merge(base: Mapping[str, Any], update: Mapping[str, Any], depth: int) -> dict[str, Any]:
    merged = dict(base)
    for name, value in update.items():
        former = merged.get(name)
        if (
            isinstance(value, dict)
            and isinstance(former, dict)
            and depth < _MAX_DEPTH
            and name != "turn_detection"
        ):
            merged[name] = _merge(former, value, depth + 1)
        else:
            merged[name] = value
    return merged


def _input(session: Mapping[str, Any]) -> Mapping[str, Any]:
    audio = session.get("audio")
    found = audio.get("input") if isinstance(audio, dict) else None
    if not isinstance(found, dict):
        raise InvalidSession("session.audio", "session.audio.input is an object")
    return found


def read_turns(session: Mapping[str, Any]) -> TurnSettings:
    """Return the rules that `session.audio.input.turn_detection` stands for; raises `InvalidSession`.

    An interruption is final at once: the protocol has no word for a reply that goes on.
    """
    where = "session.audio.input.turn_detection"
    given = _input(session).get("turn_detection")
    if given is None:  # turns are ended by the client
        return TurnSettings(mode=TurnMode.MANUAL, create_response=False, interrupt_response=False)
    if not isinstance(given, dict):
        raise InvalidSession(where, "turn_detection is an object or null")
    kind = given.get("type", "server_vad")
    if kind not in ("server_vad", "semantic_vad"):
        raise InvalidSession(f"{where}.type", f"turn detection is server_vad or semantic_vad, not {kind!r}")
    rules = TurnSettings(
        mode=TurnMode(kind),
        resume_after_ms=None,
        create_response=_flag(given, "create_response", where),
        interrupt_response=_flag(given, "interrupt_response", where),
    )
    try:
        if kind == "semantic_vad":
            return replace(rules, eagerness=Eagerness(given.get("eagerness") or "auto"))
        numbers: dict[str, Any] = {
            name: _number(given, name, where)
            for name in ("threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms")
            if given.get(name) is not None
        }
        return replace(rules, **numbers)
    except (ValueError, LocalError) as error:
        raise InvalidSession(where, str(error)) from error


def _flag(given: Mapping[str, Any], name: str, where: str) -> bool:
    value = given.get(name)
    if value is None:
        return True
    if not isinstance(value, bool):
        raise InvalidSession(f"{where}.{name}", f"{name} is true or false")
    return value


def _number(given: Mapping[str, Any], name: str, where: str) -> float:
    value = given[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 600_000:
        raise InvalidSession(f"{where}.{name}", f"{name} is a number that makes sense")
    return float(value)


def read_tools(session: Mapping[str, Any]) -> tuple[Tool, ...]:
    """Return the functions that the client offers; raises `InvalidSession`. Other kinds are its affair."""
    given = session.get("tools") or []
    if not isinstance(given, list) or len(given) > MAX_TOOLS:
        raise InvalidSession("session.tools", f"tools are a list of at most {MAX_TOOLS}")
    tools = []
    for index, tool in enumerate(given):
        if not isinstance(tool, dict):
            raise InvalidSession(f"session.tools[{index}]", "a tool is an object")
        if tool.get("type", "function") != "function":
            continue
        name, parameters = tool.get("name"), tool.get("parameters") or {}
        if not isinstance(name, str) or not name or not isinstance(parameters, dict):
            raise InvalidSession(
                f"session.tools[{index}].name", "a function has a name, and an object as parameters"
            )
        tools.append(Tool(name, str(tool.get("description") or ""), parameters))
    return tuple(tools)
