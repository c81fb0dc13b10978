"""The edge: sockets, the event loops, and the `Call` that a program holds."""

from stack.aio.call import Call, CallContext, CallEnded, Inbox, Speaker, Tool
from stack.aio.channel import Channels, DataChannel
from stack.aio.driver import Driver, MediaThread
from stack.aio.host import Accepted, Host, HostConfig, HostFull, Renegotiated
from stack.aio.programs import Program, as_program
from stack.aio.recording import Recording
from stack.aio.reply import Reply
from stack.aio.transcription import Hypothesis, Transcriber

__all__ = [
    "Accepted",
    "Call",
    "CallContext",
    "CallEnded",
    "Channels",
    "DataChannel",
    "Driver",
    "Host",
    "HostConfig",
    "HostFull",
    "Hypothesis",
    "Inbox",
    "MediaThread",
    "Program",
    "Recording",
    "Renegotiated",
    "Reply",
    "Speaker",
    "Tool",
    "Transcriber",
    "as_program",
]
