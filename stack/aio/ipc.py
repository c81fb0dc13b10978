"""What crosses between the program's process and a media worker: values.

Each is of `stack.voice.wire`'s form, whose version stands in front of every one; `message_stream.py` carries them.
The program's side begins with `Hello`, the worker answers `Ready`; then one sends `Ask` and `CheckPassedOn` and
such, the other `Happened`, `Answered` and what else is in `WorkerReport`.
"""

from __future__ import annotations

import socket
import sys
from typing import ClassVar, Final, TypeAlias

from stack.aio.failure_alerts import FailureAlert
from stack.aio.media import (
    AddUfrag,
    CarryOut,
    CloseCall,
    CountCalls,
    ExpectTicket,
    GatherFrom,
    GetTally,
    NoMoreServers,
    OpenCall,
    SetTicketKeys,
)
from stack.aio.ticket_site import CallMade, TicketMedia
from stack.core.machine import Address, Path
from stack.core.values import Value
from stack.server import Gathered
from stack.voice.config import ConversationConfig
from stack.voice.events import AudioReceived, ConversationEvent, TurnPaused, UtterancePiece
from stack.voice.recording import RecordingFailed, RecordingFinished, RecordingOpened
from stack.voice.wire import ValueCodec

STALE_EVENTS = (AudioReceived, UtterancePiece, TurnPaused)
"""Events that are worth nothing when they are late, and of which there are many."""

DESCRIPTOR_SOCKET = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
"""What carries descriptors to a worker: with borders between messages; macOS has no sequenced packets here."""


def package_version() -> str:
    """Return the version of the package, which no module of it imports."""
    return str(vars(sys.modules["stack"])["__version__"])


# -- the messages ------------------------------------------------------------------------------------------


class Hello(Value, frozen=True):
    """The first message to a worker: what it is to be."""

    unshown: ClassVar[frozenset[str]] = frozenset({"certificate"})
    program_version: str
    """Of the package: a worker that finds another one on the disk refuses."""
    number: int
    workers: int
    certificate: tuple[bytes, bytes]
    """Chain and key, in PEM."""
    conversation: ConversationConfig
    max_calls: int
    sockets: tuple[int, ...]
    """Descriptors of the bound sockets."""
    connections: int
    """Descriptor of the socket on which ICE-TCP connections arrive: each message is what was read of one, and has
    its descriptor (SCM_RIGHTS)."""
    traced: bool
    """Copies of all datagrams are wanted."""
    keyed: bool
    """The DTLS secrets of all calls are wanted."""
    log_level: int
    search_path: tuple[str, ...]
    """Where the program finds modules."""
    modules: tuple[str, ...]
    """Those that have registered a codec, or whatever else a conversation looks up by name."""
    tickets: TicketMedia | None = None
    """The keys of tickets that make calls; None: no ticket does."""
    forwarder: int | None = None
    """Descriptor of the worker's end where a forwarder reads the port (`forwarding.py`)."""
    shown: int | None = None
    """Descriptor of the end where other workers show what came over unknown paths (`steering.py`); None: none
    do."""
    others: tuple[int, ...] = ()
    """Descriptors of the ends that lead to those of the others."""
    gathers: bool = False
    """Whether servers will be named that candidates come from."""


class ForwarderHello(Value, frozen=True):
    """The first message to the process that forwards to all workers."""

    program_version: str
    ends: tuple[int, ...]
    """Descriptors of its ends of the pairs, by the number of the worker."""
    sockets: tuple[int, ...]
    """Descriptors of the bound sockets."""
    log_level: int


class Ask(Value, frozen=True):
    """Do something; with a number that is not 0, say what comes of it."""

    number: int
    request: (
        OpenCall
        | CarryOut
        | AddUfrag
        | CloseCall
        | GetTally
        | CountCalls
        | ExpectTicket
        | SetTicketKeys
        | GatherFrom
        | NoMoreServers
    )


class CheckPassedOn(Value, frozen=True):
    """A check that another worker has received names this one."""

    data: bytes
    path: Path

    def __repr__(self) -> str:
        return f"CheckPassedOn({len(self.data)} bytes, {self.path})"


class ReleasePath(Value, frozen=True):
    """A path has proven itself to a call of another worker."""

    path: Path


class Ping(Value, frozen=True):
    """Say that you are there."""


class Stop(Value, frozen=True):
    """End: the calls are over."""


class Ready(Value, frozen=True):
    """The worker is up."""


class Refused(Value, frozen=True):
    """The worker cannot be what it is to be; it ends."""

    reason: str


class Happened(Value, frozen=True):
    """An event of a call."""

    call: str
    event: ConversationEvent


class Answered(Value, frozen=True):
    """What came of what was asked: `stack.voice.wire.encode_result` or `encode_error`."""

    number: int
    result: bytes


class Pong(Value, frozen=True):
    """The worker is there."""


class Logged(Value, frozen=True):
    """A line of the worker's log."""

    name: str
    level: int
    message: str
    created: float
    traceback: str | None


class Traced(Value, frozen=True):
    """A datagram that was received, or sent."""

    sent: bool
    data: bytes
    local: Address
    remote: Address
    now: float


class KeysLogged(Value, frozen=True):
    """A line of the key log (RFC 9850): a DTLS secret of a call."""

    unshown: ClassVar[frozenset[str]] = frozenset({"line"})
    line: str


class PathTaken(Value, frozen=True):
    """A path that a check has proven which came by way of another worker."""

    path: Path


class PassOn(Value, frozen=True):
    """A check that names another worker."""

    worker: int
    data: bytes
    path: Path


WorkerRequest: TypeAlias = Hello | ForwarderHello | Ask | CheckPassedOn | ReleasePath | Ping | Stop
WorkerReport: TypeAlias = (
    Ready
    | Refused
    | Happened
    | Answered
    | Pong
    | Logged
    | Traced
    | KeysLogged
    | PathTaken
    | PassOn
    | FailureAlert
    | CallMade
    | Gathered
    | RecordingOpened
    | RecordingFinished
    | RecordingFailed
)
REQUESTS: Final[ValueCodec[WorkerRequest]] = ValueCodec(WorkerRequest)
REPORTS: Final[ValueCodec[WorkerReport]] = ValueCodec(WorkerReport)
