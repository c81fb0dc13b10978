"""WebRTC from scratch, for talking to machines: what a program needs is exported from here.

    from stack import Call, serve

    async def echo(call: Call) -> None:
        async for frame in call.microphone:
            call.speaker.write(frame)

    serve(echo)

The names are loaded when they are used, so that `import stack.dtls` alone stays small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stack.aio import Call, CallContext, CallEnded, DataChannel
    from stack.audio import AudioFrame
    from stack.signaling import ClientCall, dial, serve, serving

__version__ = "0.1.0"
__all__ = [
    "AudioFrame",
    "Call",
    "CallContext",
    "CallEnded",
    "ClientCall",
    "DataChannel",
    "dial",
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
    "dial": "stack.signaling",
    "serve": "stack.signaling",
    "serving": "stack.signaling",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'stack' has no attribute {name!r}")
