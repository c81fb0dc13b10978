"""Words for the client: what was understood, and what is being said, as messages on its `events` channel.

`{"type": "transcript", "role": "user" | "agent", "text": …}`, and for what is said in a reply its number, so that the
client can strike out what was not heard of it: from `words` (when each begins) or else from `duration_ms`. Several
messages about one reply are its parts, in order.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stack.aio import Call, Reply
from stack.sctp import ChannelClosedError, MessageTooBigError

_CHANNEL = "events"


async def tell_user_words(call: Call, text: str, *, final: bool = True) -> bool:
    """Tell the client what the person was understood to say; what is not final is replaced by the next."""
    return await _send(call, {"role": "user", "text": text, "final": final})


async def tell_agent_words(
    call: Call,
    text: str,
    reply: Reply | None = None,
    *,
    start_ms: float | None = None,
    duration_ms: float | None = None,
    words: Sequence[tuple[str, float]] = (),
) -> bool:
    """Tell the client what the program says; False if it has no channel for it.

    `start_ms`, `duration_ms` and the beginnings of `words` count milliseconds of the reply's sound.
    """
    message: dict[str, Any] = {"role": "agent", "text": text}
    if reply is not None:
        message["reply"] = reply.number
    if start_ms is not None:
        message["start_ms"] = round(start_ms, 1)
    if duration_ms is not None:
        message["duration_ms"] = round(duration_ms, 1)
    if words:
        message["words"] = [{"text": word, "start_ms": round(at, 1)} for word, at in words]
    return await _send(call, message)


async def _send(call: Call, message: dict[str, Any]) -> bool:
    channel = next((channel for channel in call.channels if channel.label == _CHANNEL), None)
    if channel is None:
        return False
    try:
        await channel.send(json.dumps({"type": "transcript"} | message, separators=(",", ":")))
    except (ChannelClosedError, MessageTooBigError):
        return False
    return True
