"""The edge: sockets, the event loops, and the `Call` that a program holds."""

from stack.aio.call import Call, control_of
from stack.aio.channel import Channels, DataChannel
from stack.aio.context import CallContext, Tool
from stack.aio.control import CallControl, CallEnded, CallLink
from stack.aio.driver import Driver, MediaThread
from stack.aio.host import Accepted, CallElsewhere, Host, HostConfig, HostFull, IceMode, Renegotiated
from stack.aio.hosted import CallTable, HostedCall
from stack.aio.inbox import Inbox
from stack.aio.media_thread import MediaConfig, ThreadMedia
from stack.aio.programs import Program, as_program
from stack.aio.recording import Recording
from stack.aio.reply import Reply
from stack.aio.speaker import Speaker
from stack.aio.transcription import Hypothesis, Transcriber

__all__ = [
    "Accepted",
    "Call",
    "CallContext",
    "CallControl",
    "CallElsewhere",
    "CallEnded",
    "CallLink",
    "CallTable",
    "Channels",
    "DataChannel",
    "Driver",
    "Host",
    "HostConfig",
    "HostFull",
    "HostedCall",
    "Hypothesis",
    "IceMode",
    "Inbox",
    "MediaConfig",
    "MediaThread",
    "Program",
    "Recording",
    "Renegotiated",
    "Reply",
    "Speaker",
    "ThreadMedia",
    "Tool",
    "Transcriber",
    "as_program",
    "control_of",
]
