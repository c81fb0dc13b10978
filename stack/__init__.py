"""WebRTC from scratch, for talking to machines: what a program needs is exported from here.

    from stack import Call, serve

    async def echo(call: Call) -> None:
        async for frame in call.microphone:
            call.speaker.write(frame)

    serve(echo)

What happens in a call is in `stack.events`, the server for FastAPI and Starlette in `stack.asgi`, and a caller for
tests in `stack.testing`. The names are loaded when they are used, so that `import stack.dtls` alone stays small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stack.aio import Call, CallContext, CallEnded, DataChannel, HostConfig, Reply
    from stack.audio import AudioFrame
    from stack.core.errors import LocalError, StackError
    from stack.signaling import ClientCall, ServeConfig, SignalingConfig, dial, running, serve, serving
    from stack.voice import TurnMode, TurnSettings
    from stack.voice.events import Utterance

__version__ = "0.1.0"
__all__ = [
    "AudioFrame",
    "Call",
    "CallContext",
    "CallEnded",
    "ClientCall",
    "DataChannel",
    "HostConfig",
    "LocalError",
    "Reply",
    "ServeConfig",
    "SignalingConfig",
    "StackError",
    "TurnMode",
    "TurnSettings",
    "Utterance",
    "dial",
    "running",
    "serve",
    "serving",
]

_HOMES = {
    "AudioFrame": "stack.audio",
    "Call": "stack.aio",
    "CallContext": "stack.aio",
    "CallEnded": "stack.aio",
    "ClientCall": "stack.signaling",
    "DataChannel": "stack.aio",
    "HostConfig": "stack.aio",
    "LocalError": "stack.core.errors",
    "Reply": "stack.aio",
    "ServeConfig": "stack.signaling",
    "SignalingConfig": "stack.signaling",
    "StackError": "stack.core.errors",
    "TurnMode": "stack.voice",
    "TurnSettings": "stack.voice",
    "Utterance": "stack.voice.events",
    "dial": "stack.signaling",
    "running": "stack.signaling",
    "serve": "stack.signaling",
    "serving": "stack.signaling",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'stack' has no attribute {name!r}")


def __dir__() -> list[str]:
    named = {name for name in globals() if name.startswith("__")}
    return sorted({*named, *__all__, "agents", "asgi", "events", "testing"})
