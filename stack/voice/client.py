"""What we tell a client on its `events` channel, and what it may ask there: JSON objects `{"type": …}`.

The client hears of an interruption in the same instant in which the packets stop, so that it can silence what is
still in its own buffer. The names are ours; the dialects of other clients are mapped elsewhere.

Asked for by the client: `turn_settings` (fields of `TurnSettings`), `push_to_talk` (`pressed`), `interrupt`,
`text` (`text`: a turn that was typed). `ping` asks for nothing: the acknowledgement of SCTP is the answer.

Told when the channel opens, and when they change: `turn_settings` in force, and the state of the conversation
(`turn`). Replies that began before that are told then, and what became of them. `takes_turns` says that the
program asks for whole turns, so that a typed one reaches it. What the program says in words is a `transcript`: of
the `user` (so far, or `final`), or of the `agent`'s reply (`delta`: the pieces are joined as they are; `start_ms`
and `duration_ms` count from the beginning of the reply). `program_failed` says that it raised: the call ends.

Where the program runs on another machine, `path` says from time to time how far that is: `program_ms` of a round
trip between the machine with the media (`node`, `region`) and the program's.

What falls silent is told by `reply_held` and `reply_interrupted`, with the RTP timestamp of the last packet that
left (`rtp_timestamp`): when the client has played that, and what its jitter buffer makes up behind it, it can open
its track again. A `reply_interrupted` without it is of before the channel was open: nothing is left to silence.

Told by the client of what it plays, if it can:
- `playout_delay` (`ms`): what its jitter buffer holds back;
- `silenced` (`reply`, `rtp_timestamp`, `age_ms`): it fell silent as it was told to by `reply_held` or
  `reply_interrupted`; the latest packet that it began to play, so long ago, has this RTP timestamp;
- `audible` (`reply`): what it held of that reply is gone, and what comes now will be heard. Said once at the
  beginning (`reply` 0), it promises the same after every silence; nothing is sent in between.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from enum import Enum
from typing import Any, NamedTuple

from stack.core.errors import LocalError, ParseError
from stack.core.values import read_json_object
from stack.voice import events as ev
from stack.voice.turns import Eagerness, Expects, TurnMode, TurnSettings

EVENTS_CHANNEL = "events"
MAX_REQUEST = 4096
"""Characters of a request."""
_MAX_PLAYOUT_DELAY = 2000.0
_MAX_AGE = 10_000.0  # milliseconds


class Silenced(NamedTuple):
    """What a client was playing when it fell silent."""

    reply: int
    rtp_timestamp: int
    age: float
    """Seconds since it began to play that packet."""


def announce(event: ev.ConversationEvent) -> dict[str, Any] | None:
    """Return what the client is told of an event; None for those that are none of its business."""
    match event:
        case ev.UserStartedSpeaking():
            return {
                "type": "speech_started",
                "media_ms": _ms(event.media_time),
                "decided_ms": event.decided_after_ms,
            }
        case ev.UserStoppedSpeaking():
            return {"type": "speech_stopped", "media_ms": _ms(event.media_time)}
        case ev.TurnChanged():
            return {"type": "turn", "state": event.state.value}
        case ev.Utterance():
            return {"type": "utterance", "duration_ms": _ms(event.duration), "waited_ms": event.waited_ms}
        case ev.ReplyStarted():
            return {"type": "reply_started", "reply": event.reply, "response_ms": event.response_ms}
        case ev.ReplyHeld():
            return {
                "type": "reply_held",
                "reply": event.reply,
                "heard_ms": event.heard_ms,
                "stop_ms": event.stop_ms,
                "rtp_timestamp": event.rtp_timestamp,
            }
        case ev.ReplyResumed():
            return {"type": "reply_resumed", "reply": event.reply, "from_ms": event.from_ms}
        case ev.ReplyInterrupted():
            return {
                "type": "reply_interrupted",
                "reply": event.reply,
                "heard_ms": event.heard_ms,
                "sent_ms": event.sent_ms,
                "rtp_timestamp": event.rtp_timestamp,
            }
        case ev.ReplyHeard():
            return {"type": "reply_heard", "reply": event.reply, "heard_ms": event.heard_ms}
        case ev.ReplyFinished():
            return {"type": "reply_finished", "reply": event.reply, "heard_ms": event.heard_ms}
        case ev.UserIdle():
            return {"type": "idle"}
        case ev.TakesTurns():
            return {"type": "takes_turns"}
        case ev.ProgramFailed():
            return {"type": "program_failed"}
        case ev.UserTranscript():
            return {"type": "transcript", "role": "user", "text": event.text, "final": event.final}
        case ev.ReplyText():
            return {
                "type": "transcript",
                "role": "agent",
                "text": event.text,
                "delta": True,
                "reply": event.reply,
                "start_ms": event.start_ms,
                "duration_ms": event.duration_ms,
            }
    return None


def describe_turns(settings: TurnSettings) -> dict[str, Any]:
    """Return the message that says which rules of turn-taking are in force; a client may send it back."""
    message: dict[str, Any] = {"type": "turn_settings"}
    for each in fields(settings):
        value = getattr(settings, each.name)
        message[each.name] = value.value if isinstance(value, Enum) else value
    return message


def is_failure(text: str | bytes) -> bool:
    """Return True for the message by which a client is told that the program has raised."""
    try:
        return bool(read_request(text)["type"] == "program_failed")
    except ParseError:
        return False


def read_goaway(text: str | bytes) -> str:
    """Return the id of a call whose client is told to go elsewhere (docs/scale.md), else an empty text."""
    try:
        said = read_request(text)
    except ParseError:
        return ""
    name = said.get("pc_id")
    return name if said["type"] == "goaway" and isinstance(name, str) else ""


def to_json(message: dict[str, Any]) -> str:
    """Return the text of a message."""
    return json.dumps(message, separators=(",", ":"))


def _ms(seconds: float) -> float:
    return round(seconds * 1000.0, 1)


def read_request(text: str | bytes) -> dict[str, Any]:
    """Return what a client asked for; raises `ParseError` for what is no request."""
    if not isinstance(text, str):
        raise ParseError("a request is text")
    request = read_json_object(text, MAX_REQUEST)
    if not isinstance(request.get("type"), str):
        raise ParseError("a request has a type")
    return request


def read_turn_settings(request: dict[str, Any], now: TurnSettings) -> TurnSettings:
    """Return `now` with what the request changes; raises `ParseError` for values that are none."""
    changes: dict[str, Any] = {}
    try:
        for name, value in request.items():
            if name == "mode":
                changes[name] = TurnMode(value)
            elif name == "eagerness":
                changes[name] = Eagerness(value)
            elif name == "expects":
                changes[name] = Expects(value)
            elif name in ("create_response", "interrupt_response"):
                if not isinstance(value, bool):
                    raise ParseError(f"{name} is true or false")
                changes[name] = value
            elif name in ("idle_timeout_ms", "resume_after_ms") and value is None:
                changes[name] = None
            elif name == "threshold" or name.endswith("_ms"):
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
                    raise ParseError(f"{name} is a number")
                changes[name] = float(value)
        return replace(now, **changes)
    except (ValueError, TypeError, LocalError) as error:
        raise ParseError(f"not a turn setting: {error}") from error


def read_text(request: dict[str, Any]) -> str:
    """Return what the person has typed; raises `ParseError` if that is nothing."""
    text = request.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ParseError("text is what was typed")
    return text.strip()


def read_playout_delay(request: dict[str, Any]) -> float:
    """Return the seconds that the client holds back; raises `ParseError` for a value that is none."""
    return _milliseconds(request, "ms", _MAX_PLAYOUT_DELAY)


def read_silenced(request: dict[str, Any]) -> Silenced:
    """Return what the client was playing; raises `ParseError` for values that are none."""
    return Silenced(
        _count(request, "reply"), _count(request, "rtp_timestamp"), _milliseconds(request, "age_ms", _MAX_AGE)
    )


def read_audible(request: dict[str, Any]) -> int:
    """Return behind which reply the client can be heard by again; raises `ParseError` for a value that is none."""
    return _count(request, "reply")


def _milliseconds(request: dict[str, Any], name: str, most: float) -> float:
    value = request.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ParseError(f"{name} is a number of milliseconds")
    return float(value) / 1000.0


def _count(request: dict[str, Any], name: str) -> int:
    value = request.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 32:
        raise ParseError(f"{name} is a number of 32 bits")
    return value
